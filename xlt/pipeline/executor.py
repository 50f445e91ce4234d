"""Running a grid: what is done is left alone, what is missing or damaged is made, one by one or side by side."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xlt.data.source import Source
from xlt.errors import IncompleteFault
from xlt.files import writable, write_text
from xlt.pipeline.grid import Grid
from xlt.pipeline.launch import Order, Workers
from xlt.pipeline.run import Progress, execute_run
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.spec import Phase, RunSpec
from xlt.pipeline.store import Check, RunStore
from xlt.pipeline.tiers import use_threads
from xlt.train.engine import EngineSettings


class GridProgress(Protocol):
    """What a grid tells whoever watches it."""

    def plan(self, runs: list[tuple[RunSpec, Check]]) -> None:
        """What is done and what is to do."""

    def start(self, spec: RunSpec) -> Progress:
        """A run begins; what it does is told to the progress returned."""

    def finish(self, spec: RunSpec) -> None:
        """The run is complete."""


@dataclass(frozen=True, slots=True)
class GridResult:
    """How many runs were found complete and how many were made now; the folders of all that ever collapsed."""

    found: int
    made: int
    collapsed: tuple[str, ...] = ()


def plan_grid(grid: Grid, store: RunStore) -> list[tuple[RunSpec, Check]]:
    """The state of every run of the grid. A run whose parent must be made again stays valid: its hash says so."""
    return [(spec, store.check(spec)) for spec in grid.runs]


def standing(spec: RunSpec, store: RunStore) -> RunSpec:
    """The second attempt, with another seed, where the run was made and collapsed; that one stands."""
    return spec.model_copy(update={"retry": 1}) if store.collapsed(spec) else spec


def with_retries(grid: Grid, store: RunStore) -> Grid:
    """The grid with a second attempt in the place of every run that was made and collapsed; a second one stands."""
    while collapsed := [spec for spec in grid.runs if not spec.retry and store.collapsed(spec)]:
        grid = grid.retry(collapsed[0])
    return grid


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
            fix="Give the same command again; it resumes.",
        )
    return store.path(parent.folder) / "model"


@dataclass(frozen=True, slots=True)
class Executor:
    """Brings runs to completion: rows from ``source``, results into ``store``.

    ``side_by_side`` is the number of runs made at a time, each in a process of its own; ``spread`` the number of
    processes that share one training. Other processes open the source again from ``source_options``. ``threads``
    gives the CPU threads of a run (0: as many as torch likes): they, not the number of runs, decide its sums.
    """

    source: Source
    source_options: SourceOptions
    store: RunStore
    settings: EngineSettings
    progress: GridProgress
    threads: Callable[[Phase], int] = lambda phase: 0
    side_by_side: int = 1
    spread: int = 1

    def run_grid(self, grid: Grid) -> GridResult:
        """Write ``RESULTS/grid.json``, then make every run that is not complete. The same call always resumes.

        A run that collapses is made once more with another seed, and what starts from it waits for that.
        """
        grid = with_retries(grid, self.store)
        with writable(self.store.root):
            self.store.root.mkdir(parents=True, exist_ok=True)
            write_text(self.store.root / "grid.json", grid.text())
        states = plan_grid(grid, self.store)
        self.progress.plan(states)
        to_do = [spec for spec, check in states if check.state != "done"]
        # Phase 1, which all others wait for, has the machine to itself: workers load their libraries after it, as
        # that would slow its threads down by more than the seconds it takes.
        here = [spec for spec in to_do if self.side_by_side == 1 or spec.phase == "pretrain"]
        put_off: set[str] = set()
        for spec in here:
            if spec.hash not in put_off:
                self._run(spec, parent_model(grid, spec, self.store))
                put_off |= self._put_off(grid, spec)
        put_off |= self._run_side_by_side(grid, [spec for spec in to_do if spec not in here])
        made = sum(spec.hash not in put_off for spec in to_do)
        retried = with_retries(grid, self.store)
        if retried != grid:
            rest = self.run_grid(retried)
            return GridResult(len(states) - len(to_do), made + rest.made, rest.collapsed)
        collapsed = [*grid.collapsed, *(spec for spec in grid.runs if self.store.collapsed(spec))]
        return GridResult(len(states) - len(to_do), made, tuple(spec.folder for spec in collapsed))

    def run_single(self, spec: RunSpec, parent: Path | None) -> bool:
        """Make one run, from the model in ``parent`` if given, and once more if it collapses; what counts is the
        ``standing`` one. True if that was found complete."""
        attempt = standing(spec, self.store)
        check = self.store.check(attempt)
        self.progress.plan([(attempt, check)])
        if check.state == "done":
            return True
        self._run(attempt, parent)
        if standing(spec, self.store) != attempt:
            self.run_single(spec, parent)
        return False

    def _run(self, spec: RunSpec, parent: Path | None) -> None:
        progress = self.progress.start(spec)
        threads = self.threads(spec.phase)
        if self.spread > 1 and spec.train:
            share = max(1, (threads or os.cpu_count() or 1) // self.spread)
            with Workers() as workers:
                workers.spread(self._order(spec, parent, share), progress, self.spread)
        else:
            use_threads(threads)
            execute_run(spec, parent, self.source, self.store, self.settings, progress)
        self.progress.finish(spec)

    def _put_off(self, grid: Grid, made: RunSpec) -> set[str]:
        """What is not to start from the run that was made, because another attempt takes its place."""
        return set() if made.retry or not self.store.collapsed(made) else grid.below(made.hash)

    def _run_side_by_side(self, grid: Grid, to_do: list[RunSpec]) -> set[str]:
        """Make each run as soon as its parent is complete and a worker is free, those that others wait for first.

        Returns what was put off.
        """
        put_off: set[str] = set()
        awaited = {spec.parent for spec in to_do}
        waiting = sorted(to_do, key=lambda spec: spec.hash not in awaited)
        unfinished = {spec.hash for spec in to_do}
        with Workers() as workers:
            while unfinished:
                ready = [spec for spec in waiting if spec.parent not in unfinished]
                for spec in ready[: self.side_by_side - workers.busy]:
                    waiting.remove(spec)
                    order = self._order(spec, parent_model(grid, spec, self.store), self.threads(spec.phase))
                    workers.give(order, self.progress.start(spec))
                done = workers.wait()
                self.progress.finish(done)
                put_off |= self._put_off(grid, done)
                unfinished -= {done.hash, *put_off}
                waiting = [spec for spec in waiting if spec.hash not in put_off]
        return put_off

    def _order(self, spec: RunSpec, parent: Path | None, threads: int) -> Order:
        return Order(spec, parent, self.source_options, self.store.root, self.settings, threads)
