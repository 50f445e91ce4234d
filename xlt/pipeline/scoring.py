"""The evaluation part of a run: predictions of every split and language, and their metrics."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from xlt.data.predictions import Prediction, write_predictions
from xlt.data.rows import Row
from xlt.data.source import EVALUATED_SPLITS, Source, needs_dev
from xlt.errors import UsageFault
from xlt.evaluate.metrics import Scored, score
from xlt.evaluate.predict import predict
from xlt.model.encoder import PackedModel
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import prediction_name
from xlt.pipeline.training import evaluation_tokens
from xlt.retrieval.bucc import mine_translations
from xlt.retrieval.search import search_engine
from xlt.retrieval.tatoeba import retrieve
from xlt.runtime import device
from xlt.tasks.record import Split, Task

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

    Returns the metrics as ``{task: {split: {language: {metric: percent}}}}``. ``on_cell`` is told the task, split and
    language that come next, and during a long search with the language how far it is. The vectors of mining lie beside
    ``folder`` until everything is scored, so that another attempt at the run need not make them again.
    """
    search_engine()
    kept = folder.with_name(f"{folder.name}.vectors")
    metrics: Metrics = {}
    dev: dict[tuple[str, str], Scored] = {}
    (folder / "predictions").mkdir(exist_ok=True)
    model.compute_in(device(), spec.precision)
    for key, split, language in cells(spec):
        on_cell(key, split, language)
        task = spec.task(key)
        rows = source.rows(task, split, language)
        progress = partial(_tell, on_cell, key, split, language)
        predictions = predict_rows(spec, model, tokenizer, task, rows, keep=kept, progress=progress)
        write_predictions(folder / prediction_name(key, split, language), predictions)
        if needs_dev(task, split) and (key, language) not in dev:
            raise UsageFault(
                f"'{key}' is scored with the threshold that is best on its dev split.",
                fix="Leave --split away, or add --split dev.",
            )
        values = score(task, rows, predictions, language, dev.get((key, language)))
        if split == "dev":
            dev[key, language] = rows, predictions
        metrics.setdefault(key, {}).setdefault(split, {})[language] = values
    shutil.rmtree(kept, ignore_errors=True)
    return metrics


def _tell(
    on_cell: Callable[[str, str, str], None], key: str, split: str, language: str, what: str, done: int, of: int
) -> None:
    on_cell(key, split, f"{language}: {done} of {of} {what}")


def cells(spec: RunSpec) -> Iterator[tuple[str, Split, str]]:
    """Every task, split and language that a run evaluates, as its ``data`` lists them: dev before test."""
    for name in spec.data:
        key, split, language = name.split("/")
        if key in spec.evaluate and split in EVALUATED_SPLITS:
            yield key, cast(Split, split), language


def predict_rows(
    spec: RunSpec,
    model: PackedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: list[Row],
    **mining: Any,
) -> list[Prediction]:
    """What the run's model says about the rows of one task, split and language.

    ``mining`` are the ``keep`` and ``progress`` of ``mine_translations``.
    """
    if task.kind != "retrieval":
        return predict(model, rows, task, tokenizer, max_tokens=evaluation_tokens(), device=device())
    find: Callable[..., list[Prediction]] = retrieve
    if task.metric == "mining_f1":
        find = partial(mine_translations, **mining)
    return find(
        model,
        rows,
        tokenizer,
        layer=spec.backbone.retrieval_layer,
        max_length=task.recipe.max_length,
        max_tokens=evaluation_tokens(),
        device=device(),
    )
