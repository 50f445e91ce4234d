"""``xlt train``, ``xlt evaluate`` and ``xlt retrieve``: one run with a model of the user's choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
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
    RecipeTier,
    Results,
    Search,
    Seed,
    SourceName,
    Splits,
    TaskKey,
    Zero,
    engine_settings,
    precision,
    process_count,
    source_options,
    use_search,
)
from xlt.cli.output import emit, say

if TYPE_CHECKING:
    from rich.console import Console

    from xlt.pipeline.single import SingleOptions, StartingModel
    from xlt.pipeline.sources import SourceOptions
    from xlt.pipeline.spec import Phase, RunSpec

Model = Annotated[str, typer.Option("--model", help="A run's folder, a saved model's folder, or a hub name.")]
Languages = Annotated[list[str] | None, typer.Option("--language", help="Only this language (repeatable).")]


def train(
    task: TaskKey,
    model: Model = "",
    phase: Annotated[
        Literal["intermediate", "target"] | None, typer.Option("--phase", help="By default what the task is.")
    ] = None,
    tier: RecipeTier = "",
    source: SourceName = None,
    data_root: DataRoot = None,
    seed: Seed = 0,
    limit: Limit = 0,
    steps: Annotated[int, typer.Option("--steps", min=0, help="Optimiser steps (0: the recipe's).")] = 0,
    epochs: Annotated[int, typer.Option("--epochs", min=0, help="Epochs (0: the recipe's).")] = 0,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=0.0, help="0: the recipe's.")] = 0.0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=0, help="Examples per step.")] = 0,
    results: Results = DEFAULT_RESULTS,
    engine: Engine = "deepspeed",
    zero: Zero = "0",
    gpus: Gpus = 0,
    processes: Processes = 0,
    accumulation: Accumulation = 1,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a model on the English data of a task, through DeepSpeed unless --engine says otherwise, and score it.

    mlm is phase 1 (a fresh small XLM-R of --tier). Several GPUs or processes share the run.
    """
    recipe: dict[str, float | int] = {
        name: value
        for name, value in (
            ("steps", steps),
            ("epochs", epochs),
            ("learning_rate", learning_rate),
            ("batch_size", batch_size),
        )
        if value
    }
    if steps:
        recipe["epochs"] = 0
    start, sources = _start(task, model, source, data_root, limit, train=True)
    options = _options(tier, None, seed=seed, recipe=recipe, engine=engine)
    _run(
        task,
        start,
        options,
        sources,
        results,
        train=True,
        phase=phase,
        zero=zero,
        processes=process_count(gpus, processes),
        accumulation=accumulation,
    )


