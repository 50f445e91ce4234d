"""Standard output holds results, standard error everything else, even what libraries print.

What a file or a file's name says may be anything: all text leaves through here, and nothing of it steers a terminal.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from select import poll
from typing import Any, TextIO, TypeAlias

from xlt.cli.lazy import lazily
from xlt.errors import XltError
from xlt.printable import printable

with lazily():
    import pydantic_core
    from rich import box as rich_box
    from rich import console as rich_console
    from rich import measure as rich_measure
    from rich import table as rich_table
    from rich import text as rich_text

Shown: TypeAlias = "Iterable[str | rich_table.Table]"  # what people see of a result: lines and tables

NUMBER = re.compile(r"[-+≤≈ /.,%–\d]*M?$")
# On a terminal alone, where rich finds one that shows colours and NO_COLOR is not set. The words say all of it.
COLOURS = {
    **dict.fromkeys(("deviates", "collapsed", "problem", "golden"), "bold red"),
    **dict.fromkeys(("not run", "not verifiable"), "yellow"),
    **dict.fromkeys(("consistent", "reproduced", "exact"), "green"),
}
VERDICT = re.compile(rf"\b(?:{'|'.join(COLOURS)}|PROBLEM|COLLAPSED|GOLDEN)\b")
LONGEST_WORD = 30
WIDEST = 1000


@dataclass(slots=True)
class Settings:
    """How this command talks."""

    as_json: bool = False
    """Print one JSON document on standard output; lines for people go to standard error."""
    debug: bool = False
    """Show tracebacks."""
    unread: bool = False
    """Whoever read the output has gone."""
    live: bool = False
    """Bars stand on the terminal now: lines go above them, through standard error."""


settings = Settings()
_results: TextIO | None = None


@contextmanager
def results_only_on_stdout() -> Iterator[None]:
    """Send everything written to standard output, by any library or child process, to standard error.

    Only ``emit`` still reaches the real standard output.
    """
    global _results
    sys.stdout.flush()
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:
        # A test runner may give us streams without a file behind them.
        yield
        return
    _results = os.fdopen(kept, "w", encoding="utf-8")
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        for stream in (sys.stdout, _results):
            _drop_what_nobody_reads(stream)
        os.dup2(kept, 1)
        _results.close()
        _results = None


@contextmanager
def until_nobody_reads() -> Iterator[None]:
    """A block that ends as by Ctrl-C when whoever reads its output, such as ``head``, has gone."""
    try:
        yield
    except BrokenPipeError:
        settings.unread = True
        for stream in (_stream(), sys.stderr):
            _drop_what_nobody_reads(stream)
        raise KeyboardInterrupt from None


def _drop_what_nobody_reads(stream: TextIO) -> None:
    """Bring what a stream holds to its reader; where there is none, it and all that follows goes nowhere."""
    state = poll()
    state.register(stream.fileno(), 0)  # for errors alone: of a pipe, that its other end is closed
    try:
        stream.flush()
        gone = bool(state.poll(0))
    except OSError:
        gone = True
    if gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


def _stream() -> TextIO:
    """Where results go. Outside a command that is standard output as it is now: test runners replace it."""
    return _results or sys.stdout


def emit(result: Any, shown: Shown) -> None:
    """Print a command's result: as one JSON document with ``--json``, else as the lines and tables ``shown``.

    ``shown`` may be a generator: with ``--json`` nothing of it is computed.
    """
    if settings.as_json:
        _print_document(pydantic_core.to_jsonable_python(result, by_alias=False))
        return
    out = console(_stream())
    for item in shown:
        # A line is left to the terminal to fold: folded here, a command in it could not be copied.
        if isinstance(item, str):
            out.print(_coloured(item), soft_wrap=True)
        else:
            _print_table(out, item)


def _coloured(line: str) -> rich_text.Text:
    """A line with a colour for the verdict or the failure that it begins with, and for all of a line of counts."""
    shown = rich_text.Text(_lines(line))
    for found in VERDICT.finditer(line) if line.startswith("Verdicts: ") else filter(None, [VERDICT.match(line)]):
        shown.stylize(COLOURS[found.group().lower()], *found.span())
    return shown


def _print_table(out: rich_console.Console, table: rich_table.Table) -> None:
    """Print the table as it is where it fits, else without frames; no word of it is ever cut."""
    wide = out.options.update(max_width=WIDEST)
    if rich_measure.Measurement.get(out, wide, table).maximum > out.width:
        table.box, table.show_edge, table.padding = rich_box.SIMPLE_HEAD, False, 0
    least = rich_measure.Measurement.get(out, wide, table).minimum
    out.print(table, width=max(least, out.width), crop=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> rich_table.Table:
    """A table for people: None is a dash, a float has one decimal, and a column of numbers is right-aligned."""
    cells = [[_cell(value) for value in row] for row in rows]
    made = rich_table.Table(title=title or None)
    for place, column in enumerate(columns):
        numbers = all(NUMBER.match(row[place]) for row in cells)
        words = (word for text in (column, *(row[place] for row in cells)) for word in text.split())
        longest = min(max(map(len, words), default=1), LONGEST_WORD)  # what is longer is folded, and not cut either
        made.add_column(column, justify="right" if numbers else "left", min_width=longest, overflow="fold")
    for row in cells:
        made.add_row(*(rich_text.Text(_lines(text), COLOURS.get(text, "")) for text in row))
    return made


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return "–" if value is None else str(value)


def console(stream: TextIO) -> rich_console.Console:
    """A console that shows every text as it is: it reads no markup, and lets no control character through."""

    class PlainConsole(rich_console.Console):
        def render_str(self, text: str, **options: Any) -> rich_text.Text:
            return super().render_str(_lines(text), **options | {"markup": False, "emoji": False})

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # the library's own answer is exit code 1, which means something else here

    # Off a terminal, rich would fold tables to 80 columns.
    return PlainConsole(file=stream, width=None if stream.isatty() else 140, highlight=False)


def say(message: str) -> None:
    """A line for people: on standard output, or on standard error with ``--json``."""
    stream = _stream()
    if settings.as_json or (settings.live and stream.isatty()):
        stream = sys.stderr
    stream.write(_lines(message) + "\n")
    stream.flush()


def report_error(error: XltError) -> None:
    """What happened, why, and how to fix it; with ``--json`` as the one document on standard output too."""
    lines = [f"Error: {error.what}"]
    if error.why:
        lines.append(f"  Why: {error.why}")
    if error.fix:
        lines.append(f"  Fix: {error.fix}")
    sys.stderr.write(_lines("\n".join(lines)) + "\n")
    if settings.debug:
        show_traceback(error)
    if settings.as_json:
        fault = {"what": error.what, "why": error.why, "fix": error.fix, "exit_code": int(error.exit_code)}
        _print_document({"error": fault})


def show_traceback(error: BaseException) -> None:
    """The traceback on standard error."""
    sys.stderr.write(_lines("".join(traceback.format_exception(error))))


def _print_document(document: dict[str, Any]) -> None:
    # In ASCII: escaped, a control character or half a surrogate pair harms no terminal and no encoding. By the standard
    # library: the package whose absence this reports may be pydantic.
    _stream().write(json.dumps({"format": 1, **document}, indent=1) + "\n")
    _stream().flush()


def _lines(text: str) -> str:
    return printable(text, keep="\n")
