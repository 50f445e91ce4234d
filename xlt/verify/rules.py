"""The decision rules: from scores to verdicts on the parts of claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from xlt.verify import comparison as compare
from xlt.verify.claims import Claim, Gain, Printed
from xlt.verify.comparison import VERDICT_WORDS, Comparison, VerdictWord, mean
from xlt.verify.looks import (
    Found,
    Look,
    Part,
    capped,
    check_spread,
    near,
    said_of,
    said_of_family,
    seeds_of,
    tried,
    why_left_out,
)
from xlt.verify.printed import judge_cells
from xlt.verify.scores import BASELINE, BEST, NINE, Scores, ScoreUnavailable, Usable


def judge_parts(claim: Claim, scores: Scores, cells: Sequence[Printed], layer: int) -> list[Part]:
    """The parts of a claim; ``cells`` are all printed values, ``layer`` is the block that was pooled for retrieval."""
    if claim.rule == "cells":
        return judge_cells(claim, scores, cells, layer)
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


def _average_gain(name: str, arm: str, expected: float, claim: Claim, scores: Scores) -> Look:
    usable = scores.usable((BASELINE, arm), ["average"], claim.split)
    values = scores.gains(usable.seeds, (arm,), BASELINE, "average", claim.split)
    return near(name, values, [expected], claim.margin, 0.0, usable)


def _gains(claim: Claim, scores: Scores) -> list[Part]:
    """Each gain against its printed value; the gains are a family."""
    readings = [_readings(gain, claim, scores) for gain in claim.gains]
    looks = [[each for each in found.values() if isinstance(each, Look)] for found in readings]
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
        return tried(partial(_average_gain, f"{gain.name} as {arm}", arm, gain.expected, claim, scores))

    found = {arm: looked(arm) for arm in gain.arms}
    if any(isinstance(each, Look) for each in found.values()):
        return found
    others = {arm: looked(arm) for arm in gain.substitutes}
    instead = {arm: each for arm, each in others.items() if isinstance(each, Look)}
    return {arm: replace(each, comparison=each.comparison.unshown) for arm, each in instead.items()} or found


def _gain_parts(gain: Gain, found: dict[str, Found], word: VerdictWord | None) -> list[Part]:
    """The gain, by ``word`` if anything was measured; where there are several readings, each stands beside it."""
    faults = [each for each in found.values() if isinstance(each, ScoreUnavailable)]
    fault = min(faults, key=lambda each: VERDICT_WORDS.index(each.word), default=None)
    if word is None or len(found) == 1:
        arm, look = next(iter(found.items()))
        said = said_of(fault or look, word)
        reason = said["reason"] if fault else f"{arm}: {said['reason']}"
        return [Part(name=gain.name, expected=gain.expected, **said | {"reason": reason})]
    readings = [
        Part(name=f"{gain.name} as {arm}", expected=gain.expected, decides=False, **said_of(look))
        for arm, look in found.items()
    ]
    # One reading cannot refute what another may hold: that one has to be run.
    word = fault.word if fault and word == "deviates" else word
    reason = f"one of these suffices: {'; '.join(f'{part.name} {part.reason}' for part in readings)}"
    seeds = seeds_of([look.usable for look in found.values() if isinstance(look, Look)])
    return [Part(name=gain.name, expected=gain.expected, verdict=word, reason=reason, **seeds), *readings]


def _sign(
    name: str, claim: Claim, scores: Scores, usable: Usable, arms: Sequence[str], base: str, quantity: str
) -> Look:
    """How much more the arms have than ``base``."""
    check_spread(usable)
    found = compare.estimate(scores.gains(usable.seeds, arms, base, quantity, claim.split))
    return Look(name, found, capped(compare.above(found), usable), usable)


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
    return Part(name=name, decides=False, **said_of(sign) | {"reason": reason})


def _most(claim: Claim, scores: Scores) -> list[Part]:
    """The tasks of the claim gain, and more than every other; a family."""
    arms = [arm for arm in claim.arms if arm != BASELINE]
    usable = scores.usable((BASELINE, *arms), ["average"], claim.split)
    check_spread(usable)
    gains = {task: scores.gains(usable.seeds, arms, BASELINE, task, claim.split) for task in NINE}
    terms = {f"{task} gains": gains[task] for task in claim.tasks}
    for task in claim.tasks:
        for other in NINE:
            if other not in claim.tasks:
                pairs = zip(gains[task], gains[other], strict=True)
                terms[f"{task} gains more than {other}"] = [own - its for own, its in pairs]
    found = {name: compare.estimate(values) for name, values in terms.items()}
    signs = [Look(name, each, capped(compare.above(each), usable), usable) for name, each in found.items()]
    said = {
        "reproduced": "shown",
        "deviates": "the reverse is shown",
        "consistent": "above 0, not shown",
        "not verifiable": "not above 0, not shown",
    }
    return [
        Part(name=sign.name, **fields | {"reason": said[fields["verdict"]] + why_left_out([usable])})
        for sign, fields in zip(signs, said_of_family(signs), strict=True)
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
    signs: Sequence[Look]
    margin: float | None
    few: str = ""

    @property
    def comparisons(self) -> list[Comparison]:
        if self.margin is None:
            return [sign.comparison for sign in self.signs]
        return [capped(compare.at_most(sign.found, self.margin), sign.usable) for sign in self.signs]

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
        reason = f"{where} for {count}{shown}{self.few and f'; {self.few}'} ({listed}){why_left_out(usable)}"
        return Part(name=self.name, verdict=word, reason=reason, **seeds_of(usable))


def _majorities(asked: Sequence[_Majority]) -> list[Part]:
    """The parts of a claim on majorities, which are a family."""
    words = compare.verdicts([each.comparison for each in asked])
    return [each.part(word) for each, word in zip(asked, words, strict=True)]


def _best(claim: Claim, scores: Scores) -> list[Part]:
    """The best arms by dev against the printed reference, and against the own baseline, which decides nothing."""
    usable = scores.usable((BEST,), ["average"], claim.split)
    values = [scores.value(seed, BEST, "average", claim.split) - claim.reference for seed in usable.seeds]
    decides = said_of(near("", values, [claim.expected], claim.margin, 0.0, usable))
    beside = said_of(tried(partial(_average_gain, "", BEST, claim.expected, claim, scores)))
    chosen = {task: sorted({scores.best(seed, task) for seed in usable.seeds}) for task in NINE}
    listed = "; ".join(f"{task}: {', '.join(arms)}" for task, arms in chosen.items())
    decides["reason"] += f"; best on dev of {len(scores.arms)} arms: {listed}"
    return [
        Part(name=f"over the printed {claim.reference:g}", expected=claim.expected, **decides),
        Part(name="over the own baseline", expected=claim.expected, decides=False, **beside),
    ]
