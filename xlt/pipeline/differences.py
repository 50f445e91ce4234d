"""Known differences between a grid and the paper, or what a reader expects (``artifact/differences.toml``)."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import RootModel

from xlt.artifact import read_record
from xlt.frozen import Frozen
from xlt.pipeline.spec import RunSpec
from xlt.tasks.catalogue import TASKS


class KnownDifference(Frozen):
    """A difference of grids that evaluate any task in ``evaluates`` and select checkpoints on any in ``selects_on``."""

    evaluates: tuple[str, ...] = ()
    """Keys of tasks; ``*`` is any task, and empty is no condition."""
    selects_on: tuple[str, ...] = ()
    """Keys of tasks on whose English dev split a checkpoint is selected; ``*`` is any, and empty is no condition."""
    whole_dev: bool = False
    """Whether it is one only of checkpoints that are selected on the whole split."""
    what: str
    """The difference, in words."""
    source: str
    """A page that shows it."""


def known_differences(runs: Collection[RunSpec]) -> dict[str, KnownDifference]:
    """The differences of a grid with these runs, by name; none on the constructed world, which nobody else uses."""
    runs = [run for run in runs if run.source.name != "world"]
    evaluated = {key for run in runs for key in run.evaluate}
    selecting = [
        (key, not run.recipe.get("dev_examples"))
        for run in runs
        for key in run.train
        if run.recipe.get("evaluate_every") and key in TASKS and "dev" in TASKS[key].files
    ]

    def applies(keys: tuple[str, ...], present: set[str]) -> bool:
        return not keys or bool(present if "*" in keys else present.intersection(keys))

    return {
        name: each
        for name, each in read_record(RootModel[dict[str, KnownDifference]], "differences.toml").root.items()
        if applies(each.evaluates, evaluated)
        and applies(each.selects_on, {key for key, whole in selecting if whole or not each.whole_dev})
    }
