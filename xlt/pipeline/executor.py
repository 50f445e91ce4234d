"""Running a grid: what is done is left alone, what is missing or damaged is run, in order, in one process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xlt.data.source import Source
from xlt.errors import IncompleteFault
from xlt.pipeline.grid import Grid
from xlt.pipeline.launch import launch_run
from xlt.pipeline.run import Progress, execute_run
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import Check, RunStore, writable, write_text
from xlt.train.engine import EngineSettings


class GridProgress(Progress, Protocol):
    """What a grid tells whoever watches it."""

    def plan(self, runs: list[tuple[RunSpec, Check]]) -> None:
        """What is done and what is to do."""

    def start(self, spec: RunSpec, number: int, total: int) -> None:
        """Run ``number`` of ``total`` begins."""

    def finish(self, spec: RunSpec, seconds: float) -> None:
        """The run is complete."""


@dataclass(frozen=True, slots=True)
class GridResult:
    """How many runs were found complete and how many were made now."""

    found: int
    made: int


def plan_grid(grid: Grid, store: RunStore) -> list[tuple[RunSpec, Check]]:
    """The state of every run of the grid. A run whose parent must be made again stays valid: its hash says so."""
    return [(spec, store.check(spec)) for spec in grid.runs]


def parent_model(grid: Grid, spec: RunSpec, store: RunStore) -> Path | None:
    """The folder of the model that ``spec`` starts from; ``None`` for phase 1 and public checkpoints.

    Raises:
        IncompleteFault: the parent run is not complete.
    """
    if spec.parent is None:
        return None
    parent = grid.find(spec.parent)
    check = store.check(parent)
    if check.state != "done":
        raise IncompleteFault(
            f"The run '{parent.folder}' that '{spec.name}' starts from is {check.state}.",
            why=check.problem,
            mend="Give the same command again; it resumes.",
        )
    return store.path(parent.folder) / "model"


@dataclass(frozen=True, slots=True)
class Executor:
    """Brings runs to completion: rows from ``source``, results into ``store``, over ``processes`` processes.

    With one process all runs share this one; with several, each training is started by DeepSpeed's launcher, whose
    processes open the source again from ``source_options``.
    """

    source: Source
    source_options: SourceOptions
    store: RunStore
    settings: EngineSettings
    progress: GridProgress
    processes: int = 1

    def run_grid(self, grid: Grid) -> GridResult:
        """Write ``RESULTS/grid.json``, then make every run that is not complete. The same call always resumes."""
        with writable(self.store.root):
            self.store.root.mkdir(parents=True, exist_ok=True)
            write_text(self.store.root / "grid.json", grid.text())
        states = plan_grid(grid, self.store)
        self.progress.plan(states)
        to_do = [spec for spec, check in states if check.state != "done"]
        for number, spec in enumerate(to_do, start=1):
            self.progress.start(spec, number, len(to_do))
            self._run(spec, parent_model(grid, spec, self.store))
        return GridResult(found=len(states) - len(to_do), made=len(to_do))

    def run_single(self, spec: RunSpec, parent: Path | None) -> bool:
        """Make one run, from the model in ``parent`` if given; true if it was found complete."""
        check = self.store.check(spec)
        self.progress.plan([(spec, check)])
        if check.state == "done":
            return True
        self.progress.start(spec, 1, 1)
        self._run(spec, parent)
        return False

    def _run(self, spec: RunSpec, parent: Path | None) -> None:
        began = time.perf_counter()
        if self.processes > 1 and spec.train is not None:
            launch_run(spec, parent, self.source_options, self.store, self.settings, self.processes, self.progress)
        else:
            execute_run(spec, parent, self.source, self.store, self.settings, self.progress)
        self.progress.finish(spec, time.perf_counter() - began)
