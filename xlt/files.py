"""Files that appear whole or not at all, and clear errors where a disk is full or read-only."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile

from xlt.errors import EnvironmentFault, UsageFault
from xlt.printable import printable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EACCES, errno.EROFS, errno.EPERM)


@contextmanager
def writable(root: Path, option: str = "--results", what: str = "the results folder") -> Iterator[None]:
    """Turn the errors of a full disk or a read-only folder into one clear message about ``what`` ``option`` names.

    An error about a file that lies elsewhere is told of that file. Without ``option`` no other folder can be chosen.
    """
    try:
        yield
    except Exception as error:
        number = _error_number(error)
        if number in (*_FULL, *_CLOSED) and (other := _outside(error, root)):
            raise EnvironmentFault(
                f"'{other}' cannot be written.",
                why=os.strerror(number),
                fix="Free space there, or change its permissions.",
            ) from error
        if number in _FULL:
            raise _full(root, what) from error
        if number in _CLOSED:
            raise _closed(root, option, what, number) from error
        if isinstance(error, OSError) and number in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            way = "a file is in its way"
            if number == errno.EISDIR:
                way = f"the folder '{Path(error.filename2 or error.filename).name}' stands in the place of a file"
            raise _in_the_way(root, option, what, way) from error
        raise


def _full(root: Path, what: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"The disk that holds {what} '{root}' is full.",
        why="Finished runs are kept; what was being written is not.",
        fix="Free space and give the same command again.",
    )


def _closed(root: Path, option: str, what: str, number: int) -> EnvironmentFault:
    return EnvironmentFault(
        f"{what[0].upper()}{what[1:]} '{root}' cannot be written.",
        why="No file can be made there." if number == errno.ENOENT else os.strerror(number),
        fix=f"Choose another with {option}, or change its permissions." if option else "Change its permissions.",
    )


def _in_the_way(root: Path, option: str, what: str, way: str) -> UsageFault:
    return UsageFault(
        f"'{root}' cannot be {what}: {way}.", fix=f"Choose another with {option}." if option else f"Move '{root}'."
    )


def check_writable(root: Path, option: str = "--results", what: str = "the results folder") -> None:
    """Refuse a folder that cannot be written before hours are spent on what is to go there. Nothing is left in it.

    Raises:
        EnvironmentFault: nothing can be written there, or the disk is full.
        UsageFault: a file is in its way.
    """
    place = root.absolute()
    try:
        with suppress(FileNotFoundError):
            os.lstat(place)  # a name may be too long to be made
        there = next(each for each in (place, *place.parents) if os.path.lexists(each))
        # Not by its permissions: of a read-only or a special file system they tell nothing.
        with TemporaryFile(dir=there):
            pass
    except (NotADirectoryError, FileExistsError) as error:
        raise _in_the_way(root, option, what, "a file is in its way") from error
    except OSError as error:
        if error.errno in _FULL:
            raise _full(root, what) from error
        raise _closed(root, option, what, error.errno or errno.EIO) from error


def check_writable_file(path: Path, option: str, what: str) -> None:
    """Refuse a file that cannot be written, before what is to go there is computed; see ``check_writable``."""
    check_writable(path.parent, option, f"the folder of {what}")
    if path.is_dir():
        raise _in_the_way(path, option, what, "a folder of that name is there")


def _outside(error: Exception, root: Path) -> str:
    """The file that an error is about, if it lies outside of ``root``; else nothing."""
    names = [each for each in (getattr(error, "filename", None), getattr(error, "filename2", None)) if each]
    paths = [Path(os.path.abspath(os.fsdecode(each))) for each in names if isinstance(each, str | bytes | os.PathLike)]
    inside = any(path.is_relative_to(place) for path in paths for place in (root.absolute(), root.resolve()))
    return "" if inside or not paths else str(paths[0])


def _error_number(error: Exception) -> int:
    """The system's number of what went wrong with a file; 0 for an error of another kind."""
    if isinstance(error, OSError):
        return error.errno or 0
    # The libraries that write weights and tokenizers are not written in Python, and raise errors of their own.
    named = re.search(r"\(os error (\d+)\)", str(error))
    return int(named[1]) if named else 0


@contextmanager
def locked(folder: Path, wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Keep other processes that lock the same folder out until the block ends, however it ends.

    Where another holds it, ``wait`` is called once before this process waits for its turn.

    Raises:
        BlockingIOError: another process holds it, and there is no ``wait``.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait is None:
                raise
            wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)


def unpack_file(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write a file of an archive below ``folder``, with nothing of it but name and content.

    The filter of tarfile that does so, Python has from 3.11.4 on; Debian 12 has 3.11.2.

    Raises:
        tarfile.TarError: it is no regular file, or its name leads out of ``folder``.
    """
    path, source = PurePosixPath(member.name), archive.extractfile(member) if member.isreg() else None
    if source is None or path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise tarfile.ExtractError(f"'{printable(member.name)}' is no file, or leads out of the folder.")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with source, (folder / path).open("wb") as target:
        shutil.copyfileobj(source, target)


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


def publish(temporary: Path, place: Path) -> None:
    """Rename a folder to ``place`` after all of it has reached the disk: it is there whole or not at all."""
    for folder, _, names in os.walk(temporary):
        for name in names:
            with open(os.path.join(folder, name), "rb") as stream:
                os.fsync(stream.fileno())
        _sync(Path(folder))
    temporary.rename(place)
    _sync(place.parent)
