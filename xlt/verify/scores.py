"""The one table of scores, a row for each seed, arm, task, split, language and metric; all else is a view of it.

An arm is a phase-2 model by what it was trained on; ``baseline`` was trained on nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType

import numpy as np
import pandas as pd

from xlt.evaluate.metrics import task_score
from xlt.tasks.catalogue import TARGET, get_task
from xlt.tasks.record import ENGLISH, Split
from xlt.verify.cells import Cell
from xlt.verify.comparison import VerdictWord, mean

# ``value`` is in percent, ``chance`` what the better guess of a random label and the most frequent one scores, ``n``
# the number of examples, ``variant`` how a score of that name is made where there are several ways (the pooled block).
COLUMNS = (
    *("arm", "task", "split", "language", "metric", "variant", "seed", "value", "chance", "n"),
    *("above_chance", "predictions", "run"),
)
SCORE = "score"  # the one number of the paper's tables, among the metrics
BEST = "best"
BASELINE = "baseline"
NINE = tuple(task.key for task in TARGET)
GROUPS: dict[str, tuple[str, ...]] = {
    "average": NINE,
    "sentence_pair": ("xnli", "pawsx"),
    "structured": ("udpos", "panx"),
    "qa": ("xquad", "mlqa", "tydiqa"),
    "retrieval": ("bucc2018", "tatoeba"),
    "three_categories": ("sentence_pair", "structured", "qa"),
}


def table_of(cells: Iterable[Cell], seed: int, layers: Mapping[str, int] = MappingProxyType({})) -> pd.DataFrame:
    """The table of one seed; ``layers`` has by arm the block that is pooled for retrieval."""
    rows = []
    for cell in cells:
        task, guess = get_task(cell.task), cell.guess
        layer = layers.get(cell.arm, 0) if task.kind == "retrieval" else 0
        variant = f"layer {layer}" if layer else ""
        values = {SCORE: (cell.score, task_score(task, guess))}
        values |= {metric: (value, guess.get(metric, np.nan)) for metric, value in cell.metrics.items()}
        place, facts = (*cell.key, cell.language), (cell.above_chance, cell.predictions, cell.run)
        rows += [
            (*place, metric, variant, seed, value, chance, cell.examples, *facts)
            for metric, (value, chance) in values.items()
        ]
    return pd.DataFrame(rows, columns=COLUMNS)


def by_mean(table: pd.DataFrame) -> dict[tuple[str, str, str], pd.DataFrame]:
    """The rows of the scores behind each mean over languages, by arm, task and split."""
    scores = table[table["metric"] == SCORE]
    return dict(iter(scores.groupby(["arm", "task", "split"], sort=False)))


def decisive(rows: pd.DataFrame) -> pd.DataFrame:
    """The languages by which a model is said to have learnt nothing: English, or without it all."""
    english = rows[rows["language"] == ENGLISH]
    return rows if english.empty else english


class ScoreUnavailable(Exception):
    """A quantity cannot be computed: ``word`` is the verdict that follows, the message why."""

    def __init__(self, word: VerdictWord, reason: str) -> None:
        super().__init__(reason)
        self.word = word


@dataclass(frozen=True, slots=True)
class Usable:
    """The seeds that have all that was asked for, and why others have not; ``collapsed``: one of these is at chance."""

    seeds: tuple[int, ...]
    left_out: tuple[str, ...] = ()
    collapsed: bool = False


@dataclass(frozen=True)
class Scores:
    """The quantities that claims and printed tables are about, from the table of several seeds.

    ``languages`` are those that the mean of a task is over, codes joined by blanks, by split; ``excluded`` has what
    is not what its name says, and why: an arm, as ``(arm, "")``, or one of its tasks. Every method raises
    ``ScoreUnavailable`` where a score is missing.
    """

    table: pd.DataFrame
    seeds: tuple[int, ...]
    languages: Mapping[Split, Mapping[str, str]]
    excluded: Mapping[tuple[str, str], str] = field(default_factory=dict)
    # What was looked up: a claim asks for the same rows for each of its parts, and pandas is slow on few rows.
    _rows: dict[tuple[int, str, str, Split, str], pd.DataFrame] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def _groups(self) -> dict[tuple[int, str, str, str], pd.DataFrame]:
        return dict(iter(self.table.groupby(["seed", "arm", "task", "split"], sort=False)))

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that something was scored with, without the baseline."""
        found = dict.fromkeys(arm for _, arm, task, _ in self._groups if task in NINE)
        return tuple(arm for arm in found if arm != BASELINE and (arm, "") not in self.excluded)

    def rows(self, seed: int, arm: str, task: str, split: Split, metric: str = SCORE) -> pd.DataFrame:
        """One metric of a task in the languages that its mean is over, by language.

        Where a task has one labelled split, that stands for dev too.
        """
        key = (seed, self.best(seed, task) if arm == BEST else arm, task, split, metric)
        if key not in self._rows:
            self._rows[key] = self._find(*key)
        return self._rows[key]

    def _find(self, seed: int, arm: str, task: str, split: Split, metric: str) -> pd.DataFrame:
        stored: Split = split if split in get_task(task).files else "test"
        if why := self.excluded.get((arm, ""), self.excluded.get((arm, task))):
            raise ScoreUnavailable("not verifiable", why)
        found = self._groups.get((seed, arm, task, stored))
        if found is None:
            raise ScoreUnavailable("not run", f"'{arm}' has no scores on {task} {stored} with seed {seed}")
        rows = found[found["metric"] == metric].set_index("language", drop=False)
        wanted = self.languages[split][task].split()
        if missing := [code for code in wanted if code not in rows.index]:
            reason = f"{task} {stored} lacks languages of the mean: {' '.join(missing)}"
            raise ScoreUnavailable("not verifiable", reason)
        return rows.loc[wanted]

    def best(self, seed: int, task: str) -> str:
        """The arm of the best dev score."""
        scored = []
        for arm in self.arms:
            with suppress(ScoreUnavailable):
                scored.append((self.value(seed, arm, task, "dev"), arm))
        if not scored:
            raise ScoreUnavailable("not run", f"no intermediate task was scored on {task} with seed {seed}")
        return max(scored)[1]

    def value(
        self, seed: int, arm: str, quantity: str, split: Split, language: str = "", column: str = "value"
    ) -> float:
        """A quantity in percent, or with the column ``chance`` what guessing gives of it."""
        if quantity in GROUPS:
            return mean([self.value(seed, arm, each, split, column=column) for each in GROUPS[quantity]])
        task, _, metric = quantity.partition("/")
        rows = self.rows(seed, arm, task, split, metric or SCORE)
        if language and language not in rows.index:
            raise ScoreUnavailable("not run", f"{task} was not scored in '{language}' with seed {seed}")
        return float(rows.loc[language, column]) if language else mean(rows[column])

    def gains(self, seeds: Sequence[int], arms: Sequence[str], base: str, quantity: str, split: Split) -> list[float]:
        """By seed, what the arms have on average over ``base`` with the same seed, in points."""
        return [
            mean([self.value(seed, arm, quantity, split) for arm in arms]) - self.value(seed, base, quantity, split)
            for seed in seeds
        ]

    def usable(self, arms: Iterable[str], quantities: Iterable[str], split: Split) -> Usable:
        """The seeds that have all of it; others are named. Where two or more collapsed, that is the verdict."""
        needs = [(arm, task) for arm in arms for task in dict.fromkeys(t for q in quantities for t in tasks_of(q))]
        whole: list[int] = []
        collapsed: list[str] = []
        missing: list[ScoreUnavailable] = []
        for seed in self.seeds:
            try:
                found = {need: self.rows(seed, *need, split) for need in needs}
            except ScoreUnavailable as fault:
                missing.append(fault)
                continue
            fallen = [need for need, rows in found.items() if not decisive(rows)["above_chance"].any()]
            whole += [] if fallen else [seed]
            collapsed += [f"'{arm}' is at chance on {task} with seed {seed}" for arm, task in fallen[:1]]
        if len(collapsed) > 1 or (collapsed and not whole):
            raise ScoreUnavailable("collapsed", "; ".join(collapsed))
        if not whole:
            raise missing[0] if missing else ScoreUnavailable("not run", "no seed was run")
        return Usable(tuple(whole), (*collapsed, *map(str, missing)), collapsed=bool(collapsed))


@lru_cache(maxsize=64)
def tasks_of(quantity: str) -> tuple[str, ...]:
    """The tasks that a quantity is made of."""
    if quantity in GROUPS:
        return tuple(task for each in GROUPS[quantity] for task in tasks_of(each))
    return (quantity.partition("/")[0],)
