"""The decision rules: from scores to verdicts on printed values and on the parts of claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from xlt.tasks.catalogue import get_task
from xlt.verify import comparison as compare
from xlt.verify.claims import Claim, Gain, Printed
from xlt.verify.comparison import LEVEL, VERDICT_WORDS, Comparison, Estimate, VerdictWord
from xlt.verify.scores import BASELINE, BEST, NINE, Scores, ScoreUnavailable, tasks_of
from xlt.verify.verdicts import Direction, Judged

ONE_SEED = "one seed shows no spread: give the folders of more seeds, each with --results"


class Measured(Judged):
    """What is said about one score or difference, over some seeds."""

    value: float | None = None
    """The mean of the seeds, in percent or points; null where it cannot be computed."""
    low: float | None = None
    """The lower end of its 95 % interval; of signs and orders a one-sided 95 % bound."""
    high: float | None = None
    """The upper end of its 95 % interval; of signs and orders a one-sided 95 % bound."""
    seeds: tuple[int, ...] = ()
    """The seeds that it is the mean of."""


class CellVerdict(Measured):
    """What is said about one printed value."""

    key: str
    """The cell: ``table.arm.quantity``, and the language where it is of one."""
    cell: Printed
    """The printed value, and where it is from."""
    direction: Direction | None = None
    """Where a value that deviates lies."""
    fix: str = ""
    """The command that fills it, where it was not run."""


class Part(Measured):
    """One thing that a claim says."""

    name: str
    """What it says, in words."""
    expected: float | None = None
    """What the paper says, in percent or points; null where it says a sign or an order."""
    decides: bool = True
    """Whether the verdict on the claim rests on it; else it is reported only."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A difference that was looked at: of values that should be near a printed one, or one whose sign is asked for."""

    found: Estimate
    comparison: Comparison
    seeds: tuple[int, ...]
    printed: float = 0.0
    margin: float | None = None  # None: its sign is asked for
    name: str = ""

    @property
    def value(self) -> float:
        return self.printed + self.found.value

    @property
    def interval(self) -> tuple[float, float]:
        half = self.found.half_width(LEVEL if self.margin is None else LEVEL / 2)
        return self.value - half, self.value + half

    def fields(self, word: VerdictWord) -> dict[str, Any]:
        """What is said about it, but the name."""
        low, high = self.interval
        said = {
            "reproduced": ": inside the margin",
            "consistent": ": not told apart, equality not shown",
            "not verifiable": ": a guess would not be told from it either",
        }.get(word, "")
        reason = f"{self.value:.1f} ({low:.1f} to {high:.1f}) against {self.printed:.1f} ± {self.margin or 0:g}{said}"
        return {"verdict": word, "reason": reason, "value": self.value, "low": low, "high": high, "seeds": self.seeds}


Found = _Look | ScoreUnavailable


def _try(look: Callable[[], _Look]) -> Found:
    try:
        return look()
    except ScoreUnavailable as fault:
        return fault


def _judged(looks: Sequence[Found]) -> list[dict[str, Any]]:
    """What is said about each of a family; what cannot be computed is no part of it."""
    words = iter(compare.verdicts([look.comparison for look in looks if isinstance(look, _Look)]))
    return [
        look.fields(next(words)) if isinstance(look, _Look) else {"verdict": look.word, "reason": str(look)}
        for look in looks
    ]


def judge_printed(cells: Sequence[Printed], scores: Scores, layer: int, fix: str) -> Iterator[CellVerdict]:
    """A verdict on each cell; each table is a family. ``layer`` is the block that was pooled for retrieval."""
    for table in dict.fromkeys(cell.table for cell in cells):
        listed = [cell for cell in cells if cell.table == table]
        looks = [_try(partial(_measure, cell, scores, layer)) for cell in listed]
        for cell, look, said in zip(listed, looks, _judged(looks), strict=True):
            direction: Direction | None = None
            if said["verdict"] == "deviates" and isinstance(look, _Look):
                direction = "above" if look.found.value > 0 else "below"
            way = fix if said["verdict"] == "not run" else ""
            yield CellVerdict(key=cell.key, cell=cell, direction=direction, fix=way, **said)


