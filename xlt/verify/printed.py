"""Verdicts on the cells of printed tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xlt.frozen import Frozen
from xlt.tasks.catalogue import get_task
from xlt.verify.literature import Printed
from xlt.verify.scores import Lacking, Scores, tasks_of
from xlt.verify.statistics import Comparison, compare, holm, ladder
from xlt.verify.verdicts import Direction, VerdictWord

ONE_SEED = "one seed shows no spread: give the folders of more seeds, each with --results"


class CellVerdict(Frozen):
    """What is said about one printed cell; ``low`` to ``high`` is the 95 % interval of the measured mean."""

    key: str
    cell: Printed
    verdict: VerdictWord
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    direction: Direction | None = None
    seeds: tuple[int, ...] = ()
    fix: str = ""


@dataclass(frozen=True, slots=True)
class _Measured:
    cell: Printed
    found: Comparison
    guess: float
    seeds: tuple[int, ...]


def judge_printed(cells: Sequence[Printed], scores: Scores, layer: int, fix: str) -> list[CellVerdict]:
    """A verdict on each cell, its p corrected over its table. ``layer`` is the block that was pooled for retrieval."""
    verdicts: list[CellVerdict] = []
    for table in dict.fromkeys(cell.table for cell in cells):
        looked = [_measure(cell, scores, layer, fix) for cell in cells if cell.table == table]
        corrected = iter(holm([each.found.p for each in looked if isinstance(each, _Measured)]))
        verdicts += [each if isinstance(each, CellVerdict) else _judge(each, next(corrected)) for each in looked]
    return verdicts


def _measure(cell: Printed, scores: Scores, layer: int, fix: str) -> _Measured | CellVerdict:
    try:
        if cell.expected is None:
            raise Lacking("not verifiable", cell.needs)
        tasks = tasks_of(cell.quantity)
        if cell.layer != layer and any(get_task(task).kind == "retrieval" for task in tasks):
            printed = f"printed for block {cell.layer}" if cell.layer else "the block of the printed value is not known"
            raise Lacking("not verifiable", f"{printed}, measured at block {layer}")
        seeds = scores.usable([cell.arm], [cell.quantity], cell.split)
        if cell.trained and len(seeds) < 2:
            raise Lacking("not verifiable", ONE_SEED)
        where = (cell.arm, cell.quantity, cell.split, cell.language)
        values = [scores.value(seed, *where) for seed in seeds]
        found = compare(values, cell.expected, cell.margin, trained=cell.trained)
        return _Measured(cell, found, scores.value(seeds[0], *where, guess=True), seeds)
    except Lacking as fault:
        fix = fix if fault.word == "not run" else ""
        return CellVerdict(key=cell.key, cell=cell, verdict=fault.word, reason=str(fault), fix=fix)


def _judge(measured: _Measured, p: float) -> CellVerdict:
    cell, found = measured.cell, measured.found
    untrained: VerdictWord = "reproduced" if found.within else "deviates"
    word = ladder(found, p, measured.guess) if cell.trained else untrained
    return CellVerdict(
        key=cell.key,
        cell=cell,
        verdict=word,
        reason=compared(found, cell.expected or 0.0, word),
        value=found.estimate,
        low=found.low,
        high=found.high,
        direction=None if word != "deviates" else "above" if found.difference > 0 else "below",
        seeds=measured.seeds,
    )


def compared(found: Comparison, expected: float, word: VerdictWord) -> str:
    """A comparison in words."""
    said = {
        "reproduced": "inside the margin",
        "consistent": "not told apart, equality not shown",
        "not verifiable": "an interval that reaches nothing at all is no evidence",
    }.get(word, "")
    interval = f"{found.estimate:.1f} ({found.low:.1f} to {found.high:.1f}) against {expected:.1f} ± {found.margin:g}"
    return f"{interval}: {said}" if said else interval
