"""What is told about runs side by side and about downloads, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from xlt.cli import output
from xlt.cli.progress import DownloadBars, RunBars
from xlt.pipeline.store import Check
from xlt.train.loop import StepRecord

NASTY = "[red]a\x1b[2J"


@dataclass(frozen=True)
class Spec:
    """As much of a run's spec as progress looks at."""

    name: str
    phase: str = "target"
    hash: str = ""
    folder: str = ""

    @property
    def title(self) -> str:
        return self.name


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the clock shows."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal of 100 columns as both streams."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    with redirect_stdout(stream), redirect_stderr(stream):
        yield stream


def half_way(shown: RunBars, now: list[float]) -> None:
    """Two runs in progress of three, half way, after a minute."""
    specs = [Spec(name, hash=name) for name in ("a", "b", "c")]
    shown.plan([(spec, Check("absent")) for spec in specs])  # type: ignore[misc]
    runs = [shown.start(spec) for spec in specs[:2]]  # type: ignore[arg-type]
    for step, seconds in ((1, 10.0), (2, 15.0), (51, 60.0)):
        now[0] = seconds
        for run in runs:
            run.step(StepRecord(step=step, loss=0.5, learning_rate=0.1, tokens=1, examples="", task="xnli"), 101)


def test_plain_lines_estimate_each_run_and_count_the_grid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], now: list[float]
) -> None:
    said: list[str] = []
    monkeypatch.setattr("xlt.cli.progress.say", said.append)
    with RunBars() as shown:
        half_way(shown, now)
        shown.finish(Spec("b", hash="b"))  # type: ignore[arg-type]
    err = capsys.readouterr().err
    assert [line for line in err.splitlines() if "step 51" in line] == [
        "[1/3] target a: step 51 of 101, loss 0.500, 0:50 left",
        "[2/3] target b: step 51 of 101, loss 0.500, 0:50 left",
    ]
    assert "\x1b" not in err
    assert said == [
        "3 runs: 0 done, 3 to do.",
        "[1/3] target a ...",
        "[2/3] target b ...",
        "[2/3] target b done in 1:00; 1 of 3 runs made",
    ]


def test_a_run_that_came_to_nothing_is_not_told_as_done(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    said: list[str] = []
    monkeypatch.setattr("xlt.cli.progress.say", said.append)
    with RunBars() as shown:
        states = [Check("diverged", "The loss of step 3 is nan."), Check("done"), *[Check("absent")] * 2]
        specs = [Spec(name, hash=name, folder=f"target/{name}") for name in ("a", "b", "c", "d")]
        shown.plan([*zip(specs, states, strict=True)])  # type: ignore[arg-type]
        for spec, why in ((specs[2], "it diverged: The loss of step 9 is inf"), (specs[3], "")):
            shown.start(spec)  # type: ignore[arg-type]
            shown.finish(spec, why)  # type: ignore[arg-type]
    assert said == [
        "4 runs: 1 done, 1 diverged, 2 to do.",
        "  target/a diverged and is not made again: The loss of step 3 is nan.",
        "[1/2] target c ...",
        "[1/2] target c stopped after 0:00: it diverged: The loss of step 9 is inf; "
        "1 of 2 runs made, 1 of them collapsed or diverged",
        "[2/2] target d ...",
        "[2/2] target d done in 0:00; 2 of 2 runs made, 1 of them collapsed or diverged",
    ]


def test_plain_lines_come_now_and_then(capsys: pytest.CaptureFixture[str], now: list[float]) -> None:
    with RunBars() as shown:
        run = shown.start(Spec("a", hash="a"))  # type: ignore[arg-type]
        for second in range(60):
            now[0] = float(second)
            run.cell("xnli", "dev", "sw")
    assert capsys.readouterr().err == "[1/0] target a: predicting xnli dev sw\n" * 3


def test_a_terminal_shows_a_bar_for_each_run_with_the_time_left_and_lines_above_them(
    monkeypatch: pytest.MonkeyPatch, now: list[float]
) -> None:
    with terminal(monkeypatch) as stream, RunBars() as shown:
        half_way(shown, now)
        shown.finish(Spec("b", hash="b"))  # type: ignore[arg-type]
        print("a library's line")
        shown.progress.refresh()
        assert output.settings.live
        drawn = re.sub(r"\x1b\[\d*m", "", stream.getvalue())
    assert "[2/3] target b done in 1:00; 1 of 3 runs made\n" in drawn
    above, bars = drawn.rsplit("all runs", 1)
    assert "a library's line\n" in above
    assert "1/3" in bars.splitlines()[0]
    assert re.search(r"\[1/3\] target a .* 51/101 0:00:50 loss 0.500", bars)
    assert "target b" not in bars
    assert not output.settings.live


def test_what_a_bar_says_steers_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as stream, RunBars() as shown:
        run = shown.start(Spec(NASTY, hash="a"))  # type: ignore[arg-type]
        run.cell(NASTY, "dev", "sw")
        shown.progress.refresh()
    assert "predicting [red]a\\x1b[2J" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


def test_downloads_tell_how_much_has_come_and_what_is_left(
    capsys: pytest.CaptureFixture[str], now: list[float]
) -> None:
    with DownloadBars() as shown:
        shown.plan(3, 1, 4_000_000, 5_000_000_000)
        shown.start("x/model.bin", 4_000_000)
        for second, count in ((0, 500_000), (10, 500_000), (20, 1_000_000)):
            now[0] = float(second)
            shown.advance(count)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "Files: 3 needed, 1 of them here and unchanged.",
        "To download: 2 files, 4.0 MB. Free on the disk: 5.00 GB.",
    ]
    assert err.splitlines() == ["x/model.bin (4.0 MB)", "download: 2.0 MB of 4.0 MB, x/model.bin, 0:27 left"]