def _measure(cell: Printed, scores: Scores, layer: int) -> _Look:
    if cell.expected is None:
        raise ScoreUnavailable("not verifiable", cell.needs)
    if cell.layer != layer and any(get_task(task).kind == "retrieval" for task in tasks_of(cell.quantity)):
        printed = f"printed for block {cell.layer}" if cell.layer else "the block of the printed value is not known"
        raise ScoreUnavailable("not verifiable", f"{printed}, measured at block {layer}")
    seeds = scores.usable([cell.arm], [cell.quantity], cell.split)
    where = (cell.arm, cell.quantity, cell.split, cell.language)
    values = [scores.value(seed, *where) for seed in seeds]
    guess = scores.value(seeds[0], *where, column="chance")
    if cell.trained:
        return _near(values, cell.expected, cell.margin, guess, seeds)
    # No training is behind it, so seeds have no spread: each must lie inside the margin.
    found = Estimate(max((value - cell.expected for value in values), key=abs))
    return _Look(found, compare.near(found, cell.margin, guess - cell.expected), seeds, cell.expected, cell.margin)


def _near(values: Sequence[float], printed: float, margin: float, guess: float, seeds: tuple[int, ...]) -> _Look:
    if len(values) < 2:
        raise ScoreUnavailable("not verifiable", ONE_SEED)
    found = compare.estimate([(1.0, np.array(values)[:, None])], [printed])
    return _Look(found, compare.near(found, margin, guess - printed), seeds, printed, margin)


def judge_parts(claim: Claim, scores: Scores, cells: Sequence[CellVerdict]) -> list[Part]:
    """The parts of a claim; ``cells`` are the verdicts on all printed values."""
    if claim.rule == "cells":
        return _cells(claim, cells)
    rules: dict[str, Callable[[Claim, Scores], list[Part]]] = {
        "gain": _gains,
        "most": _most,
        "signs": _signs,
        "best": _best,
        "variants": _variants,
    }
    try:
        return rules[claim.rule](claim, scores)
    except ScoreUnavailable as fault:
        return [Part(name=claim.id, verdict=fault.word, reason=str(fault))]


def _seeds(scores: Scores, arms: Sequence[str], quantities: Sequence[str], claim: Claim) -> tuple[int, ...]:
    seeds = scores.usable(arms, quantities, claim.split)
    if len(seeds) < 2:
        raise ScoreUnavailable("not verifiable", ONE_SEED)
    return seeds


def _average(scores: Scores, seed: int, arm: str, claim: Claim) -> float:
    return scores.value(seed, arm, "average", claim.split)


def _average_gain(arm: str, expected: float, claim: Claim, scores: Scores) -> _Look:
    seeds = _seeds(scores, (BASELINE, arm), ["average"], claim)
    values = [_average(scores, seed, arm, claim) - _average(scores, seed, BASELINE, claim) for seed in seeds]
    return _near(values, expected, claim.margin, 0.0, seeds)


def _gains(claim: Claim, scores: Scores) -> list[Part]:
    """Each gain against its printed value; the gains are a family."""
    chosen = [_highest(gain, claim, scores) for gain in claim.gains]
    parts = []
    for gain, (arm, look, others), said in zip(claim.gains, chosen, _judged([each[1] for each in chosen]), strict=True):
        if isinstance(look, _Look):
            if arm in gain.capped and said["verdict"] == "reproduced":
                said = look.fields("consistent")
            said["reason"] = "; ".join([f"{arm}: {said['reason']}", *others])
        parts.append(Part(name=gain.name, expected=gain.expected, **said))
        if gain.rivals and isinstance(look, _Look):
            parts.append(_ordering(gain, arm, claim, scores))
    return parts


