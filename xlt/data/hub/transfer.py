"""Bringing one file of an address to the disk, resumed where it broke off, and what it is judged by."""

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
    url: str, path: Path, advance: Callable[[int], None], token: str = "", *, size: int = 0, digest: str = ""
) -> str:
    """Appends to ``path`` what of the file at ``url`` it does not hold yet; returns the sha256 of the whole.

    The hub's client takes up a broken connection a few times by itself, but leaves nothing for another process to
    resume; this keeps what has come. ``size`` is the length in bytes, ``digest`` the sha256 or git blob id that the
    file must have; 0 and empty where they are not known.

    Raises:
        DataFault: something else came; it is deleted.
        OSError, faults.HTTPError: what the hub's client raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size > size:
        path.unlink()  # no beginning of this file, or one whose length is not known
    headers = {"authorization": f"Bearer {token}"} if token else {}
    why = ""
    try:
        with _CountedFile(path, advance) as stream:
            http_get(url, stream, resume_size=stream.tell(), headers=headers, expected_size=size or None)
    except OSError as error:
        # So the client says that the answer came to its end and had another length: it is no beginning of the file.
        if type(error) is not OSError or error.errno is not None:
            raise
        why = str(error).split("\n")[0]
    if not (why := why_wrong(path, size, digest) or why):
        return sha256_of(path, digest)
    path.unlink()
    raise DataFault(
        f"{url} brought another file than expected, which was deleted.",
        why=why,
        fix="Repeat the command, without --mirror, and after a log-in if the network asks for one. If it comes again, "
        "the file was moved or replaced: see its page.",
    )


def why_wrong(path: Path, size: int, digest: str) -> str:
    """Why the file is not the one of that size and digest, as far as they are known; empty if it is."""
    with path.open("rb") as stream:
        if stream.read(100).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            return "It is a web page: of the network's log-in, of a proxy, or of a server that has moved the file."
    if size not in (0, length := path.stat().st_size):
        return f"It has {length} bytes, not {size}."
    found = _digest(path, blob_id=_is_blob_id(digest)) if digest else ""
    return (
        "" if found == digest else f"Its {'git blob id' if _is_blob_id(digest) else 'sha256'} is {found}, not {digest}."
    )


def sha256_of(path: Path, digest: str = "") -> str:
    """The sha256 of a file; ``digest`` is one that it was found to have."""
    return digest if digest and not _is_blob_id(digest) else _digest(path)


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


def _is_blob_id(digest: str) -> bool:
    return len(digest) == 40  # a sha256 has 64 digits


def _digest(path: Path, *, blob_id: bool = False) -> str:
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, (lambda: blob) if blob_id else "sha256").hexdigest()


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
