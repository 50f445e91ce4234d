"""Downloads archives of official releases and unpacks what the tasks need into the layout of the source ``files``."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from xlt.data.hub.client import WAITING, FetchProgress, announce, checked_sha256, resume
from xlt.data.hub.faults import NeverFetched, collecting, faults, raise_collected
from xlt.data.hub.lock import LockedFile, lock_for_writing, matching, read_lock
from xlt.data.hub.table import Archive, read_pins, read_table
from xlt.errors import DataFault, XltError
from xlt.files import locked, unpack_file, write_text
from xlt.tasks.record import Task

# A wrong or hostile archive must not fill the disk.
MOST_UNPACKED = 8 * 10**9


def wanted_archives(tasks: Iterable[Task]) -> list[Archive]:
    """The archives of the official releases of the tasks, each with all that is taken of it."""
    table = read_table()
    wanted: dict[str, Archive] = {}
    for task in tasks:
        for archive in table[task.key].archives if task.key in table else ():
            for language in archive.languages or task.languages:
                address, *take = (text.replace("{lang}", language) for text in (archive.address, *archive.take))
                if address in wanted:
                    take = [*wanted[address].take, *take]
                wanted[address] = archive.model_copy(update={"address": address, "take": tuple(take)})
    return list(wanted.values())


def fetch_archives(
    wanted: list[Archive], root: Path, progress: FetchProgress, *, offline: bool = False
) -> dict[str, list[str]]:
    """Downloads each archive to ``root/.fetched``, checks it, unpacks it once and locks its sha256; returns the files
    below the data root, by address. An archive that fails does not stop the others.

    Raises as ``fetch`` does.
    """
    fetched: dict[str, list[str]] = {}
    collected: list[XltError] = []
    for want in wanted:
        with collecting(collected):
            fetched[want.address] = _fetch(want, root, progress, offline=offline)
    raise_collected(collected)
    return fetched


def _fetch(want: Archive, root: Path, progress: FetchProgress, *, offline: bool) -> list[str]:
    folder, _, name = want.address.rpartition("/")
    done = root / ".fetched" / f"{name}.files"
    if not done.is_file():
        if offline:
            raise NeverFetched(want.address)
        archive = done.with_suffix(".part")
        with faults(folder, path=name):
            done.parent.mkdir(parents=True, exist_ok=True)
            with locked(done.parent, lambda: progress.remark(WAITING.format(name))):
                if not done.is_file():
                    found = _download(want, archive, progress)
                    paths = _unpack(archive, want, root)
                    with lock_for_writing() as lock:
                        lock.archives[want.address] = found
                    archive.unlink()
                    write_text(done, "\n".join(paths) + "\n")
    paths = done.read_text(encoding="utf-8").splitlines()
    if absent := [path for path in paths if not (root / path).is_file()]:
        raise DataFault(f"'{absent[0]}' is gone from the data root.", fix=f"Delete {done}, and fetch again.")
    return paths


def _download(want: Archive, archive: Path, progress: FetchProgress) -> LockedFile:
    known = read_pins().archives.get(want.address) or read_lock().archives.get(want.address)
    size, digest = (known.size, known.sha256) if known else (0, "")
    missing = max(0, size - (archive.stat().st_size if archive.is_file() else 0))
    announce(progress, archive.parent, files=1, here=0, missing=missing, offline=False)
    progress.start(want.address, missing)
    resume(want.address, archive, size, progress)
    sha256 = checked_sha256(archive, want.address, size, digest)
    return LockedFile(size=archive.stat().st_size, sha256=sha256)


def _unpack(archive: Path, want: Archive, root: Path) -> list[str]:
    """Puts the wanted members into their places once all are unpacked, and nothing else; a wrong archive is deleted."""
    beside = archive.with_suffix(".unpacked")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        paths = _members(archive, want, beside)
        for path in paths:
            target = root / want.into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            (beside / path).replace(target)
    except DataFault:
        archive.unlink()
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return sorted((PurePosixPath(want.into) / path).as_posix() for path in paths)


def _members(archive: Path, want: Archive, folder: Path) -> list[str]:
    """Writes the wanted members below ``folder``: a path that leads out of it matches no glob."""
    paths: list[str] = []
    unpacked = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = PurePosixPath(member.name).as_posix()
                if not member.isfile() or ".." in path or not any(matching([path], glob) for glob in want.take):
                    continue
                unpacked += member.size
                if unpacked > MOST_UNPACKED:
                    raise DataFault(f"{want.address} unpacks to more than {MOST_UNPACKED / 1e9:.0f} GB.", fix=_FIX)
                unpack_file(tar, member, folder)
                paths.append(path)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        # An OSError of the disk has a number; one of a damaged bz2 or gzip file has none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataFault(f"{want.address} is not a sound archive.", why=str(error), fix=_FIX) from error
    if not paths:
        raise DataFault(f"{want.address} holds none of: {' '.join(want.take)}.", fix=_FIX)
    return paths


_FIX = "Look at the release's page; artifact/hub.toml says what is expected."
