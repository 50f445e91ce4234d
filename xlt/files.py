"""Files that appear whole or not at all, and clear errors where a disk is full or read-only."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xlt.errors import EnvironmentFault, UsageFault


@contextmanager
def writable(root: Path) -> Iterator[None]:
    """Turn the errors of a full disk or a read-only folder into one clear message."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EnvironmentFault(
                f"The disk that holds the results folder '{root}' is full.",
                why="Finished runs are kept; the run in progress is not.",
                fix="Free space and give the same command again; it resumes.",
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise EnvironmentFault(
                f"The results folder '{root}' cannot be written.",
                why=error.strerror or "",
                fix="Choose another with --results DIR, or change its permissions.",
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            way = "a file is in its way"
            if error.errno == errno.EISDIR:
                way = f"the folder '{Path(error.filename2 or error.filename).name}' stands in the place of a file"
            raise UsageFault(f"'{root}' cannot be the results folder: {way}.", fix="--results DIR") from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file so that it appears whole or not at all, even if the machine loses power."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all, even if the machine loses power."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    # A new file: what a stranger's folder has under that name may be a link to a file of the user.
    with temporary.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Bring the names in a folder to the disk; a new file is lost with its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot
            raise
    finally:
        os.close(descriptor)
