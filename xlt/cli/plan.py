"""``xlt plan``: the runs of a tier, which of them are done, and what all of them cost.

xlt plan
xlt plan --calibrate                           # hours on this machine, from a few steps; --record keeps them
xlt plan --source files --data-root DIR        # the same tier on real text
xlt plan --tier core --gpus 8                  # hours, also on eight GPUs
xlt plan --tier core --power                   # how small a difference these seeds can show, and what claims need
xlt plan --tier pocket --part A3               # one part of a tier; without --part all, with their costs
xlt plan --study Q3 --tier pocket              # a study: one seed, and all of them with what they score perturbed
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from xlt.cli import options, plan_costs, plan_power
from xlt.cli.lazy import lazily
from xlt.cli.output import Shown, emit, say, table
from xlt.errors import DataFault, UsageFault

with lazily():
    from xlt import files
    from xlt.pipeline import calibration, executor, grid, parts, single, sources, store, studies, study_folder, tiers
    from xlt.pipeline import estimate as costs
    from xlt.verify import power as powers

UNKNOWN = "unknown"  # the state of a run whose data is absent


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of the grid."""

    folder: str
    """Its folder below RESULTS/runs; empty where the data is absent, without which no hash is known."""
    hash: str
    """The hash of all that determines its numbers; empty where the data is absent."""
    phase: str
    """pretrain, intermediate or target."""
    arm: str
    """The arm that it belongs to; empty for phase 1, which all arms start from."""
    train: list[str]
    """The tasks that it is trained on; none where it only scores."""
    evaluate: list[str]
    """The tasks that it is scored on."""
    parent: str | None
    """The hash of the run that made its starting model; null for phase 1, public models, and absent data."""
    name: str
    """Its name in the grid."""
    starts_from: str
    """The name of the run that made its starting model; empty where there is none."""
    adversarial: str
    """The method of its adversarial training; empty where there is none."""
    state: str
    """done, unfinished, absent, damaged, or unknown where the data is absent."""
    problem: str
    """What is wrong with its folder; empty where nothing is."""
    seconds: float | None = None
    """How long it took, as its provenance says; null where it is not done."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What it costs to keep states of each training, and to make a stretch between two of them again."""

    checkpoints: int
    """How many of each training."""
    bytes: int | None
    """How much disk they take at most; null where the size of the model is not known."""
    stretches: int
    """How many stretches ``xlt verify --replay`` can draw from."""
    stretch_hours: dict[str, float]
    """How long one takes on average, by device and engine; none that nobody timed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``xlt plan`` found."""

    tier: str
    """The name of the tier."""
    source: str
    """The source of its rows: world, files or hub."""
    runs: list[PlannedRun]
    """Its runs, each after the one that it starts from."""
    seed: int
    """The seed of these runs."""
    seeds: list[int]
    """The seeds that the tier's results are of."""
    left_out: dict[str, str]
    """What of the tier is left out because its data is absent, by arm."""
    collapsed: list[str]
    """The folders of runs that collapsed; each has a second attempt, with another seed, among ``runs``."""
    data_absent: str
    """Which data is absent, so that no hash and no state is known; empty where all is here."""
    fetch: str
    """The command that gets the data; empty where all is here."""
    estimate: costs.Estimate
    """What all runs cost together, if none of them is done yet."""
    power: powers.GridPower | None
    """With ``--power``, what the grid can show; else null."""
    parts: list[parts.PartCost]
    """What each part that was asked for costs, or each of the tier; none in a tier without parts."""
    at_once: int
    """How many runs this machine makes in parallel."""
    at_once_why: str
    """Why so many, in words."""
    kept: Kept | None = None
    """With ``--keep-checkpoints``, what kept states cost; else null."""
    study: studies.StudyCost | None = None
    """With ``--study``, what the study costs; else null."""


