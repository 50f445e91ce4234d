"""The evaluation part of a run: predictions of every split and language, and their metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedTokenizerBase

from xlt.data.predictions import Prediction, write_predictions
from xlt.data.rows import BitextRow, Row
from xlt.data.source import Source
from xlt.evaluate.metrics import score
from xlt.evaluate.predict import predict
from xlt.model.encoder import PackedModel
from xlt.pipeline.grid import EVALUATED_SPLITS
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.starting_point import head_task
from xlt.pipeline.store import prediction_name
from xlt.pipeline.training import evaluation_tokens, spec_task
from xlt.retrieval.tatoeba import retrieve
from xlt.tasks.record import Split, Task
from xlt.train.engine import device

Metrics = dict[str, dict[str, dict[str, dict[str, float]]]]


def score_run(
    spec: RunSpec,
    model: PackedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Source,
    folder: Path,
    on_cell: Callable[[str, str, str], None],
) -> Metrics:
    """Predict and score everything the run evaluates; predictions are written below ``folder``.

    Returns the metrics as ``{task: {split: {language: {metric: percent}}}}``.
    """
    metrics: Metrics = {}
    (folder / "predictions").mkdir(exist_ok=True)
    model.to(device(), torch.bfloat16 if spec.precision == "bf16" else torch.float32)
    for task, split, language in cells(spec):
        on_cell(task.key, split, language)
        rows = source.rows(task, split, language)
        predictions = _predict(spec, model, tokenizer, task, rows)
        write_predictions(folder / prediction_name(task.key, split, language), predictions)
        values = score(task, rows, predictions)
        metrics.setdefault(task.key, {}).setdefault(split, {})[language] = values
    return metrics


def cells(spec: RunSpec) -> Iterator[tuple[Task, Split, str]]:
    """Every task, split and language that a run evaluates, as its ``data`` lists them."""
    for name in spec.data:
        key, split, language = name.split("/")
        if key in spec.evaluate and split in EVALUATED_SPLITS:
            yield spec_task(spec, key), cast(Split, split), language


def _predict(
    spec: RunSpec,
    model: PackedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: list[Row],
) -> list[Prediction]:
    if task.kind == "retrieval":
        return retrieve(
            model,
            [row for row in rows if isinstance(row, BitextRow)],
            tokenizer,
            layer=spec.backbone.retrieval_layer,
            max_length=task.recipe.max_length,
            max_tokens=evaluation_tokens(),
            device=device(),
        )
    return predict(
        model,
        rows,
        task,
        tokenizer,
        max_tokens=evaluation_tokens(),
        device=device(),
        head=head_task(task),
    )
