"""One split of one task in one language, and the files that hold it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xlt.data.files.fault import FileFault
from xlt.tasks.record import Split, Task


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of the data root.

    ``shown`` is its path below the root, as messages name it; ``origin`` is where its publisher offers it.
    """

    path: Path
    shown: str
    origin: str

    @property
    def stem(self) -> str:
        """The file name without the ending of its format and of its compression."""
        return Path(self.path.name.removesuffix(".gz")).stem

    def fault(self, message: str, *, line: int | None = None, why: str = "", fix: str = "") -> FileFault:
        """The error that names this file; by default it is fixed by getting the file again."""
        return FileFault(self.shown, message, line=line, why=why, fix=fix or f"Get the file again: {self.origin}")


@dataclass(frozen=True, slots=True)
class Part:
    """One split of one task in one language, and its files in the order in which the record names them."""

    task: Task
    split: Split
    language: str
    files: tuple[DataFile, ...]

    @property
    def file(self) -> DataFile:
        """The first file, which is the only one of most layouts."""
        return self.files[0]

    def unknown_label(self, label: str, file: DataFile, line: int | None) -> FileFault:
        """The error for a label that the task does not have."""
        return file.fault(
            f"unknown label '{label}'",
            line=line,
            why=f"Labels of {self.task.name}: {', '.join(self.task.labels)}.",
        )
