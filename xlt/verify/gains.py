"""What an intermediate task changes, over the recorded seeds: one seed says nothing of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xlt.verify.cells import MeanId
from xlt.verify.comparison import estimate
from xlt.verify.recorded import ReferenceSet, RunMean


class RecordedGain(MeanId):
    """How much more than the first arm an arm has in a task, over the recorded seeds."""

    value: float
    """The mean of the differences, each within a seed, in points."""
    half_width: float
    """Half of the 95 % interval of that mean, in points."""
    seeds: int
    """How many recorded seeds there are."""


def recorded_gains(asked: Sequence[RunMean], references: ReferenceSet) -> Iterator[RecordedGain]:
    """The gain of each arm in each task that the first arm has too, if enough seeds are recorded of both."""
    by_key = {each.key: each for each in asked}
    first = next(iter(by_key), ("", "", "test"))[0]
    for (arm, task, split), each in by_key.items():
        base = by_key.get((first, task, split))
        if arm == first or base is None:
            continue
        without = references.fitting(base).runs
        runs = [run for run in references.fitting(each).runs if run in without]
        if len(runs) > 1:
            differences = [run.means[each.name].value - run.means[base.name].value for run in runs]
            found = estimate(differences)
            half = found.half_width(0.025)
            yield RecordedGain(arm=arm, task=task, split=split, value=found.value, half_width=half, seeds=len(runs))
