"""``xlt plan`` and ``xlt reproduce``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xlt.cli.options import (
    DEFAULT_RESULTS,
    Accumulation,
    DataRoot,
    Debug,
    Gpus,
    Json,
    Limit,
    Processes,
    Results,
    Seed,
    SourceName,
    Tier,
    Zero,
    engine_settings,
    precision,
    process_count,
    source_options,
)
from xlt.cli.output import emit, say

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from xlt.data.source import Source
    from xlt.pipeline.grid import Grid
    from xlt.pipeline.sources import SourceOptions


def plan(
    tier: Tier = "smoke",
    source: SourceName = "world",
    data_root: DataRoot = None,
    seed: Seed = 0,
    limit: Limit = 0,
    results: Results = DEFAULT_RESULTS,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the runs of a tier: what is done, what is to do."""
    from pydantic import BaseModel
    from rich.table import Table

    from xlt.pipeline.executor import plan_grid
    from xlt.pipeline.store import RunStore

    opened, _ = _open_source(tier, source, data_root, limit)
    grid = _grid(tier, opened, seed)
    states = plan_grid(grid, RunStore(results))

    class Plan(BaseModel):
        format: Literal[1] = 1
        tier: str
        source: str
        runs: list[dict[str, Any]]

    entries = [
        {**entry, "state": check.state, "problem": check.problem}
        for entry, (_, check) in zip(grid.as_json()["runs"], states, strict=True)
    ]
    result = Plan(tier=grid.tier, source=grid.source.name, runs=entries)

    def render(console: Console) -> None:
        names = {run.hash: run.name for run in grid.runs}
        table = Table("phase", "run", "starts from", "state", "folder", title=f"{tier} tier on {source}")
        for spec, check in states:
            table.add_row(spec.phase, spec.name, names.get(spec.parent or "", "–"), check.state, spec.folder)
        console.print(table)

    emit(result, render)


def reproduce(
    tier: Tier = "smoke",
    source: SourceName = "world",
    data_root: DataRoot = None,
    seed: Seed = 0,
    limit: Limit = 0,
    results: Results = DEFAULT_RESULTS,
    zero: Zero = "0",
    gpus: Gpus = 0,
    processes: Processes = 0,
    shard: Annotated[bool, typer.Option("--shard", help="The GPUs or processes share one run at a time.")] = False,
    accumulation: Accumulation = 1,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a tier from phase 1 to the verdicts. The same command resumes."""
    from xlt.cli.judgement import conclude
    from xlt.cli.progress import GridLines
    from xlt.errors import UsageFault
    from xlt.pipeline.executor import Executor
    from xlt.pipeline.store import RunStore
    from xlt.pipeline.tiers import read_tier
    from xlt.train.seeding import deterministic

    began = time.monotonic()
    settings = engine_settings(zero, accumulation)
    count = process_count(gpus, processes, read_tier(tier).processes)
    if shard and count == 1:
        raise UsageFault("--shard needs several GPUs or processes.", mend="Add --gpus N or --processes N.")
    opened, options = _open_source(tier, source, data_root, limit)
    _introduce(tier, source)
    grid = _grid(tier, opened, seed)
    deterministic(True)
    executor = Executor(
        opened,
        options,
        RunStore(results),
        settings,
        GridLines(),
        read_tier(tier).run_threads,
        side_by_side=1 if shard else count,
        spread=count if shard else 1,
    )
    done = executor.run_grid(grid)
    say(f"{done.made} runs made, {done.found} found complete, {_minutes(time.monotonic() - began)} so far.")
    conclude(results, opened)


def _open_source(tier: str, source_name: str, data_root: Path | None, limit: int) -> tuple[Source, SourceOptions]:
    from xlt.pipeline.sources import open_source
    from xlt.pipeline.tiers import read_tier

    read_tier(tier).plan(source_name)
    options = source_options(source_name, data_root, limit)
    return open_source(options), options


def _grid(tier: str, source: Source, seed: int) -> Grid:
    from xlt.pipeline.grid import GridBuilder
    from xlt.pipeline.tiers import read_tier

    return GridBuilder(read_tier(tier), source, seed=seed, precision=precision()).grid()


def _introduce(tier: str, source: str) -> None:
    """The first lines: what runs, and what a GPU would add."""
    import torch

    from xlt.pipeline.provenance import device_name
    from xlt.pipeline.tiers import read_tier

    say(f"Tier {tier} on the source '{source}': {read_tier(tier).about}.")
    if torch.cuda.is_available():
        say(f"Device: {device_name()}, bf16.")
    else:
        say(
            "No GPU found: a small XLM-R is trained here on the CPU in fp32, through the same code.\n"
            "A GPU adds bf16, flash attention on packed batches, and XLM-R Large itself "
            "(xlt train mnli --model xlm-roberta-large)."
        )


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"
