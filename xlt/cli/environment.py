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
    from xlt.train.engine import EngineName

MARKS = {"pass": "ok  ", "warn": "warn", "fail": "FAIL", "not tested": "?   "}
# What a graph holds has to be proven: a fault in it does not show.
NEEDED_BY_GRAPHS = ("GPU: varlen_attention", "GPU: adamw", "GPU: graph engine")


def doctor(
    results: Results = DEFAULT_RESULTS,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Also compute on the GPU and compare: FAISS, kernels, training (minutes).")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Check this machine, with a command that fixes each lack."""
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


def prove_gpu(engine: EngineName | None) -> None:
    """The self-test that comes before runs on a GPU; what failed is not used from here on. ``engine`` trains, if any.

    Raises:
        EnvironmentFault: the engine cannot train on it.
    """
    from xlt.errors import EnvironmentFault
    from xlt.pipeline.doctor import self_test

    say("Self-test of the GPU, at most 5 minutes once its kernels are compiled:")
    checks = self_test([engine] if engine else [])
    for check in checks:
        say(_lines(check))
    for check in checks:
        if check.status == "fail":
            raise EnvironmentFault(f"The self-test of the GPU failed: {check.name}.", why=check.found, fix=check.fix)
        if engine == "graph" and check.name in NEEDED_BY_GRAPHS and check.status != "pass":
            raise EnvironmentFault(
                f"The graph engine cannot be used on this GPU: {check.name} has not passed its test.",
                why=check.found,
                fix="--engine deepspeed",
            )


def _lines(check: DoctorCheck) -> str:
    found = f"not tested: {check.found}" if check.status == "not tested" else check.found
    line = f"{MARKS[check.status]}  {check.name:22} {found}"
    return f"{line}\n{'':28} → {check.fix}" if check.fix else line
