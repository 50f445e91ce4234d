"""A broken data file, with its place."""

from __future__ import annotations

from xlt.errors import DataFault, encodable


class FileFault(DataFault):
    """A data file that is absent or broken.

    ``file`` is its path below the data root, ``line`` counts from 1 in the uncompressed text (``None`` where
    no single line is to blame) and ``message`` is the fault without that place.
    """

    def __init__(self, file: str, message: str, *, line: int | None = None, why: str = "", fix: str = "") -> None:
        place = file if line is None else f"{file}:{line}"
        super().__init__(f"{place}: {message}", why=why, fix=fix)
        self.file = encodable(file)
        self.line = line
        self.message = encodable(message)