def plan(
    *,
    tier: options.Tier = "smoke",
    study: options.Study = "",
    data: options.DataOptions,
    part: options.Parts = None,
    model: options.InsteadOf = "",
    seed: options.Seed = 0,
    results: options.Results = options.DEFAULT_RESULTS,
    engine: options.Engine = "auto",
    gpus: Annotated[int, "Also tell the hours on N GPUs, a run on each at a time."] = 0,
    calibrate: Annotated[bool, "Time a few steps of every kind of task on this machine, to tell the hours."] = False,
    record: Annotated[bool, "With --calibrate, keep these rates in artifact/measured, for later plans."] = False,
    keep_checkpoints: Annotated[int, "Tell what N kept states of each training cost, and a stretch between two."] = 0,
    power: Annotated[bool, "Tell how small a difference the grid can show, and how many seeds claims need."] = False,
) -> None:
    """List a tier's runs: done, to do, and what they cost."""
    if record:
        _refuse_recording(calibrate=calibrate)
    asked = studies.read_study(study) if study else None
    described = asked.tier(tier) if asked else tiers.read_tier(tier)
    seed = described.seeds[0] if asked and seed not in described.seeds else seed
    runs = store.RunStore(study_folder.seed_folder(results, seed) if asked else results)
    named = data.source_options(next(iter(described.sources)))
    its_plan, instead = described.plan(named.name), single.backbone_name(model) if model else ""
    source = sources.open_source(named)
    chosen, precision = described.chosen_parts(named.name, part or ()), options.precision()
    trained_by = options.EngineOptions(engine=engine).settings(1).engine
    builder = partial(
        grid.GridBuilder, described, source, seed=seed, precision=precision, engine=trained_by, parts=chosen
    )
    planned, states, fault = _graph(partial(builder, model=instead), runs)
    at_once, why = options.runs_at_once(described, named.name, chosen, instead)
    rate = calibration.calibrate(described, planned, source, at_once) if calibrate else None
    priced: dict[str, Any] = {"source": source, "calibration": rate, "gpus": gpus}
    costs_of = partial(parts.part_costs, described, names=part or its_plan.parts, seed=seed, precision=precision)
    of_plan = parts.started_from(its_plan, instead)
    estimated: Callable[[grid.Grid], costs.Estimate] = partial(costs.estimate, plan=of_plan, **priced)
    cost = estimated(planned)
    result = Plan(
        tier=planned.tier,
        source=named.name,
        runs=list(_planned(planned, states, runs)),
        seed=seed,
        seeds=described.seeds,
        left_out=planned.left_out,
        collapsed=[run.folder for run in planned.collapsed],
        data_absent=f"{fault.what} {fault.why}".strip() if fault else "",
        fetch=fetch_command(fault, described.name if asked else tier, named.name, part or (), instead) if fault else "",
        estimate=cost,
        at_once=at_once,
        at_once_why=why,
        kept=_kept(cost, keep_checkpoints) if keep_checkpoints else None,
        power=powers.grid_power(described, source, named.name) if power else None,
        parts=[] if asked else list(costs_of(**priced, model=instead)),
        study=studies.study_cost(asked.form(tier), planned, source, estimated) if asked else None,
    )
    emit(result, _shown(result))
    if rate and record:
        say(f"Recorded as artifact/measured/{calibration.record(rate.rate).name}")


def _refuse_recording(*, calibrate: bool) -> None:
    """Raise ``UsageFault`` or ``EnvironmentFault`` where nothing is measured, or it cannot be kept."""
    if not calibrate:
        raise UsageFault("--record keeps what a calibration measures.", fix="Add --calibrate.")
    files.check_writable(*calibration.place())


def _graph(
    builder: Callable[..., grid.GridBuilder], runs: store.RunStore
) -> tuple[grid.Grid, list[tuple[str, str]], DataFault | None]:
    """The grid, and the state of each run with what is wrong with it; where data is absent also the error for that."""
    try:
        planned = executor.with_retries(builder().grid(), runs)
        return planned, [(check.state, check.problem) for _, check in executor.plan_grid(planned, runs)], None
    except DataFault as fault:
        # The graph and its costs are known even so; hashes, and with them what is done, are not.
        planned = builder(fingerprints=False).grid()
        return planned, [(UNKNOWN, "data absent")] * len(planned.runs), fault


def _kept(cost: costs.Estimate, count: int) -> Kept:
    stretches = (count + 1) * cost.models
    size = None if cost.state_bytes is None else count * cost.models * cost.state_bytes
    timed = {on: took.training / stretches for on, took in cost.hours.items() if took.training and stretches}
    return Kept(count, size, stretches, timed)


