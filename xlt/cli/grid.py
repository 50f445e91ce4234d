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
    Engine,
    Gpus,
    Json,
    Limit,
    Processes,
    Results,
    Search,
    Seed,
    SourceName,
    Tier,
    Zero,
    engine_settings,
    precision,
    process_count,
    source_options,
    use_search,
)
from xlt.cli.output import emit, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from xlt.data.source import Source
    from xlt.pipeline.estimate import Estimate as Cost
    from xlt.pipeline.grid import Grid
    from xlt.pipeline.sources import SourceOptions
    from xlt.train.engine import EngineName


def plan(
    tier: Tier = "smoke",
    source: SourceName = None,
    data_root: DataRoot = None,
    seed: Seed = 0,
    limit: Limit = 0,
    results: Results = DEFAULT_RESULTS,
    engine: Engine = "deepspeed",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Time a few steps of every kind on this device first: hours follow.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the runs of a tier: what is done, what is to do, and what it will cost."""
    from pydantic import BaseModel

    from xlt.pipeline import calibration
    from xlt.pipeline.estimate import Estimate, estimate
    from xlt.pipeline.executor import with_retries
    from xlt.pipeline.store import RunStore
    from xlt.pipeline.tiers import read_tier

    described = read_tier(tier)
    named: str = source or next(iter(described.sources))
    opened, _ = _open_source(tier, named, data_root, limit)
    grid, absent, fetch = _grid_of_what_is_there(tier, opened, seed, engine)
    grid = with_retries(grid, RunStore(results))
    rate = calibration.calibrate(described, grid, opened) if calibrate else None
    cost = estimate(grid, described.plan(named), opened, rate)

    class Plan(BaseModel):
        format: Literal[1] = 1
        tier: str
        source: str
        runs: list[dict[str, Any]]
        seed: int
        seeds: list[int]
        left_out: dict[str, str]
        collapsed: list[str]
        data_absent: str
        fetch: str
        estimate: Estimate

    result = Plan(
        tier=grid.tier,
        source=named,
        runs=_planned(grid, results, known=not absent),
        seed=seed,
        seeds=described.seeds,
        left_out=grid.left_out,
        collapsed=[run.folder for run in grid.collapsed],
        data_absent=absent,
        fetch=fetch,
        estimate=cost,
    )

    title = f"{tier} tier on {named}, seed {seed} (the tier's seeds: {', '.join(map(str, described.seeds))})"
    lines = [*_remarks(grid, absent, fetch), *_costs(cost)]
    emit(result, lambda console: _show_plan(console, _table(title, result.runs, cost), lines))


def _show_plan(console: Console, table: Table, lines: Sequence[str]) -> None:
    console.print(table)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _remarks(grid: Grid, absent: str, fetch: str) -> Iterator[str]:
    """What is not as the tier says, or cannot be known."""
    yield from (f"{name}: {why}" for name, why in grid.left_out.items())
    yield from (f"Collapsed, and tried once more: {run.folder}" for run in grid.collapsed)
    if absent:
        yield f"Data absent: {absent}"
        yield f"What is done cannot be told without it. To get it: {fetch}"


def _table(title: str, runs: Sequence[dict[str, Any]], cost: Cost) -> Table:
    from rich.table import Table

    table = Table("phase", "run", "starts from", "state", "training tokens", "folder", title=title)
    for run, priced in zip(runs, cost.runs, strict=True):
        named = (run[key] or "–" for key in ("phase", "name", "starts_from", "state"))
        table.add_row(*named, _tokens(priced.tokens, priced.at_most), run["folder"])
    return table


def _grid_of_what_is_there(tier: str, source: Source, seed: int, engine: EngineName) -> tuple[Grid, str, str]:
    """The grid; where data is absent one without hashes, what is absent, and how to get it."""
    from xlt.errors import DataFault

    try:
        return _grid(tier, source, seed, engine), "", ""
    except DataFault as fault:
        of_hub = source.name == "hub" and fault.fix.startswith("xlt ")
        fetch = f"xlt fetch --tier {tier} --data-root DIR" if of_hub else fault.fix
        return _grid(tier, source, seed, engine, fingerprints=False), f"{fault.what} {fault.why}".strip(), fetch


def _planned(grid: Grid, results: Path, *, known: bool) -> list[dict[str, Any]]:
    """The runs with their states; without the data (``known``) hashes name nothing, and states cannot be told."""
    from xlt.pipeline.executor import plan_grid
    from xlt.pipeline.store import RunStore

    names = {run.hash: run.name for run in grid.runs}
    unnamed = {} if known else {"folder": "", "hash": "", "parent": None}
    checks = [check for _, check in plan_grid(grid, RunStore(results))] if known else [None] * len(grid.runs)
    return [
        {
            **entry,
            **unnamed,
            "name": run.name,
            "starts_from": names.get(run.parent or "", ""),
            "state": check.state if check else "unknown",
            "problem": check.problem if check else "data absent",
        }
        for entry, run, check in zip(grid.as_json()["runs"], grid.runs, checks, strict=True)
    ]


def _costs(cost: Cost) -> list[str]:
    """What the whole grid costs with one seed, if nothing of it is done yet."""
    tokens = _tokens(cost.training_tokens, any(run.at_most for run in cost.runs))
    if cost.unknown_runs:
        tokens += f", and not known for: {', '.join(cost.unknown_runs)}"
    hours = [
        f"{_hours(each.training)} of training, "
        + ("dev scores unknown, " if each.dev is None else f"at most {_hours(each.dev)} of dev scores, ")
        + ("evaluation unknown" if each.evaluation is None else f"{_hours(each.evaluation)} of evaluation")
        + f" on {name}"
        for name, each in cost.hours.items()
    ]
    memory = [f"{size / 1e9:.0f} GB (ZeRO {stage})" for stage, size in cost.gpu_bytes.items()]
    disk = "unknown" if cost.disk_bytes is None else f"{cost.disk_bytes / 1e9:.0f} GB"
    download = [f"{cost.download_bytes / 1e9:.2f} GB"] if cost.download_bytes or not cost.unknown_downloads else []
    if cost.unknown_downloads:
        download.append(f"size not known before the fetch: {', '.join(cost.unknown_downloads)}")
    return [
        "For one seed, from the beginning:",
        f"  training tokens  {tokens}",
        *(f"                   {basis}" for basis in sorted({basis for run in cost.runs for basis in run.basis})),
        f"  time             {'; '.join(hours) or 'no measured rate yet'}",
        f"  GPU memory       {'; '.join(memory) or 'not known'}",
        f"  disk             {disk} for {cost.models} models in fp32",
        f"  download         {'; '.join(download)}",
    ]


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def _tokens(count: int | None, at_most: bool) -> str:
    if count is None:
        return "unknown"
    return f"{'≤' if at_most else '≈'} {count / 1e6:.1f} M" if count else "–"


def reproduce(
    tier: Tier = "smoke",
    source: SourceName = None,
    data_root: DataRoot = None,
    seed: Seed = 0,
    limit: Limit = 0,
    search: Search = None,
    results: Results = DEFAULT_RESULTS,
    engine: Engine = "deepspeed",
    zero: Zero = "0",
    gpus: Gpus = 0,
    processes: Processes = 0,
    shard: Annotated[bool, typer.Option("--shard", help="The GPUs or processes share one run at a time.")] = False,
    accumulation: Accumulation = 1,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a tier from phase 1 to the verdicts. The same command resumes."""
    from xlt.cli.progress import GridLines
    from xlt.cli.verify import conclude
    from xlt.errors import UsageFault
    from xlt.pipeline.executor import Executor
    from xlt.pipeline.store import RunStore
    from xlt.pipeline.tiers import read_tier
    from xlt.train.seeding import deterministic

    began = time.monotonic()
    use_search(search)
    named: str = source or next(iter(read_tier(tier).sources))
    count = process_count(gpus, processes, read_tier(tier).processes)
    settings = engine_settings(zero, accumulation, engine, count if shard else 1)
    if shard and count == 1:
        raise UsageFault("--shard needs several GPUs or processes.", fix="Add --gpus N or --processes N.")
    opened, options = _open_source(tier, named, data_root, limit)
    _introduce(tier, named, settings.engine)
    grid = _grid(tier, opened, seed, settings.engine)
    for name, why in grid.left_out.items():
        say(f"{name}: {why}.")
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
    for folder in done.collapsed:
        say(f"At chance on English dev: {folder}")
    say(f"{done.made} runs made, {done.found} found complete, {_minutes(time.monotonic() - began)} so far.")
    conclude(results, opened)


def _open_source(tier: str, source_name: str, data_root: Path | None, limit: int) -> tuple[Source, SourceOptions]:
    from xlt.pipeline.sources import open_source
    from xlt.pipeline.tiers import read_tier

    read_tier(tier).plan(source_name)
    options = source_options(source_name, data_root, limit)
    return open_source(options), options


def _grid(tier: str, source: Source, seed: int, engine: EngineName, *, fingerprints: bool = True) -> Grid:
    from xlt.pipeline.grid import GridBuilder
    from xlt.pipeline.tiers import read_tier

    return GridBuilder(
        read_tier(tier), source, seed=seed, precision=precision(), fingerprints=fingerprints, engine=engine
    ).grid()


def _introduce(tier: str, source: str, engine: EngineName) -> None:
    """The first lines: what runs here, and what it shows."""
    import torch

    from xlt.cli.environment import prove_gpu
    from xlt.pipeline.provenance import device_name
    from xlt.pipeline.tiers import read_tier

    described = read_tier(tier)
    backbone = described.plan(source).backbone.name
    say(f"Tier {tier} on the source '{source}': {described.about}.")
    say(f"Model: {backbone or 'a small XLM-R, trained here from its first step (phase 1)'}.")
    if torch.cuda.is_available():
        say(f"Device: {device_name()}, bf16.")
        prove_gpu(engine)
    elif backbone:
        say(f"Device: CPU, fp32. {backbone} takes long without a GPU; how long: xlt plan --tier {tier} --calibrate")
    else:
        say("Device: CPU, fp32, through the code that a GPU runs. XLM-R Large itself: xlt plan --tier core")


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"
