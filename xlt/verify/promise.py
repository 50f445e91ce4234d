"""Which means a results folder promises: those of its grid and those of the project's tier of that name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xlt.data.source import Source
from xlt.errors import XltError
from xlt.pipeline.grid import evaluated
from xlt.pipeline.tiers import read_tier, tier_names
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split
from xlt.verify.cells import MeanKey
from xlt.verify.stored import StoredRun


def promised_means(tier: str, source: Source, runs: Sequence[StoredRun]) -> Iterator[tuple[MeanKey, StoredRun | None]]:
    """Every mean that is promised, with its run; None where the grid lists no run for it."""
    listed: set[tuple[str, str]] = set()
    for run in runs:
        scored = dict.fromkeys((task, split) for task, split, _ in run.cells)
        for task in run.entry.evaluate:
            listed.add((run.entry.arm, task))
            for split in [s for t, s in scored if t == task] or _splits(task, source):
                yield (run.entry.arm, task, split), run
    for arm, task in _of_tier(tier):
        if (arm, task) not in listed:
            for split in _splits(task, source):
                yield (arm, task, split), None


def _of_tier(name: str) -> Iterator[tuple[str, str]]:
    if name not in tier_names():
        return
    tier = read_tier(name)
    for arm, intermediate in tier.arms.items():
        for task in (*intermediate, *tier.targets):
            yield arm, task


def _splits(task: str, source: Source) -> list[Split]:
    try:
        return list(dict.fromkeys(split for split, _ in evaluated(get_task(task), source)))
    except XltError:
        # The data that would say is not there: the mean is named once, under the split of the paper's tables.
        return ["test"]
