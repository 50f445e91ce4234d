"""``xlt doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xlt.cli.options import DEFAULT_RESULTS, Debug, Json, Results
from xlt.cli.output import emit, say
from xlt.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from xlt.pipeline.doctor import DoctorCheck

MARKS = {"pass": "ok  ", "warn": "warn", "fail": "FAIL"}


def doctor(
    results: Results = DEFAULT_RESULTS,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Also compute on the GPU and compare: FAISS, kernels, training (90 s).")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Check this machine, with a command that mends each lack."""
    from xlt.pipeline.doctor import examine, self_test

    tested = self_test() if gpu else []
    report = examine(results)
    report.checks += tested

    def render(console: Console) -> None:
        for check in report.checks:
            console.print(_lines(check), markup=False)

    emit(report, render)
    if not report.healthy:
        raise typer.Exit(int(ExitCode.ENVIRONMENT))


def prove_gpu() -> None:
    """The self-test that comes before a tier on a GPU; what failed is not used from here on.

    Raises:
        EnvironmentFault: nothing can be trained on it.
    """
    from xlt.errors import EnvironmentFault
    from xlt.pipeline.doctor import self_test

    say("Self-test of the GPU, at most 90 seconds:")
    checks = self_test()
    for check in checks:
        say(_lines(check))
    for check in checks:
        if check.status == "fail":
            raise EnvironmentFault(f"The self-test of the GPU failed: {check.name}.", why=check.found, mend=check.mend)


def _lines(check: DoctorCheck) -> str:
    line = f"{MARKS[check.status]}  {check.name:22} {check.found}"
    return f"{line}\n{'':28} → {check.mend}" if check.mend else line
