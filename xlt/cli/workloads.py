"""``xlt bench kernels``, ``mlm``, ``optimizer``, ``steps``, ``embed`` and ``retrieval``: rows of contestants."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xlt.cli.options import Debug, Json
from xlt.cli.output import emit, say
from xlt.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from xlt.bench.workload import Bench, Timing, Workload

# Command: rounds, and what its help says. ``bench_NAME`` of ``xlt.bench.NAME`` measures.
WORKLOADS = {
    "kernels": (20, "Time every kernel, forward and backward, beside its peers. On a CPU our plain forms run."),
    "mlm": (20, "Time masked-LM steps whose head reads masked positions alone beside heads that read all of them."),
    "optimizer": (20, "Time a clipped AdamW update whose word embeddings are touched by rows beside dense updates."),
    "steps": (10, "Time whole training steps of each engine beside Hugging Face loops, at the lengths of real tasks."),
    "embed": (10, "Time sentence vectors of packed batches, computed up to the pooled layer, beside padded encoders."),
    "retrieval": (5, "Time neighbours in both directions from one product beside two searches that find the same."),
}

ModelSize = Annotated[
    Literal["small", "large"] | None,
    typer.Option(
        "--size", help="large: XLM-R Large with random weights; small: three narrow layers. Default: by the GPU."
    ),
]


def workload_command(name: str) -> Callable[..., None]:
    """The command ``xlt bench NAME``."""
    default_rounds, about = WORKLOADS[name]

    def command(
        size: ModelSize = None,
        rounds: Annotated[
            int, typer.Option("--rounds", min=1, help="Timed rounds; in each all contestants take their turn.")
        ] = default_rounds,
        threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads (0: torch's choice).")] = 0,
        json: Json = False,
        debug: Debug = False,
    ) -> None:
        import torch

        from xlt.bench.shapes import default_size

        if threads:
            torch.set_num_threads(threads)
        chosen = size or default_size()
        say("Comparing what the contestants compute, then timing them in turn.")
        result: Bench = getattr(import_module(f"xlt.bench.{name}"), f"bench_{name}")(chosen, rounds)
        emit(result, lambda console: _show(console, result))
        if not result.sound:
            raise typer.Exit(int(ExitCode.ENVIRONMENT))

    command.__doc__ = f"{about} What does not compute the same is not timed."
    return command


def _show(console: Console, result: Bench) -> None:
    from rich.table import Table

    for row in result.workloads:
        table = Table("", "ms", "10-90 %", "times ours", "10-90 %", "peak GiB", title=_title(row), title_justify="left")
        for each in row.timings:
            if each.seconds is not None:
                table.add_row(*_cells(each))
        console.print(table)
        if row.about:
            console.print(row.about, markup=False, soft_wrap=True)
        for each in row.timings:
            if each.not_run:
                console.print(f"  not run: {each.name} ({each.not_run})", markup=False, soft_wrap=True)
    limits = result.ceilings
    console.print(
        f"{result.device} ({result.cpu}), {result.threads} threads. Measured ceilings: {limits.dtype} matrix product "
        f"{limits.matmul_flop_per_s / 1e12:.2f} TFLOP/s, copy {limits.copy_bytes_per_s / 1e9:.1f} GB/s.",
        markup=False,
        soft_wrap=True,
    )


def _title(row: Workload) -> str:
    seconds = row.timings[0].seconds or 0.0
    rates = [f"{amount / seconds:,.4g} {what}/s" for what, amount in row.quantity.items() if seconds]
    share = [f"{100 * row.share:.0f} % of the {row.ceiling} ceiling"] if row.share is not None else []
    return f"{row.name}: {'; '.join([*rates, *share]) or 'no rate'}; medians of {row.rounds}"


def _cells(each: Timing) -> tuple[str, ...]:
    def milliseconds(value: float | None) -> str:
        return f"{1000 * (value or 0):.3g}"

    return (
        each.name,
        milliseconds(each.seconds),
        f"{milliseconds(each.seconds_p10)}-{milliseconds(each.seconds_p90)}",
        f"{each.ratio:.2f}",
        f"{each.ratio_p10:.2f}-{each.ratio_p90:.2f}",
        f"{each.peak_bytes / 2**30:.2f}" if each.peak_bytes else "-",
    )
