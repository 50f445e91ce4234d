"""What a grid can show, before it is run: the smallest difference that the rules of ``verify`` tell from nothing.

A score is a true mean plus a normal effect of the seed, as in ``xlt.verify.comparison``. How large that effect is has
not been measured before a run: the prior is the spread of published seeds (``artifact/expected/anchors.toml``), as a
range from the lowest spread that they make plausible to the highest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from pydantic import Field

from xlt.data.hub.table import parts, read_table
from xlt.data.rows import MiningRow
from xlt.data.source import Source
from xlt.errors import XltError
from xlt.frozen import Frozen
from xlt.pipeline.tiers import Tier
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split, Task
from xlt.verify.claims import Claim, read_claims, read_literature
from xlt.verify.comparison import LEVEL, Matrix
from xlt.verify.detectable import DRAWS, POWER, SEED, bounds, reproduced, smallest_shown
from xlt.verify.scores import BASELINE, NINE

COUNTS = (*range(1, 11), 12, 15, 20, 30)
UNSTATED = 1.0  # where a claim states a sign or an order: the margin of the other claims, in points

Range = tuple[float, float]
Rule = Callable[[float, int], float]
Terms = Callable[[float, int], Matrix]


class PublishedSeeds(Frozen):
    """The scores of several seeds that somebody published, each a mean over languages."""

    task: str
    metric: str
    """The metric, where it is not the task's score."""
    source: str
    """Where they were read."""
    values: tuple[float, ...] = Field(min_length=2)


class Prior(Frozen):
    """The spread between seeds that is assumed before a run."""

    model: str
    """The model whose seeds these are."""
    sets: tuple[PublishedSeeds, ...]
    """Their scores."""

    @property
    def task(self) -> Range:
        """The standard deviation of a task's mean over languages: of the quieter task, and of the other."""
        spreads = self._spreads()
        return min(spreads), max(spreads)

    def mean_of(self, tasks: int) -> Range:
        """That of a mean over tasks: where the effects of a seed on them are independent, and where they are one."""
        one = math.sqrt(float(np.mean(np.square(self._spreads()))))
        return one / math.sqrt(tasks), one

    def _spreads(self) -> list[float]:
        # A task's score is the mean of its metrics, as for question answering.
        by_task: dict[str, list[tuple[float, ...]]] = {}
        for each in self.sets:
            by_task.setdefault(each.task, []).append(each.values)
        return [float(np.std(np.mean(values, axis=0), ddof=1)) for values in by_task.values()]


class Power(Frozen):
    """What a grid can show of one comparison; a pair of numbers is for the lowest and the highest prior spread."""

    claim: str
    """The claim; empty for what no claim says: the gain of any arm over the baseline."""
    compared: str
    """What is compared with what."""
    states: float | None = None
    """What the paper states of it, in points; null where that is a sign or an order."""
    seeds: int
    """The number of the tier's seeds."""
    spread: Range | None = None
    """The standard deviation between seeds of one arm's score, in points; null where nothing is trained."""
    examples: float | None = None
    """The standard error that the choice of test examples leaves in the difference, whatever the seeds, in points: as
    if all examples were right with probability 1/2 and erred independently in both arms. Null if it is not known."""
    smallest: Range | None = None
    """The smallest true difference, in points, that the rule tells from nothing in 80 % of cases, on these test
    examples; null where it never does. With one seed no rule decides: the prior spread is then taken for known."""
    smallest_at_large: Range | None = None
    """The same where other test examples would have been as good: an interval that counts ``examples`` too."""
    shown: Range | None = None
    """How often the claim is ``reproduced`` where the paper is right, in percent; null where no claim is judged."""
    seeds_needed: tuple[int | None, int | None] | None = None
    """The fewest seeds with which that is 80 %; null in the place of a number where 30 are too few."""
    note: str = ""
    """What else is to be known of it."""


class GridPower(Frozen):
    """What the grid of a tier can show."""

    prior: Prior
    """The published seeds that the spread is taken from."""
    lines: tuple[Power, ...]
    """The gain of any arm, then what each claim of the tier says."""
    sizes_unknown: tuple[str, ...]
    """The tasks with unknown numbers of test examples, which are missing in ``examples``."""


