"""The evaluation part of a run: predictions of every split and language, and their metrics."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from xlt.data.predictions import Prediction, write_predictions
from xlt.data.source import EVALUATED_SPLITS, Source, needs_dev
from xlt.errors import UsageFault
from xlt.evaluate.metrics import Scored, score
from xlt.evaluate.predict import predict
from xlt.model.encoder import PackedModel
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import prediction_name
from xlt.pipeline.training import evaluation_tokens
from xlt.retrieval.embed import embed, encode_sentences
from xlt.retrieval.mining import mine_translations
from xlt.retrieval.search import Progress, Vectors, search_engine
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
    rows: Sequence[Any],
    *,
    keep: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> list[Prediction]:
    """What the run's model says about the rows of one task, split and language.

    Mining keeps its vectors in the folder ``keep`` and tells its ``progress``: what is done, and how much of it.
    """
    tokens, where = evaluation_tokens(), device()
    if task.kind != "retrieval":
        return predict(model, rows, task, tokenizer, max_tokens=tokens, device=where)

    def vectors(texts: Sequence[str], keep: Path | None = None, progress: Progress | None = None) -> Vectors:
        sequences = encode_sentences(texts, tokenizer, task.recipe.max_length)
        layer = spec.backbone.retrieval_layer
        return embed(model, sequences, layer=layer, max_tokens=tokens, device=where, keep=keep, progress=progress)

    if task.metric == "mining_f1":
        return mine_translations(rows, partial(vectors, keep=keep), progress)
    return retrieve(rows, vectors)
