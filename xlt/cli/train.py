"""``xlt train``: one training run, from a model of the user's choice.

xlt train mlm --tier smoke
xlt train mnli --tier smoke --model results/runs/pretrain/mlm-0123456789ab --adversarial freelb
xlt train mnli --model xlm-roberta-large --source files --data-root DIR --gpus 2 --zero 2 --dry-run
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Annotated, Any, Literal

from xlt.cli import options
from xlt.cli.single_run import make_run, plan_run, show_planned
from xlt.errors import UsageFault
from xlt.tasks.adversarial import Adversarial
from xlt.tasks.record import ENGLISH


def train(
    task: options.TaskKey,
    *,
    model: options.Model = "",
    phase: Annotated[
        Literal["intermediate", "target"] | None, "Train as in this phase. Default: the phase of the task in the paper."
    ] = None,
    tier: options.RecipeTier = "",
    data: options.DataOptions,
    seed: options.Seed = 0,
    steps: Annotated[int, "Optimiser steps. Default: the recipe's."] = 0,
    epochs: Annotated[int, "Epochs. Default: the recipe's."] = 0,
    learning_rate: Annotated[float, "The highest learning rate. Default: the recipe's."] = 0.0,
    batch_size: Annotated[int, "Examples per step. Default: the recipe's."] = 0,
    adversarial: Annotated[
        str | None,
        "Perturb word embeddings in training, by fgm, pgd, freelb, smart, r3f or smoothing; with settings, if need be: "
        "freelb,steps=3,radius=0.4.",
    ] = None,
    synonyms: Annotated[
        int, "Train on N copies of each row, with words drawn from their synonyms in DATA_ROOT/lexicon/en-en.txt."
    ] = 0,
    source_language: Annotated[
        str, "Train in this language, on the task's files below DATA_ROOT/translated/LANGUAGE. Default: English."
    ] = "",
    engine: options.EngineOptions,
    dry_run: Annotated[bool, "Make nothing: print what the run is and what it costs."] = False,
    results: options.Results = options.DEFAULT_RESULTS,
) -> None:
    """Train a model on the English data of a task, or on that of another language, and score it.

    The task mlm is phase 1: it trains a fresh small XLM-R or BLOOM, which --tier describes. Several GPUs or processes
    share the run.
    """
    if steps and epochs:
        raise UsageFault("--steps and --epochs exclude each other.", fix="Give one of them.")
    if not math.isfinite(learning_rate):
        raise UsageFault(f"--learning-rate {learning_rate} is no number to train with.", fix="--learning-rate 1e-5")
    given: dict[str, Any] = {"steps": steps, "epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    given["synonyms"] = synonyms
    recipe = {name: value for name, value in given.items() if value} | ({"epochs": 0} if steps else {})
    if adversarial is not None:
        recipe["adversarial"] = asdict(Adversarial.read(adversarial))
    chosen = {"recipe": recipe, "source_language": source_language * (source_language != ENGLISH)}
    asked: dict[str, Any] = {"train": True, "phase": phase, "tier": tier, "seed": seed, **chosen}
    if dry_run:
        show_planned(plan_run(task, model, data, engine, **asked), results)
        return
    make_run(task, model, data, results, engine, **asked)
