"""Brings archives of official releases and puts what the tasks need of them into the layout of the source ``files``."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import get_session

from xlt.data.hub.faults import faults, never_fetched
from xlt.data.hub.fetch import FetchProgress
from xlt.data.hub.lock import LockedFile, matching, read_lock, write_lock
from xlt.data.hub.table import read_table
from xlt.data.hub.transfer import bring, check_room, free_space, sha256_of
from xlt.errors import DataFault
from xlt.tasks.record import Task

# A wrong or hostile archive must not fill the disk.
MOST_UNPACKED = 8 * 10**9


@dataclass(slots=True)
class WantedArchive:
    """An archive by its address, and the members wanted of it: globs, and the folder below the data root."""

    address: str
    into: str
    take: list[str]


def wanted_archives(tasks: Iterable[Task]) -> list[WantedArchive]:
    """The archives of the official releases of the tasks."""
    table = read_table()
    wanted: dict[str, WantedArchive] = {}
    for task in tasks:
        for archive in table[task.key].archives if task.key in table else ():
            for language in task.languages:
                address = archive.address.replace("{lang}", language)
                one = wanted.setdefault(address, WantedArchive(address, archive.into, []))
                one.take.append(archive.take.replace("{lang}", language))
    return list(wanted.values())


def fetch_archives(
    wanted: list[WantedArchive], root: Path, progress: FetchProgress, *, offline: bool = False
) -> dict[str, list[str]]:
    """Brings each archive into ``root/.fetched``, checks and locks its sha256, and unpacks it once; returns the files
    below the data root, by address.

    Raises:
        DataFault: an address has no such file, its sha256 is not the locked one, or it is not the expected archive.
        EnvironmentFault: the disk is full, or cannot be written.
        IncompleteFault: the connection broke off.
    """
    fetched: dict[str, list[str]] = {}
    for want in wanted:
        name = want.address.rpartition("/")[2]
        done = root / ".fetched" / f"{name}.files"
        if not done.is_file():
            if offline:
                raise never_fetched(want.address, f"'{done.name}' is not in the data root's folder .fetched.")
            with faults(want.address.removesuffix(f"/{name}"), name, "the release", name):
                archive = root / ".fetched" / name
                _download(want, archive, progress)
                try:
                    paths = _unpack(archive, want, root)
                    _lock(want.address, archive)
                finally:
                    archive.unlink()
                done.write_text("\n".join(paths) + "\n", encoding="utf-8")
        fetched[want.address] = done.read_text(encoding="utf-8").splitlines()
        absent = [path for path in fetched[want.address] if not (root / path).is_file()]
        if absent:
            raise DataFault(f"'{absent[0]}' is gone from the data root.", mend=f"Delete {done}, and fetch again.")
    return fetched


def _download(want: WantedArchive, archive: Path, progress: FetchProgress) -> None:
    locked = read_lock().archives.get(want.address)
    part = archive.with_name(f"{archive.name}.part")
    here = part.stat().st_size if part.is_file() else 0
    head = get_session().head(want.address, follow_redirects=True)
    missing = max(0, int(head.headers.get("Content-Length", here)) - here)
    free = free_space(archive.parent)
    progress.plan(1, 0, missing, free)
    check_room(missing, free)
    progress.start(want.address, missing)
    bring(want.address, part, locked.sha256 if locked else "", progress.advance, size=missing + here)
    part.replace(archive)


def _lock(address: str, archive: Path) -> None:
    lock = read_lock()
    if address not in lock.archives:
        lock.archives[address] = LockedFile(size=archive.stat().st_size, sha256=sha256_of(archive))
        write_lock(lock)


def _unpack(archive: Path, want: WantedArchive, root: Path) -> list[str]:
    """Writes the wanted members, and nothing else: a path that leads out of the folder matches no glob."""
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
                    raise DataFault(f"{want.address} unpacks to more than {MOST_UNPACKED / 1e9:.0f} GB.", mend=_MEND)
                target = root / want.into / path
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                if content is not None:
                    with content, target.open("wb") as stream:
                        shutil.copyfileobj(content, stream)
                    paths.append(target.relative_to(root).as_posix())
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataFault(f"{want.address} is no sound archive.", why=str(error), mend=_MEND) from error
    if not paths:
        raise DataFault(f"{want.address} holds none of: {' '.join(want.take)}.", mend=_MEND)
    return sorted(paths)


_MEND = "Look at the release's page; artifact/hub.toml says what is expected."
