"""Verdicts on printed values, and on claims that such values are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from xlt.tasks.catalogue import get_task
from xlt.verify import comparison as compare
from xlt.verify.claims import Claim, Printed
from xlt.verify.comparison import LEVEL, Estimate, Spread
from xlt.verify.looks import CellVerdict, Look, Part, near, said_of_family, tried
from xlt.verify.scores import Scores, ScoreUnavailable, tasks_of
from xlt.verify.verdicts import Direction


def judge_printed(cells: Sequence[Printed], scores: Scores, layer: int, fix: str) -> Iterator[CellVerdict]:
    """A verdict on each cell; each table is a family. ``layer`` is the block that was pooled for retrieval."""
    for table in dict.fromkeys(cell.table for cell in cells):
        listed = [cell for cell in cells if cell.table == table]
        looks = [tried(partial(_measure, cell, scores, layer)) for cell in listed]
        for cell, look, said in zip(listed, looks, said_of_family(looks), strict=True):
            direction: Direction | None = None
            if said["verdict"] == "deviates" and isinstance(look, Look):
                direction = "above" if look.found.value > 0 else "below"
            way = fix if said["verdict"] == "not run" else ""
            yield CellVerdict(key=cell.key, cell=cell, direction=direction, fix=way, **said)


def _measure(cell: Printed, scores: Scores, layer: int) -> Look:
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
        known = Spread(cell.deviation, cell.freedom)
        return near(cell.key, values, cell.seeds or [cell.expected], cell.margin, guess, usable, known)
    # No training is behind it, so seeds have no spread: each must lie inside the margin.
    found = Estimate(max((value - cell.expected for value in values), key=abs))
    comparison = compare.near(found, found, cell.margin, guess - cell.expected)
    return Look(cell.key, found, comparison, usable, cell.expected, cell.margin)


def judge_cells(claim: Claim, scores: Scores, cells: Sequence[Printed], layer: int) -> list[Part]:
    """The printed values of the claim, which are a family over all its tables; languages decide nothing beside them."""
    own = [each for each in cells if each.table in claim.tables and _meant(each, claim)]
    parts = []
    for decides in (True, False):
        listed = [each for each in own if decides == (not each.language)]
        said = said_of_family([tried(partial(_measure, each, scores, layer)) for each in listed])
        for cell, fields in zip(listed, said, strict=True):
            parts.append(Part(name=cell.key, expected=cell.expected, decides=decides, **fields))
    decided = compare.worst([part.verdict for part in parts if part.decides])
    outside = [part.name for part in parts if not part.decides and part.verdict == "deviates"]
    if decided == "reproduced" and outside:
        reason = f"outside the margin: {', '.join(outside)}"
        parts.append(Part(name="languages", verdict="consistent", reason=reason))
    beside = [each for each in cells if each.table in claim.beside and _meant(each, claim) and not each.language]
    return parts + [_shown_beside(each, parts) for each in beside]


def _meant(cell: Printed, claim: Claim) -> bool:
    """Whether the claim is about the cell, if it is about its table."""
    asked = not claim.quantities or cell.quantity in claim.quantities
    return asked and cell.arm == claim.row and cell.expected is not None


def _shown_beside(cell: Printed, parts: Sequence[Part]) -> Part:
    """What another table prints of the same, beside what was measured for the claim; it decides nothing."""
    same = (part for part in parts if part.name.partition(".")[2] == cell.key.partition(".")[2])
    measured = next((part.value for part in same), None)
    reason = "nothing was measured beside it"
    if measured is not None and cell.expected is not None:
        reason = f"{measured:.1f} here ({measured - cell.expected:+.1f}); see how the claim is decided"
    return Part(name=cell.key, verdict="not verifiable", reason=reason, expected=cell.expected, decides=False)


def beside_printed(parts: Sequence[Part], cells: Sequence[Printed]) -> str:
    """What was measured beside the printed values, in words: each mean, and the language that is farthest from its own.

    Where seeds are printed, it is said where a new one of the same recipe would lie, with a probability of 95 %.
    """
    measured = {part.name: part.value for part in parts if part.value is not None}
    found = [(cell, measured[cell.key], cell.expected or 0.0) for cell in cells if cell.key in measured]
    said = []
    for mean, value, printed in found:
        if mean.language:
            continue
        name = f"{mean.key}."
        own = {cell.language: its - other for cell, its, other in found if cell.key == name + cell.language}
        text = f"{mean.quantity} {value:.1f} here, {printed:.1f} printed ({value - printed:+.1f})"
        if mean.seeds:
            half = compare.estimate([printed], mean.seeds).half_width(LEVEL / 2)
            text += f", a new seed there in {printed - half:.1f} to {printed + half:.1f}"
        if own:
            farthest = max(own, key=lambda language: abs(own[language]))
            text += f", farthest of {len(own)} languages {farthest} {own[farthest]:+.1f}"
        said.append(text)
    return "; ".join(said)
