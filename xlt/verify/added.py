"""Reading of reference runs that others give (``xlt verify --with FILE``): a record, or an archive with predictions."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from pathlib import Path

from xlt.errors import DataFault
from xlt.files import unpack_file
from xlt.strict_json import read_bytes, read_json, reason
from xlt.verify import export, judge, recorded, stored
from xlt.verify.sites import AddedFile, AddedRun, site_of

MOST_UNPACKED = 2**30  # bytes: a hundred times what the smoke tier ships
MOST_FILES = 20_000
FIX = "Ask whoever gave it for the archive again: xlt verify --record, or xlt report --ship FILE"


def read_added(path: Path, data_root: Path | None = None) -> list[AddedRun]:
    """The reference runs of a file: one of a record, one for each seed of an archive, which is recomputed.

    Raises:
        DataFault: the file is damaged, its numbers contradict each other, or the results in it have problems.
    """
    try:
        content = read_bytes(path)
    except (OSError, ValueError) as error:
        raise DataFault(f"'{path.name}' cannot be read.", why=f"{reason(error)}.", fix=FIX) from error
    facts = {"sha256": hashlib.sha256(content).hexdigest()}
    if not content.startswith(b"\x1f\x8b"):
        what = f"'{path.name}' is no record of a reference run."
        run = read_json(path, recorded.REFERENCE_RUN, what=what, fix=FIX)
        return [_added(run, path.name, evidence="taken on trust", **facts)]
    with tempfile.TemporaryDirectory() as unpacked:
        folders = _unpack(path, Path(unpacked))
        found = [(folder.name, _recomputed(folder, f"{path.name}: {folder.name}", data_root)) for folder in folders]
    return [_added(run, f"{path.name}: {name}", evidence="recomputed", **facts) for name, run in found]


def _added(run: recorded.ReferenceRun, name: str, **facts: str) -> AddedRun:
    about = {"file": name, "seed": run.seed, "site": site_of(run.platform), **facts}
    return AddedRun(run, AddedFile.model_validate(about))


def _unpack(path: Path, place: Path) -> list[Path]:
    """Unpack an archive and return the results folders in it."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            size = 0
            for number, member in enumerate(archive):
                size += member.size
                if not member.isreg() or size > MOST_UNPACKED or number >= MOST_FILES:
                    raise ValueError("it holds links, folders or devices, or more than results have")
                unpack_file(archive, member, place)
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        raise DataFault(f"'{path.name}' cannot be unpacked.", why=f"{reason(error)}.", fix=FIX) from error
    folders = sorted(folder.parent for folder in place.glob("*/grid.json"))
    if not folders:
        raise DataFault(f"'{path.name}' holds no results.", why="No folder in it has a grid.json.", fix=FIX)
    return folders


def _recomputed(folder: Path, name: str, data_root: Path | None) -> recorded.ReferenceRun:
    """The record of a results folder, every number of it recomputed from predictions and gold."""
    found = judge.recompute(folder, stored.source_of(folder, data_root))
    if found.problems:
        first = found.problems[0]
        where = " ".join(filter(None, (first.run, first.where)))
        raise DataFault(f"The results in '{name}' have problems.", why=f"{where}: {first.what}", fix=FIX)
    export.check_whole(found, "added")
    return export.reference_run(found, "")
