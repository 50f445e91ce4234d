"""Running a grid: what is done is left alone, what is missing or damaged is made, one by one or in parallel."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from xlt.data.source import Source
from xlt.errors import EnvironmentFault, IncompleteFault, UsageFault
from xlt.files import locked, writable, write_text
from xlt.pipeline.checkpoint import given_folder
from xlt.pipeline.cluster import Jobs, Queue
from xlt.pipeline.grid import Grid
from xlt.pipeline.jobs import Job, Workers
from xlt.pipeline.run import Progress, execute_run
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.spec import RunSpec, SourceSpec
from xlt.pipeline.store import MANIFEST, Check, RunStore
from xlt.pipeline.tiers import use_threads
from xlt.printable import printable
from xlt.train.engine import EngineSettings

OWN_MODEL = "(the tier's own)"


class GridProgress(Protocol):
    """Who is told how far a grid is."""

    def plan(self, runs: list[tuple[RunSpec, Check]]) -> None:
        """What is done and what is to do."""

    def start(self, spec: RunSpec) -> Progress:
        """A run begins; the progress that is returned is told how far it is."""

    def finish(self, spec: RunSpec, failed: str = "") -> None:
        """The run is complete, or ``failed`` says in words why it collapsed or diverged."""


@dataclass(frozen=True, slots=True)
class GridResult:
    """How many runs were found, how many were made now, and of all that collapsed or diverged the folder, and why."""

    found: int
    made: int
    failed: dict[str, str] = field(default_factory=dict)


def plan_grid(grid: Grid, store: RunStore) -> list[tuple[RunSpec, Check]]:
    """The state of every run of the grid. A run whose parent must be made again stays valid: its hash says so."""
    return [(spec, store.check(spec)) for spec in grid.runs]


def current_attempt(spec: RunSpec, store: RunStore) -> RunSpec:
    """The retry with another seed, if the run was made and collapsed or diverged; otherwise the run itself."""
    return spec.model_copy(update={"retry": 1}) if store.collapsed(spec) else spec


def with_retries(grid: Grid, store: RunStore) -> Grid:
    """The grid with a retry in the place of every run that was made and collapsed or diverged; no third attempt."""
    while collapsed := [spec for spec in grid.runs if not spec.retry and store.collapsed(spec)]:
        grid = grid.retry(collapsed[0])
    return grid


def _holds_runs(results: Path) -> bool:
    """Whether a run was completed there; what a first command left that failed is nothing to keep."""
    return any((results / "runs").glob(f"*/*/{MANIFEST}"))


def refuse_another(results: Path, tier: str, source: SourceSpec, seed: int, model: str) -> None:
    """Keep the grid file of other results: without it their runs are there, and nothing finds them.

    Raises:
        UsageFault: the folder holds complete runs of another tier, source, seed, limit or model.
    """
    if not _holds_runs(results):
        return
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):  # a damaged one is written anew
        found = json.loads((results / "grid.json").read_bytes())
        limit = found["source"]["settings"].get("limit", 0)
        held = {"tier": found["tier"], "source": found["source"]["name"], "seed": found["seed"], "limit": limit}
        held["model"] = found.get("model", "")
        limit = source.settings.get("limit", 0)
        asked = {"tier": tier, "source": source.name, "seed": seed, "limit": limit, "model": model}
        if other := [name for name, value in held.items() if value != asked[name]]:
            there, here = (
                " and ".join(f"{name} {printable(str(of[name])) or OWN_MODEL}" for name in other)
                for of in (held, asked)
            )
            raise UsageFault(
                f"The results folder '{results}' holds results of {there}; asked for is {here}.",
                why="One folder holds one tier, source, seed, limit and model.",
                fix="Choose another folder: --results DIR",
            )


def held_parts(results: Path) -> list[str]:
    """The parts of a tier whose runs a results folder holds."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        if not _holds_runs(results):
            return []
        return [str(name) for name in json.loads((results / "grid.json").read_bytes()).get("parts", [])]
    return []


