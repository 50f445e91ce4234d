"""Predictions of a model with a head for the rows of a task; ``Prediction`` says what each kind's are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

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
    the empty span at 0. Labels are those that the head was trained with, in its order.

    Raises:
        DataFault: two rows share an id, or the model's scores are not finite.
        UsageFault: the task is of another kind, or the model has no head that fits it.
    """
    if task.kind in ("retrieval", "masked_lm"):
        raise UsageFault(f"'{task.key}' ({task.kind}) has no predictions of this kind.", fix="xlt tasks ls")
    head = head or task.trains_on or task.key
    labels = _labels(model, task, head)
    place = {row.id: index for index, row in enumerate(rows)}
    if len(place) != len(rows):
        raise DataFault(f"{len(rows) - len(place)} rows of '{task.key}' share an id with another row.")
    sequences = encode(rows, task, tokenizer, training=False)
    with _inference(model, device):
        scored = _forward(model, sequences, task, head, max_tokens, device)
        if task.kind == "pair_classification":
            return _pairs(rows, labels, scored)
        if task.kind == "multiple_choice":
            return _choices(rows, sequences, scored)
        if task.kind == "tagging":
            return _tags(rows, labels, sequences, scored, place)
        return _spans(rows, task, sequences, scored, place)


def _labels(model: PackedModel, task: Task, name: str) -> tuple[str, ...]:
    """The labels of the head ``name``; where it stores none, those of the task, if they are as many."""
    if name not in model.heads or model.heads[name].kind != task.kind:
        raise UsageFault(
            f"The model has no head '{name}' for '{task.key}' ({task.kind}).",
            why=f"Its heads: {', '.join(f'{key} ({head.kind})' for key, head in model.heads.items()) or 'none'}.",
            fix=f"Train it on '{name}' first, or choose another model.",
        )
    head: Any = model.heads[name]
    labels: tuple[str, ...] = head.names or task.labels
    expected = 1 if task.kind == "multiple_choice" else len(labels)
    if head.labels != expected or (task.labels and set(labels) != set(task.labels)):
        raise UsageFault(
            f"The head '{name}' was trained with other labels than '{task.key}' has.",
            why=f"It has {head.labels}: {_shown(head.names)}. The task has {len(task.labels)}: {_shown(task.labels)}.",
            fix=f"Choose a model that was trained on the labels of '{task.key}', or train it on '{name}' again.",
        )
    return labels


def _shown(labels: Sequence[str]) -> str:
    return (", ".join(labels[:20]) or "not stored") + (" …" if len(labels) > 20 else "")


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
                fix="Look at the losses in log.jsonl of the run that trained it.",
            )
        yield group, logits


def _pairs(rows: Sequence[Row], names: Sequence[str], scored: Iterator[Scored]) -> list[Prediction]:
    logits = np.zeros((len(rows), len(names)), dtype=np.float64)
    for group, scores in scored:
        logits[group] = scores
    labels, probabilities = _most_probable(logits)
    return [
        Prediction(row.id, names[label], float(probability))
        for row, label, probability in zip(rows, labels, probabilities, strict=True)
    ]


def _most_probable(logits: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The class of the highest of each row's logits and its softmax probability."""
    # numpy's argmax takes the first of equal logits; torch's promises nothing.
    labels = logits.argmax(axis=1)
    odds = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return labels, 1 / odds.sum(axis=1)


def _choices(rows: Sequence[Row], sequences: Sequence[Encoded], scored: Iterator[Scored]) -> list[Prediction]:
    found = {}
    for group, scores in scored:
        for index, mine in zip(group, _split(scores, [len(sequences[index].lengths) for index in group]), strict=True):
            choice, probability = _most_probable(mine[None])
            found[index] = Prediction(rows[index].id, str(choice[0]), float(probability[0]))
    return [found[index] for index in range(len(rows))]


def _tags(
    rows: Sequence[Row],
    names: Sequence[str],
    sequences: Sequence[Encoded],
    scored: Iterator[Scored],
    place: dict[str, int],
) -> list[Prediction]:
    pieces: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {}
    for group, logits in scored:
        counts = [0 if (words := sequences[index].words) is None else len(words) for index in group]
        parts = (_split(each, counts) for each in _most_probable(logits))
        pieces |= dict(zip(group, zip(*parts, strict=True), strict=True))
    tags: list[list[str]] = [[] for _ in rows]
    sums = np.zeros(len(rows))
    for index, sequence in enumerate(sequences):
        labels, probabilities = pieces[index]
        tags[place[sequence.example_id]] += [names[label] for label in labels]
        sums[place[sequence.example_id]] += probabilities.sum()
    return [
        Prediction(row.id, " ".join(mine), float(total / max(len(mine), 1)))
        for row, mine, total in zip(rows, tags, sums, strict=True)
    ]


def _split(values: npt.NDArray[Any], counts: Sequence[int]) -> list[npt.NDArray[Any]]:
    return np.split(values, np.cumsum(counts)[:-1])


def _spans(
    rows: Sequence[Row], task: Task, sequences: Sequence[Encoded], scored: Iterator[Scored], place: dict[str, int]
) -> list[Prediction]:
    scores, nulls = np.full((2, len(sequences)), -np.inf, dtype=np.float32)
    characters = np.zeros((len(sequences), 2), dtype=np.int64)
    for group, logits in scored:
        bounds = np.cumsum([0, *(len(sequences[index].input_ids) for index in group)])
        spans = best_spans(logits, _offsets(sequences, group), bounds)
        scores[group], characters[group], nulls[group] = spans.scores, spans.characters, spans.nulls
    owners = [place[sequence.example_id] for sequence in sequences]
    windows = WindowSpans(scores, characters, nulls)
    best = best_per_example(windows, owners, len(rows), unanswerable=task.metric == "squad_v2")
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
