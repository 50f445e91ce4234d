"""The labels of a task that does not list its own."""

from __future__ import annotations

from dataclasses import replace

from xlt.data.rows import TagRow
from xlt.data.source import Source
from xlt.tasks.record import Task


def with_labels(task: Task, source: Source) -> Task:
    """``task`` with its labels: those of the record, or for tagging without any (CCG) every tag of the training rows.

    Sorted, so that they depend on the data alone. Raises what ``source.rows`` raises.
    """
    if task.labels or task.kind != "tagging":
        return task
    rows = source.rows(task, "train", "en")
    return replace(task, labels=tuple(sorted({tag for row in rows if isinstance(row, TagRow) for tag in row.tags})))
