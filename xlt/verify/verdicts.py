"""The verdicts on the means of a results folder, by what was recorded of the same tier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from xlt.frozen import Frozen
from xlt.tasks.record import ENGLISH, Split
from xlt.verify.comparison import VERDICT_WORDS, Comparison, Estimate, VerdictWord, estimate, holm, mean, near
from xlt.verify.recorded import ReferenceRun, References, ReferenceSet, RunConditions
from xlt.verify.scores import decisive

Direction = Literal["above", "below"]


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


class Verdict(Frozen):
    """What is said about the mean over languages of one task and split of one arm."""

    arm: str
    """The phase-2 model."""
    task: str
    """The task."""
    split: Split
    """The split of its data."""
    verdict: VerdictWord
    """The verdict, a word of a closed set."""
    reason: str
    """Why, in words and numbers."""
    value: float | None = None
    """The mean over the languages, in percent; null where it could not be recomputed."""
    band: Band | None = None
    """What it was compared with; null where nothing fitting is recorded."""
    direction: Direction | None = None
    """Where a value outside the band lies."""
    run: str = ""
    """The folder of the run that was scored."""
    fix: str = ""
    """The command that fills it, where it was not run or could not be recomputed."""


class Statement(Frozen):
    """What holds for a mean on any data and in any tier; it is shown and decides nothing."""

    arm: str
    """The phase-2 model."""
    task: str
    """The task."""
    split: Split
    """The split of its data."""
    languages: int
    """In how many languages it was scored."""
    above_chance: int
    """In how many of them the score is above what guessing exceeds in 1 % of cases."""
    at_chance: tuple[str, ...]
    """The other languages."""
    loss_fell: bool | None
    """Whether the loss fell in training; null where nothing was trained, or too little to say."""


@dataclass(frozen=True, slots=True)
class RunMean:
    """A mean of one run as it is judged, with its ``rows`` of the table of scores, one for each language.

    ``why_incomparable`` says why it is compared with nothing, if that is so.
    """

    arm: str
    task: str
    split: Split
    rows: pd.DataFrame
    conditions: RunConditions
    run: str = ""
    loss_fell: bool | None = None
    why_incomparable: str = ""

    @property
    def name(self) -> str:
        """What it is called in the reference runs."""
        return f"{self.arm}/{self.task}/{self.split}"

    @property
    def statement(self) -> Statement:
        """What holds whatever was expected."""
        at_chance = tuple(self.rows["language"][~self.rows["above_chance"].astype(bool)])
        return Statement(
            arm=self.arm,
            task=self.task,
            split=self.split,
            languages=len(self.rows),
            above_chance=len(self.rows) - len(at_chance),
            at_chance=at_chance,
            loss_fell=self.loss_fell,
        )


@dataclass(frozen=True, slots=True)
class _Look:
    """One score beside those of the reference runs, and the level at which it is decided."""

    value: float
    guess: float
    there: tuple[float, ...]
    found: Estimate
    comparison: Comparison
    floor: float
    level: float = 1.0

    @property
    def half_width(self) -> float:
        return max(self.floor, self.found.half_width(self.level / 2))

    @property
    def band(self) -> tuple[float, float]:
        return max(0.0, mean(self.there) - self.half_width), min(100.0, mean(self.there) + self.half_width)


def _look(value: float, guess: float, there: Sequence[float], floor: float) -> _Look:
    found = estimate([(1.0, np.array([[value]]))], there)
    return _Look(value, guess, tuple(there), found, near(found, floor, guess - mean(there)), floor)


def judge_means(asked: Sequence[RunMean], references: ReferenceSet) -> tuple[list[Verdict], tuple[str, ...]]:
    """A verdict on each of the means, and what they were compared with, in words.

    Everything that can raise an alarm is of one family: the comparison of each mean, and that of each English score,
    by which a run is said to have collapsed.
    """
    floor, error = (references.rule.floor, references.rule.family_error) if references.rule else (0.0, 1.0)
    fitting = [
        References((), each.why_incomparable)
        if each.why_incomparable
        else references.fitting(each.name, each.conditions)
        for each in asked
    ]
    pairs = list(zip(asked, fitting, strict=True))
    own = [_own(each, found, floor) for each, found in pairs]
    english = [_english(each, found, floor) for each, found in pairs]
    levels = iter(holm([look.comparison.outside for look in (*own, *english) if look], error))
    own, english = ([look and replace(look, level=next(levels)) for look in looks] for looks in (own, english))
    verdicts = [_verdict(*each) for each in zip(asked, fitting, own, english, strict=True)]
    return verdicts, tuple(dict.fromkeys(found.about for found in fitting))


def _own(asked: RunMean, references: References, floor: float) -> _Look | None:
    if not references.runs:
        return None
    there = [run.means[asked.name].value for run in references.runs]
    return _look(mean(asked.rows["value"]), mean(asked.rows["chance"]), there, floor)


def _english(asked: RunMean, references: References, floor: float) -> _Look | None:
    """English alone, where it is one language of several."""
    row = asked.rows[asked.rows["language"] == ENGLISH]
    there = [score for run in references.runs if (score := run.score(f"{asked.name}/{ENGLISH}")) is not None]
    if row.empty or len(asked.rows) == 1 or not there or len(there) < len(references.runs):
        return None
    return _look(float(row["value"].iloc[0]), float(row["chance"].iloc[0]), there, floor)


def _verdict(asked: RunMean, references: References, own: _Look | None, english: _Look | None) -> Verdict:
    word, reason = _word(asked, references, own, english)
    band, direction = None, None
    if own:
        (low, high), seeds = own.band, tuple(run.seed for run in references.runs)
        deviation, floored = float(np.std(own.there, ddof=1)), own.half_width == own.floor
        band = Band(low=low, high=high, mean=mean(own.there), deviation=deviation, seeds=seeds, floored=floored)
        direction = _direction(own) if word in ("deviates", "collapsed") else None
    return Verdict(
        arm=asked.arm,
        task=asked.task,
        split=asked.split,
        verdict=word,
        reason=reason,
        value=mean(asked.rows["value"]),
        band=band,
        direction=direction,
        run=asked.run,
    )


def _direction(look: _Look) -> Direction | None:
    if look.comparison.outside >= look.level:
        return None
    return "above" if look.found.value > 0 else "below"


def _word(asked: RunMean, references: References, own: _Look | None, english: _Look | None) -> tuple[VerdictWord, str]:
    if references.same_seed and _same_predictions(asked, references.same_seed):
        recorded = references.same_seed
        where = f"{recorded.platform.get('cpu', recorded.device)}, {recorded.date}"
        return "exact", f"every prediction as in the recorded run of this seed ({where})"
    if own is None:
        return "not verifiable", references.about
    low, high = own.band
    if reason := collapse_reason(asked, own, english):
        return "collapsed", reason
    direction = _direction(own)
    if direction == "below" and asked.loss_fell is False:
        return "collapsed", "below the band, and the loss did not fall in training"
    if direction:
        away = abs(own.value - (high if direction == "above" else low))
        return "deviates", f"{own.value:.1f} is {away:.1f} {direction} {low:.1f} to {high:.1f}"
    word, where = own.comparison.verdict(own.level), f"{own.value:.1f} in {low:.1f} to {high:.1f}"
    if word == "not verifiable":
        few = f"{len(references.runs)} reference runs that differ this much"
        return word, f"{where}: a band that reaches chance tells nothing ({few})"
    shown = f", shown to be within {own.floor:g} of the reference runs" if word == "reproduced" else ""
    return word, where + shown


def collapse_reason(asked: RunMean, own: _Look, english: _Look | None) -> str:
    """Who is at chance, English or, without it, every language, although a sound run is not; else nothing.

    Where the band of the reference runs reaches chance, a sound run may be there too.
    """
    rows = decisive(asked.rows)
    who, look = ("English", english or own) if ENGLISH in set(rows["language"]) else ("every language", own)
    low, high = look.band
    if rows["above_chance"].any() or low <= look.guess:
        return ""
    return f"{who} is at chance ({look.guess:.1f}); by the reference runs it is {low:.1f} to {high:.1f}"


def _same_predictions(asked: RunMean, recorded: ReferenceRun) -> bool:
    there = {language: cell.predictions for language, cell in recorded.languages(asked.name).items()}
    return there == dict(zip(asked.rows["language"], asked.rows["predictions"], strict=True))


class _Judged(Protocol):
    @property
    def verdict(self) -> VerdictWord: ...


def count_verdicts(verdicts: Iterable[_Judged]) -> dict[VerdictWord, int]:
    """How many verdicts of each word there are, failures first; words that nothing got are left out."""
    words = [verdict.verdict for verdict in verdicts]
    return {word: words.count(word) for word in VERDICT_WORDS if word in words}
