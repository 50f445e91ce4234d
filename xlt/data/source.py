"""What a source of rows must offer."""

from __future__ import annotations

from typing import Protocol

from xlt.data.rows import Row, TextRow
from xlt.tasks.record import Split, Task


class Source(Protocol):
    """Rows of tasks. ``name`` is ``world``, ``files`` or ``hub``.

    ``settings`` holds everything (JSON values) that determines the rows beside the data itself, for the spec of a
    run; never a path of the machine.
    """

    name: str
    settings: dict[str, int | str]

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        """The languages in which the source has that split of the task, in the task's order; English among them
        where the source has it."""
        ...

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """All rows of one split in one language, in the order of the source.

        Raises:
            DataFault: a file is absent or broken.
            UsageFault: the task has no such split or language.
        """
        ...

    def pretraining_text(self) -> list[TextRow]:
        """The raw text of phase 1, one sentence or line per row: never text of a test split."""
        ...
