"""What a run asks of a source: labels that are in the training data and nowhere else."""

from __future__ import annotations

from typing import Any, cast

from xlt.data.rows import Row, TagRow
from xlt.data.source import Source, with_labels
from xlt.tasks.catalogue import get_task


class _Tagged:
    """A source whose splits have different tags."""

    def rows(self, task: Any, split: str, language: str) -> list[Row]:
        tags = {"train": [("N", "(S\\NP)/NP"), ("N", ".")], "dev": [("N", "rare")]}[split]
        return [TagRow(str(index), ("a", "b"), pair) for index, pair in enumerate(tags)]


def test_the_tags_of_the_training_rows_sorted_and_no_others() -> None:
    assert get_task("ccg").labels == ()
    assert with_labels(get_task("ccg"), cast(Source, _Tagged())).labels == ("(S\\NP)/NP", ".", "N")


def test_other_tasks_stay_as_they_are() -> None:
    for key in ("udpos", "mnli", "squad", "hellaswag"):
        assert with_labels(get_task(key), cast(Source, _Tagged())) is get_task(key)