def fetch_command(fault: DataFault, tier: str, source: str, asked: Sequence[str], instead: str) -> str:
    """The command that gets the data and the models that a tier, or the parts ``asked`` for, take from the hub."""
    if source != "hub" or not fault.fix.startswith("xlt "):
        return fault.fix
    model = f" --model {shlex.quote(instead)}" if instead and not instead.startswith("folder:") else ""
    return f"xlt fetch --tier {tier}{''.join(f' --part {name}' for name in asked)}{model} --data-root DIR"


def _planned(planned: grid.Grid, states: Sequence[tuple[str, str]], made: store.RunStore) -> Iterator[PlannedRun]:
    names = {run.hash: run.name for run in planned.runs}
    for run, listed, (state, problem) in zip(planned.runs, planned.as_json()["runs"], states, strict=True):
        if state == UNKNOWN:
            listed = {**listed, "folder": "", "hash": "", "parent": None}
        starts_from = names.get(run.parent or "", "")
        took = store.read_provenance(made.path(run.folder)).seconds if state == "done" else {}
        yield PlannedRun(
            **listed,
            name=run.name,
            starts_from=starts_from,
            adversarial=run.adversarial,
            state=state,
            problem=problem,
            seconds=sum(took.values()) if took else None,
        )


@contextmanager
def fetching_all(tier: str, source: str, asked: Sequence[str], instead: str) -> Iterator[None]:
    """A block whose errors about absent data tell how to fetch all that the tier, or the parts ``asked`` for, need."""
    try:
        yield
    except DataFault as fault:
        fault.fix = fetch_command(fault, tier, source, asked, instead)
        raise


def _shown(plan: Plan) -> Shown:
    seeds = ", ".join(map(str, plan.seeds))
    both = [*zip(plan.runs, plan.estimate.runs, strict=True)]
    names = [run.name + (run.adversarial and f" ({run.adversarial}: work × {cost.work:.2g})") for run, cost in both]
    rows = (
        (run.phase, name, run.starts_from or None, run.state, plan_costs.tokens_told(cost.tokens), run.folder)
        for name, (run, cost) in zip(names, both, strict=True)
    )
    columns = ("phase", "run", "starts from", "state", "training tokens", "folder")
    yield table(columns, rows, f"Tier {plan.tier} on {plan.source}, seed {plan.seed} (the tier's seeds: {seeds})")
    yield from (f"{name}: {why}." for name, why in plan.left_out.items())
    yield from (f"{folder} collapsed or diverged; it has a second attempt." for folder in plan.collapsed)
    if plan.data_absent:
        yield f"Data is absent, so it is not known which runs are done: {plan.data_absent}"
        yield f"To get it: {plan.fetch}"
    yield from plan_costs.cost_lines(plan.estimate)
    yield f"  runs at a time   {plan.at_once} ({plan.at_once_why})"
    if spent := [run.seconds for run in plan.runs if run.seconds is not None]:
        took = plan_costs.hours_told(sum(spent) / 3600)
        yield f"  time it took     {took} for the {len(spent)} runs that are done, added up"
    if kept := plan.kept:
        size = "of unknown size" if kept.bytes is None else f"{kept.bytes / 1e9:.0f} GB"
        timed = [f"{plan_costs.hours_told(hours)} on {on}" for on, hours in kept.stretch_hours.items()]
        took = f", on average {'; '.join(timed)}" if timed else ", not timed here yet: xlt plan --calibrate"
        yield f"  kept states      {kept.checkpoints} of each training, {size}: {kept.stretches} stretches{took}"
        yield "                   (xlt verify --replay K makes K of them again)"
    yield from plan_costs.part_lines(plan.parts)
    if plan.study:
        yield from _study(plan.study)
    if plan.power:
        yield from plan_power.shown(plan.power)


def _study(found: studies.StudyCost) -> Shown:
    """What one seed and all seeds of a study take, its evaluations on perturbed rows among it."""
    yield f"The study has {len(found.seeds)} seeds: {', '.join(map(str, found.seeds))}; above is one of them."
    rows = "" if found.rows is None else f" ({found.rows:,} rows)"
    noisy = f"With its {found.evaluations} evaluations on perturbed rows{rows} a" if found.evaluations else "A"
    yield f"{noisy} seed of the study takes:"
    for on, took in found.hours.items():
        every = took and took * len(found.seeds)
        yield f"  {plan_costs.hours_told(took)} on {on}; its {len(found.seeds)} seeds {plan_costs.hours_told(every)}"
    if not found.hours:
        yield "  not measured here yet: xlt plan --calibrate"
