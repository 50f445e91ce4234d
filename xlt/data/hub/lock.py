"""``data.lock``: revision, size and sha256 of the hub's files, written by the first fetch and checked by later ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from pydantic import BaseModel, ValidationError

from xlt.artifact import artifact_root
from xlt.errors import DataFault, EnvironmentFault
from xlt.files import locked, write_text

RepositoryKind = Literal["dataset", "model"]


class LockedFile(BaseModel):
    """A file as it was when it was first fetched."""

    size: int
    """Its length in bytes."""
    sha256: str
    """The SHA-256 of its content."""


class LockedRepository(BaseModel):
    """A repository as it was first fetched."""

    revision: str
    """The commit."""
    files: dict[str, LockedFile] = {}
    """The files that were fetched, by path."""


class DataLock(BaseModel):
    """All that was fetched (``data.lock``)."""

    format: Literal[1] = 1
    """The version of this format."""
    datasets: dict[str, LockedRepository] = {}
    """The data sets of the hub, by name."""
    models: dict[str, LockedRepository] = {}
    """The models of the hub, by name."""
    archives: dict[str, LockedFile] = {}
    """The archives of official releases, by address."""

    def of(self, kind: RepositoryKind) -> dict[str, LockedRepository]:
        """The repositories of one kind."""
        return self.datasets if kind == "dataset" else self.models


def lock_path() -> Path:
    """The file that a fetch writes: ``XLT_DATA_LOCK``, else ``artifact/data.lock``."""
    return Path(os.environ.get("XLT_DATA_LOCK") or artifact_root() / "data.lock")


def read_lock() -> DataLock:
    """The user's lock joined with the project's own ``artifact/data.lock``, which wins where both name something.

    Files that only the user's lock names are kept if they are of the same revision.
    """
    lock = DataLock()
    for path in dict.fromkeys((lock_path(), artifact_root() / "data.lock")):
        if not path.is_file():
            continue
        try:
            found = DataLock.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise DataFault(
                f"'{path.name}' is damaged.",
                why=str(error),
                fix="Restore it: git checkout -- artifact/data.lock; the file that XLT_DATA_LOCK names: delete it.",
            ) from error
        for earlier, later in ((lock.datasets, found.datasets), (lock.models, found.models)):
            for name, repository in later.items():
                if name in earlier and earlier[name].revision == repository.revision:
                    repository.files = {**earlier[name].files, **repository.files}
                earlier[name] = repository
        lock.archives.update(found.archives)
    return lock


@contextmanager
def lock_for_writing() -> Iterator[DataLock]:
    """The lock; what the block adds is written in one step, in an order that does not depend on that of the fetches.

    Other processes that write it wait until the block ends.
    """
    path = lock_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent, lambda: None):
            lock = read_lock()
            before = lock.model_copy(deep=True)
            yield lock
            if lock != before:
                write_text(path, json.dumps(lock.model_dump(), indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise EnvironmentFault(
            f"'{path.name}' cannot be written, which records what was fetched.",
            why=str(error),
            fix="Set XLT_DATA_LOCK to a file that you may write, for this and all later commands.",
        ) from error


def matching(files: Iterable[str], pattern: str) -> list[str]:
    """The paths that match a glob, sorted, so that shards are in order; its ``*`` matches within one folder only."""
    return sorted(path for path in files if path.count("/") == pattern.count("/") and fnmatchcase(path, pattern))


def cached(kind: RepositoryKind, repository: str, revision: str, path: str) -> Path:
    """The path of a file in the documented layout of the hub's cache."""
    return cache_folder(kind, repository) / "snapshots" / revision / path


def cache_folder(kind: RepositoryKind, repository: str) -> Path:
    """The folder of a repository in the hub's cache."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)
