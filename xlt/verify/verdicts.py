"""The verdicts on the means of a results folder, by what was recorded of the same tier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from xlt.frozen import Frozen
from xlt.tasks.record import ENGLISH
from xlt.verify.cells import MeanId
from xlt.verify.comparison import VERDICT_WORDS, Comparison, Estimate, VerdictWord, beside, estimate, holm, mean
from xlt.verify.recorded import BandRule, ReferenceRun, References, ReferenceSet, RunMean
from xlt.verify.scores import decisive

Direction = Literal["above", "below"]
SHOWN_ONLY = "shown only: the loss of half of what lies above a guess would not leave the band"


class Band(Frozen):
    """The values of a mean that do not deviate from what was recorded."""

    low: float
    """The lowest of them."""
    high: float
    """The highest of them."""
    mean: float
    """The mean of the recorded seeds."""
    deviation: float
    """The standard deviation between the recorded seeds."""
    seeds: tuple[int, ...]
    """The recorded seeds."""
    floored: bool
    """Whether the half width is the least that the tier's rule allows."""


class Judged(Frozen):
    """What is said about something."""

    verdict: VerdictWord
    """The verdict, a word of a closed set."""
    reason: str
    """Why, in words and numbers."""


class Verdict(MeanId, Judged):
    """What is said about the mean over languages of one task and split of one arm."""

    value: float | None = None
    """The mean over the languages, in percent; null where it could not be recomputed."""
    band: Band | None = None
    """What it was compared with; null where nothing fitting is recorded, or the band would tell nothing."""
    direction: Direction | None = None
    """Where a value outside the band lies."""
    diagnostic: bool = False
    """Whether it is shown only and does not count: its band would not show a loss that it must show (see the rule)."""
    run: str = ""
    """The folder of the run that was scored."""
    fix: str = ""
    """The command that fills it, where it was not run or could not be recomputed."""


class Statement(MeanId):
    """What holds for a mean on any data and in any tier; it is shown and decides nothing."""

    languages: int
    """In how many languages it was scored."""
    above_chance: int
    """In how many of them the score is above what guessing exceeds in 1 % of cases."""
    at_chance: tuple[str, ...]
    """The other languages."""
    loss_fell: bool | None
    """Whether the loss fell in training; null where nothing was trained, or too little to say."""


