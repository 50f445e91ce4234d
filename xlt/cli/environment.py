"""``xlt doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from xlt.cli.options import DEFAULT_RESULTS, Debug, Json, Results
from xlt.cli.output import emit
from xlt.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {"pass": "ok  ", "warn": "warn", "fail": "FAIL"}


def doctor(results: Results = DEFAULT_RESULTS, json: Json = False, debug: Debug = False) -> None:
    """Check this machine, with a command that mends each lack."""
    from xlt.pipeline.doctor import examine

    report = examine(results)

    def render(console: Console) -> None:
        for check in report.checks:
            console.print(f"{MARKS[check.status]}  {check.name:18} {check.found}", markup=False)
            if check.mend:
                console.print(f"{'':24} → {check.mend}", markup=False)

    emit(report, render)
    if not report.healthy:
        raise typer.Exit(int(ExitCode.ENVIRONMENT))
