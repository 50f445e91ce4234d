"""``xlt doctor``, and the self-test that comes before runs on a GPU.

xlt doctor
xlt doctor --gpu
xlt doctor --tier pocket --data-root DIR       # are its models and data here?
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from xlt.cli.lazy import lazily
from xlt.cli.options import DEFAULT_RESULTS, Results
from xlt.cli.output import emit, say
from xlt.errors import EnvironmentFault, ExitCode

with lazily():
    import torch

    from xlt.pipeline import doctor as machine
    from xlt.train import engine as engines

MARKS = {"pass": "ok  ", "warn": "warn", "fail": "FAIL", "not tested": "?   "}
# A captured graph replays whatever was computed while it was captured, so a fault in one of these would not show.
NEEDED_BY_GRAPHS = ("GPU: varlen_attention", "GPU: adamw", "GPU: graph engine")


def doctor(
    results: Results = DEFAULT_RESULTS,
    tier: Annotated[str, "Look for the public models and the data of this tier."] = "core",
    data_root: Annotated[Path | None, "The folder with official files."] = None,
    gpu: Annotated[bool, "Also compute on the GPU and compare: FAISS, kernels, training (a few minutes)."] = False,
) -> None:
    """Check this machine, and say how to fix what it lacks."""
    on_gpu = machine.self_test() if gpu else []
    report = machine.examine(results, tier, data_root)
    report.checks += on_gpu
    emit(report, map(_line, report.checks))
    if not report.healthy:
        raise typer.Exit(int(ExitCode.ENVIRONMENT))


def gpu_self_test(engine: engines.EngineName | None, *, auto: bool = False) -> engines.EngineName | None:
    """Test the GPU before runs use it; what fails is not used from here on. ``engine`` is what will train, if any.

    What trains is returned: where the user did not name the graph engine (``auto``) and it fails, DeepSpeed's step.

    Raises:
        EnvironmentFault: the engine cannot train on it.
    """
    say("Self-test of the GPU, at most 5 minutes once its kernels are compiled:")
    checks = machine.self_test([engine] if engine else [])
    for check in checks:
        say(_line(check))
    for check in checks:
        if check.status == "fail":
            raise EnvironmentFault(f"The self-test of the GPU failed: {check.name}.", why=check.found, fix=check.fix)
        if engine == "graph" and check.name in NEEDED_BY_GRAPHS and check.status == "warn":
            if auto:
                say(f"Steps are not captured in CUDA graphs ({check.name} failed): DeepSpeed makes them.")
                return gpu_self_test("deepspeed")
            raise EnvironmentFault(
                f"The graph engine cannot be used on this GPU: {check.name} has failed its test.",
                why=check.found,
                fix="--engine deepspeed",
            )
    return engine


def _line(check: machine.DoctorCheck) -> str:
    found = f"not tested: {check.found}" if check.status == "not tested" else check.found
    line = f"{MARKS[check.status]}  {check.name:22} {found}"
    return f"{line}\n{'':28} → {check.fix}" if check.fix else line


def tested(settings: engines.EngineSettings, *, auto: bool) -> engines.EngineSettings:
    """``settings`` with the engine that passed the self-test of a GPU, if there is one."""
    passed = gpu_self_test(settings.engine, auto=auto) if torch.cuda.is_available() else None
    return replace(settings, engine=passed) if passed else settings
