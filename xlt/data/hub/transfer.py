"""Bringing one file of an address to the disk, resumed where it broke off."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

from huggingface_hub.file_download import http_get

from xlt.data.hub.faults import disk_full
from xlt.errors import DataFault


def bring(
    url: str, path: Path, expected: str, advance: Callable[[int], None], token: str = "", *, size: int = 0
) -> str:
    """Appends to ``path`` what of the file at ``url`` it does not hold yet; returns the sha256 of the whole.

    The hub's client takes up a broken connection a few times by itself, but leaves nothing for another process to
    resume; this keeps what has come. ``expected`` is the sha256 that it must have, ``size`` its length in bytes;
    empty and 0 where they are not known.

    Raises:
        DataFault: the sha256 is wrong; the file is deleted.
        OSError, httpx2.HTTPError: what the hub's client raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with _CountedFile(path, advance) as stream:
        http_get(url, stream, resume_size=stream.tell(), headers=headers, expected_size=size or None)
    found = sha256_of(path)
    if expected not in ("", found):
        path.unlink()
        raise DataFault(
            f"{url} came with a wrong sha256, and was deleted.",
            why=f"Expected {expected}, came {found}: the transfer was damaged, or the file was replaced.",
            mend="The same command downloads it again; without --mirror, if a mirror was used.",
        )
    return found


def sha256_of(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def free_space(folder: Path) -> int:
    """The free bytes where the folder is, or will be."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.is_dir())).free


def check_room(missing: int, free: int) -> None:
    """Makes sure that a download fits.

    Raises:
        EnvironmentFault: it does not.
    """
    if missing > free:
        raise disk_full(f"{missing / 1e9:.2f} GB are still to come and {free / 1e9:.2f} GB are free.")


class _CountedFile(io.FileIO):
    """A file to append to that tells how many bytes were written."""

    def __init__(self, path: Path, advance: Callable[[int], None]) -> None:
        super().__init__(path, "ab")
        self._advance = advance

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Writes all of ``data``."""
        view = memoryview(data)
        while view:
            view = view[super().write(view) :]
        self._advance(len(data))
        return len(data)
