"""The program from its first line to its last: signals and streams, before and after there is a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import PROJECT
from xlt import __main__ as program
from xlt.cli import app


@pytest.fixture(autouse=True)
def _signals() -> object:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ctrl_c_before_there_is_a_command_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(app, "main", interrupted)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 5
    assert capsys.readouterr().err == "\nInterrupted.\n"


def test_what_comes_after_the_command_is_ended_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "run", lambda _: 4)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 4
    assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("arguments", ["tasks ls", "tasks ls --json", "--help", "verify --results absent"])
@pytest.mark.parametrize("streams", ["out", "both"])
def test_a_reader_that_goes_away_ends_the_command_quietly(arguments: str, streams: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "xlt", *arguments.split()]
    errors = writer if streams == "both" else subprocess.PIPE
    done = subprocess.run(command, cwd=PROJECT, stdout=writer, stderr=errors, text=True, timeout=120, check=False)
    os.close(writer)
    # As of a program that SIGPIPE ended; 5 where nothing is there to verify.
    assert done.returncode == (5 if "absent" in arguments else 141)
    assert "Traceback" not in (done.stderr or "")
