"""One run with a model of the user's choice: what ``xlt train``, ``xlt evaluate`` and ``xlt retrieve`` share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xlt.cli.doctor import gpu_self_test
from xlt.cli.lazy import lazily
from xlt.cli.options import DataOptions, EngineOptions, ScoringOptions, precision, use_search
from xlt.cli.output import Shown, emit, say, table
from xlt.cli.plan_costs import cost_lines
from xlt.errors import DataFault, DivergedFault, UsageFault
from xlt.tasks.catalogue import get_task

with lazily():
    import torch

    from xlt import files
    from xlt.cli import progress
    from xlt.data import perturbed
    from xlt.data import source as questions
    from xlt.data import tokenizer as tokenizers
    from xlt.pipeline import estimate as estimates
    from xlt.pipeline import executor, grid, single, sources, spec, store, tiers
    from xlt.train import engine as engines
    from xlt.train import seeding


@dataclass(frozen=True, slots=True)
class RunReport:
    """What one run came to."""

    folder: str
    """Its folder below RESULTS."""
    hash: str
    """The hash of all that determines its numbers."""
    found_complete: bool
    """Whether it was there already, so that nothing was computed."""
    metrics: store.StoredMetrics
    """Its scores in percent, by task, split, language and metric."""
    provenance: dict[str, Any]
    """What it was made with: versions, device, settings, seconds, peak memory."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run that the user asked for, before it is made."""

    run: spec.RunSpec
    """What determines its numbers."""
    start: single.StartingModel | None
    """The model that it starts from; None for a fresh one."""
    options: sources.SourceOptions
    """How its source was named."""
    source: questions.Source
    """Where its rows come from."""
    tier: tiers.Tier | None
    """The tier whose recipes it uses, if one was named."""
    sharing: int
    """How many processes share it."""
    settings: engines.EngineSettings
    """How it is trained."""


def plan_run(
    task: str,
    model: str,
    data: DataOptions,
    engine: EngineOptions | None = None,
    scoring: ScoringOptions | None = None,
    *,
    train: bool = False,
    phase: spec.Phase | None = None,
    tier: str = "",
    seed: int = 0,
    perturb: str = "",
    **chosen: Any,
) -> PlannedRun:
    """The run that the options ask for. ``chosen`` are further fields of ``SingleOptions``.

    Raises:
        DataFault: the model or the data is not there.
        UsageFault: the options do not fit each other.
    """
    if scoring:
        tier = scoring.tier
        chosen |= {"languages": scoring.language or (), "splits": scoring.split or ()}
    start, options = _checked(task, model, data, train, chosen.get("languages", ()), chosen.get("splits", ()))
    options = replace(options, perturb=perturb)
    use_search(scoring.search if scoring else None)
    engine = engine or EngineOptions()
    sharing = engine.process_count()
    source, described = sources.open_source(options), tiers.read_tier(tier) if tier else None
    if isinstance(source, perturbed.PerturbedSource):
        source.without_lexicon(get_task(task), chosen.get("languages", ()))
    settings = engine.settings(sharing, described.accumulation if described else 1)
    asks_for_layer = "retrieval_layer" in chosen.get("retrieval", ())
    single_options = single.SingleOptions(described, seed, precision(), engine=settings.engine, **chosen)
    run = single.single_spec(phase, task, source, start, single_options, train=train)
    for key, length in run.max_lengths.items():
        recipe = described.recipe(key, source.name) if described else get_task(key).recipe
        if length < recipe.max_length:
            say(f"{key}: texts are cut at {length} tokens, not {recipe.max_length}: the model has no more positions.")
    layer, own = run.backbone.retrieval_layer, start.backbone.retrieval_layer if start else 0
    if get_task(task).kind == "retrieval" and layer < own and not asks_for_layer:
        say(f"Sentence vectors are of block {layer}, the model's last: it has no block {own}.")
    return PlannedRun(run, start, options, source, described, sharing, settings)


@dataclass(frozen=True, slots=True)
class DryRunReport:
    """What ``xlt train --dry-run`` found."""

    run: spec.RunSpec
    """All that determines its numbers."""
    folder: str
    """Its folder below RESULTS."""
    state: str
    """done, unfinished, absent or damaged."""
    estimate: estimates.Estimate
    """What it costs."""


def show_planned(planned: PlannedRun, results: Path) -> None:
    """Show what a run is, whether it is there, and what it costs."""
    run = planned.run
    alone = grid.Grid("", run.source, run.seed, (run,))
    its_own = tokenizers.load_tokenizer(str(planned.start.folder)) if planned.start else None
    cost = estimates.estimate(alone, tiers.SourcePlan(backbone=run.backbone), planned.source, tokenizer=its_own)
    report = DryRunReport(run, f"runs/{run.folder}", store.RunStore(results).check(run).state, cost)
    emit(report, _planned(report, f"the model in {planned.start.folder}" if planned.start else "a fresh small model"))


