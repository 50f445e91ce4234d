"""The decision rules: from scores to verdicts on printed values and on the parts of claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from xlt.tasks.catalogue import get_task
from xlt.verify import comparison as compare
from xlt.verify.claims import Claim, Gain, Printed
from xlt.verify.comparison import LEVEL, VERDICT_WORDS, Comparison, Estimate, VerdictWord, mean
from xlt.verify.scores import BASELINE, BEST, NINE, Scores, ScoreUnavailable, Usable, tasks_of
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
    left_out: tuple[str, ...] = ()
    """Why other seeds are not in it: a training of theirs is at chance, or scores are missing."""


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
    """A difference that was looked at: to a printed value, or one whose sign is asked for."""

    name: str
    found: Estimate
    comparison: Comparison
    usable: Usable
    printed: float = 0.0
    margin: float | None = None  # None: its sign is asked for

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
            "deviates": ": outside the margin",
            "not verifiable": ": a guess would not be told from it either",
        }.get(word, "")
        reason = f"{self.value:.1f} ({low:.1f} to {high:.1f}) against {self.printed:.1f} ± {self.margin or 0:g}{said}"
        where = {"value": self.value, "low": low, "high": high}
        return {"verdict": word, "reason": reason + _left_out([self.usable]), **where} | _seeds_of([self.usable])


Found = _Look | ScoreUnavailable


def _seeds_of(found: Sequence[Usable]) -> dict[str, Any]:
    """The seeds behind several differences, and why others are not there."""
    why = dict.fromkeys(reason for usable in found for reason in usable.left_out)
    return {"seeds": tuple(sorted({seed for usable in found for seed in usable.seeds})), "left_out": tuple(why)}


def _left_out(found: Sequence[Usable]) -> str:
    why = _seeds_of(found)["left_out"]
    return f"; left out: {'; '.join(why)}" if why else ""


def _try(look: Callable[[], _Look]) -> Found:
    try:
        return look()
    except ScoreUnavailable as fault:
        return fault


def _said(look: Found, word: VerdictWord | None = None) -> dict[str, Any]:
    """What is said about a look, by the word that its family leaves to it, or alone."""
    if isinstance(look, ScoreUnavailable):
        return {"verdict": look.word, "reason": str(look)}
    return look.fields(word or look.comparison.verdict())


def _judged(looks: Sequence[Found]) -> list[dict[str, Any]]:
    """What is said about each of a family; what cannot be computed is no part of it."""
    words = iter(compare.verdicts([look.comparison for look in looks if isinstance(look, _Look)]))
    return [_said(look, next(words) if isinstance(look, _Look) else None) for look in looks]


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
    usable = scores.usable([cell.arm], [cell.quantity], cell.split)
    where = (cell.arm, cell.quantity, cell.split, cell.language)
    values = [scores.value(seed, *where) for seed in usable.seeds]
    guess = scores.value(usable.seeds[0], *where, column="chance")
    if cell.trained:
        return _near(cell.key, values, cell.expected, cell.margin, guess, usable)
    # No training is behind it, so seeds have no spread: each must lie inside the margin.
    found = Estimate(max((value - cell.expected for value in values), key=abs))
    comparison = compare.near(found, found, cell.margin, guess - cell.expected)
    return _Look(cell.key, found, comparison, usable, cell.expected, cell.margin)


def _near(name: str, values: Sequence[float], printed: float, margin: float, guess: float, usable: Usable) -> _Look:
    """The values of some seeds beside a printed one."""
    _check_spread(usable)
    found = compare.estimate([value - printed for value in values])
    comparison = compare.near(found, compare.estimate(values, [printed]), margin, guess - printed)
    return _Look(name, found, _capped(comparison, usable), usable, printed, margin)


def _check_spread(usable: Usable) -> None:
    if len(usable.seeds) < 2:
        raise ScoreUnavailable("not verifiable", ONE_SEED + _left_out([usable]))


def _capped(comparison: Comparison, usable: Usable) -> Comparison:
    """Where a seed collapsed, nothing is reproduced: the recipe does not give reliably what is printed."""
    return comparison.unshown if usable.collapsed else comparison


def judge_parts(claim: Claim, scores: Scores, cells: Sequence[Printed], layer: int) -> list[Part]:
    """The parts of a claim; ``cells`` are all printed values, ``layer`` is the block that was pooled for retrieval."""
    if claim.rule == "cells":
        return _cells(claim, scores, cells, layer)
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


def _average_gain(name: str, arm: str, expected: float, claim: Claim, scores: Scores) -> _Look:
    usable = scores.usable((BASELINE, arm), ["average"], claim.split)
    values = scores.gains(usable.seeds, (arm,), BASELINE, "average", claim.split)
    return _near(name, values, expected, claim.margin, 0.0, usable)


def _gains(claim: Claim, scores: Scores) -> list[Part]:
    """Each gain against its printed value; the gains are a family."""
    readings = [_readings(gain, claim, scores) for gain in claim.gains]
    looks = [[each for each in found.values() if isinstance(each, _Look)] for found in readings]
    words = iter(
        compare.verdicts([compare.at_least(1, [each.comparison for each in found]) for found in looks if found])
    )
    parts = []
    for gain, found, seen in zip(claim.gains, readings, looks, strict=True):
        parts += _gain_parts(gain, found, next(words) if seen else None)
        if gain.rivals and seen:
            parts.append(_ordering(gain, next(arm for arm in found if found[arm] is seen[0]), claim, scores))
    return parts


def _readings(gain: Gain, claim: Claim, scores: Scores) -> dict[str, Found]:
    """What was found for each arm that the paper may mean, or where none was run for what was run instead."""

    def looked(arm: str) -> Found:
        return _try(partial(_average_gain, f"{gain.name} as {arm}", arm, gain.expected, claim, scores))

    found = {arm: looked(arm) for arm in gain.arms}
    if any(isinstance(each, _Look) for each in found.values()):
        return found
    others = {arm: looked(arm) for arm in gain.substitutes}
    instead = {arm: each for arm, each in others.items() if isinstance(each, _Look)}
    return {arm: replace(each, comparison=each.comparison.unshown) for arm, each in instead.items()} or found


def _gain_parts(gain: Gain, found: dict[str, Found], word: VerdictWord | None) -> list[Part]:
    """The gain, by ``word`` if anything was measured; where there are several readings, each stands beside it."""
    faults = [each for each in found.values() if isinstance(each, ScoreUnavailable)]
    fault = min(faults, key=lambda each: VERDICT_WORDS.index(each.word), default=None)
    if word is None or len(found) == 1:
        arm, look = next(iter(found.items()))
        said = _said(fault or look, word)
        reason = said["reason"] if fault else f"{arm}: {said['reason']}"
        return [Part(name=gain.name, expected=gain.expected, **said | {"reason": reason})]
    readings = [
        Part(name=f"{gain.name} as {arm}", expected=gain.expected, decides=False, **_said(look))
        for arm, look in found.items()
    ]
    # One reading cannot refute what another may hold: that one has to be run.
    word = fault.word if fault and word == "deviates" else word
    reason = f"one of these suffices: {'; '.join(f'{part.name} {part.reason}' for part in readings)}"
    seeds = _seeds_of([look.usable for look in found.values() if isinstance(look, _Look)])
    return [Part(name=gain.name, expected=gain.expected, verdict=word, reason=reason, **seeds), *readings]


def _sign(
    name: str, claim: Claim, scores: Scores, usable: Usable, arms: Sequence[str], base: str, quantity: str
) -> _Look:
    """How much more the arms have than ``base``."""
    _check_spread(usable)
    found = compare.estimate(scores.gains(usable.seeds, arms, base, quantity, claim.split))
    return _Look(name, found, _capped(compare.above(found), usable), usable)


def _ordering(gain: Gain, arm: str, claim: Claim, scores: Scores) -> Part:
    """Whether ``arm`` is above the best of its rivals; it decides nothing."""
    name = f"{gain.name} is the best"
    rivals = [each for each in gain.rivals if each in scores.arms]
    try:
        usable = scores.usable((arm, *rivals), ["average"], claim.split)
        means = {r: mean([scores.value(seed, r, "average", claim.split) for seed in usable.seeds]) for r in rivals}
        if not means:
            raise ScoreUnavailable("not run", "no single intermediate task was run")
        rival = max(means, key=means.__getitem__)
        sign = _sign(name, claim, scores, usable, (arm,), rival, "average")
    except ScoreUnavailable as fault:
        return Part(name=name, verdict="not verifiable", reason=str(fault), decides=False)
    reason = f"one-sided confidence {1 - sign.found.p_at_most(0.0):.2f} of being above {rival}, the best single one"
    return Part(name=name, decides=False, **_said(sign) | {"reason": reason})


def _most(claim: Claim, scores: Scores) -> list[Part]:
    """The tasks of the claim gain, and more than every other; a family."""
    arms = [arm for arm in claim.arms if arm != BASELINE]
    usable = scores.usable((BASELINE, *arms), ["average"], claim.split)
    _check_spread(usable)
    gains = {task: scores.gains(usable.seeds, arms, BASELINE, task, claim.split) for task in NINE}
    terms = {f"{task} gains": gains[task] for task in claim.tasks}
    for task in claim.tasks:
        for other in NINE:
            if other not in claim.tasks:
                pairs = zip(gains[task], gains[other], strict=True)
                terms[f"{task} gains more than {other}"] = [own - its for own, its in pairs]
    found = {name: compare.estimate(values) for name, values in terms.items()}
    signs = [_Look(name, each, _capped(compare.above(each), usable), usable) for name, each in found.items()]
    said = {
        "reproduced": "shown",
        "deviates": "the reverse is shown",
        "consistent": "above 0, not shown",
        "not verifiable": "not above 0, not shown",
    }
    return [
        Part(name=sign.name, **fields | {"reason": said[fields["verdict"]] + _left_out([usable])})
        for sign, fields in zip(signs, _judged(signs), strict=True)
    ]


def _signs(claim: Claim, scores: Scores) -> list[Part]:
    """Signs over most of the single intermediate tasks; with fewer than all of them no more than consistent."""
    wanted = [arm for arm in claim.arms if arm != BASELINE]
    arms = [arm for arm in wanted if arm in scores.arms]
    if not arms:
        raise ScoreUnavailable("not run", "no single intermediate task was run")
    few = f"{len(arms)} of {len(wanted)} arms were run" if len(arms) < len(wanted) else ""
    asked = []
    for task in (*claim.above, *claim.not_above):
        signs = [
            _sign(arm, claim, scores, scores.usable((BASELINE, arm), [task], claim.split), (arm,), BASELINE, task)
            for arm in arms
        ]
        gains = task in claim.above
        name = f"{task} improves" if gains else f"{task} does not benefit"
        asked.append(_Majority(name, signs, None if gains else claim.margin, few))
    return _majorities(asked)


def _variants(claim: Claim, scores: Scores) -> list[Part]:
    """No variant is better than its English arm on most tasks."""
    asked = []
    for variant, english in claim.variants.items():
        if variant in scores.arms:
            usable = scores.usable((variant, english), ["average"], claim.split)
            signs = [_sign(task, claim, scores, usable, (variant,), english, task) for task in NINE]
            asked.append(_Majority(f"{variant} against {english}", signs, claim.margin))
    if not asked:
        raise ScoreUnavailable("not verifiable", f"none of its variants was run: {', '.join(claim.variants)}")
    return _majorities(asked)


@dataclass(frozen=True, slots=True)
class _Majority:
    """Whether most of the differences are above 0; with a ``margin``, whether most are not above that.

    ``few`` says that not all of them were run.
    """

    name: str
    signs: Sequence[_Look]
    margin: float | None
    few: str = ""

    @property
    def comparisons(self) -> list[Comparison]:
        if self.margin is None:
            return [sign.comparison for sign in self.signs]
        return [_capped(compare.at_most(sign.found, self.margin), sign.usable) for sign in self.signs]

    @property
    def comparison(self) -> Comparison:
        found = compare.most(self.comparisons)
        return found.unshown if self.few else found

    def part(self, word: VerdictWord) -> Part:
        where = "above 0" if self.margin is None else f"at most {self.margin:g}"
        shown = {"reproduced": ", shown for most", "deviates": ", the reverse is shown for half or more"}.get(word, "")
        listed = ", ".join(f"{s.name} {s.value:+.1f} [{s.interval[0]:+.1f}, {s.interval[1]:+.1f}]" for s in self.signs)
        count = f"{sum(each.plausible for each in self.comparisons)} of {len(self.signs)}"
        usable = [sign.usable for sign in self.signs]
        reason = f"{where} for {count}{shown}{self.few and f'; {self.few}'} ({listed}){_left_out(usable)}"
        return Part(name=self.name, verdict=word, reason=reason, **_seeds_of(usable))


def _majorities(asked: Sequence[_Majority]) -> list[Part]:
    """The parts of a claim on majorities, which are a family."""
    words = compare.verdicts([each.comparison for each in asked])
    return [each.part(word) for each, word in zip(asked, words, strict=True)]


def _best(claim: Claim, scores: Scores) -> list[Part]:
    """The best arms by dev against the printed reference, and against the own baseline, which decides nothing."""
    usable = scores.usable((BEST,), ["average"], claim.split)
    values = [scores.value(seed, BEST, "average", claim.split) - claim.reference for seed in usable.seeds]
    decides = _said(_near("", values, claim.expected, claim.margin, 0.0, usable))
    beside = _said(_try(partial(_average_gain, "", BEST, claim.expected, claim, scores)))
    chosen = {task: sorted({scores.best(seed, task) for seed in usable.seeds}) for task in NINE}
    listed = "; ".join(f"{task}: {', '.join(arms)}" for task, arms in chosen.items())
    decides["reason"] += f"; best on dev of {len(scores.arms)} arms: {listed}"
    return [
        Part(name=f"over the printed {claim.reference:g}", expected=claim.expected, **decides),
        Part(name="over the own baseline", expected=claim.expected, decides=False, **beside),
    ]


def _cells(claim: Claim, scores: Scores, cells: Sequence[Printed], layer: int) -> list[Part]:
    """The printed values of the claim, which are a family over all its tables; languages decide nothing beside them."""
    own = [each for each in cells if each.table in claim.tables and each.arm == claim.row and each.expected is not None]
    parts = []
    for decides in (True, False):
        listed = [each for each in own if decides == (not each.language)]
        said = _judged([_try(partial(_measure, each, scores, layer)) for each in listed])
        for cell, fields in zip(listed, said, strict=True):
            parts.append(Part(name=cell.key, expected=cell.expected, decides=decides, **fields))
    decided = compare.worst([part.verdict for part in parts if part.decides])
    outside = [part.name for part in parts if not part.decides and part.verdict == "deviates"]
    if decided == "reproduced" and outside:
        reason = f"outside the margin: {', '.join(outside)}"
        parts.append(Part(name="languages", verdict="consistent", reason=reason))
    return parts