def parent_model(grid: Grid, spec: RunSpec, store: RunStore) -> Path | None:
    """The folder of the model that ``spec`` starts from; ``None`` for phase 1 and public checkpoints."""
    if spec.parent is None:
        return given_folder(spec.backbone.name)
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

    ``parallel_runs`` is the number of runs made at a time, each in a process of its own, and ``processes_per_run`` the
    number of processes that share one training. Other processes open the source again from ``source_options``.
    With a ``queue`` every run is a job of it instead, and all that can be made are in it at the same time.
    ``threads`` gives the CPU threads of a run (0: as many as torch likes): its sums depend on them, and on nothing else
    here.
    """

    source: Source
    source_options: SourceOptions
    store: RunStore
    settings: EngineSettings
    progress: GridProgress
    threads: int = 0
    parallel_runs: int = 1
    processes_per_run: int = 1
    queue: Queue | None = None

    def run_grid(self, grid: Grid) -> GridResult:
        """Write ``RESULTS/grid.json``, then make every run that is not complete. The same call always resumes.

        A run that collapses or diverges is made once more with another seed, and what starts from it waits for that;
        what starts from one that diverges again is not made.

        Raises:
            UsageFault: the folder holds the runs of another tier, source or seed.
        """
        grid = with_retries(grid, self.store)
        refuse_another(self.store.root, grid.tier, grid.source, grid.seed, grid.model)
        with self._alone():
            return self._run_grid(grid)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The results folder without another process that runs a grid in it."""
        with ExitStack() as lock:
            try:
                with writable(self.store.root):
                    self.store.root.mkdir(parents=True, exist_ok=True)
                    lock.enter_context(locked(self.store.root))
            except BlockingIOError as error:
                raise EnvironmentFault(
                    f"Another process is at work in the results folder '{self.store.root}'.",
                    fix="Give the same command again when that process has ended, or choose another with --results.",
                ) from error
            yield

    def _run_grid(self, grid: Grid) -> GridResult:
        with writable(self.store.root):
            write_text(self.store.root / "grid.json", grid.text())
        states = plan_grid(grid, self.store)
        self.progress.plan(states)
        lost = {each for spec, check in states if check.state == "diverged" for each in grid.below(spec.hash)}
        waiting = [spec for spec, check in states if not check.ended and spec.hash not in lost]
        found, made = sum(check.ended for _, check in states), 0
        unfinished = {spec.hash for spec in waiting}
        at_once = len(waiting) if self.queue else self.parallel_runs
        with Jobs(self.queue) if self.queue else Workers() as workers:
            while waiting or workers.busy:
                ready = [spec for spec in waiting if spec.parent not in unfinished]
                # All others wait for phase 1. It is made in this process, with the machine to itself: workers would
                # load their libraries meanwhile, which slows its threads down by more than the seconds that takes.
                if ready and not self.queue and (at_once == 1 or ready[0].phase == "pretrain"):
                    waiting.remove(done := ready[0])
                    self._run(done, parent_model(grid, done, self.store))
                else:
                    for spec in ready[: at_once - workers.busy]:
                        waiting.remove(spec)
                        job = self._job(spec, parent_model(grid, spec, self.store), self.threads)
                        workers.submit(job, self.progress.start(spec))
                    done = workers.wait()
                    self.progress.finish(done, self.store.failure(done))
                made += 1
                unfinished.remove(done.hash)
                if self.store.diverged(done) if done.retry else self.store.collapsed(done):
                    superseded = grid.below(done.hash)
                    waiting = [spec for spec in waiting if spec.hash not in superseded]
        retried = with_retries(grid, self.store)
        if retried != grid:
            rest = self._run_grid(retried)
            return GridResult(found, made + rest.made, rest.failed)
        failures = {spec.folder: self.store.failure(spec) for spec in (*grid.collapsed, *grid.runs)}
        return GridResult(found, made, {folder: why for folder, why in failures.items() if why})

    def run_single(self, spec: RunSpec, parent: Path | None) -> bool:
        """Make one run, from the model in ``parent`` if given, and once more if it collapses or diverges. True if the
        ``current_attempt`` was found."""
        attempt = current_attempt(spec, self.store)
        check = self.store.check(attempt)
        self.progress.plan([(attempt, check)])
        if check.ended:
            return True
        self._run(attempt, parent)
        if current_attempt(spec, self.store) != attempt:
            self.run_single(spec, parent)
        return False

    def run_evaluations(self, runs: Iterable[tuple[RunSpec, Path | None]]) -> None:
        """Make runs that train nothing, each of the model in a folder (None: the public one that its spec names)."""
        asked = {spec.hash: (spec, folder) for spec, folder in runs}
        states = [(spec, self.store.check(spec)) for spec, _ in asked.values()]
        self.progress.plan(states)
        for spec, check in states:
            if not check.ended:
                self._run(*asked[spec.hash])

    def _run(self, spec: RunSpec, parent: Path | None) -> None:
        """Make a run in this process, or in several that share it."""
        progress = self.progress.start(spec)
        if self.processes_per_run > 1 and spec.train:
            share = max(1, (self.threads or os.cpu_count() or 1) // self.processes_per_run)
            with Workers() as workers:
                workers.share(self._job(spec, parent, share), progress, self.processes_per_run)
        else:
            use_threads(self.threads)
            execute_run(spec, parent, self.source, self.store, self.settings, progress)
        self.progress.finish(spec, self.store.failure(spec))

    def _job(self, spec: RunSpec, parent: Path | None, threads: int) -> Job:
        return Job(spec, parent, self.source_options, self.store.root, self.settings, threads)
