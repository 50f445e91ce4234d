"""Which means a results folder promises: those of its grid and those of the project's tier of that name.

A task is judged on its test split, on the dev split where it has no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xlt.data.source import Source
from xlt.errors import XltError
from xlt.pipeline.grid import evaluated, present_arms
from xlt.pipeline.tiers import read_tier, tier_names
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split
from xlt.verify.cells import MeanKey
from xlt.verify.stored import StoredRun


def promised_means(tier: str, source: Source, runs: Sequence[StoredRun]) -> Iterator[tuple[MeanKey, StoredRun | None]]:
    """Every mean that is promised, with its run; None where the grid lists no run for it. Target tasks come first."""
    listed: set[tuple[str, str]] = set()
    for run in sorted(runs, key=lambda run: run.entry.phase == "intermediate"):
        for task in run.entry.evaluate:
            listed.add((run.entry.arm, task))
            splits = [split for key, split, _ in run.cells if key == task]
            yield (run.entry.arm, task, _judged(splits) if splits else _split(task, source)), run
    for arm, task in _of_tier(tier, source):
        if (arm, task) not in listed:
            yield (arm, task, _split(task, source)), None


def _of_tier(name: str, source: Source) -> Iterator[tuple[str, str]]:
    if name not in tier_names():
        return
    arms, _ = present_arms(read_tier(name).plan(source.name).arms, source)
    for key, arm in arms.items():
        for task in (*arm.intermediate, *arm.targets):
            yield arm.label or key, task


def _split(task: str, source: Source) -> Split:
    try:
        return _judged([split for split, _ in evaluated(get_task(task), source)])
    except XltError:
        # The data that would say is not there.
        return "test"


def _judged(splits: Sequence[Split]) -> Split:
    return "test" if "test" in splits else splits[0]
