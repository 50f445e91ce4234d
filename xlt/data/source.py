"""What a source of rows must offer, and what a run asks of it."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

from xlt.data.rows import Row, TagRow, TextRow, is_trainable
from xlt.errors import DataFault, UsageFault
from xlt.tasks.own import option
from xlt.tasks.record import ENGLISH, FITTED_ON_DEV, Split, Task

EVALUATED_SPLITS: tuple[Split, ...] = ("dev", "test")


class NotFetched(DataFault):
    """The source knows this data, but it has not been downloaded."""


class Source(Protocol):
    """Rows of tasks."""

    name: str
    """``world``, ``files`` or ``hub``."""
    settings: dict[str, int | str]
    """What determines the rows beside the data itself, for the spec of a run; never a path of the machine."""

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        """The languages in which the source has that split of the task, in the task's order; English among them
        where the source has it."""
        ...

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """All rows of one split in one language, in the order of the source.

        Raises:
            NotFetched: the data was not downloaded.
            DataFault: a file is absent or broken (of the source ``files`` a ``FileFault``, with file and line).
            UsageFault: the task has no such split or language.
        """
        ...

    def pretraining_text(self) -> list[TextRow]:
        """The raw text of phase 1, one sentence or line per row: never text of a test split."""
        ...


def lacks(holder: str, task: Task, split: Split, language: str, present: Sequence[str], note: str = "") -> UsageFault:
    """The error for a split or language that a source does not have; ``present`` are its languages of that split."""
    what = f"{holder} has no split '{split}' of '{task.key}'."
    if present:
        close = difflib.get_close_matches(language.lower(), present, n=1, cutoff=0.5)
        guess = f" Did you mean '{close[0]}'?" if close else ""
        what = f"{holder} has no language '{language}' in the split '{split}' of '{task.key}'.{guess}"
        note = f"Languages there: {' '.join(present)}. {note}".strip()
    return UsageFault(what, why=note or "It has that split in no language.", fix=f"xlt tasks show {task.key}")


def training_rows(source: Source, task: Task, translated: Sequence[str] = ()) -> list[Row]:
    """What ``task`` is trained on: text for masked LM, else its rows in English, or in the languages of translations.

    A warning says how many of them training leaves out (see ``is_trainable``). Raises what ``source.rows`` raises.
    """
    if task.kind == "masked_lm":
        return list(source.pretraining_text())
    rows = [row for language in translated or (ENGLISH,) for row in source.rows(task, "train", language)]
    if left_out := sum(not is_trainable(row) for row in rows):
        why = "a text is blank, or the place of the answer is not known"
        warnings.warn(f"{left_out} of {len(rows)} rows of '{task.key}' are left out of training: {why}.", stacklevel=2)
    return rows


def selection_rows(source: Source, task: Task) -> list[Row]:
    """The English dev rows that choose a checkpoint of ``task``, as many as its recipe takes, the first ones.

    Raises what ``source.rows`` raises.
    """
    return source.rows(task, "dev", ENGLISH)[: task.recipe.dev_examples or None]


def with_labels(task: Task, source: Source) -> Task:
    """``task`` with its labels: those of its record or, for tagging without any (CCG), every tag of the training rows.

    They are sorted, so that they depend on the data alone. Raises what ``source.rows`` raises.
    """
    if task.labels or task.kind != "tagging":
        return task
    rows = source.rows(task, "train", ENGLISH)
    return replace(task, labels=tuple(sorted({tag for row in rows if isinstance(row, TagRow) for tag in row.tags})))


def needs_dev(task: Task, split: Split) -> bool:
    """Whether the metrics of that split also need the predictions for the dev split."""
    return task.metric in FITTED_ON_DEV and split != "dev"


def evaluated(
    task: Task, source: Source, languages: Collection[str] = (), splits: Collection[str] = ()
) -> list[tuple[Split, str]]:
    """Every labelled split and language of ``task`` that the source has, among those asked for.

    Raises:
        UsageFault: a language or split asked for is not there.
        DataFault: there is none, or the dev set is missing that the scores of the others need.
    """
    pairs = [(split, language) for split in EVALUATED_SPLITS for language in source.languages(task, split)]
    if not pairs:
        files = "; ".join(task.files[split] for split in EVALUATED_SPLITS if split in task.files)
        of_files = source.name == "files"
        raise DataFault(
            f"The source '{source.name}' has no dev or test data for '{task.key}'.",
            why=f"None of these files is below the data root: {files}." if of_files else "",
            fix=f"xlt tasks {'check --data-root DIR' if of_files else f'show {task.key}'}{option([task.key])}",
        )
    if any(needs_dev(task, split) for split, _ in pairs) and not source.languages(task, "dev"):
        raise DataFault(
            f"'{task.key}' is scored with the threshold that is best on its dev split, which the source "
            f"'{source.name}' lacks.",
            fix=f"xlt fetch {task.key} --data-root DIR, and then add --data-root DIR to this command",
        )
    for asked, known, noun in (
        (languages, dict.fromkeys(language for _, language in pairs), "language"),
        (splits, dict.fromkeys(split for split, _ in pairs), "split"),
    ):
        if unknown := [value for value in asked if value not in known]:
            close = difflib.get_close_matches(unknown[0], list(known), n=1, cutoff=0.5)
            raise UsageFault(
                f"'{task.key}' has no {noun} '{unknown[0]}' in the source '{source.name}'.",
                why=f"It has: {', '.join(known)}.",
                fix=f"--{noun} {close[0] if close else next(iter(known))}",
            )
    return [
        (split, language)
        for split, language in pairs
        if (not languages or language in languages) and (not splits or split in splits)
    ]
