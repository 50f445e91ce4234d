"""Public checkpoints that were fetched, and which bytes a model consists of: they are part of what determines a run.

The hub's client is imported where it is used: the runs of a grid can be listed where it is not installed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from xlt.errors import DataFault
from xlt.pipeline.spec import Backbone
from xlt.strict_json import read_json

if TYPE_CHECKING:
    from xlt.data.hub.lock import LockedRepository

_OBJECT = TypeAdapter(dict[str, Any])
_FOLDER = "folder:"
# Models that the user gave as folders, by name: where a folder lies is no part of what determines a run.
_given: dict[str, Path] = {}


def given_model(folder: Path) -> Backbone:
    """The model in a folder of the user's, named by its digest; from now on this process finds it by that name."""
    digest = digest_of(file_digests(folder))
    _given[name := f"{_FOLDER}{digest}"] = folder
    return Backbone(name=name, digest=digest)


def given_folder(name: str) -> Path | None:
    """The folder of the user's with the model of that name, if it was given in this process."""
    return _given.get(name)


def checkpoint_folder(name: str) -> Path:
    """The folder of a public checkpoint that was fetched, or of a model that the user gave.

    Raises:
        DataFault: it was not fetched, or not wholly, or it was not given.
    """
    if name.startswith(_FOLDER):
        if folder := given_folder(name):
            return folder
        raise DataFault(f"The model '{name}' lies in a folder that was not given.", fix="Add --model FOLDER.")
    return _fetched(name)[0]


def _fetched(name: str) -> tuple[Path, LockedRepository]:
    from xlt.data.hub.lock import cached, read_lock
    from xlt.data.hub.table import hub_model

    known = hub_model(name)
    repository = known.repository
    locked = read_lock().models.get(repository)
    folder = cached("model", repository, locked.revision, "") if locked else Path()
    if not locked or not all((folder / path).is_file() for path in locked.files):
        raise DataFault(
            f"The model '{name}' was not fetched.",
            why=("" if known.config or known.pieces else "There is no folder of that name. ")
            + "Models are read from the hub's cache (HF_HOME), as data.lock says.",
            fix=f"xlt fetch --model {name}",
        )
    return folder, locked


def identified(backbone: Backbone) -> Backbone:
    """A public checkpoint with its revision and the digest of its files; a fresh model as it is.

    A file that was changed after the fetch is an error, and so are sizes that are not those known for the name.
    """
    if not backbone.name:
        return backbone
    if backbone.name.startswith(_FOLDER):
        digest = digest_of(file_digests(checkpoint_folder(backbone.name)))
        return backbone.model_copy(update={"digest": digest})
    folder, locked = _fetched(backbone.name)
    again = f"xlt fetch --model {backbone.name}"
    digests = file_digests(folder)
    for path, file in locked.files.items():
        if digests.get(path, file.sha256) != file.sha256:
            what = f"'{path}' of the model '{backbone.name}' was changed after it was fetched."
            raise DataFault(what, fix=again)
    config = read_json(folder / "config.json", _OBJECT, fix=again)
    for name, expected in known_sizes(backbone).items():
        if config.get(name) != expected:
            raise DataFault(
                f"What was fetched as '{backbone.name}' is another model: its {name} is {config.get(name)}, not "
                f"{expected}.",
                fix="Delete its entry in data.lock and fetch it from the hub itself, or name the model as it is.",
            )
    return backbone.model_copy(update={"revision": locked.revision, "digest": digest_of(digests)})


def pinned(backbone: Backbone) -> Backbone:
    """A public checkpoint with the revision that the project pins, if it pins one; a fresh model as it is."""
    if not backbone.name or backbone.name.startswith(_FOLDER):
        return backbone
    from xlt.data.hub.table import hub_model

    revision = hub_model(backbone.name).revision
    return backbone if revision == "main" else backbone.model_copy(update={"revision": revision})


def known_sizes(backbone: Backbone) -> Mapping[str, int | float]:
    """What the configuration of a model that starts from the backbone must say, as far as that is known."""
    if not backbone.name:
        return backbone.config
    from xlt.data.hub.table import hub_model

    return hub_model(backbone.name).config


def file_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a model's folder that its configuration, tokenizer or weights may be read from."""
    from xlt.data.hub.table import TOKENIZER_FILES, WEIGHT_FILES

    paths = {path for pattern in (WEIGHT_FILES, *TOKENIZER_FILES) for path in folder.glob(pattern) if path.is_file()}
    digests = {}
    for path in sorted(paths):
        with path.open("rb") as stream:
            digests[path.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def digest_of(digests: dict[str, str]) -> str:
    """Sixteen hexadecimal digits for all of them."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:16]
