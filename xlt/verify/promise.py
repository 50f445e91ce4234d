"""Which means a results folder promises: those of its grid and those of the project's tier of that name.

A task is judged on its test split, on the dev split where it has no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xlt.data.source import Source, evaluated
from xlt.errors import XltError
from xlt.pipeline.spec import RunSpec
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split
from xlt.verify.cells import MeanKey
from xlt.verify.stored import StoredRun


def promised_means(
    wanted: Sequence[RunSpec], source: Source, runs: Sequence[StoredRun]
) -> Iterator[tuple[MeanKey, StoredRun | None]]:
    """Every mean that is promised, with its run; None where the tier has one (``wanted``) that the grid lacks.

    Of those listed, target tasks come first.
    """
    listed: set[tuple[str, str]] = set()
    for run in sorted(runs, key=lambda run: run.entry.phase == "intermediate"):
        for task in run.entry.evaluate:
            listed.add((run.entry.arm, task))
            splits = [split for key, split, _ in run.cells if key == task]
            yield (run.entry.arm, task, _judged(splits) if splits else _split(task, source)), run
    for spec in wanted:
        for task in spec.evaluate:
            if (spec.arm, task) not in listed:
                yield (spec.arm, task, _split(task, source)), None


def _split(task: str, source: Source) -> Split:
    try:
        return _judged([split for split, _ in evaluated(get_task(task), source)])
    except XltError:
        # The data that would say is not there.
        return "test"


def _judged(splits: Sequence[Split]) -> Split:
    return "test" if "test" in splits else splits[0]
