"""The recomputed cells of several seeds, as the quantities that claims and printed tables are about."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np

from xlt.evaluate.metrics import Metrics, task_score
from xlt.tasks.catalogue import TARGET, get_task
from xlt.tasks.record import Split
from xlt.verify.cells import Cell
from xlt.verify.statistics import Floats
from xlt.verify.verdicts import VerdictWord, at_chance

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
Languages = dict[str, Cell]


class Lacking(Exception):
    """A quantity cannot be computed: ``word`` is the verdict that follows, the message why."""

    def __init__(self, word: VerdictWord, reason: str) -> None:
        super().__init__(reason)
        self.word = word


@dataclass(frozen=True)
class Scores:
    """All cells by seed, phase-2 model, task, split and language.

    ``languages`` are those that the mean of a task is over, codes joined by blanks, by split; ``excluded`` has what
    is not what its name says, and why: an arm, as ``(arm, "")``, or one of its tasks.
    """

    cells: Mapping[tuple[int, str, str, Split], Languages]
    seeds: tuple[int, ...]
    languages: Mapping[Split, Mapping[str, str]]
    excluded: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[str, ...]:
        """The phase-2 models that something was scored with, without the baseline."""
        found = dict.fromkeys(arm for _, arm, task, _ in self.cells if task in NINE)
        return tuple(arm for arm in found if arm != BASELINE and (arm, "") not in self.excluded)

    def group(self, seed: int, arm: str, task: str, split: Split) -> Languages:
        """The languages of a task that its mean is over. Where a task has one labelled split, that stands for dev too.

        Raises:
            Lacking: some are not there.
        """
        stored: Split = split if split in get_task(task).files else "test"
        if arm == BEST:
            arm = self.best(seed, task)
        if why := self.excluded.get((arm, ""), self.excluded.get((arm, task))):
            raise Lacking("not verifiable", why)
        found = self.cells.get((seed, arm, task, stored), {})
        wanted = self.languages[split][task].split()
        if not found:
            raise Lacking("not run", f"'{arm}' has no scores on {task} {stored} with seed {seed}")
        if missing := [code for code in wanted if code not in found]:
            raise Lacking("not verifiable", f"{task} {stored} lacks languages of the mean: {' '.join(missing)}")
        return {code: found[code] for code in wanted}

    def best(self, seed: int, task: str) -> str:
        """The phase-2 model of the best dev score.

        Raises:
            Lacking: no model was scored on it.
        """
        scored = [(value, arm) for arm in self.arms if (value := self._dev(seed, arm, task)) is not None]
        if not scored:
            raise Lacking("not run", f"no intermediate task was scored on {task} with seed {seed}")
        return max(scored)[1]

    def _dev(self, seed: int, arm: str, task: str) -> float | None:
        try:
            return self.value(seed, arm, task, "dev")
        except Lacking:
            return None

    def value(
        self, seed: int, arm: str, quantity: str, split: Split, language: str = "", *, guess: bool = False
    ) -> float:
        """A quantity in percent, or what guessing gives of it.

        Raises:
            Lacking: it cannot be computed.
        """
        if quantity in GROUPS:
            return _mean(self.value(seed, arm, each, split, guess=guess) for each in GROUPS[quantity])
        key, _, metric = quantity.partition("/")
        of: Callable[[Metrics], float] = (lambda each: each[metric]) if metric else partial(task_score, get_task(key))
        cells = self.group(seed, arm, key, split)
        if language and language not in cells:
            raise Lacking("not run", f"{key} was not scored in '{language}' with seed {seed}")
        chosen = [cells[language]] if language else cells.values()
        return _mean(of(cell.guess if guess else cell.metrics) for cell in chosen)

    def deltas(self, seeds: Sequence[int], arms: Sequence[str], base: str, task: str, split: Split) -> Floats:
        """``[seeds, languages]``: how much more the arms have, on average, than ``base`` with the same seed, in points.

        Raises:
            Lacking: a score is missing.
        """
        rows = []
        for seed in seeds:
            own = self.group(seed, base, task, split)
            others = [self.group(seed, arm, task, split) for arm in arms]
            rows.append([_mean(other[code].score - own[code].score for other in others) for code in own])
        return np.array(rows)

    def usable(self, arms: Iterable[str], quantities: Iterable[str], split: Split) -> tuple[int, ...]:
        """The seeds that have all of it. One that collapsed is forgiven and left out.

        Raises:
            Lacking: no seed has all of it, or several collapsed.
        """
        needs = [(arm, task) for arm in arms for task in dict.fromkeys(t for q in quantities for t in tasks_of(q))]
        whole, collapsed, lacking = [], [], None
        for seed in self.seeds:
            try:
                groups = {need: self.group(seed, *need, split) for need in needs}
            except Lacking as fault:
                lacking = lacking or fault
                continue
            fallen = [need for need, cells in groups.items() if at_chance(cells)]
            whole += [] if fallen else [seed]
            collapsed += [f"'{arm}' is at chance on {task} with seed {seed}" for arm, task in fallen[:1]]
        if len(collapsed) > 1 or (collapsed and not whole):
            raise Lacking("collapsed", "; ".join(collapsed))
        if not whole:
            raise lacking or Lacking("not run", "no seed was run")
        return tuple(whole)


@lru_cache(maxsize=64)
def tasks_of(quantity: str) -> tuple[str, ...]:
    """The tasks that a quantity is made of."""
    if quantity in GROUPS:
        return tuple(task for each in GROUPS[quantity] for task in tasks_of(each))
    return (quantity.partition("/")[0],)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)
