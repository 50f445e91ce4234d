"""The labels of a task that does not list them, and placeholders in the place of labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from xlt.data.rows import ChoiceRow, PairRow, Row, TagRow
from xlt.data.source import Source
from xlt.tasks.record import Task

# Fewer rows (--limit) may have one label by chance.
_LEAST_ROWS = 20


def with_labels(task: Task, source: Source) -> Task:
    """``task`` with its labels: those of its record or, for tagging without any (CCG), every tag of the training rows.

    They are sorted, so that they depend on the data alone. Raises what ``source.rows`` raises.
    """
    if task.labels or task.kind != "tagging":
        return task
    rows = source.rows(task, "train", "en")
    return replace(task, labels=tuple(sorted({tag for row in rows if isinstance(row, TagRow) for tag in row.tags})))


def only_label(rows: Sequence[Row]) -> str | None:
    """The label, tag or number of the right choice if 20 or more rows all have the same: a placeholder, not a label."""
    labels = {label for row in rows for label in labels_of(row)} if len(rows) >= _LEAST_ROWS else set()
    return labels.pop() if len(labels) == 1 else None


def labels_of(row: Row) -> Iterator[str]:
    """The label of a pair, the number of the right choice, the tags of a sentence; other rows have none."""
    match row:
        case PairRow():
            yield row.label
        case ChoiceRow():
            yield str(row.label)
        case TagRow():
            yield from row.tags
