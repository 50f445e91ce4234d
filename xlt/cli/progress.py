"""Progress with an estimate of what is left: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

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
        self._live = sys.stderr.isatty()
        self._label = ""
        self._began = self._told = time.monotonic()
        self._first_step = 0

    def plan(self, runs: list[tuple[RunSpec, Check]]) -> None:
        """What is done and what is to do."""
        done = sum(check.state == "done" for _, check in runs)
        say(f"{len(runs)} runs: {done} done, {len(runs) - done} to do.")
        for spec, check in runs:
            if check.state in ("unfinished", "damaged"):
                say(f"  {spec.folder} is {check.state} ({check.problem}): it is made again.")

    def start(self, spec: RunSpec, number: int, total: int) -> None:
        """A run begins."""
        self._label = f"[{number}/{total}] {spec.phase} {spec.name}"
        self._began = self._told = time.monotonic()
        self._first_step = 0
        say(f"{self._label} ...")

    def step(self, record: StepRecord, steps: int) -> None:
        """One optimiser step is done."""
        now = time.monotonic()
        if not self._first_step:
            # The first step of a process compiles and allocates; it would spoil the estimate.
            self._first_step, self._began = record.step, now
            return
        if now - self._told < (LIVE_INTERVAL if self._live else PLAIN_INTERVAL):
            return
        self._told = now
        done = record.step - self._first_step
        left = (now - self._began) / done * (steps - record.step) if done else 0.0
        self._tell(f"{self._label}: step {record.step}/{steps}, loss {record.loss:.3f}, {_minutes(left)} left")

    def cell(self, task: str, split: str, language: str) -> None:
        """A set of predictions is about to be made."""
        now = time.monotonic()
        if now - self._told >= (LIVE_INTERVAL if self._live else PLAIN_INTERVAL):
            self._told = now
            self._tell(f"{self._label}: predicting {task} {split} {language}")

    def finish(self, spec: RunSpec, seconds: float) -> None:
        """A run is complete."""
        self._clear()
        say(f"{self._label} done in {_minutes(seconds)}")

    def _tell(self, line: str) -> None:
        if self._live:
            sys.stderr.write(f"\r\x1b[2K{line}")
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def _clear(self) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
