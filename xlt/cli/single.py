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
    Results,
    Search,
    Seed,
    SourceName,
    Zero,
    engine_name,
    engine_settings,
    precision,
    process_count,
    source_options,
    use_search,
)
from xlt.cli.output import emit, say

if TYPE_CHECKING:
    from rich.console import Console

    from xlt.pipeline.single import SingleOptions
    from xlt.pipeline.sources import SourceOptions
    from xlt.pipeline.spec import Phase, RunSpec

TaskKey = Annotated[str, typer.Argument(metavar="TASK", help="The key of a task: xlt tasks ls.")]
Model = Annotated[str, typer.Option("--model", help="A run's folder, a saved model's folder, or a hub name.")]
RecipeTier = Annotated[str, typer.Option("--tier", help="Take the recipe of this tier instead of the catalogue's.")]
Languages = Annotated[list[str] | None, typer.Option("--language", help="Only this language (repeatable).")]
Splits = Annotated[list[str] | None, typer.Option("--split", help="Only this split: dev or test (repeatable).")]


def train(
    task: TaskKey,
    model: Model = "",
    phase: Annotated[str, typer.Option("--phase", help="intermediate or target; by default what the task is.")] = "",
    tier: RecipeTier = "",
    source: SourceName = "world",
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

    mlm is phase 1 (a fresh small XLM-R of --tier). Several GPUs or processes share the run, through
    DeepSpeed's launcher.
    """
    from xlt.pipeline.single import SingleOptions

    use_search("")
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
    options = SingleOptions(tier or None, seed, precision(), recipe, engine=engine_name(engine))
    _run(
        task,
        model,
        options,
        source_options(source, data_root, limit),
        results,
        train=True,
        phase=_phase(phase),
        zero=zero,
        processes=process_count(gpus, processes),
        accumulation=accumulation,
    )


def evaluate(
    task: TaskKey,
    model: Model,
    tier: RecipeTier = "",
    source: SourceName = "world",
    data_root: DataRoot = None,
    limit: Limit = 0,
    language: Languages = None,
    split: Splits = None,
    search: Search = "",
    results: Results = DEFAULT_RESULTS,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a trained model on a task, zero-shot in every language."""
    from xlt.pipeline.single import SingleOptions

    use_search(search)
    options = SingleOptions(tier or None, 0, precision(), {}, languages=language or (), splits=split or ())
    _run(task, model, options, source_options(source, data_root, limit), results, train=False)


def retrieve(
    task: TaskKey,
    model: Model,
    layer: Annotated[
        int, typer.Option("--layer", min=0, help="Pool the output of this block (0: the model's own choice).")
    ] = 0,
    tier: RecipeTier = "",
    source: SourceName = "world",
    data_root: DataRoot = None,
    limit: Limit = 0,
    language: Languages = None,
    split: Splits = None,
    search: Search = "",
    results: Results = DEFAULT_RESULTS,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Retrieve translations with an encoder as it is: mean of a middle layer, exact search with FAISS."""
    from xlt.errors import UsageFault
    from xlt.pipeline.single import SingleOptions
    from xlt.tasks.catalogue import get_task

    if get_task(task).kind != "retrieval":
        raise UsageFault(f"'{task}' is not a retrieval task.", mend=f"xlt evaluate {task} --model MODEL")
    use_search(search)
    options = SingleOptions(
        tier or None,
        0,
        precision(),
        {},
        layer=layer or None,
        languages=language or (),
        splits=split or (),
    )
    _run(task, model, options, source_options(source, data_root, limit), results, train=False)


def _run(
    task: str,
    model: str,
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
    from xlt.pipeline.single import find_model, single_spec
    from xlt.pipeline.sources import open_source
    from xlt.pipeline.store import RunStore
    from xlt.pipeline.tiers import read_tier
    from xlt.train.seeding import deterministic

    settings = engine_settings(zero, accumulation, options.engine, processes)
    start = find_model(model) if model else None
    source = open_source(sources)
    spec = single_spec(phase, task, source, start, options, train=train)
    store = RunStore(results)
    if torch.cuda.is_available() and store.check(spec).state != "done":
        prove_gpu()
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
    import json

    from pydantic import BaseModel
    from rich.table import Table

    class RunReport(BaseModel):
        format: Literal[1] = 1
        folder: str
        hash: str
        found_complete: bool
        metrics: dict[str, Any]
        provenance: dict[str, Any]

    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    provenance = json.loads((folder / "provenance.json").read_text("utf-8"))
    result = RunReport(
        folder=f"runs/{spec.folder}",
        hash=spec.hash,
        found_complete=found,
        metrics=metrics,
        provenance=provenance,
    )

    def render(console: Console) -> None:
        for task, splits in metrics.items():
            for split, languages in splits.items():
                names = list(next(iter(languages.values())))
                table = Table("language", *names, title=f"{task} {split}")
                for language, values in languages.items():
                    table.add_row(language, *(f"{values[name]:.1f}" for name in names))
                console.print(table)

    emit(result, render)
    say(f"The run is in {folder}")


def _phase(name: str) -> Phase | None:
    from xlt.errors import UsageFault

    if name not in ("", "intermediate", "target"):
        raise UsageFault(f"There is no phase '{name}' to train in.", mend="--phase intermediate or target")
    return name or None  # type: ignore[return-value]
