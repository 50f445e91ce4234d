"""The recorded lengths of real rows in XLM-R's vocabulary."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xlt.pipeline.tokens import read_tokens
from xlt.tasks.catalogue import INTERMEDIATE, MASKED_LM, TARGET, TASKS, get_task


def test_every_task_was_counted_as_the_catalogue_cuts_it() -> None:
    table = read_tokens()
    # No text of what XTREME-R adds was at hand.
    assert table.tasks.keys() == {task.key for task in (*INTERMEDIATE, *TARGET)}
    assert {key: task.max_length for key, task in table.tasks.items()} == {
        key: TASKS[key].recipe.max_length for key in table.tasks
    }
    # Whose own text is not at hand: Quora's, CCGbank, WikiANN, BUCC's.
    assert {key for key, task in table.tasks.items() if task.basis == "estimate"} == {"qqp", "ccg", "panx", "bucc2018"}
    for task in table.tasks.values():
        for split in task.splits.values():
            assert split.mean == pytest.approx(split.tokens / split.rows, abs=0.006)
            assert split.sequences >= split.rows
            assert min(split.languages.values()) <= split.mean <= max(split.languages.values())


def test_a_size_is_that_of_the_language_or_else_of_all_and_of_the_split_or_else_of_another() -> None:
    table = read_tokens()
    xnli, mlqa = (table.tasks[key].splits for key in ("xnli", "mlqa"))
    assert table.size(get_task("xnli"), "test", "sw", 1000) == (1000, round(1000 * xnli["test"].languages["sw"]))
    assert table.size(get_task("xnli"), "test", "xx", 1000) == (1000, round(1000 * xnli["test"].mean))
    # No file of its test split was at hand.
    dev = mlqa["dev"]
    assert table.size(get_task("mlqa"), "test", "hi", 100) == (
        round(100 * dev.sequences / dev.rows),
        round(100 * dev.languages["hi"]),
    )


def test_what_was_not_counted_has_no_size_and_what_is_cut_elsewhere_is_an_estimate() -> None:
    table, task = read_tokens(), get_task("mnli")
    assert table.size(MASKED_LM, "train", "en", 10) is None
    shorter = replace(task, recipe=replace(task.recipe, max_length=128))
    assert table.size(shorter, "train", "en", 10) == table.size(task, "train", "en", 10)
    assert (table.basis(task), table.basis(shorter)) == ("measured", "estimate")
