"""``xlt reproduce --study``: a question beyond the paper, from its runs to its answer.

Each seed has a results folder of its own below RESULTS, which ``xlt verify`` reads like any other; the answer lies
beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from xlt.cli import options, plan
from xlt.cli.doctor import tested
from xlt.cli.lazy import lazily
from xlt.cli.output import Shown, emit, say, table
from xlt.errors import ExitCode, UsageFault
from xlt.numerics import request

with lazily():
    from xlt.cli import progress
    from xlt.data import source as rows
    from xlt.pipeline import executor, grid, single, sources, spec, store, studies, study_folder, tiers
    from xlt.train import engine as engines
    from xlt.train import seeding
    from xlt.verify import study as answers
    from xlt.verify import study_numbers, study_page

if TYPE_CHECKING:
    from rich import table as rich_table

COLUMNS = ("test", "number", "95 %", "p", "lies", "expected", "shows from")


class _Setup(NamedTuple):
    """What all seeds of a study share."""

    study: studies.Study
    form: studies.Form
    tier: tiers.Tier
    named: sources.SourceOptions
    source: rows.Source
    builder: partial[grid.GridBuilder]
    settings: engines.EngineSettings
    at_once: int
    repeated: Mapping[str, str]
    instead: str


def refuse_options_of_a_tier(
    study: str, part: options.Parts, seed: int, shard: bool, where: options.ClusterOptions, golden: bool | None
) -> None:
    """Raise ``UsageFault`` for what a ``study`` decides itself, or has not, where one is named."""
    if not study:
        return
    if where.executor == "processes":
        where.queue(options.EngineOptions(), shard=shard)  # refuses what is for jobs of SLURM
    if part or seed or shard or where.executor != "processes" or golden is not None:
        why = "A study has its own seeds, and its runs are made on this machine."
        raise UsageFault(why, fix="Leave --part, --seed, --shard, --executor and --golden out.")


def reproduce_study(
    name: str,
    size: str,
    data: options.DataOptions,
    engine: options.EngineOptions,
    model: str,
    results: Path,
    repeated: Mapping[str, str],
) -> None:
    """Make the runs of the study ``name`` in the size of a tier, seed by seed, and answer it.

    ``repeated`` are the options that the command must have when it is repeated. Ends with exit code 0 where all seeds
    have their say in every test, 1 where a model collapsed or something stored cannot be trusted, 5 where runs are
    missing.

    Raises:
        UsageFault: there is no such study, or it does not come in this size.
    """
    study = studies.read_study(name)
    study_folder.refuse_runs_of_a_tier(results)
    form, tier = study.form(size), study.tier(size)
    options.use_search(repeated.get("search"))
    request(tier.numerics)  # before numpy and torch are loaded, by whatever comes next
    named = data.source_options(next(iter(tier.sources)))
    chosen = tier.chosen_parts(named.name, ())
    instead = single.backbone_name(model) if model else ""
    at_once, why = options.runs_at_once(tier, named.name, chosen, instead, engine)
    source = sources.open_source(named)
    read_from = spec.SourceSpec(name=source.name, settings=source.settings)
    for seed in form.seeds:
        executor.refuse_another(study_folder.seed_folder(results, seed), tier.name, read_from, seed, instead)
    study_folder.refuse_changed(study, results)
    say(f"Study {study.name}: {study.question}\nHypothesis: {study.hypothesis}")
    for line in _beforehand(form):
        say(line)
    say(f"Seeds: {', '.join(map(str, form.seeds))}. Runs made at a time: {at_once} ({why}).")
    settings = tested(engine.settings(1, tier.accumulation), auto=engine.engine == "auto")
    builder = partial(
        grid.GridBuilder, tier, source, precision=options.precision(), engine=settings.engine, model=instead
    )
    setup = _Setup(study, form, tier, named, source, builder, settings, at_once, repeated, instead)
    seeding.deterministic(True)
    seen = [_seed(setup, seed, results) for seed in form.seeds]
    found = answers.answer(study, size, read_from, seen)
    answers.write_answer(found, results)
    study_page.write_page(found, results)
    emit(found, shown(found))
    say(f"The answer is in {results / study_folder.ANSWER}, as a page in {results / study_page.PAGE}")
    raise typer.Exit(_code(found))


def _seed(setup: _Setup, seed: int, results: Path) -> study_numbers.Observed:
    """Make the runs of a seed, on clean rows and on perturbed ones, and read what they gave."""
    runs = store.RunStore(study_folder.seed_folder(results, seed))
    say(f"Seed {seed}:")
    with progress.RunBars() as bars:
        make = partial(
            executor.Executor, store=runs, settings=setup.settings, progress=bars, threads=setup.tier.threads
        )
        with plan.fetching_all(setup.tier.name, setup.named.name, (), setup.instead):
            planned = replace(setup.builder(seed=seed).grid(), options=dict(setup.repeated))
        study_folder.keep(setup.study, results)  # after the plan: where data is absent, nothing is written
        make(source=setup.source, source_options=setup.named, parallel_runs=setup.at_once).run_grid(planned)
    made = executor.with_retries(planned, runs)
    noisy: list[answers.Perturbed] = []
    for text in setup.form.perturbations:
        asked = replace(setup.named, perturb=text)
        source = sources.open_source(asked)
        scored = list(studies.perturbed_runs(setup.form, setup.tier, made, source, runs))
        say(f"Seed {seed}, rows perturbed by {text}:")
        with progress.RunBars() as bars:
            evaluations = make(source=source, source_options=asked, progress=bars)
            evaluations.run_evaluations((each.spec, each.start.folder) for each in scored)
        noisy.append((source, [(each.arm, each.spec) for each in scored]))
    return answers.observe(study_folder.seed_folder(results, seed), setup.source, noisy)


def _beforehand(form: studies.Form) -> Iterator[str]:
    for name, smallest in answers.beforehand(form):
        test = form.tests[name]
        if smallest is None:
            yield f"{name}: {test.about}. How much it varies between seeds nobody knows beforehand."
        else:
            yield f"{name}: {test.about}. {len(form.seeds)} seeds show it in 80 % of cases from {smallest:.2g} on."
            yield f"  So if it varies between seeds by {test.spread:g}; {test.spread_source}"


def shown(found: answers.StudyAnswer) -> Shown:
    """The answer for people."""
    yield _tests(found)
    yield found.answer
    if found.limit:
        yield f"Of each split the first {found.limit} rows were used: with all of them the answer may be another."
    yield from (f"It does not say: {each}" for each in found.cannot_say)
    yield from found.left_out
    yield from found.problems


def _tests(found: answers.StudyAnswer) -> rich_table.Table:
    lines = [
        (
            each.name,
            f"{each.value:+.2f}" if each.value is not None else None,
            f"{each.low:+.2f} to {each.high:+.2f}" if each.low is not None else None,
            f"{each.p:.3f}" if each.p is not None else None,
            each.decision,
            each.expected or "(no side)",
            f"{each.smallest:.2g}" if each.smallest else None,
        )
        for each in found.tests
    ]
    return table(COLUMNS, lines, f"{found.study}, {len(found.seeds)} seeds: {found.question}")


def _code(found: answers.StudyAnswer) -> ExitCode:
    if found.problems or found.left_out:
        return ExitCode.DEVIATES
    whole = all(len(test.per_seed) == len(found.seeds) for test in found.tests)
    return ExitCode.OK if whole else ExitCode.INCOMPLETE
