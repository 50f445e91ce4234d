"""The decision rules of the claims: from scores to verdicts on the parts of a claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from xlt.frozen import Frozen
from xlt.verify.literature import Claim, Gain
from xlt.verify.printed import ONE_SEED, CellVerdict, compared
from xlt.verify.scores import BASELINE, BEST, NINE, Lacking, Scores
from xlt.verify.statistics import LEVEL, Comparison, Contrast, bootstrap, compare, contrast, holm, ladder
from xlt.verify.verdicts import VERDICT_WORDS, VerdictWord


class Part(Frozen):
    """One thing that a claim says, in points; ``low`` to ``high`` is a 95 % interval, of contrasts two one-sided 95 %
    bounds. A part that does not decide is reported only."""

    name: str
    verdict: VerdictWord
    reason: str
    expected: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: tuple[int, ...] = ()
    decides: bool = True


def worst(words: Sequence[VerdictWord]) -> VerdictWord:
    """The word that is most of a failure."""
    return min(words, key=VERDICT_WORDS.index)


def judge_parts(claim: Claim, scores: Scores, cells: Sequence[CellVerdict]) -> list[Part]:
    """The parts of a claim; ``cells`` are the verdicts on all printed cells."""
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
    except Lacking as fault:
        return [Part(name=claim.id, verdict=fault.word, reason=str(fault))]


def _seeds(scores: Scores, arms: Sequence[str], quantities: Sequence[str], claim: Claim) -> tuple[int, ...]:
    seeds = scores.usable(arms, quantities, claim.split)
    if len(seeds) < 2:
        raise Lacking("not verifiable", ONE_SEED)
    return seeds


def _gains(claim: Claim, scores: Scores) -> list[Part]:
    """Each gain against its printed value, Holm over the gains."""
    looked = [_gain(gain, claim, scores) for gain in claim.gains]
    corrected = iter(holm([each[0].p for each in looked if not isinstance(each, Part)]))
    parts = []
    for gain, each in zip(claim.gains, looked, strict=True):
        if isinstance(each, Part):
            parts.append(each)
            continue
        found, arm, seeds, others = each
        word = ladder(found, next(corrected), 0.0)
        if arm in gain.capped and word == "reproduced":
            word = "consistent"
        reason = "; ".join([f"{arm}: {compared(found, gain.expected, word)}", *others])
        parts.append(_part(gain.name, word, reason, found, seeds, expected=gain.expected))
        if gain.rivals:
            parts.append(_ordering(gain, arm, claim, scores))
    return parts


def _gain(gain: Gain, claim: Claim, scores: Scores) -> tuple[Comparison, str, tuple[int, ...], list[str]] | Part:
    """The highest gain of the arms that were run, and the others in words."""
    found: list[tuple[Comparison, str, tuple[int, ...]]] = []
    faults = []
    for arm in gain.arms:
        try:
            seeds = _seeds(scores, (BASELINE, arm), ["average"], claim)
        except Lacking as fault:
            faults.append(fault)
            continue
        values = [_average(scores, seed, arm, claim) - _average(scores, seed, BASELINE, claim) for seed in seeds]
        found.append((compare(values, gain.expected, claim.margin), arm, seeds))
    if not found:
        first = min(faults, key=lambda each: VERDICT_WORDS.index(each.word))
        return Part(name=gain.name, verdict=first.word, reason=str(first), expected=gain.expected)
    highest = max(found, key=lambda each: each[0].estimate)
    others = [f"{arm}: {other.estimate:.1f}" for other, arm, _ in found if arm != highest[1]]
    return (*highest, others)


def _average(scores: Scores, seed: int, arm: str, claim: Claim) -> float:
    return scores.value(seed, arm, "average", claim.split)


def _ordering(gain: Gain, arm: str, claim: Claim, scores: Scores) -> Part:
    """The probability that ``arm`` is above the best of its rivals; it decides nothing."""
    name = f"{gain.name} is the best"
    rivals = [each for each in gain.rivals if each in scores.arms]
    try:
        seeds = _seeds(scores, (arm, *rivals), ["average"], claim)
        means = {each: sum(_average(scores, seed, each, claim) for seed in seeds) for each in rivals}
        if not means:
            raise Lacking("not run", "no single intermediate task was run")
    except Lacking as fault:
        return Part(name=name, verdict="not verifiable", reason=str(fault), decides=False)
    rival = max(means, key=lambda each: means[each])
    parts = [(1 / len(NINE), scores.deltas(seeds, (arm,), rival, task, claim.split)) for task in NINE]
    share = float((bootstrap(parts) > 0).mean())
    word: VerdictWord = "reproduced" if share > 1 - LEVEL else "consistent" if share > 0.5 else "not verifiable"
    reason = f"probability {share:.2f} of being above {rival}, the best single one"
    return _part(name, word, reason, contrast(name, parts), seeds, decides=False)


def _most(claim: Claim, scores: Scores) -> list[Part]:
    """The tasks of the claim gain, and more than every other."""
    arms = [arm for arm in claim.arms if arm != BASELINE]
    seeds = _seeds(scores, (BASELINE, *arms), ["average"], claim)
    gains = {task: scores.deltas(seeds, arms, BASELINE, task, claim.split) for task in NINE}
    made = [contrast(f"{task} gains", [(1.0, gains[task])]) for task in claim.tasks]
    made += [
        contrast(f"{task} gains more than {other}", [(1.0, gains[task]), (-1.0, gains[other])])
        for task in claim.tasks
        for other in NINE
        if other not in claim.tasks
    ]
    below = holm([each.p_below for each in made])
    parts = []
    for each, against in zip(made, below, strict=True):
        word: VerdictWord = "consistent" if each.estimate > 0 else "not verifiable"
        said = "above 0, not shown" if each.estimate > 0 else "below 0, not shown"
        if each.p_above < LEVEL:
            word, said = "reproduced", "shown"
        elif against < LEVEL:
            word, said = "deviates", "the reverse is shown"
        parts.append(_part(each.name, word, said, each, seeds))
    return parts


def _signs(claim: Claim, scores: Scores) -> list[Part]:
    """Signs over most of the single intermediate tasks; with fewer than all of them no more than consistent."""
    wanted = [arm for arm in claim.arms if arm != BASELINE]
    arms = [arm for arm in wanted if arm in scores.arms]
    if not arms:
        raise Lacking("not run", "no single intermediate task was run")
    parts = []
    for task, over in [*((task, True) for task in claim.above), *((task, False) for task in claim.not_above)]:
        seeds = _seeds(scores, (BASELINE, *arms), [task], claim)
        made = [contrast(arm, [(1.0, scores.deltas(seeds, [arm], BASELINE, task, claim.split))]) for arm in arms]
        word, reason = majority_above(made) if over else majority_not_above(made, claim.margin)
        if word == "reproduced" and len(arms) < len(wanted):
            word, reason = "consistent", f"{reason}; {len(arms)} of {len(wanted)} arms were run"
        name = f"{task} improves" if over else f"{task} does not benefit"
        parts.append(Part(name=name, verdict=word, reason=f"{reason} ({_listed(made)})", seeds=seeds))
    return parts


def majority_above(made: Sequence[Contrast]) -> tuple[VerdictWord, str]:
    """Whether most of the differences are above 0, Holm over them."""
    shown, against = _shown([each.p_above for each in made]), _shown([each.p_below for each in made])
    above = sum(each.estimate > 0 for each in made)
    reason = f"above 0 for {above} of {len(made)}, shown for {shown}"
    if shown > len(made) / 2:
        return "reproduced", reason
    if against >= len(made) / 2:
        return "deviates", f"{reason}; below 0 is shown for {against}"
    return ("consistent" if above > len(made) / 2 else "not verifiable"), reason


def majority_not_above(made: Sequence[Contrast], margin: float) -> tuple[VerdictWord, str]:
    """Whether most of the differences are not above 0 by more than ``margin``, Holm over them."""
    above = _shown([each.p_above for each in made])
    under = sum(each.high <= margin for each in made)
    near = sum(each.estimate <= margin for each in made)
    reason = f"shown to be above 0 for {above} of {len(made)}, shown to be below {margin:g} for {under}"
    if above > len(made) / 2:
        return "deviates", reason
    if under > len(made) / 2:
        return "reproduced", reason
    return ("consistent" if near > len(made) / 2 else "not verifiable"), reason


def _shown(p: Sequence[float]) -> int:
    return sum(each < LEVEL for each in holm(p))


def _listed(made: Sequence[Contrast]) -> str:
    return ", ".join(f"{each.name} {each.estimate:+.1f} [{each.low:+.1f}, {each.high:+.1f}]" for each in made)


def _best(claim: Claim, scores: Scores) -> list[Part]:
    """The best arms by dev against the printed reference, and against the own baseline."""
    seeds = _seeds(scores, (BEST,), ["average"], claim)
    own = [_average(scores, seed, BEST, claim) for seed in seeds]
    chosen = "; ".join(f"{task}: {', '.join(sorted({scores.best(seed, task) for seed in seeds}))}" for task in NINE)
    printed = compare([value - claim.reference for value in own], claim.expected, claim.margin)
    word = ladder(printed, printed.p, 0.0)
    reason = f"{compared(printed, claim.expected, word)}; best on dev of {len(scores.arms)} arms: {chosen}"
    name = f"over the printed {claim.reference:g}"
    parts = [_part(name, word, reason, printed, seeds, expected=claim.expected)]
    try:
        seeds = _seeds(scores, (BASELINE, BEST), ["average"], claim)
        gains = [_average(scores, seed, BEST, claim) - _average(scores, seed, BASELINE, claim) for seed in seeds]
    except Lacking as fault:
        return [*parts, Part(name="over the own baseline", verdict=fault.word, reason=str(fault), decides=False)]
    paired = compare(gains, claim.expected, claim.margin)
    word = ladder(paired, paired.p, 0.0)
    reason = compared(paired, claim.expected, word)
    name = "over the own baseline"
    return [*parts, _part(name, word, reason, paired, seeds, expected=claim.expected, decides=False)]


def _variants(claim: Claim, scores: Scores) -> list[Part]:
    """No variant is better than its English arm on most tasks."""
    parts = []
    for variant, english in claim.variants.items():
        if variant not in scores.arms:
            continue
        seeds = _seeds(scores, (variant, english), ["average"], claim)
        made = [contrast(task, [(1.0, scores.deltas(seeds, [variant], english, task, claim.split))]) for task in NINE]
        word, reason = majority_not_above(made, claim.margin)
        name = f"{variant} against {english}"
        parts.append(Part(name=name, verdict=word, reason=f"{reason} ({_listed(made)})", seeds=seeds))
    if not parts:
        raise Lacking("not verifiable", f"none of its variants was run: {', '.join(claim.variants)}")
    return parts


def _cells(claim: Claim, cells: Sequence[CellVerdict]) -> list[Part]:
    """The printed cells of the claim that have a value; languages decide nothing beside their mean."""
    parts = list(_cell_parts(claim, cells))
    decided = worst([part.verdict for part in parts if part.decides])
    outside = [part.name for part in parts if not part.decides and part.verdict == "deviates"]
    if decided == "reproduced" and outside:
        reason = f"outside the margin: {', '.join(outside)}"
        parts.append(Part(name="languages", verdict="consistent", reason=reason))
    return parts


def _cell_parts(claim: Claim, cells: Sequence[CellVerdict]) -> Iterator[Part]:
    for each in cells:
        cell = each.cell
        if cell.table in claim.tables and cell.arm == claim.row and cell.expected is not None:
            shared = each.model_dump(include={"verdict", "reason", "value", "low", "high", "seeds"})
            yield Part(name=each.key, expected=cell.expected, decides=not cell.language, **shared)


def _part(
    name: str,
    word: VerdictWord,
    reason: str,
    found: Comparison | Contrast,
    seeds: tuple[int, ...],
    *,
    expected: float | None = None,
    decides: bool = True,
) -> Part:
    return Part(
        name=name,
        verdict=word,
        reason=reason,
        expected=expected,
        value=found.estimate,
        low=found.low,
        high=found.high,
        seeds=seeds,
        decides=decides,
    )