def statement_of(asked: RunMean) -> Statement:
    """What holds for a mean whatever was expected."""
    arm, task, split = asked.key
    at_chance = tuple(asked.rows["language"][~asked.rows["above_chance"].astype(bool)])
    return Statement(
        arm=arm,
        task=task,
        split=split,
        languages=len(asked.rows),
        above_chance=len(asked.rows) - len(at_chance),
        at_chance=at_chance,
        loss_fell=asked.loss_fell,
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """A score beside those of the reference runs, the level at which it is decided, and whether its band ``tells``."""

    value: float
    guess: float
    there: tuple[float, ...]
    floor: float
    level: float = 1.0
    tells: bool = False

    @property
    def found(self) -> Estimate:
        return estimate([self.value], self.there)

    @property
    def comparison(self) -> Comparison:
        return beside(self.found, self.floor, self.guess - mean(self.there))

    @property
    def band(self) -> Band:
        middle, half = mean(self.there), max(self.floor, self.found.half_width(self.level / 2))
        return Band(
            low=middle - half,
            high=min(100.0, middle + half),
            mean=middle,
            deviation=float(np.std(self.there, ddof=1)),
            seeds=(),
            floored=half == self.floor,
        )

    def screened(self, level: float, least_loss: float) -> _Look:
        """The same with whether, at ``level``, the loss of this share of what lies above a guess leaves the band."""
        look = replace(self, level=level)
        return replace(look, tells=look.band.low > self.guess + (1 - least_loss) * (mean(self.there) - self.guess))


def _look(rows: pd.DataFrame, there: Sequence[float | None], floor: float) -> _Look | None:
    known = tuple(value for value in there if value is not None)
    if rows.empty or not known or len(known) < len(there):
        return None
    return _Look(mean(rows["value"]), mean(rows["chance"]), known, floor)


def _leveled(looks: Sequence[_Look | None], rule: BandRule | None) -> list[_Look | None]:
    """The looks with their levels, which only those share whose bands tell something.

    Which these are is decided at the level that each would have if all did: recorded seeds and guess decide, never the
    score that is judged.
    """
    if rule is None:
        return [None] * len(looks)
    equal_share = rule.bands_error / max(1, sum(look is not None for look in looks))
    screened = [look and look.screened(equal_share, rule.least_loss) for look in looks]
    levels = iter(holm([look.comparison.outside for look in screened if look and look.tells], rule.bands_error))
    return [replace(look, level=next(levels)) if look and look.tells else look for look in screened]


def judge_means(asked: Sequence[RunMean], references: ReferenceSet) -> tuple[list[Verdict], tuple[str, ...]]:
    """A verdict on each of the means, and what they were compared with, in words.

    All that can raise an alarm here is of one family: the comparison of each mean whose band tells something, and that
    of each such English score among several languages, by which a run is said to have collapsed.
    """
    floor = references.rule.floor if references.rule else 0.0
    fitting, own, english = [], [], []
    for each in asked:
        why, rows = each.why_incomparable, each.rows
        found = References((), why) if why else references.fitting(each)
        fitting.append(found)
        own.append(_look(rows, [run.means[each.name].value for run in found.runs], floor))
        alone = rows[rows["language"] == ENGLISH] if len(rows) > 1 else rows[:0]
        english.append(_look(alone, [run.score(f"{each.name}/{ENGLISH}") for run in found.runs], floor))
    looks = _leveled([*own, *english], references.rule)
    pairs = zip(looks[: len(own)], looks[len(own) :], strict=True)
    verdicts = [_verdict(*each, *pair) for each, pair in zip(zip(asked, fitting, strict=True), pairs, strict=True)]
    return verdicts, tuple(dict.fromkeys(found.about for found in fitting))


def _verdict(asked: RunMean, references: References, own: _Look | None, english: _Look | None) -> Verdict:
    arm, task, split = asked.key
    word, reason = _word(asked, references, own, english)
    seeds = tuple(run.seed for run in references.runs)
    return Verdict(
        arm=arm,
        task=task,
        split=split,
        verdict=word,
        reason=reason,
        value=mean(asked.rows["value"]),
        band=own.band.model_copy(update={"seeds": seeds}) if own and own.tells else None,
        direction=_direction(own) if own and word in ("deviates", "collapsed") else None,
        diagnostic=reason == SHOWN_ONLY,
        run=asked.run,
    )


def _direction(look: _Look) -> Direction | None:
    if not look.tells or look.comparison.outside >= look.level:
        return None
    return "above" if look.found.value > 0 else "below"


def _word(asked: RunMean, references: References, own: _Look | None, english: _Look | None) -> tuple[VerdictWord, str]:
    if recorded := next((run for run in references.same_seed if _same_predictions(asked, run)), None):
        where = f"{recorded.platform.get('cpu', recorded.device)}, {recorded.date}"
        return "exact", f"every prediction as in the recorded run of this seed ({where})"
    if own is None:
        return "not verifiable", references.about
    low, high = own.band.low, own.band.high
    if reason := collapse_reason(asked, own, english):
        return "collapsed", reason
    if not own.tells:
        return "not verifiable", SHOWN_ONLY
    direction = _direction(own)
    if direction == "below" and asked.loss_fell is False:
        return "collapsed", "below the band, and the loss did not fall in training"
    if direction:
        away = abs(own.value - (high if direction == "above" else low))
        return "deviates", f"{own.value:.1f} is {away:.1f} {direction} {low:.1f} to {high:.1f}"
    word, where = own.comparison.verdict(own.level), f"{own.value:.1f} in {low:.1f} to {high:.1f}"
    shown = f", shown to be within {own.floor:g} of the reference runs" if word == "reproduced" else ""
    return word, where + shown


def collapse_reason(asked: RunMean, own: _Look, english: _Look | None) -> str:
    """Who is at chance, English or, without it, every language, although a sound run is not; else nothing.

    Where the band of the reference runs tells too little, a sound run may be there too.
    """
    rows = decisive(asked.rows)
    who, look = ("English", english or own) if ENGLISH in set(rows["language"]) else ("every language", own)
    if rows["above_chance"].any() or not look.tells:
        return ""
    usual = f"{look.band.low:.1f} to {look.band.high:.1f}"
    return f"{who} is at chance ({look.guess:.1f}); by the reference runs it is {usual}"


def _same_predictions(asked: RunMean, recorded: ReferenceRun) -> bool:
    there = {language: cell.predictions for language, cell in recorded.languages(asked.name).items()}
    return there == dict(zip(asked.rows["language"], asked.rows["predictions"], strict=True))


def count_verdicts(verdicts: Iterable[Judged]) -> dict[VerdictWord, int]:
    """How many verdicts of each word there are, failures first; what is shown only, and words that nothing got, are
    left out."""
    words = [each.verdict for each in verdicts if not (isinstance(each, Verdict) and each.diagnostic)]
    return {word: words.count(word) for word in VERDICT_WORDS if word in words}