def read_prior() -> Prior:
    """The seeds that ``artifact/expected/anchors.toml`` holds one by one, of XLM-R base."""
    tables = [table for table in read_literature().tables if any(row.seeds for row in table.rows)]
    sets = [
        PublishedSeeds(task=task, metric=metric, source=table.source, values=values)
        for table in tables
        for row in table.rows
        for quantity, language, values in row.printed()
        for task, _, metric in [quantity.partition("/")]
        if not language and len(values) > 1
    ]
    return Prior(model=tables[0].backbone, sets=tuple(sets))


def grid_power(tier: Tier, source: Source, source_name: str) -> GridPower:
    """What the grid of ``tier`` can show, by the rules that ``verify`` applies, before it is run.

    Raises:
        EnvironmentFault: a file of ``artifact/`` cannot be read.
    """
    sizes = _Sizes(source, tier, source_name)
    grid = _Grid(tier, read_prior(), sizes, [*tier.plan(source_name).arms])
    lines = [*grid.any_gain(), *(line for claim in read_claims().claims for line in grid.of(claim))]
    return GridPower(prior=grid.prior, lines=tuple(lines), sizes_unknown=tuple(sorted(sizes.unknown)))


@dataclass(frozen=True, slots=True)
class _Grid:
    """A tier, and what is assumed of its scores."""

    tier: Tier
    prior: Prior
    sizes: _Sizes
    arms: Sequence[str]

    def of(self, claim: Claim) -> Iterator[Power]:
        """What a claim asks of the grid, by its rule; nothing where it is of another tier."""
        rules = {
            "gain": self._gain,
            "best": self._best,
            "most": self._most,
            "signs": self._signs,
            "variants": self._variants,
            "cells": self._cells,
        }
        return rules[claim.rule](claim) if self.tier.name in claim.tiers else iter(())

    def any_gain(self) -> Iterator[Power]:
        """What no claim says: the gain of any arm, by the interval that the report gives it (``xlt.verify.gains``)."""

        def smallest(spread: float, seeds: int, examples: float) -> float:
            return smallest_shown(math.sqrt(2) * spread, seeds, examples, level=LEVEL / 2)

        of_task, of_nine = self.sizes.largest("dev"), self.sizes.error(NINE, "dev")
        yield self._line("", "any arm − baseline, one task", self.prior.task, smallest, examples=of_task)
        yield self._line(
            "", "any arm − baseline, nine tasks", self.prior.mean_of(len(NINE)), smallest, examples=of_nine
        )

    def _line(
        self,
        claim: str,
        compared: str,
        spread: Range,
        smallest: Callable[[float, int, float], float],
        shown: Rule | None = None,
        *,
        examples: float | None = None,
        states: float | None = None,
        note: str = "",
    ) -> Power:
        seeds = len(self.tier.seeds)
        low, high = spread
        here = smallest(low, seeds, 0.0), smallest(high, seeds, 0.0)
        at_large = None
        if examples:
            # Known noise steadies an interval of few seeds; what is not shown on these examples is not shown at large.
            at_large = max(here[0], smallest(low, seeds, examples)), max(here[1], smallest(high, seeds, examples))
        return Power(
            claim=claim,
            compared=compared,
            states=states,
            seeds=seeds,
            spread=spread,
            examples=examples,
            smallest=here,
            smallest_at_large=at_large,
            shown=(100 * shown(low, seeds), 100 * shown(high, seeds)) if shown else None,
            seeds_needed=(_needed(shown, low), _needed(shown, high)) if shown else None,
            note=note,
        )

    def _present(self, claim: Claim) -> list[str]:
        return [arm for arm in claim.arms if arm in self.arms and arm != BASELINE]

    def _gain(self, claim: Claim) -> Iterator[Power]:
        run = [[arm for arm in gain.arms if arm in self.arms] for gain in claim.gains]
        shown = partial(reproduced, [len(each) for each in run], claim.margin, base=True) if all(run) else None
        smallest = partial(_outside, claim.margin, math.sqrt(2), LEVEL / len(claim.gains))
        for gain, found in zip(claim.gains, run, strict=True):
            note = "" if found else f"none of its arms is in this tier: {', '.join(gain.arms)}"
            compared, spread = f"{gain.name} − baseline, nine tasks", self.prior.mean_of(len(NINE))
            yield self._line(claim.id, compared, spread, smallest, shown, states=gain.expected, note=note)

    def _best(self, claim: Claim) -> Iterator[Power]:
        smallest = partial(_outside, claim.margin, 1.0, LEVEL)
        shown = partial(reproduced, [1], claim.margin)
        compared, spread = f"best on dev − printed {claim.reference:g}, nine tasks", self.prior.mean_of(len(NINE))
        yield self._line(claim.id, compared, spread, smallest, shown, states=claim.expected)

    def _cells(self, claim: Claim) -> Iterator[Power]:
        cells = [each for each in read_literature().cells() if each.table in claim.tables and each.arm == claim.row]
        decide = [each for each in cells if each.expected is not None and not each.language]
        decide = [each for each in decide if each.quantity in (claim.quantities or (each.quantity,))]
        margin = max(each.margin for each in decide)
        compared = f"each of {len(decide)} scores − the printed one" if len(decide) > 1 else "score − the printed one"
        if not any(each.trained for each in decide):
            note = f"nothing is trained, so there is no spread: a score is within ± {margin:g} or it is not"
            counts = len(self.tier.seeds)
            yield Power(claim=claim.id, compared=compared, seeds=counts, smallest=(margin, margin), note=note)
            return
        level = LEVEL / len(decide)
        if not any(each.freedom or each.seeds for each in decide):
            tasks = {each.quantity.partition("/")[0] for each in decide} & {*NINE}
            smallest = partial(_outside, margin, 1.0, level)
            yield self._line(
                claim.id, compared, self.prior.task, smallest, partial(reproduced, [1] * len(tasks), margin)
            )
            return
        for cell in decide:
            # Others measured the spread of the like, or printed several seeds: the rule pools that with the one here.
            own = float(np.std(cell.seeds, ddof=1)) if cell.seeds else cell.deviation
            printed, known = len(cell.seeds) or 1, cell.freedom or len(cell.seeds) - 1
            smallest = partial(_outside, cell.margin, 1.0, level, printed=printed, known=known)
            shown = partial(reproduced, [1], cell.margin, printed=printed, known=known)
            note = "the spread is one that others measured in the like, so one seed is judged too"
            score = f"{cell.quantity} − printed {cell.expected:.1f}"
            yield self._line(claim.id, score, (own, own), smallest, shown, note=note)

    def _most(self, claim: Claim) -> Iterator[Power]:
        others = [task for task in NINE if task not in claim.tasks]
        arms = len(self._present(claim))

        def terms(spread: float, seeds: int) -> Matrix:
            random = np.random.default_rng(SEED)

            def gain(task: str) -> Matrix:
                base = 0.0 if get_task(task).kind == "retrieval" else spread  # a search has no seeds
                return random.normal(0, math.hypot(spread / math.sqrt(arms), base), (DRAWS, seeds))

            own, rest = [gain(task) for task in claim.tasks], [gain(task) for task in others]
            return np.stack([*own, *(each - its for each in own for its in rest)], axis=-1)

        smallest, shown = _family(terms, len(claim.tasks) * (1 + len(others)), UNSTATED)
        compared = f"gains of {' and '.join(claim.tasks)} − gain of any other"
        note = f"an order has no size: shown and needed for a lead of {UNSTATED:g}"
        largest = [max(self.sizes.error([task], claim.split) or 0.0 for task in part) for part in (claim.tasks, others)]
        examples = math.hypot(*largest)
        yield self._line(claim.id, compared, self.prior.task, smallest, shown, examples=examples, note=note)

    def _signs(self, claim: Claim) -> Iterator[Power]:
        wanted, arms = len(claim.arms) - 1, len(self._present(claim))

        def terms(spread: float, seeds: int) -> Matrix:
            drawn = np.random.default_rng(SEED).normal(0, spread, (DRAWS, seeds, 1 + arms))
            found: Matrix = drawn[..., 1:] - drawn[..., :1]
            return found

        few = f"{arms} of its {wanted} arms are in this tier: never more than consistent" if arms < wanted else ""
        for task in (*claim.above, *claim.not_above):
            gains = task in claim.above
            # No gain is shown to be below the margin as often as one of the margin is shown to be above 0.
            smallest, shown = _family(terms, arms // 2 + 1, UNSTATED if gains else claim.margin)
            yield self._line(
                claim.id,
                f"most of {arms} arms − baseline, {task} {'above 0' if gains else f'not above {claim.margin:g}'}",
                self.prior.task,
                smallest,
                None if few else shown,
                examples=self.sizes.error([task], claim.split),
                states=None if gains else 0.0,
                note=few or (gains and f"a sign has no size: shown and needed for a gain of {UNSTATED:g}") or "",
            )

    def _variants(self, claim: Claim) -> Iterator[Power]:
        def terms(spread: float, seeds: int) -> Matrix:
            return np.random.default_rng(SEED).normal(0, math.sqrt(2) * spread, (DRAWS, seeds, len(NINE)))

        smallest, shown = _family(terms, len(NINE) // 2 + 1, claim.margin)
        for variant, english in claim.variants.items():
            if variant in self.arms:
                compared = f"{variant} − {english}, most of nine tasks not above {claim.margin:g}"
                examples = self.sizes.largest(claim.split)
                yield self._line(claim.id, compared, self.prior.task, smallest, shown, examples=examples, states=0.0)


def _needed(shown: Rule, spread: float) -> int | None:
    return next((seeds for seeds in COUNTS if shown(spread, seeds) >= POWER), None)


def _outside(
    margin: float,
    drawn: float,
    level: float,
    spread: float,
    seeds: int,
    examples: float,
    *,
    printed: int = 1,
    known: int = 0,
) -> float:
    """How far from a printed value deviates, and so the least printed gain that a machine without any is told from.

    ``drawn`` is the spread of what is compared, where that of an arm's score is 1; for the rest see ``smallest_shown``.
    """
    return margin + smallest_shown(drawn * spread, seeds, examples, level=level, printed=printed, known=known)


def _family(terms: Terms, least: int, effect: float) -> tuple[Callable[[float, int, float], float], Rule]:
    """The smallest common effect of which at least so many terms are shown, and how often ``effect`` is."""

    def smallest(spread: float, seeds: int, examples: float) -> float:
        return float(np.quantile(bounds(terms(spread, seeds), least, examples), POWER))

    def shown(spread: float, seeds: int) -> float:
        return float((bounds(terms(spread, seeds), least) <= effect).mean()) if seeds > 1 else 0.0

    return smallest, shown


class _Sizes:
    """The numbers of test examples, and what they leave open; ``unknown`` are the tasks where they are not known."""

    def __init__(self, source: Source, tier: Tier, source_name: str) -> None:
        self._source = source
        # Of each language a tier may score only so many rows.
        self._most = {task: tier.recipe(task, source_name).test_examples for task in NINE}
        self._hub = read_table()
        self._errors: dict[tuple[str, Split], float | None] = {}
        self.unknown: set[str] = set()

    def error(self, tasks: Sequence[str], split: Split) -> float | None:
        """The standard error of a difference of two arms in the mean over ``tasks``, in points, as ``Power`` says."""
        found = [each for task in tasks if (each := self._of_task(get_task(task), split)) is not None]
        return math.hypot(*found) / len(tasks) if found else None

    def largest(self, split: Split) -> float | None:
        """The largest of these standard errors of one task."""
        return max((each for task in NINE if (each := self.error([task], split))), default=None)

    def _of_task(self, task: Task, split: Split) -> float | None:
        key = (task.key, split)
        if key not in self._errors:
            stored: Split = split if split in task.files else "test"
            counts = [self._count(task, stored, code) for code in self._source.languages(task, stored)]
            known = [min(count, self._most[task.key] or count) for count in counts if count]
            # The variance of a score between 0 and 1 is at most 1/4; there are two arms.
            variance = sum(2 / (4 * count) for count in known)
            self._errors[key] = 100 * math.sqrt(variance) / len(known) if known else None
            self.unknown |= set() if known else {task.key}
        return self._errors[key]

    def _count(self, task: Task, split: Split, language: str) -> int:
        """The examples of a split in a language: those that are here, else as many as the hub has; 0 is unknown."""
        with suppress(XltError):
            rows = self._source.rows(task, split, language)
            return sum(bool(row.matches) and not row.english if isinstance(row, MiningRow) else True for row in rows)
        if self._source.settings or task.key not in self._hub:
            return 0
        with suppress(XltError):
            found = parts(self._hub[task.key], task, split, language)
            # A table of all languages, or one with all sentences in a row, does not say it.
            return 0 if any(each.only or each.rows < 2 for each in found) else sum(each.rows for each in found)
        return 0
