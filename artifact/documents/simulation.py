"""How often a verdict is wrong: the claims' own rules on drawn scores, with known effect and noise.

``make statistics`` writes artifact/STATISTICS.md by it; the seed is fixed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split
from xlt.verify.claims import Claim, Printed, read_claims, read_literature
from xlt.verify.comparison import VerdictWord, beside, estimate, holm, mean, worst
from xlt.verify.rules import judge_parts
from xlt.verify.scores import BASELINE, BEST, GROUPS, NINE, Scores, ScoreUnavailable, Usable

from .expected import pages

SEED = 2005
SPREADS = (0.1, 0.2, 0.35, 0.5, 1.0)
COUNTS = (1, 2, 3, 5, 10)
OFF = (0.0, 0.9, 1.0, 2.0, 3.0)
WORDS: tuple[VerdictWord, ...] = ("reproduced", "consistent", "not verifiable", "deviates")
# Draws of a row; those of claims that look at more take longer.
DRAWS = {"C1": 2000, "C2": 2000, "C3": 1000, "C4": 1000, "C5": 2000, "C6": 1000, "C7": 1000}
ABOUT = {
    "average": "the average over nine tasks of one phase-2 model",
    "task": "a task's mean over languages, of one phase-2 model",
}
# What the phase-2 models gain where a claim holds, in points: of the order that the paper's test rows show.
GAINS = {"bucc2018": 20.0, "tatoeba": 35.0, "tydiqa": 11.0, "xquad": 2.0, "mlqa": 2.0}
UNTRAINED = ("bucc2018", "tatoeba")
ONE_SPLIT = tuple(task for task in NINE if "dev" not in get_task(task).files)
Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, float, int], "dict[tuple[str, str], Values]"]


@dataclass(frozen=True)
class Drawn(Scores):
    """Scores that were drawn, in the place of a table of measured ones: by arm and quantity a value for each seed."""

    drawn: Mapping[tuple[str, str], Sequence[float]] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms drawn, without the baseline."""
        return tuple(dict.fromkeys(arm for arm, _ in self.drawn if arm not in (BASELINE, BEST)))

    def value(
        self, seed: int, arm: str, quantity: str, split: Split, language: str = "", column: str = "value"
    ) -> float:
        """A drawn quantity; a guess has 0."""
        if column == "chance":
            return 0.0
        if values := self.drawn.get((arm, quantity)):
            return values[seed]
        return mean([self.value(seed, arm, each, split) for each in GROUPS[quantity]])

    def best(self, seed: int, task: str) -> str:
        """Chosen when it was drawn."""
        return BEST

    def usable(self, arms: Iterable[str], quantities: Iterable[str], split: Split) -> Usable:
        """All seeds of what was drawn."""
        if absent := {*arms} - {arm for arm, _ in self.drawn}:
            raise ScoreUnavailable("not run", f"'{min(absent)}' was not drawn")
        return Usable(self.seeds)


@dataclass(frozen=True, slots=True)
class Truth:
    """A state of affairs, in words, how its scores are drawn, and the word that is false there."""

    name: str
    draw: Draw
    false: VerdictWord


def rates(claim_id: str, truth: Truth, count: int, spread: float, *, repeats: int) -> dict[VerdictWord, float]:
    """The share of each verdict on a claim by its own rule, with ``count`` seeds.

    ``spread`` is the standard deviation between seeds, in points: of the average over nine tasks where the claim is
    about that, else of a task's mean over languages.
    """
    words = Counter[VerdictWord]()
    made = truth.draw(np.random.default_rng(SEED), count, spread, repeats)
    for place in range(repeats):
        drawn = {key: values[place].tolist() for key, values in made.items()}
        scores = Drawn(_NO_TABLE, tuple(range(count)), {}, drawn=drawn)
        parts = judge_parts(_claim(claim_id), scores, _printed(), 14)
        words[worst([part.verdict for part in parts if part.decides])] += 1
    return {word: words[word] / repeats for word in WORDS}


_NO_TABLE = pd.DataFrame()


@cache
def _claim(claim_id: str) -> Claim:
    return next(each for each in read_claims().claims if each.id == claim_id)