def _planned(report: DryRunReport, start: str) -> Shown:
    run, (size,) = report.run, report.estimate.runs
    yield f"{run.title}: {report.state}, in {report.folder}"
    yield f"  starts from      {start}"
    examples = f", {size.examples:,} examples in all" if size.examples else ""
    yield f"  trains on        {', '.join(run.train)}{examples}; seed {run.seed}, {run.precision}, {run.engine} engine"
    settings: dict[str, object] = {name: value for name, value in run.recipe.items() if value}
    if adversarial := run.training_recipe().adversarial:
        settings["adversarial"] = str(adversarial)
    yield f"  recipe           {', '.join(f'{name} {value}' for name, value in settings.items())}"
    yield f"  then scores      {', '.join(run.evaluate) or 'nothing'}"
    yield from cost_lines(report.estimate, "It", ": xlt plan --calibrate --record")


def make_run(
    task: str, model: str, data: DataOptions, results: Path, engine: EngineOptions | None = None, **chosen: Any
) -> None:
    """Make one run and show its scores; see ``made_run``."""
    report, *_ = made_run(task, model, data, results, engine, **chosen)
    emit(report, _scores(report))
    say(f"The run is in {results / report.folder}")


def made_run(
    task: str,
    model: str,
    data: DataOptions,
    results: Path,
    engine: EngineOptions | None = None,
    scoring: ScoringOptions | None = None,
    *,
    train: bool = False,
    **chosen: Any,
) -> tuple[RunReport, spec.RunSpec, questions.Source]:
    """Make one run, of which its source is returned too. ``chosen`` are further options of ``plan_run``."""
    engine, runs = engine or EngineOptions(), store.RunStore(results)
    planned = plan_run(task, model, data, engine, scoring, train=train, **chosen)
    files.check_writable(results)
    if torch.cuda.is_available() and runs.check(planned.run).state != "done":
        tested = gpu_self_test(planned.run.engine if train else None, auto=engine.engine == "auto")
        if tested and tested != planned.run.engine:
            planned = plan_run(task, model, data, replace(engine, engine=tested), scoring, train=train, **chosen)
    run, start = planned.run, planned.start
    seeding.deterministic(True)
    with progress.RunBars() as shown:
        made_by = executor.Executor(
            planned.source, planned.options, runs, planned.settings, shown, processes_per_run=planned.sharing
        )
        if planned.tier:
            made_by = replace(made_by, threads=planned.tier.threads)
        found = made_by.run_single(run, start.folder if start else None)
    current = executor.current_attempt(run, runs)
    if current != run:
        first = f"The first attempt is in {runs.path(run.folder)}"
        say(f"{first}: {runs.failure(run)}. It was made once more, with another seed.")
    folder = runs.path(current.folder)
    if runs.diverged(current):
        raise DivergedFault(f"The training diverged in both attempts. {store.read_provenance(folder).diverged}")
    provenance = store.read_provenance(folder).model_dump(exclude_unset=True)
    report = RunReport(f"runs/{current.folder}", current.hash, found, store.read_metrics(folder), provenance)
    return report, current, planned.source


def _checked(
    task: str, model: str, data: DataOptions, train: bool, languages: Collection[str], splits: Collection[str]
) -> tuple[single.StartingModel | None, sources.SourceOptions]:
    """The model to start from and the source to read. A wrong name is an error here, before torch is loaded."""
    single.check_use(task, has_model=bool(model), train=train)
    if model:
        single.check_name(model)
    if model and not data.source and not (Path(model) / store.SPEC).is_file():
        raise UsageFault(
            f"It is not known which data to use: '{model}' is not a run of xlt, which would say.",
            fix="Add --source hub (what xlt fetch downloaded), --source files --data-root DIR, "
            "or --source world (constructed languages, which only the small model of the smoke tier knows).",
        )
    try:
        start = single.find_model(model) if model else None
    except DataFault as fault:
        if data.source == "hub" and fault.fix.startswith("xlt fetch --model"):
            keys = filter(None, dict.fromkeys((get_task(task).key, get_task(task).trains_on)))
            fault.fix = fault.fix.replace("xlt fetch", f"xlt fetch {' '.join(keys)}")
        raise
    options = data.source_options(start.source if start else "")
    if languages or splits:
        questions.evaluated(get_task(task), sources.open_source(options), languages, splits)
    return start, options


def _scores(report: RunReport) -> Shown:
    for task, splits in report.metrics.items():
        for split, languages in splits.items():
            names = list(dict.fromkeys(name for values in languages.values() for name in values))
            rows = ((language, *map(values.get, names)) for language, values in languages.items())
            yield table(("language", *names), rows, f"{task} {split}")