def _highest(gain: Gain, claim: Claim, scores: Scores) -> tuple[str, Found, list[str]]:
    """Of the arms that were run the one with the highest gain, and the others in words."""
    looks = {arm: _try(partial(_average_gain, arm, gain.expected, claim, scores)) for arm in gain.arms}
    values = {arm: look.value for arm, look in looks.items() if isinstance(look, _Look)}
    if not values:
        faults = [look for look in looks.values() if isinstance(look, ScoreUnavailable)]
        return "", min(faults, key=lambda each: VERDICT_WORDS.index(each.word)), []
    arm = max(values, key=values.__getitem__)
    return arm, looks[arm], [f"{other}: {value:.1f}" for other, value in values.items() if other != arm]


def _sign(
    name: str, claim: Claim, scores: Scores, seeds: tuple[int, ...], arms: Sequence[str], base: str, *tasks: str
) -> _Look:
    """How much more the arms have than ``base``, over the mean of the tasks."""
    terms = [(1 / len(tasks), scores.gains(seeds, arms, base, task, claim.split)) for task in tasks]
    found = compare.estimate(terms)
    return _Look(found, compare.above(found), seeds, name=name)


def _sign_part(look: _Look, word: VerdictWord, reason: str, *, decides: bool = True) -> Part:
    return Part(name=look.name, decides=decides, **look.fields(word) | {"reason": reason})


def _ordering(gain: Gain, arm: str, claim: Claim, scores: Scores) -> Part:
    """Whether ``arm`` is above the best of its rivals; it decides nothing."""
    name = f"{gain.name} is the best"
    rivals = [each for each in gain.rivals if each in scores.arms]
    try:
        seeds = _seeds(scores, (arm, *rivals), ["average"], claim)
        means = {each: sum(_average(scores, seed, each, claim) for seed in seeds) for each in rivals}
        if not means:
            raise ScoreUnavailable("not run", "no single intermediate task was run")
    except ScoreUnavailable as fault:
        return Part(name=name, verdict="not verifiable", reason=str(fault), decides=False)
    rival = max(means, key=means.__getitem__)
    sign = _sign(name, claim, scores, seeds, (arm,), rival, *NINE)
    share = 1 - sign.found.p_at_most(0.0)
    reason = f"probability {share:.2f} of being above {rival}, the best single one"
    return _sign_part(sign, sign.comparison.verdict(), reason, decides=False)


def _most(claim: Claim, scores: Scores) -> list[Part]:
    """The tasks of the claim gain, and more than every other; a family."""
    arms = [arm for arm in claim.arms if arm != BASELINE]
    seeds = _seeds(scores, (BASELINE, *arms), ["average"], claim)
    gains = {task: scores.gains(seeds, arms, BASELINE, task, claim.split) for task in NINE}
    terms = {f"{task} gains": [(1.0, gains[task])] for task in claim.tasks}
    for task in claim.tasks:
        for other in NINE:
            if other not in claim.tasks:
                terms[f"{task} gains more than {other}"] = [(1.0, gains[task]), (-1.0, gains[other])]
    found = {name: compare.estimate(each) for name, each in terms.items()}
    signs = [_Look(each, compare.above(each), seeds, name=name) for name, each in found.items()]
    said = {
        "reproduced": "shown",
        "deviates": "the reverse is shown",
        "consistent": "above 0, not shown",
        "not verifiable": "not above 0, not shown",
    }
    words = compare.verdicts([sign.comparison for sign in signs])
    return [_sign_part(sign, word, said[word]) for sign, word in zip(signs, words, strict=True)]


