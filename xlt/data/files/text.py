"""Data files as text and lines: UTF-8, plain or gzip, with errors that say where a file is damaged."""

from __future__ import annotations

import gzip
import zlib

from xlt.data.files.part import DataFile

_BYTE_ORDER_MARK = "\ufeff"


def read_text(file: DataFile) -> str:
    """The whole text of a file, without a byte order mark at its start.

    Raises:
        FileFault: the file cannot be read, is empty, is no whole gzip file, or is not UTF-8.
    """
    data = _read_bytes(file)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise file.fault(
            f"not UTF-8 at byte offset {error.start}: byte 0x{data[error.start]:02x}, {error.reason}.",
            line=data.count(b"\n", 0, error.start) + 1,
            why="Offset and line count in the uncompressed text." if file.path.suffix == ".gz" else "",
        ) from error
    text = text.removeprefix(_BYTE_ORDER_MARK)
    if not text.strip():
        raise file.fault("the file is empty.")
    return text


def read_lines(file: DataFile) -> list[str]:
    """The lines of a file without their line ends.

    Only a line feed, with or without a carriage return before it, ends a line: sentences hold U+2028, U+0085
    and form feeds, at which ``str.splitlines`` would cut them.

    Raises:
        FileFault: as ``read_text``.
    """
    lines = read_text(file).removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines]


def _read_bytes(file: DataFile) -> bytes:
    try:
        if file.path.suffix != ".gz":
            return file.path.read_bytes()
        with gzip.open(file.path, "rb") as stream:
            return stream.read()
    except EOFError as error:
        raise file.fault("the gzip file is truncated: it ends before its end marker.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise file.fault(f"not a sound gzip file: {error}.") from error
    except OSError as error:
        raise file.fault(
            f"the file cannot be read: {error.strerror or type(error).__name__}.",
            fix="Make the file readable for the user that runs xlt.",
        ) from error
