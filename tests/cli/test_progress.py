"""What is told about runs side by side, on a terminal and elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass

import pytest

from xlt.cli.progress import GridLines
from xlt.pipeline.store import Check
from xlt.train.loop import StepRecord


@dataclass(frozen=True)
class Spec:
    """As much of a run's spec as progress looks at."""

    name: str
    phase: str = "target"
    hash: str = ""
    folder: str = ""


def record(step: int) -> StepRecord:
    return StepRecord(step=step, loss=0.5, learning_rate=0.1, tokens=1, examples="", task="xnli")


def lines(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> GridLines:
    """Two runs in progress of three, half way, after a minute."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((100, 24)))
    grid = GridLines()
    specs = [Spec(name, hash=name) for name in ("a", "b", "c")]
    grid.plan([(spec, Check("absent")) for spec in specs])  # type: ignore[misc]
    runs = [grid.start(spec) for spec in specs[:2]]  # type: ignore[arg-type]
    for step, seconds in ((1, 10.0), (2, 15.0), (51, 60.0)):
        now[0] = seconds
        for run in runs:
            run.step(record(step), 101)
    return grid


def test_plain_lines_estimate_each_run_and_count_the_grid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    monkeypatch.setattr("xlt.cli.progress.say", said.append)
    lines(monkeypatch, terminal=False).finish(Spec("b", hash="b"))  # type: ignore[arg-type]
    assert [line for line in capsys.readouterr().err.splitlines() if "step 51" in line] == [
        "[1/3] target a: step 51/101, loss 0.500, 0:50 left",
        "[2/3] target b: step 51/101, loss 0.500, 0:50 left",
    ]
    assert said[-1] == "[2/3] target b done in 1:00; 1 of 3 runs made"


def test_the_live_line_shows_all_runs_and_never_folds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(monkeypatch, terminal=True)
    last = capsys.readouterr().err.rsplit("\x1b[2K", 1)[1]
    assert last.startswith("[1/3] target a: step 51/101, loss 0.500, 0:50 left | [2/3] target b: step 51")
    assert len(last) == 99
