"""Progress with an estimate of what is left: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

from xlt.cli.output import say

if TYPE_CHECKING:
    from xlt.pipeline.spec import RunSpec
    from xlt.pipeline.store import Check
    from xlt.train.loop import StepRecord

PLAIN_INTERVAL = 15.0
LIVE_INTERVAL = 0.2


class GridLines:
    """Tells about the runs of a grid on the streams for people."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._runs: dict[str, RunLine] = {}
        self._started = self._done = self._total = 0

    def plan(self, runs: list[tuple[RunSpec, Check]]) -> None:
        """What is done and what is to do."""
        done = sum(check.state == "done" for _, check in runs)
        self._started = self._done = 0
        self._total = len(runs) - done
        say(f"{len(runs)} runs: {done} done, {self._total} to do.")
        for spec, check in runs:
            if check.state in ("unfinished", "damaged"):
                say(f"  {spec.folder} is {check.state} ({check.problem}): it is made again.")

    def start(self, spec: RunSpec) -> RunLine:
        """A run begins."""
        self._started += 1
        run = RunLine(self, f"[{self._started}/{self._total}] {spec.phase} {spec.name}")
        self._runs[spec.hash] = run
        self._say(f"{run.label} ...")
        return run

    def finish(self, spec: RunSpec) -> None:
        """A run is complete."""
        run = self._runs.pop(spec.hash)
        self._done += 1
        self._say(f"{run.label} done in {run.age()}; {self._done} of {self._total} runs made")

    def tell(self, run: RunLine) -> None:
        """Show the state of a run, on a terminal beside that of all others in progress."""
        if self.live:
            line = " | ".join(f"{run.label}: {run.state}" for run in self._runs.values() if run.state)
            # A line that is folded could not be cleared.
            sys.stderr.write(f"\r\x1b[2K{line[: shutil.get_terminal_size().columns - 1]}")
        else:
            sys.stderr.write(f"{run.label}: {run.state}\n")
        sys.stderr.flush()

    def _say(self, line: str) -> None:
        if self.live:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
        say(line)


class RunLine:
    """The state of one run, and when it was last told."""

    def __init__(self, grid: GridLines, label: str) -> None:
        self.label = label
        self.state = ""
        self._grid = grid
        self._interval = LIVE_INTERVAL if grid.live else PLAIN_INTERVAL
        self._began = self._first_time = self._told = time.monotonic()
        self._first_step = 0

    def age(self) -> str:
        """How long ago the run began."""
        return _minutes(time.monotonic() - self._began)

    def step(self, record: StepRecord, steps: int) -> None:
        """One optimiser step is done."""
        if not self._first_step:
            # The first step of a process compiles and allocates; it would spoil the estimate.
            self._first_step, self._first_time = record.step, time.monotonic()
        elif self._due():
            done = record.step - self._first_step
            left = (time.monotonic() - self._first_time) / done * (steps - record.step)
            self._tell(f"step {record.step}/{steps}, loss {record.loss:.3f}, {_minutes(left)} left")

    def cell(self, task: str, split: str, language: str) -> None:
        """A set of predictions is about to be made."""
        if self._due():
            self._tell(f"predicting {task} {split} {language}")

    def _due(self) -> bool:
        return time.monotonic() - self._told >= self._interval

    def _tell(self, state: str) -> None:
        self._told, self.state = time.monotonic(), state
        self._grid.tell(self)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
