"""Progress of runs and downloads: on a terminal bars with the time left, elsewhere a plain line now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from rich import progress as bars

from xlt.cli.lazy import lazily
from xlt.cli.output import console, say, settings
from xlt.printable import counted, printable

with lazily():
    from xlt.pipeline import spec as specs
    from xlt.pipeline import store
    from xlt.train import loop

PLAIN_INTERVAL = 15.0
SPEED_PERIOD = 300.0  # seconds that an estimate looks back: a step of a large model may take a minute


def size(count: float) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Display:
    """The bars of one command, shown within a ``with`` block; elsewhere than on a terminal, plain lines.

    ``far`` says in a plain line how much is done of how much, as ``columns`` do in a bar.
    """

    def __init__(self, far: Callable[[float, float], str], *columns: bars.ProgressColumn) -> None:
        self.live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        name, state = (bars.TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[state]}"))
        # While the bars are shown, rich puts what Python writes to either stream above them.
        self.progress = bars.Progress(
            *(name, bars.BarColumn(20), *columns, bars.TimeRemainingColumn(), state),
            console=console(sys.stderr),
            disable=not self.live,
            transient=True,
            refresh_per_second=4,
            speed_estimate_period=SPEED_PERIOD,
            get_time=time.monotonic,
        )
        self._far = far

    def __enter__(self) -> Self:
        settings.live = self.live
        self.progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        settings.live = False
        self.progress.stop()

    def add(self, name: str, total: float | None = None) -> bars.TaskID:
        """A new bar; without ``total`` its end is not known yet."""
        return self.progress.add_task(printable(name), total=total, state="", told=time.monotonic())

    def task(self, bar: bars.TaskID) -> bars.Task:
        """What rich knows of a bar."""
        return self.progress.tasks[self.progress.task_ids.index(bar)]

    def show(self, bar: bars.TaskID, state: str, **moved: Any) -> None:
        """Move a bar, or now and then write a line that says how far it is."""
        self.progress.update(bar, state=printable(state), **moved)
        task = self.task(bar)
        if time.monotonic() - task.fields["told"] >= PLAIN_INTERVAL:
            self.progress.update(bar, told=time.monotonic())
            left = "time left unknown" if task.time_remaining is None else f"{clock(task.time_remaining)} left"
            parts = (self._far(task.completed, task.total or 0), state, left) if moved else (state,)
            self.line(f"{task.description}: {', '.join(parts)}")

    def line(self, text: str) -> None:
        """A line for logs, in the place of bars."""
        if not self.live:
            sys.stderr.write(printable(text) + "\n")
            sys.stderr.flush()


class RunBars(Display):
    """Shows the runs of a grid: a bar for each run in progress, and one for all of them."""

    def __init__(self) -> None:
        super().__init__("step {:.0f} of {:.0f}".format, bars.MofNCompleteColumn())
        self._runs: dict[str, bars.TaskID] = {}
        self._all: bars.TaskID | None = None
        self._started = self._done = self._total = self._failed = 0

    def plan(self, runs: list[tuple[specs.RunSpec, store.Check]]) -> None:
        """Say what is done and what is to do. A grid is planned again when runs of it have collapsed."""
        self._started = self._done = self._failed = 0
        self._total = sum(not check.ended for _, check in runs)
        diverged = sum(check.state == "diverged" for _, check in runs)
        gone = f", {diverged} diverged" if diverged else ""
        say(f"{counted(len(runs), 'run')}: {len(runs) - self._total - diverged} done{gone}, {self._total} to do.")
        for spec, check in runs:
            if check.state == "damaged":
                say(f"  {spec.folder} is damaged and will be made again: {check.problem}")
            elif check.state == "diverged":
                say(f"  {spec.folder} diverged and is not made again: {check.problem}")
            elif check.state == "unfinished":
                say(f"  {spec.folder} is unfinished: it goes on from its newest state, or begins again if it has none.")
        if self._all is not None:
            self.progress.remove_task(self._all)
        self._all = self.add("all runs", self._total)

    def start(self, spec: specs.RunSpec) -> RunBar:
        """A run begins."""
        self._started += 1
        label = f"[{self._started}/{self._total}] {spec.phase} {spec.title}"
        bar = self._runs[spec.hash] = self.add(label)
        if not self.live:
            say(f"{label} ...")
        return RunBar(self, bar)

    def finish(self, spec: specs.RunSpec, failed: str = "") -> None:
        """A run has ended: complete, or ``failed`` says in words why nothing came of it."""
        run = self.task(self._runs.pop(spec.hash))
        self._done += 1
        self.progress.remove_task(run.id)
        if self._all is not None:
            self.progress.update(self._all, completed=self._done)
        self._failed += bool(failed)
        without = f", {self._failed} of them collapsed or diverged" if self._failed else ""
        how = "stopped after" if failed else "done in"
        say(
            f"{run.description} {how} {clock(run.elapsed or 0)}{failed and f': {failed}'}; "
            f"{self._done} of {self._total} runs made{without}"
        )


@dataclass(frozen=True, slots=True)
class RunBar:
    """The progress of one run."""

    display: RunBars
    bar: bars.TaskID

    def step(self, record: loop.StepRecord, steps: int) -> None:
        """One optimiser step is done."""
        self.display.show(self.bar, f"loss {record.loss:.3f}", completed=record.step, total=steps)

    def cell(self, task: str, split: str, language: str) -> None:
        """A set of predictions is about to be made."""
        self.display.show(self.bar, f"predicting {task} {split} {language}")


class DownloadBars(Display):
    """Shows a download: one bar for all bytes that are still to come."""

    def __init__(self) -> None:
        super().__init__(
            lambda done, total: f"{size(done)} of {size(total)}", bars.DownloadColumn(), bars.TransferSpeedColumn()
        )
        self._bar = self.add("download")

    def remark(self, text: str) -> None:
        """Say what the user should know."""
        say(text)

    def plan(self, files: int, here: int, missing: int, free: int) -> None:
        """Say how much will be downloaded, and how much room there is."""
        say(f"Files: {files} needed, {here} of them here and unchanged.")
        if here < files:
            say(f"To download: {counted(files - here, 'file')}, {size(missing)}. Free on the disk: {size(free)}.")
        self.progress.reset(self._bar, total=missing)

    def start(self, name: str, missing: int) -> None:
        """A file begins."""
        self.line(f"{name} ({size(missing)})")
        self.progress.update(self._bar, state=printable(name))

    def advance(self, count: int) -> None:
        """``count`` more bytes are here."""
        self.show(self._bar, self.task(self._bar).fields["state"], advance=count)
