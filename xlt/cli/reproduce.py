"""``xlt reproduce``: a tier from phase 1 to the verdicts.

xlt reproduce                                  # smoke tier: no download
xlt reproduce --source files --data-root DIR   # the same on real text
xlt reproduce --seed 3 --results results-3 --dry-run
xlt reproduce --study Q3 --results results-Q3  # a question beyond the paper, with all its seeds
xlt reproduce --tier core --executor slurm --gpus 1 --slurm partition=gpu --dry-run
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from xlt.cli import options, plan, plan_costs, verify
from xlt.cli.doctor import tested
from xlt.cli.lazy import lazily
from xlt.cli.output import emit, say
from xlt.cli.study import refuse_options_of_a_tier, reproduce_study
from xlt.errors import UsageFault
from xlt.numerics import request
from xlt.printable import counted

with lazily():
    import torch

    from xlt import files
    from xlt.cli import progress
    from xlt.data import source as rows
    from xlt.pipeline import cluster, estimate, executor, grid, parts, provenance, single, sources, spec, store, tiers
    from xlt.train import seeding
    from xlt.verify import evidence


def reproduce(
    *,
    tier: options.Tier = "smoke",
    study: options.Study = "",
    data: options.DataOptions,
    part: options.Parts = None,
    model: options.InsteadOf = "",
    seed: options.Seed = 0,
    search: options.Search = None,
    engine: options.EngineOptions,
    shard: Annotated[bool, "All GPUs or processes share one run, instead of making one each."] = False,
    where: options.ClusterOptions,
    results: options.Results = options.DEFAULT_RESULTS,
    golden: verify.Golden = None,
) -> None:
    """Run a tier from phase 1 to the verdicts.

    All runs are made, verified and reported. The same command resumes where it was interrupted.
    """
    repeated = _repeated(engine, where, shard=shard, search=search)
    refuse_options_of_a_tier(study, part, seed, shard, where, golden)
    if where.dry_run and not where.queue(engine, shard=shard):
        show = partial(plan.plan, tier=tier, study=study, data=data, part=part, model=model, seed=seed)
        show(results=results, engine=engine.engine, gpus=0 if shard else engine.gpus)
        return
    if study:
        reproduce_study(study, tier, data, engine, model, results, repeated)
        return
    began = time.monotonic()
    described = tiers.read_tier(tier)
    request(described.numerics)  # before numpy and torch are loaded, by whatever comes next
    options.use_search(search)
    named = data.source_options(next(iter(described.sources)))
    chosen = described.chosen_parts(named.name, part or ())
    chosen |= described.known_parts(named.name, executor.held_parts(results))
    instead = single.backbone_name(model) if model else ""
    queue = where.queue(engine, shard=shard)
    count, why = queue.asks() if queue else options.runs_at_once(described, named.name, chosen, instead, engine)
    spread, side_by_side = (count, 1) if shard or queue else (1, count)
    settings = engine.settings(spread, described.accumulation, elsewhere=bool(queue))
    if shard and count == 1:
        raise UsageFault("--shard needs several GPUs or processes.", fix="Add --gpus N or --processes N.")
    source = sources.open_source(named)
    _check_results(results, described, source, seed, instead)
    precision = options.precision(queue)
    costs = parts.part_costs(described, source, chosen, seed=seed, precision=precision, model=instead)
    _introduce(described, named.name, costs, instead, queue)
    say(f"{'Processes that share each run' if shard or queue else 'Runs made at a time'}: {count} ({why}).")
    settings = settings if queue else tested(settings, auto=engine.engine == "auto")
    builder = partial(grid.GridBuilder, described, source, seed=seed, precision=precision, engine=settings.engine)
    with plan.fetching_all(tier, named.name, part or (), instead):
        planned = replace(builder(parts=chosen, model=instead).grid(), options=repeated)
    _say_planned(planned, described.plan(named.name), source, queue, 0 if shard else engine.gpus)
    if queue and where.dry_run:
        _show_jobs(queue, planned, store.RunStore(results))
        return
    checks = _golden(described, golden, queue)  # It takes a while: after all that may be wrong with the command.
    made_by = partial(executor.Executor, source, named, store.RunStore(results), settings, threads=described.threads)
    _make(planned, partial(made_by, parallel_runs=side_by_side, processes_per_run=spread, queue=queue), began)
    verify.verify_and_report(results, source, named.data_root, checks)


def _make(planned: grid.Grid, made_by: Callable[..., executor.Executor], began: float) -> None:
    """Make the runs, with what is to be seen of them meanwhile, and say how many were made."""
    seeding.deterministic(True)
    with progress.RunBars() as shown:
        done = made_by(progress=shown).run_grid(planned)
    for folder, why in done.failed.items():
        say(f"{folder}: {why}.")
    failed = f" ({len(done.failed)} of all collapsed or diverged)" if done.failed else ""
    took = f"after {progress.clock(time.monotonic() - began)} minutes"
    say(f"{counted(done.made, 'run')} made and {done.found} found complete{failed}, {took}. Now they are verified.")


def _golden(described: tiers.Tier, golden: verify.Golden, queue: cluster.Queue | None) -> list[evidence.GoldenCheck]:
    """The golden evidence, unless its runs cannot be submitted anyway."""
    if queue:
        queue.check()
    if checks := verify.golden_checks([described], golden):
        say(evidence.summary(checks))
    return checks


def _check_results(results: Path, tier: tiers.Tier, source: rows.Source, seed: int, model: str) -> None:
    """Refuse a folder that holds other results, or that cannot be written."""
    read_from = spec.SourceSpec(name=source.name, settings=source.settings)
    executor.refuse_another(results, tier.name, read_from, seed, model)
    files.check_writable(results)


def _repeated(
    engine: options.EngineOptions, where: options.ClusterOptions, *, shard: bool, search: str | None
) -> dict[str, str]:
    """The options that the command must have when it is repeated, without those that are as they are anyway."""
    given, usual = asdict(engine), asdict(options.EngineOptions())
    found = {name.replace("_", "-"): str(value) for name, value in given.items() if value != usual[name]}
    found |= {"shard": ""} if shard else {}
    found |= {"search": search} if search else {}
    if where.executor != "processes":
        found |= {"executor": where.executor} | ({"nodes": str(where.nodes)} if where.nodes > 1 else {})
    return found


def _say_planned(
    planned: grid.Grid, described: tiers.SourcePlan, source: rows.Source, queue: cluster.Queue | None, gpus: int
) -> None:
    """Say what is left out and, on a GPU, how long all takes; with parts it was said for each of them."""
    for name, reason in planned.left_out.items():
        say(f"{name}: {reason}.")
    if (queue.gpus if queue else torch.cuda.is_available()) and not described.parts:
        cost = estimate.estimate(planned, described, source, gpus=gpus)
        say(f"Time of one seed, from the beginning: {plan_costs.times(cost)}.")


def _show_jobs(queue: cluster.Queue, planned: grid.Grid, runs: store.RunStore) -> None:
    """Print which runs would be submitted, after which others, and as which scripts."""
    names = {spec.hash: spec.title for spec in planned.runs}
    left = [spec for spec, check in executor.plan_grid(planned, runs) if not check.ended]
    jobs = [
        {"run": spec.title, "after": names.get(spec.parent or "", ""), "script": queue.script(spec)} for spec in left
    ]
    kinds = {bool(spec.train): job for spec, job in zip(left, jobs, strict=True)}

    def lines() -> Iterator[str]:
        for job in jobs:
            yield f"{job['run']}{', after ' if job['after'] else ''}{job['after']}"
        for job in kinds.values():
            yield f"\nThe script of {job['run']}; others of its kind differ by their names:\n\n{job['script']}"

    emit({"jobs": jobs}, lines())


def _introduce(
    tier: tiers.Tier, source: str, costs: Iterable[parts.PartCost], model: str, queue: cluster.Queue | None
) -> None:
    """Say what will run, and on which device."""
    backbone = tier.plan(source).backbone
    made = f"a small {'BLOOM' if backbone.family == 'bloom' else 'XLM-R'}, trained here from its first step (phase 1)"
    say(f"Tier {tier.name} on the source '{source}': {tier.about}.")
    for line in plan_costs.part_lines(costs):
        say(line)
    say(f"Model: {model or backbone.name or made}.")
    if queue:
        say(f"Device: {'GPUs, bf16' if queue.gpus else 'CPUs, fp32'}, of the machines that SLURM gives.")
    elif torch.cuda.is_available():
        say(f"Device: {provenance.device_name()}, bf16.")
    elif tier.plan(source).parts:
        say("Device: CPU, fp32.")
    elif named := model or backbone.name:
        say(f"Device: CPU, fp32. {named} takes long without a GPU; how long: xlt plan --tier {tier.name} --calibrate")
    else:
        say("Device: CPU, fp32, through the code that a GPU runs. XLM-R Large itself: xlt plan --tier core")
