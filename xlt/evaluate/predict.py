"""Predictions of a model for the rows of a pair-classification or span-QA task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from xlt.data.features import encode
from xlt.data.packing import Encoded, by_tokens, pack
from xlt.data.predictions import Prediction
from xlt.data.rows import Row
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.decoding import WindowSpans, best_per_example, best_spans
from xlt.model.encoder import PackedModel
from xlt.tasks.record import Task

Scored: TypeAlias = tuple[list[int], npt.NDArray[np.float32]]


def predict(
    model: PackedModel,
    rows: Sequence[Row],
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
    device: torch.device | str,
    head: str | None = None,
) -> list[Prediction]:
    """One prediction per row, in the order of the rows.

    ``head`` names the head of the model to use: the task whose training set trained it, by default ``task``'s
    ``trains_on``. ``max_tokens`` bounds the tokens of one forward pass. The model is moved to ``device`` and
    left in the mode (training or not) in which it came. A row whose windows hold nothing of the context gets
    the empty span at 0.

    Raises:
        DataFault: two rows share an id, or the model's scores are not finite.
        UsageFault: the task is of another kind, or the model has no head that fits it.
    """
    if task.kind not in ("pair_classification", "span_qa"):
        raise UsageFault(f"'{task.key}' ({task.kind}) has no predictions of this kind.", mend="xlt tasks ls")
    head = head or task.trains_on or task.key
    _check_head(model, task, head)
    place = {row.id: index for index, row in enumerate(rows)}
    if len(place) != len(rows):
        raise DataFault(f"{len(rows) - len(place)} rows of '{task.key}' share an id with another row.")
    sequences = encode(rows, task, tokenizer, training=False)
    with _inference(model, device):
        scored = _forward(model, sequences, task, head, max_tokens, device)
        if task.kind == "pair_classification":
            return _pairs(rows, task, scored)
        return _spans(rows, sequences, scored, place)


def _check_head(model: PackedModel, task: Task, name: str) -> None:
    labels = len(task.labels) if task.kind == "pair_classification" else 0
    if name in model.heads and (model.heads[name].kind, model.heads[name].labels) == (task.kind, labels):
        return
    raise UsageFault(
        f"The model has no head '{name}' for '{task.key}' ({task.kind}).",
        why=f"Its heads: {', '.join(model.heads) or 'none'}.",
        mend=f"Train it on '{name}' first, or choose another model.",
    )


def _forward(
    model: PackedModel,
    sequences: Sequence[Encoded],
    task: Task,
    head: str,
    max_tokens: int,
    device: torch.device | str,
) -> Iterator[Scored]:
    """The indices of the sequences of each batch, and the model's scores for it."""
    for group in by_tokens(sequences, max_tokens):
        batch = pack(
            [sequences[index] for index in group],
            task=head,
            kind=task.kind,
            first_position=model.first_position,
        )
        _, scores = model(batch.to(device))
        logits = scores.float().cpu().numpy()
        if not np.isfinite(logits).all():
            raise DataFault(
                f"The model's scores for '{task.key}' are not finite numbers.",
                why="Its training diverged, or the checkpoint is damaged.",
                mend="Look at the losses in log.jsonl of the run that trained it.",
            )
        yield group, logits


def _pairs(rows: Sequence[Row], task: Task, scored: Iterator[Scored]) -> list[Prediction]:
    logits = np.zeros((len(rows), len(task.labels)), dtype=np.float64)
    for group, scores in scored:
        logits[group] = scores
    # numpy's argmax takes the first of equal logits; torch's promises nothing.
    labels = logits.argmax(axis=1)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (odds / odds.sum(axis=1, keepdims=True))[np.arange(len(rows)), labels]
    return [
        Prediction(row.id, task.labels[label], float(probability))
        for row, label, probability in zip(rows, labels, probabilities, strict=True)
    ]


def _spans(
    rows: Sequence[Row], sequences: Sequence[Encoded], scored: Iterator[Scored], place: dict[str, int]
) -> list[Prediction]:
    scores = np.full(len(sequences), -np.inf, dtype=np.float32)
    characters = np.zeros((len(sequences), 2), dtype=np.int64)
    for group, logits in scored:
        bounds = np.cumsum([0, *(len(sequences[index].input_ids) for index in group)])
        spans = best_spans(logits, _offsets(sequences, group), bounds)
        scores[group], characters[group] = spans.scores, spans.characters
    owners = [place[sequence.example_id] for sequence in sequences]
    best = best_per_example(WindowSpans(scores, characters), owners, len(rows))
    found = np.where(np.isfinite(best.scores), best.scores, 0.0)
    return [
        Prediction(row.id, (int(start), int(end)), float(score))
        for row, (start, end), score in zip(rows, best.characters, found, strict=True)
    ]


def _offsets(sequences: Sequence[Encoded], group: Sequence[int]) -> npt.NDArray[np.int32]:
    parts = [sequences[index].offsets for index in group]
    return np.concatenate([part for part in parts if part is not None])


@contextmanager
def _inference(model: PackedModel, device: torch.device | str) -> Iterator[None]:
    training = model.training
    model.to(device)
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
