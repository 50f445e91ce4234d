"""What people see of two results folders beside each other (``xlt verify --against``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from xlt.cli.judged import folded
from xlt.cli.lazy import lazily
from xlt.cli.output import Shown, table
from xlt.errors import UsageFault
from xlt.printable import counted

with lazily():
    from xlt.verify import against

MOST_SETTINGS = 12
LONGEST = 30


def refuse_judging(given: Sequence[str]) -> None:
    """Raise ``UsageFault`` where an option that judges was given."""
    if given:
        raise UsageFault(
            f"--against compares two sets of results, and --{given[0]} judges one.",
            fix="Leave one of the two out.",
        )


def shown(found: against.Against, here: Sequence[Path], there: Sequence[Path], *, every: bool) -> Shown:
    """The problems, the means side by side (those with the same predictions where ``every`` mean is asked for), and
    what was made differently."""
    for problem in found.problems:
        yield f"PROBLEM  {problem.run} {problem.where}".strip() + f": {problem.what}"
        yield f"         → {problem.fix}"
    for name, folders, sides in (("A", here, found.here), ("B", there, found.there)):
        for side in sides:
            what = f"tier {side.tier}" if side.tier else "single runs"
            place = folders[0] if len(folders) == 1 else "…"
            yield f"{name}: {place} ({what}, source {side.source}, seed {side.seed}, {counted(side.runs, 'run')} whole)"
    if listed := [each for each in found.means if every or not each.same_predictions]:
        yield table(("arm", "task", "A", "B", "A - B", "95 %", "predictions"), map(_row, listed))
    yield from folded(_counted(found.means))
    for name, only in (("A", found.only_here), ("B", found.only_there)):
        if only:
            yield from folded(f"Only in {name}: {', '.join(only)}.")
    yield from _settings(found.settings)


def _row(mean: against.Difference) -> tuple[object, ...]:
    ends = f"{mean.low:+.1f} to {mean.high:+.1f}" if mean.low is not None and mean.high is not None else None
    place = mean.arm, f"{mean.task} {mean.split}"
    return *place, mean.here, mean.there, f"{mean.value:+.1f}", ends, "same" if mean.same_predictions else "other"


def _counted(means: Sequence[against.Difference]) -> str:
    if not means:
        return "No mean is in both."
    same = sum(each.same_predictions for each in means)
    said = f"{len(means)} means are in both; {same} have the same predictions."
    judged = [each for each in means if each.low is not None and each.high is not None]
    if not judged:
        return said
    apart = sum(not (each.low or 0.0) <= 0 <= (each.high or 0.0) for each in judged)
    return (
        f"{said} Of {len(judged)} intervals, over {judged[0].over}, {apart} leave 0 out; "
        "where nothing differs, one in 20 does."
        + (" Of rows alone: other seeds would differ by more." if judged[0].over == "rows" else "")
    )


def _settings(settings: Sequence[against.Setting]) -> Iterator[str]:
    if not settings:
        yield "Made alike: no setting of a run, and nothing of where they were made, differs."
    for each in settings[:MOST_SETTINGS]:
        runs = f" ({counted(each.runs, 'run')})" if each.runs else ""
        yield from folded(f"Differs: {each.what}: A {each.here or '–'}, B {each.there or '–'}{runs}")
    if len(settings) > MOST_SETTINGS:
        yield f"({len(settings) - MOST_SETTINGS} more: --json)"
