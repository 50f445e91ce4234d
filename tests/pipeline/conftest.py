"""A grid of a few steps, run once for all tests that look at results.

What it needs is imported where it is used: the tests that need a GPU also run where these packages are absent.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xlt.data.source import Source
    from xlt.pipeline.grid import Grid
    from xlt.pipeline.spec import RunSpec
    from xlt.pipeline.store import Check, RunStore
    from xlt.train.engine import EngineName
    from xlt.train.loop import StepRecord


@dataclass
class Watcher:
    """Remembers what it is told; ``stop_at`` names a run whose first step raises, like a kill."""

    stop_at: str = ""
    started: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def plan(self, runs: list[tuple[RunSpec, Check]]) -> None:
        self.states = {spec.name: check.state for spec, check in runs}

    def start(self, spec: RunSpec) -> Watcher:
        self.started.append(spec.name)
        return self

    def step(self, record: StepRecord, steps: int) -> None:
        self.losses.append(record.loss)
        self.steps.append(record.step)
        if self.started and self.started[-1] == self.stop_at:
            raise KeyboardInterrupt

    def cell(self, task: str, split: str, language: str) -> None:
        pass

    def finish(self, spec: RunSpec, failed: str = "") -> None:
        self.finished.append(spec.name)
        self.failed.append(failed)


@dataclass
class TinyGrid:
    """A way to run the tiny grid into a results folder."""

    tier: Path
    files: Path

    @property
    def source(self) -> Source:
        from xlt.pipeline.sources import SourceOptions, open_source

        return open_source(SourceOptions(name="files", data_root=self.files))

    def with_arms(self, folder: Path, arms: str, *, plan: str = "", recipe: str = "") -> TinyGrid:
        """Other arms, with lines of the plan and a recipe, on a copy of the data; all of it below ``folder``."""
        text = self.tier.read_text("utf-8").replace("both = { steps = 10 }", recipe)
        begin, end = text.index("[sources.files.arms]"), text.index("[sources.files.backbone]")
        tier = folder / "tier.toml"
        tier.write_text(f"{text[:begin]}[sources.files]\n{plan}\n[sources.files.arms]\n{arms}\n{text[end:]}", "utf-8")
        return TinyGrid(tier, Path(shutil.copytree(self.files, folder / "data")))

    def grid(self, seed: int = 0, engine: EngineName = "deepspeed") -> Grid:
        from xlt.pipeline.grid import GridBuilder
        from xlt.pipeline.tiers import read_tier

        tier = read_tier(str(self.tier))
        return GridBuilder(tier, self.source, seed=seed, precision="fp32", engine=engine).grid()

    def run(
        self, results: Path, watcher: Watcher, parallel_runs: int = 1, engine: EngineName = "deepspeed"
    ) -> RunStore:
        from xlt.pipeline.executor import Executor
        from xlt.pipeline.sources import SourceOptions
        from xlt.pipeline.store import RunStore
        from xlt.train.engine import EngineSettings

        store = RunStore(results)
        options = SourceOptions(name="files", data_root=self.files)
        executor = Executor(
            self.source, options, store, EngineSettings(), watcher, threads=1, parallel_runs=parallel_runs
        )
        executor.run_grid(self.grid(engine=engine))
        return store


@pytest.fixture(scope="session")
def tiny_grid(tiny_tier: Path, tiny_files: Path) -> TinyGrid:
    return TinyGrid(tiny_tier, tiny_files)


@pytest.fixture(scope="session")
def finished(tiny_grid: TinyGrid, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunStore, Watcher]:
    """The tiny grid, complete. Tests copy it before they change anything."""
    watcher = Watcher()
    store = tiny_grid.run(tmp_path_factory.mktemp("finished"), watcher)
    return store, watcher
