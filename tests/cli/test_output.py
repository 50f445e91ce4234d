"""What is printed: nothing that a file says steers a terminal, is taken for markup, or cannot be encoded."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.table import Table

from xlt.cli import app, output
from xlt.errors import DataFault, ExitCode

NASTY = "a\x1b[2J\x9bb\r\u202e\ud800[/red][link=file:///x]c[/link]:smile:"
SHOWN = r"a\x1b[2J\x9bb\r\u202e\ud800[/red][link=file:///x]c[/link]:smile:"


@dataclass
class Result:
    """What a command found."""

    text: str


def test_the_console_shows_texts_as_they_are_and_escapes_what_steers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "settings", output.Settings())
    table = Table("column " + NASTY, title=NASTY)
    table.add_row(NASTY)
    output.console(sys.stdout).print(table)
    output.console(sys.stdout).print(NASTY + "\nsecond line", soft_wrap=True)
    output.say(NASTY)
    shown = capsys.readouterr().out
    assert shown.count(SHOWN) == 5
    assert f"{SHOWN}\nsecond line\n" in shown
    assert all(each.isprintable() or each == "\n" for each in shown)


def test_lines_and_tables_are_shown_with_one_rule_for_numbers_and_for_what_is_absent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "settings", output.Settings())
    rows = [("xnli", 9.96, None, 3), (NASTY, None, "why", 12)]
    output.emit(Result(""), [output.table(["task", "score", "note", "rows"], rows, title="[b]Scores"), "x " * 200])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "[b]Scores"
    assert [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")] == [
        ["xnli", "10.0", "–", "3"],
        [SHOWN, "–", "why", "12"],
    ]
    (first,) = (line for line in lines if "xnli" in line)
    assert "│ xnli  " in first
    assert "│  10.0 │" in first
    assert "│ –    │" in first
    assert lines[-1] == "x " * 200


@pytest.mark.parametrize("as_json", [False, True])
def test_a_fault_is_told_in_lines_that_harm_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    monkeypatch.setattr(output, "settings", output.Settings(as_json=as_json, debug=True))
    output.report_error(DataFault(NASTY, why=f"{NASTY}\n{NASTY}", fix=NASTY))
    out, err = capsys.readouterr()
    assert err.startswith(f"Error: {SHOWN}\n  Why: {SHOWN}\n{SHOWN}\n  Fix: {SHOWN}\n")
    assert all(each.isprintable() or each == "\n" for each in err)
    assert bool(out) == as_json
    if as_json:
        # A fault holds no half of a surrogate pair: an escape stands for it from the start.
        assert json.loads(out)["error"]["what"] == NASTY.replace("\ud800", "\\ud800")


def test_the_document_is_ascii_and_says_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "settings", output.Settings(as_json=True))
    output.emit(Result(NASTY + "é"), [])
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {"format": 1, "text": NASTY + "é"}


def test_what_was_not_expected_is_told_too(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise LookupError(NASTY)

    monkeypatch.setattr(app, "app", fail)
    assert app.run(["verify", "--debug"]) == ExitCode.ENVIRONMENT
    err = capfd.readouterr().err
    assert err.startswith("Error: LookupError: a\\x1b[2J\\x9bb\\r\\u202e\\ud800")
    assert all(each.isprintable() or each == "\n" for each in err)
    log = Path(err.partition("The traceback is in ")[2].partition("\n")[0])
    assert "LookupError" in log.read_text("utf-8")
    log.unlink()


def test_a_traceback_is_kept_on_the_volume_of_a_container_and_shown_where_nothing_can_be_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise LookupError("lost")

    monkeypatch.setattr(app, "app", fail)
    monkeypatch.setenv("XLT_VOLUME", str(tmp_path))
    assert app.run(["verify"]) == ExitCode.ENVIRONMENT
    (log,) = tmp_path.iterdir()
    assert "LookupError: lost" in log.read_text("utf-8")
    assert str(log) in capfd.readouterr().err
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", lambda *_, **__: tempfile.mkstemp(dir=tmp_path / "absent"))
    assert app.run(["verify"]) == ExitCode.ENVIRONMENT
    err = capfd.readouterr().err
    assert "There is no folder for temporary files" in err
    assert "TMPDIR" in err
    assert "LookupError: lost" in err


@pytest.mark.parametrize("as_json", [False, True])
def test_a_folder_whose_name_no_encoding_has(tmp_path: Path, as_json: bool) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9\x1b[2J"
    os.mkdir(folder)
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "xlt", "verify", "--results", folder, *(["--json"] if as_json else [])]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == ExitCode.INCOMPLETE, done.stderr
    assert b"holds no grid.json" in done.stderr
    assert done.stderr.isascii()
    (Path(os.fsdecode(folder)) / "grid.json").write_text('{"format": "\\u001b[31m"}', "utf-8")
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == ExitCode.DATA, done.stderr
    assert b"\x1b" not in done.stderr + done.stdout


def test_how_one_command_talked_says_nothing_of_the_next(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["version", "--json"]) == ExitCode.OK
    capfd.readouterr()
    output.say("a line for people")
    assert capfd.readouterr().out == "a line for people\n"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Where results go: a terminal of 80 columns that shows colours."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    shown = Terminal()
    monkeypatch.setattr(output, "settings", output.Settings())
    monkeypatch.setattr(output, "_stream", lambda: shown)
    return shown


def test_a_verdict_has_a_colour_on_a_terminal_alone_and_none_where_no_color_is_set(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["deviates  multi xnli", "Verdicts: 1 of 2 exact, 1 of 2 not run.", "all exact", "PROBLEM  a"]
    output.emit(Result(""), [*lines, output.table(["verdict"], [["consistent"]])])
    red, yellow, green = "\x1b[1;31m", "\x1b[33m", "\x1b[32m"
    for code, word in (
        (red, "deviates"),
        (green, "exact"),
        (yellow, "not run"),
        (red, "PROBLEM"),
        (green, "consistent"),
    ):
        assert f"{code}{word}" in terminal.getvalue()
    assert "all exact" in terminal.getvalue()  # the word is no verdict there
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.truncate(0)
    output.emit(Result(""), lines)
    assert "\x1b[3" not in terminal.getvalue()
    piped = io.StringIO()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr(output, "_stream", lambda: piped)
    output.emit(Result(""), lines)
    assert piped.getvalue().splitlines() == lines


@pytest.mark.parametrize("columns", [5, 9])
def test_no_name_in_a_table_is_cut_at_80_columns(terminal: Terminal, columns: int) -> None:
    """Not even where the table is wider than that: then the terminal folds its lines."""
    names = [f"commonsenseqa_{place}" for place in range(columns)]
    output.emit(Result(""), [output.table(["task", *names], [["anli_plus", *names], ["a word, and " * 3, *names]])])
    shown = terminal.getvalue()
    assert "…" not in shown
    assert all(shown.count(name) == 3 for name in names)


def test_a_command_whose_reader_has_gone_ends_as_other_programs_do(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from xlt.cli.app import run; sys.exit(run(['tasks', 'ls']))"]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")  # DERIVED: 128 and 13, the number of SIGPIPE