def _signs(claim: Claim, scores: Scores) -> list[Part]:
    """Signs over most of the single intermediate tasks; with fewer than all of them no more than consistent."""
    wanted = [arm for arm in claim.arms if arm != BASELINE]
    arms = [arm for arm in wanted if arm in scores.arms]
    if not arms:
        raise ScoreUnavailable("not run", "no single intermediate task was run")
    parts = []
    for task in (*claim.above, *claim.not_above):
        seeds = _seeds(scores, (BASELINE, *arms), [task], claim)
        signs = [_sign(arm, claim, scores, seeds, (arm,), BASELINE, task) for arm in arms]
        name = f"{task} improves" if task in claim.above else f"{task} does not benefit"
        part = _majority(name, signs, None if task in claim.above else claim.margin)
        if part.verdict == "reproduced" and len(arms) < len(wanted):
            reason = f"{part.reason}; {len(arms)} of {len(wanted)} arms were run"
            part = part.model_copy(update={"verdict": "consistent", "reason": reason})
        parts.append(part)
    return parts


def _variants(claim: Claim, scores: Scores) -> list[Part]:
    """No variant is better than its English arm on most tasks."""
    parts = []
    for variant, english in claim.variants.items():
        if variant in scores.arms:
            seeds = _seeds(scores, (variant, english), ["average"], claim)
            signs = [_sign(task, claim, scores, seeds, (variant,), english, task) for task in NINE]
            parts.append(_majority(f"{variant} against {english}", signs, claim.margin))
    if not parts:
        raise ScoreUnavailable("not verifiable", f"none of its variants was run: {', '.join(claim.variants)}")
    return parts


def _majority(name: str, signs: Sequence[_Look], margin: float | None) -> Part:
    """Whether most of the differences are above 0; with a ``margin``, whether most are not above that."""
    looks = [sign.comparison if margin is None else compare.at_most(sign.found, margin) for sign in signs]
    word = compare.most(looks).verdict()
    where = "above 0" if margin is None else f"at most {margin:g}"
    shown = {"reproduced": ", shown for most", "deviates": ", the reverse is shown for half or more"}.get(word, "")
    listed = ", ".join(f"{s.name} {s.value:+.1f} [{s.interval[0]:+.1f}, {s.interval[1]:+.1f}]" for s in signs)
    reason = f"{where} for {sum(each.plausible for each in looks)} of {len(looks)}{shown} ({listed})"
    return Part(name=name, verdict=word, reason=reason, seeds=signs[0].seeds)


def _best(claim: Claim, scores: Scores) -> list[Part]:
    """The best arms by dev against the printed reference, and against the own baseline, which decides nothing."""
    seeds = _seeds(scores, (BEST,), ["average"], claim)
    values = [_average(scores, seed, BEST, claim) - claim.reference for seed in seeds]
    printed = _near(values, claim.expected, claim.margin, 0.0, seeds)
    paired = _try(partial(_average_gain, BEST, claim.expected, claim, scores))
    chosen = "; ".join(f"{task}: {', '.join(sorted({scores.best(seed, task) for seed in seeds}))}" for task in NINE)
    (decides,), (beside,) = _judged([printed]), _judged([paired])
    decides["reason"] += f"; best on dev of {len(scores.arms)} arms: {chosen}"
    return [
        Part(name=f"over the printed {claim.reference:g}", expected=claim.expected, **decides),
        Part(name="over the own baseline", expected=claim.expected, decides=False, **beside),
    ]


def _cells(claim: Claim, cells: Sequence[CellVerdict]) -> list[Part]:
    """The printed values of the claim; languages decide nothing beside their mean."""
    parts = []
    for each in cells:
        cell = each.cell
        if cell.table in claim.tables and cell.arm == claim.row and cell.expected is not None:
            shared = each.model_dump(include=set(Measured.model_fields))
            parts.append(Part(name=each.key, expected=cell.expected, decides=not cell.language, **shared))
    decided = compare.worst([part.verdict for part in parts if part.decides])
    outside = [part.name for part in parts if not part.decides and part.verdict == "deviates"]
    if decided == "reproduced" and outside:
        reason = f"outside the margin: {', '.join(outside)}"
        parts.append(Part(name="languages", verdict="consistent", reason=reason))
    return parts