@cache
def _printed() -> tuple[Printed, ...]:
    return tuple(read_literature().cells())


def truths(claim_id: str) -> list[Truth]:
    """The states of affairs that a claim's rule is tried on."""
    made = {"C1": _gain_truths, "C2": _gain_truths, "C3": _order_truths, "C4": _sign_truths, "C5": _best_truths}
    return (made | {"C6": _variant_truths, "C7": _cell_truths})[claim_id](claim_id)


def _off(draw: Callable[[float], Draw], margin: float) -> Iterator[Truth]:
    """A faithful machine, and ones that are so many margins off."""
    for off in OFF:
        name = f"all {off:g} margins below" if off else "faithful"
        yield Truth(name, draw(-off * margin), "reproduced" if off >= 1 else "deviates")


def _gain_truths(claim_id: str) -> list[Truth]:
    claim = _claim(claim_id)
    arms = [arm for gain in claim.gains for arm in gain.arms]
    found = list(_off(lambda off: partial(_gains, claim_id, dict.fromkeys(arms, off)), claim.margin))
    exact = partial(_gains, claim_id, dict.fromkeys(arms, -claim.margin), draw=False)
    found.append(Truth("true means exactly 1 margin below the printed numbers", exact, "reproduced"))
    if claim_id == "C1":
        other = {"squad": 1.5}
        found.append(
            Truth("faithful; v2.0 is meant, v1.1 gains 1.5 more", partial(_gains, claim_id, other), "deviates")
        )
        one = {"mnli": -2 * claim.margin}
        found.append(Truth("MNLI alone 2 margins below", partial(_gains, claim_id, one), "reproduced"))
    return found


def _gains(
    claim_id: str,
    off: Mapping[str, float],
    random: np.random.Generator,
    count: int,
    spread: float,
    repeats: int,
    *,
    draw: bool = True,
) -> dict[tuple[str, str], Values]:
    """Averages over nine tasks: with ``draw`` what the paper printed is a draw too, of arms that share its baseline."""
    claim = _claim(claim_id)
    base = random.normal(0, spread * draw, repeats)
    scores = {(BASELINE, "average"): random.normal(0, spread, (repeats, count))}
    for gain in claim.gains:
        theirs = random.normal(0, spread * draw, repeats) - base  # one draw: of several readings one was printed
        for arm in gain.arms:
            true = gain.expected - theirs + off.get(arm, 0.0)
            scores[arm, "average"] = true[:, None] + random.normal(0, spread, (repeats, count))
    return scores


def _order_truths(claim_id: str) -> list[Truth]:
    states: dict[str, tuple[dict[str, float], VerdictWord]] = {
        "faithful: BUCC +20, Tatoeba +35, TyDiQA +11": (GAINS, "deviates"),
        "BUCC 4 above TyDiQA": (GAINS | {"bucc2018": 15.0}, "deviates"),
        "BUCC as TyDiQA (false, at the edge)": (GAINS | {"bucc2018": 11.0}, "reproduced"),
        "BUCC 0.9 below TyDiQA": (GAINS | {"bucc2018": 10.1}, "reproduced"),
        "BUCC 3 below TyDiQA": (GAINS | {"bucc2018": 8.0}, "reproduced"),
        "BUCC 10 below TyDiQA": (GAINS | {"bucc2018": 1.0}, "reproduced"),
        "nothing gains": ({}, "reproduced"),
    }
    arms = [arm for arm in _claim(claim_id).arms if arm != BASELINE]
    by_arm = {name: (dict.fromkeys(arms, gains), false) for name, (gains, false) in states.items()}
    return [Truth(name, partial(_tasks, arms, gains), false) for name, (gains, false) in by_arm.items()]


def _tasks(
    arms: Sequence[str],
    gains: Mapping[str, Mapping[str, float]],
    random: np.random.Generator,
    count: int,
    spread: float,
    repeats: int,
) -> dict[tuple[str, str], Values]:
    """A score of each task for the baseline and the arms, with what these gain, by arm and task."""
    scores = {}
    for arm in (BASELINE, *arms):
        for task in NINE:
            true = gains.get(arm, {}).get(task, 0.0)
            still = arm == BASELINE and task in UNTRAINED
            scores[arm, task] = 50 + true + random.normal(0, 0.0 if still else spread, (repeats, count))
    return scores