def evaluate(
    task: TaskKey,
    model: Model,
    tier: RecipeTier = "",
    source: SourceName = None,
    data_root: DataRoot = None,
    limit: Limit = 0,
    language: Languages = None,
    split: Splits = None,
    search: Search = None,
    results: Results = DEFAULT_RESULTS,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a trained model on a task, zero-shot in every language."""
    start, sources = _start(task, model, source, data_root, limit, languages=language, splits=split)
    options = _options(tier, search, languages=language or (), splits=split or ())
    _run(task, start, options, sources, results, train=False)


def retrieve(
    task: TaskKey,
    model: Model,
    layer: Annotated[
        int, typer.Option("--layer", min=0, help="Pool the output of this block (0: the model's own choice).")
    ] = 0,
    tier: RecipeTier = "",
    source: SourceName = None,
    data_root: DataRoot = None,
    limit: Limit = 0,
    language: Languages = None,
    split: Splits = None,
    search: Search = None,
    results: Results = DEFAULT_RESULTS,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Retrieve translations with an encoder as it is: mean of a middle layer, exact search with FAISS."""
    from xlt.errors import UsageFault
    from xlt.tasks.catalogue import get_task

    if get_task(task).kind != "retrieval":
        raise UsageFault(f"'{task}' is not a retrieval task.", fix=f"xlt evaluate {task} --model MODEL")
    start, sources = _start(task, model, source, data_root, limit, languages=language, splits=split)
    options = _options(tier, search, layer=layer or None, languages=language or (), splits=split or ())
    _run(task, start, options, sources, results, train=False)


def _start(
    task: str,
    model: str,
    source: str | None,
    data_root: Path | None,
    limit: int,
    *,
    train: bool = False,
    languages: list[str] | None = None,
    splits: list[str] | None = None,
) -> tuple[StartingModel | None, SourceOptions]:
    """The model to start from and the source to read; a name that is not there ends here, in under a second."""
    from xlt.data.source import evaluated
    from xlt.errors import UsageFault
    from xlt.pipeline.single import check_name, check_use, find_model
    from xlt.pipeline.sources import open_source
    from xlt.pipeline.store import SPEC
    from xlt.tasks.catalogue import get_task

    check_use(task, has_model=bool(model), train=train)
    if model:
        check_name(model)
    if model and not source and not (Path(model) / SPEC).is_file():
        raise UsageFault(
            f"On which data? '{model}' is no run of xlt whose data could be taken.",
            fix="Add --source hub (what xlt fetch brought), --source files --data-root DIR, "
            "or --source world (constructed languages, which only the smoke tier's small model knows).",
        )
    start = find_model(model) if model else None
    options = source_options(source or (start.source if start else None), data_root, limit)
    if languages or splits:
        evaluated(get_task(task), open_source(options), languages or (), splits or ())
    return start, options


def _options(tier: str, search: str | None, *, seed: int = 0, **chosen: Any) -> SingleOptions:
    from xlt.pipeline.single import SingleOptions

    use_search(search)
    return SingleOptions(tier or None, seed, precision(), **chosen)


def _run(
    task: str,
    start: StartingModel | None,
    options: SingleOptions,
    sources: SourceOptions,
    results: Path,
    *,
    train: bool,
    phase: Phase | None = None,
    zero: str = "0",
    processes: int = 1,
    accumulation: int = 1,
) -> None:
    import torch

    from xlt.cli.environment import prove_gpu
    from xlt.cli.progress import GridLines
    from xlt.pipeline.executor import Executor, standing
    from xlt.pipeline.single import single_spec
    from xlt.pipeline.sources import open_source
    from xlt.pipeline.store import RunStore
    from xlt.pipeline.tiers import read_tier
    from xlt.tasks.catalogue import get_task
    from xlt.train.seeding import deterministic

    settings = engine_settings(zero, accumulation, options.engine, processes)
    source = open_source(sources)
    spec = single_spec(phase, task, source, start, options, train=train)
    for key, length in spec.max_lengths.items():
        recipe = read_tier(options.tier).recipe(key, source.name) if options.tier else get_task(key).recipe
        if length < recipe.max_length:
            say(
                f"{key}: texts are cut at {length} tokens, not at {recipe.max_length}: the model has no more positions."
            )
    store = RunStore(results)
    if torch.cuda.is_available() and store.check(spec).state != "done":
        prove_gpu(settings.engine if train else None)
    deterministic(True)
    executor = Executor(source, sources, store, settings, GridLines(), spread=processes)
    if options.tier:
        executor = replace(executor, threads=read_tier(options.tier).run_threads)
    found = executor.run_single(spec, start.folder if start else None)
    stands = standing(spec, store)
    if stands != spec:
        say(f"It collapsed and was made once more; the first attempt is in {store.path(spec.folder)}")
    _show(stands, store.path(stands.folder), found)


def _show(spec: RunSpec, folder: Path, found: bool) -> None:
    from pydantic import BaseModel
    from rich.table import Table

    from xlt.pipeline.store import read_metrics, read_provenance

    class RunReport(BaseModel):
        format: Literal[1] = 1
        folder: str
        hash: str
        found_complete: bool
        metrics: dict[str, Any]
        provenance: dict[str, Any]

    metrics = read_metrics(folder)
    result = RunReport(
        folder=f"runs/{spec.folder}",
        hash=spec.hash,
        found_complete=found,
        metrics=metrics,
        provenance=read_provenance(folder).model_dump(exclude_unset=True),
    )

    def render(console: Console) -> None:
        for task, splits in metrics.items():
            for split, languages in splits.items():
                names = list(dict.fromkeys(name for values in languages.values() for name in values))
                table = Table("language", *names, title=f"{task} {split}")
                for language, values in languages.items():
                    table.add_row(language, *(f"{values[name]:.1f}" if name in values else "–" for name in names))
                console.print(table)

    emit(result, render)
    say(f"The run is in {folder}")
