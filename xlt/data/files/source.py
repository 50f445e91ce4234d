"""The source that reads the official release files below a data root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xlt.data.files.locate import locate, present_languages
from xlt.data.files.pretraining import pretraining_sentences
from xlt.data.files.readers import read
from xlt.data.rows import Row, TextRow
from xlt.errors import DataFault
from xlt.tasks.catalogue import TASKS
from xlt.tasks.record import Split, Task

_TRAINING: tuple[Split, ...] = ("train", "dev")


def check_root(root: Path) -> None:
    """Makes sure that the data root is a folder.

    Raises:
        DataFault: it is not.
    """
    if not root.is_dir():
        raise DataFault(
            f"The data root '{root}' is not a folder.",
            fix="Give the folder that holds the task folders (mnli, xnli, ...): --data-root DIR",
        )


class FilesSource:
    """Rows from the official release files in the folder layout that each task record names.

    Files are parsed once per instance.
    """

    def __init__(self, root: Path, within: str = "") -> None:
        """Opens the data root, or the folder ``within`` it.

        Raises:
            DataFault: it is no folder.
        """
        check_root(root)
        self.name = "files"
        self.settings: dict[str, int | str] = {}
        self._root = root
        self._within = within
        self._parsed: dict[tuple[str, Split, str], list[Row]] = {}

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        """The languages in which the files of that split exist, in the task's order."""
        return present_languages(self._root / self._within, task, split)

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """All rows of one split in one language, in the order of the file.

        Raises:
            DataFault: a file is absent or broken (a ``FileFault``, which holds file and line).
            UsageFault: the task has no such split or language.
        """
        key = (task.key, split, language)
        if key not in self._parsed:
            self._parsed[key] = read(locate(self._root, task, split, language, self._within))
        return list(self._parsed[key])

    def pretraining_text(self) -> list[TextRow]:
        """The sentences of the training and development files that are present, of all tasks and languages.

        Each sentence comes once, in the order of the catalogue. One that also occurs in a test file that is
        present is left out, wherever it comes from.

        Raises:
            DataFault: a file is broken.
        """
        return pretraining_sentences(self._training_groups(), self._test_rows())

    def _training_groups(self) -> Iterator[tuple[str, list[Row]]]:
        for task in TASKS.values():
            for split in _TRAINING:
                for language in self.languages(task, split):
                    yield f"{task.key}.{split}.{language}", self.rows(task, split, language)

    def _test_rows(self) -> Iterator[Row]:
        for task in TASKS.values():
            for language in self.languages(task, "test"):
                yield from self.rows(task, "test", language)