def _sign_truths(claim_id: str) -> list[Truth]:
    arms = [arm for arm in _claim(claim_id).arms if arm != BASELINE]
    margin = _claim(claim_id).margin

    def split(task: str, some: float, others: float) -> dict[str, dict[str, float]]:
        """Five of the nine arms gain ``some`` on the task, four ``others``; the other task is as the claim says."""
        rest = {"tydiqa": GAINS["tydiqa"], "xnli": 0.0}
        return {arm: rest | {task: some if place < 5 else others} for place, arm in enumerate(arms)}

    states: dict[str, tuple[dict[str, dict[str, float]], VerdictWord]] = {
        "faithful: TyDiQA +11, XNLI 0": (split("xnli", 0.0, 0.0), "deviates"),
        "XNLI gains 0.9 margins with all": (split("xnli", 0.9 * margin, 0.9 * margin), "deviates"),
        "XNLI: five at the margin, four 5 below (false, at the edge)": (split("xnli", margin, -5.0), "reproduced"),
        "XNLI gains 2 margins with all": (split("xnli", 2 * margin, 2 * margin), "reproduced"),
        "XNLI gains 3 margins with all": (split("xnli", 3 * margin, 3 * margin), "reproduced"),
        "TyDiQA: five gain nothing, four 11 (false, at the edge)": (split("tydiqa", 0.0, 11.0), "reproduced"),
        "TyDiQA: five lose 3, four gain 11": (split("tydiqa", -3.0, 11.0), "reproduced"),
    }
    return [Truth(name, partial(_tasks, arms, gains), false) for name, (gains, false) in states.items()]


def _variant_truths(claim_id: str) -> list[Truth]:
    claim = _claim(claim_id)
    variants = [variant for variant in claim.variants if variant in claim.arms]
    arms = [*dict.fromkeys(claim.variants[variant] for variant in variants), *variants]

    def better(five: float, four: float) -> Draw:
        """Every variant is so much better on five of the nine tasks, and on the others."""
        gains = {task: five if place < 5 else four for place, task in enumerate(NINE)}
        return partial(_tasks, arms, {arm: gains if arm in variants else {} for arm in arms})

    edge, margin = "five tasks at the margin, four 5 below (false, at the edge)", claim.margin
    found = [Truth("no difference", better(0.0, 0.0), "deviates"), Truth(edge, better(margin, -5.0), "reproduced")]
    for off in OFF[1:]:
        false: VerdictWord = "deviates" if off <= 1 else "reproduced"
        found.append(Truth(f"better by {off:g} margins on all tasks", better(off * margin, off * margin), false))
    return found


def _best_truths(claim_id: str) -> list[Truth]:
    claim = _claim(claim_id)
    count = len(claim.arms) - 1
    return list(_off(lambda off: partial(_best, claim.reference + claim.expected, off, count), claim.margin))


def _best(
    printed: float, off: float, arms: int, random: np.random.Generator, count: int, spread: float, repeats: int
) -> dict[tuple[str, str], Values]:
    """The test scores of the arm that is best on dev, of arms that are equally good; the paper's were chosen so too."""

    def chosen(seeds: int) -> Values:
        """[repeats, seeds, tasks]: what is best on dev has on test; of one split, dev is test."""
        dev, test = random.normal(0, spread, (2, repeats, seeds, len(NINE), arms))
        one = np.array([task in ONE_SPLIT for task in NINE])[:, None]
        test = np.where(one, dev, test)
        place = dev.argmax(axis=-1)[..., None]
        return np.take_along_axis(test, place, axis=-1)[..., 0]

    true = printed - chosen(1).mean(axis=(1, 2)) + off
    ours = true[:, None, None] + chosen(count)
    best = {(BEST, task): ours[:, :, place] for place, task in enumerate(NINE)}
    return best | {(BASELINE, "average"): np.full((repeats, count), 68.1)}


