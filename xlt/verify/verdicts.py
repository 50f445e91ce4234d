"""From a mean and its band to a verdict of a closed set, with its reason; and what holds on any data."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from xlt.evaluate.metrics import task_score
from xlt.frozen import Frozen
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split
from xlt.verify.bands import Band, References
from xlt.verify.cells import Cell, Mean, MeanKey
from xlt.verify.log import Log
from xlt.verify.measured import MeasuredCell, Record

VerdictWord = Literal["exact", "reproduced", "consistent", "deviates", "collapsed", "not run", "not verifiable"]
# Failures first: the order in which people want to read them.
VERDICT_WORDS: tuple[VerdictWord, ...] = (
    "collapsed",
    "deviates",
    "not run",
    "not verifiable",
    "consistent",
    "reproduced",
    "exact",
)
Direction = Literal["above", "below"]


class Verdict(Frozen):
    """What is said about one mean. ``fix`` is the command that fills it, where it was not run."""

    arm: str
    task: str
    split: Split
    verdict: VerdictWord
    reason: str
    value: float | None = None
    band: Band | None = None
    direction: Direction | None = None
    run: str = ""
    fix: str = ""


class Statement(Frozen):
    """What holds on any data and in any tier; it is shown and never fails anything.

    ``above_chance`` of ``languages`` are above what guessing exceeds in 1 % of cases, by the binomial law.
    """

    arm: str
    task: str
    split: Split
    languages: int
    above_chance: int
    at_chance: tuple[str, ...]
    loss_fell: bool | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict on one mean is given from: its recomputed cells and its run's log."""

    cells: Sequence[Cell]
    log: Log | None

    @property
    def chance(self) -> float:
        """The mean that guessing gives."""
        return statistics.fmean(task_score(get_task(cell.task), cell.guess) for cell in self.cells)

    @property
    def at_chance(self) -> tuple[str, ...]:
        """The languages in which the model does no better than a guess."""
        return tuple(cell.language for cell in self.cells if not cell.above_chance)

    @property
    def loss_fell(self) -> bool | None:
        """Whether the loss fell in training; None where nothing was trained or too little to say."""
        return self.log.loss_fell if self.log else None


def judge_mean(mean: Mean, run: str, evidence: Evidence, references: References) -> Verdict:
    """The verdict on a mean that could be recomputed.

    A band that a guess would be in as well is no evidence: then nothing is called consistent.
    """
    arm, task, split = mean.key
    key = f"{arm}/{task}/{split}"
    band = references.band

    def verdict(word: VerdictWord, reason: str, direction: Direction | None = None) -> Verdict:
        return Verdict(
            arm=arm,
            task=task,
            split=split,
            verdict=word,
            reason=reason,
            value=mean.value,
            band=band,
            direction=direction,
            run=run,
        )

    twin = references.twin
    if twin is not None and _same_predictions(key, evidence.cells, twin):
        where = f"{twin.platform.get('cpu', twin.device)}, {twin.date}"
        return verdict("exact", f"every prediction as in the recorded run of this seed ({where})")
    if band is None:
        return verdict("not verifiable", references.about)
    inside = band.contains(mean.value)
    direction: Direction | None = None if inside else "above" if mean.value > band.high else "below"
    if fallen := _fallen(evidence, references.english, band):
        return verdict("collapsed", fallen, direction)
    if direction == "below" and evidence.loss_fell is False:
        return verdict("collapsed", "below the band, and the loss did not fall in training", direction)
    where = f"{mean.value:.1f} in {band.low:.1f} to {band.high:.1f}"
    if inside and band.low <= evidence.chance:
        few = f"{len(band.seeds)} reference runs that differ this much"
        return verdict("not verifiable", f"{where}: a band that reaches chance tells nothing ({few})")
    if inside:
        return verdict("consistent", where)
    edge = band.high if direction == "above" else band.low
    reason = f"{mean.value:.1f} is {abs(mean.value - edge):.1f} {direction} {band.low:.1f} to {band.high:.1f}"
    return verdict("deviates", reason, direction)


def _fallen(evidence: Evidence, english: Band | None, band: Band) -> str:
    """What is at chance, English or every language, although reference runs say that a sound run is not; else nothing.

    Where their own band reaches chance, a sound run may be there too.
    """
    if not at_chance({cell.language: cell for cell in evidence.cells}):
        return ""
    who, guess, usual = "every language", evidence.chance, band
    for cell in evidence.cells:
        if cell.language == "en" and english:
            who, guess, usual = "English", task_score(get_task(cell.task), cell.guess), english
    if usual.low <= guess:
        return ""
    return f"{who} is at chance ({guess:.1f}); by the reference runs it is {usual.low:.1f} to {usual.high:.1f}"


def _same_predictions(key: str, cells: Sequence[Cell], twin: Record) -> bool:
    recorded = {language: cell.predictions for language, cell in _recorded(key, twin).items()}
    return recorded == {cell.language: cell.predictions for cell in cells}


def _recorded(key: str, record: Record) -> dict[str, MeasuredCell]:
    """The recorded cells of a mean by language."""
    return {name.rpartition("/")[2]: cell for name, cell in record.cells.items() if name.rpartition("/")[0] == key}


def at_chance(cells: Mapping[str, Cell] | Mapping[str, MeasuredCell]) -> bool:
    """Whether English, among cells by language, is no better than a guess; without English, every language."""
    return not any(cell.above_chance for cell in ([cells["en"]] if "en" in cells else cells.values()))


def state(key: MeanKey, evidence: Evidence) -> Statement:
    """What holds for one task and split of one arm, whatever was expected."""
    return Statement(
        arm=key[0],
        task=key[1],
        split=key[2],
        languages=len(evidence.cells),
        above_chance=len(evidence.cells) - len(evidence.at_chance),
        at_chance=evidence.at_chance,
        loss_fell=evidence.loss_fell,
    )


def count_verdicts(verdicts: Iterable[Verdict]) -> dict[VerdictWord, int]:
    """How many verdicts of each word there are, failures first; words that nothing got are left out."""
    words = [verdict.verdict for verdict in verdicts]
    return {word: words.count(word) for word in VERDICT_WORDS if word in words}