def _cell_truths(claim_id: str) -> list[Truth]:
    claim = _claim(claim_id)
    margin = min(table.margin for table in read_literature().tables if table.name in claim.tables)
    one = Truth("PAWS-X alone 3 margins below", partial(_cells, claim_id, -3 * margin, ("pawsx",)), "reproduced")
    return [*_off(lambda off: partial(_cells, claim_id, off, NINE), margin), one]


def _cells(
    claim_id: str,
    off: float,
    tasks: Sequence[str],
    random: np.random.Generator,
    count: int,
    spread: float,
    repeats: int,
) -> dict[tuple[str, str], Values]:
    """What is printed, drawn again; F1 and exact match of a task move together, categories are their tasks' means."""
    claim = _claim(claim_id)
    listed = [each for each in _printed() if each.table == claim.tables[0] and each.arm == claim.row]
    printed = {each.quantity: each.expected for each in listed if each.expected is not None}
    moved: dict[str, Values] = {}
    scores = {}
    for quantity, value in printed.items():
        task = quantity.partition("/")[0]
        if task not in moved:
            theirs, ours = random.normal(0, spread, repeats), random.normal(0, spread, (repeats, count))
            moved[task] = ours - theirs[:, None] + (off if task in tasks else 0.0)
        scores[BEST, quantity] = value + moved[task]
    for task in ("xquad", "mlqa", "tydiqa"):
        scores[BEST, task] = (scores[BEST, f"{task}/f1"] + scores[BEST, f"{task}/exact_match"]) / 2
    return scores


@dataclass(frozen=True, slots=True)
class Table:
    """The rates of a claim's verdicts: a row for each truth and number of seeds, a cell for each spread."""

    claim: Claim
    about: str
    draws: int
    rows: list[tuple[str, int, list[str]]]
    shares: dict[tuple[str, int, float], dict[VerdictWord, float]]


def claim_table(claim: Claim, draws: int) -> Table:
    """All rates of a claim, as text: the four words in their order, a false one bold."""
    rows, shares = [], {}
    for truth in truths(claim.id):
        for count in COUNTS:
            cells = []
            for spread in SPREADS:
                found = shares[truth.name, count, spread] = rates(claim.id, truth, count, spread, repeats=draws)
                shown = {word: f"{100 * found[word]:.1f}".removesuffix(".0") for word in WORDS}
                cells.append(" / ".join(f"**{shown[word]}**" if word == truth.false else shown[word] for word in WORDS))
            rows.append((truth.name, count, cells))
    return Table(claim, ABOUT["average" if claim.rule == "gain" else "task"], draws, rows, shares)


def recorded_rate(seeds: int, off: float, *, repeats: int, scores: int = 17) -> float:
    """How often any of a run's scores is said to deviate; with ``off``, how often the one that is so far off is."""
    random = np.random.default_rng(SEED)
    alarms = 0
    for _ in range(repeats):
        values = random.normal(0, 1, (scores, seeds + 1))
        values[0, 0] += off
        p = [beside(estimate([row[0]], row[1:]), 0.0, -99.0).outside for row in values.tolist()]
        rejected = [each < level for each, level in zip(p, holm(p, 0.005), strict=True)]
        alarms += rejected[0] if off else any(rejected)
    return alarms / repeats


def document(share: float = 1.0) -> str:
    """STATISTICS.md, with this share of the draws."""
    claims = [each for each in read_claims().claims if each.id in DRAWS]
    made = [claim_table(claim, max(1, round(DRAWS[claim.id] * share))) for claim in claims]
    repeats = max(1, round(2000 * share))
    recorded = [(n, [recorded_rate(n, off, repeats=repeats) for off in (0, 4, 6, 8)]) for n in (8, 16, 26)]
    half = {n: estimate((np.arange(n) / np.std(np.arange(n), ddof=1)).tolist()).half_width() for n in COUNTS[1:]}
    return (
        pages()
        .get_template("statistics.md.j2")
        .render(
            tables=made,
            shares={table.claim.id: table.shares for table in made},
            spreads=SPREADS,
            half=half,
            errors={draws: [196 * math.sqrt(p * (1 - p) / draws) for p in (0.01, 0.05, 0.5)] for draws in (1000, 2000)},
            repeats=repeats,
            recorded=recorded,
        )
    )


if __name__ == "__main__":
    print(document(), end="")
