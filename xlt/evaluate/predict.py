"""Predictions of a model with a head for the rows of a task; ``Prediction`` says what each kind's are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from xlt.data.features import encode
from xlt.data.packing import Encoded, PackedBatch, by_tokens, one_ahead, pack
from xlt.data.predictions import Prediction
from xlt.data.rows import Row
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.decoding import WindowSpans, best_per_example, best_spans
from xlt.model.encoder import PackedModel, check_finite, inference
from xlt.tasks.record import Kind, Task

# For each batch the positions of its sequences among all of them, and the model's scores.
Logits: TypeAlias = Iterator[tuple[list[int], npt.NDArray[np.float32]]]
# The same positions and the batch, on the device.
Batch: TypeAlias = tuple[list[int], PackedBatch]
# From rows, task, the labels of the head, sequences and scores to a prediction for each row.
Decoder: TypeAlias = Callable[[Sequence[Row], Task, Sequence[str], Sequence[Encoded], Logits], list[Prediction]]


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

    ``head`` names the head to use: the task whose training set trained it, by default ``task``'s ``trains_on``. Labels
    are those that the head was trained with, in its order. ``max_tokens`` bounds the tokens of one forward pass. The
    model is moved to ``device`` and keeps its mode (training or not). A row whose windows hold nothing of the context
    gets the empty span at 0.

    Raises:
        DataFault: two rows share an id, or the model's scores are not finite.
        UsageFault: the task is of another kind, or the model has no head that fits it.
    """
    head = head or task.trains_on or task.key
    sequences = _encoded(rows, task, tokenizer)
    labels = _labels(model, task, head)
    with inference(model, device):
        batches = _batches(model, sequences, task, head, max_tokens, device)
        return _DECODERS[task.kind](rows, task, labels, sequences, _forward(model, batches, task))


class RepeatedPrediction:
    """:func:`predict` for the same rows again and again, of a model that is trained meanwhile.

    They are encoded once, and packed once: the batches stay on the device.
    """

    def __init__(self, rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int) -> None:
        self.rows, self.task = rows, task
        self.sequences = _encoded(rows, task, tokenizer)
        self._max_tokens = max_tokens
        self._batches: list[Batch] = []

    def predict(self, model: PackedModel, device: torch.device | str) -> list[Prediction]:
        """One prediction per row; ``device`` is the same each time. Raises as :func:`predict`."""
        head = self.task.trains_on or self.task.key
        labels = _labels(model, self.task, head)
        with inference(model, device):
            self._batches = self._batches or [
                *_batches(model, self.sequences, self.task, head, self._max_tokens, device)
            ]
            logits = _forward(model, self._batches, self.task)
            return _DECODERS[self.task.kind](self.rows, self.task, labels, self.sequences, logits)


def _encoded(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    if task.kind not in _DECODERS:
        raise UsageFault(f"'{task.key}' ({task.kind}) has no predictions of this kind.", fix="xlt tasks ls")
    if repeated := len(rows) - len({row.id for row in rows}):
        raise DataFault(f"{repeated} rows of '{task.key}' share an id with another row.", fix="xlt tasks check")
    return encode(rows, task, tokenizer, training=False)


def _labels(model: PackedModel, task: Task, name: str) -> tuple[str, ...]:
    """The labels of the head ``name``; if it stores none, the task's labels, if their number is the same."""
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


def _batches(
    model: PackedModel,
    sequences: Sequence[Encoded],
    task: Task,
    head: str,
    max_tokens: int,
    device: torch.device | str,
) -> Iterator[Batch]:
    for group in by_tokens(sequences, max_tokens):
        members = [sequences[index] for index in group]
        batch = pack(members, task=head, kind=task.kind, first_position=model.first_position)
        yield group, batch.to(device)


def _forward(model: PackedModel, batches: Iterable[Batch], task: Task) -> Logits:
    for group, scores in one_ahead((group, model(batch)[1]) for group, batch in batches):
        logits = scores.float().cpu().numpy()
        check_finite(logits, f"scores for '{task.key}'")
        yield group, logits


def _pairs(
    rows: Sequence[Row], task: Task, names: Sequence[str], sequences: Sequence[Encoded], logits: Logits
) -> list[Prediction]:
    found = np.zeros((len(rows), len(names)), dtype=np.float64)
    for group, scores in logits:
        found[group] = scores
    labels, probabilities = _most_probable(found)
    return [
        Prediction(row.id, names[label], float(probability))
        for row, label, probability in zip(rows, labels, probabilities, strict=True)
    ]


def _choices(
    rows: Sequence[Row], task: Task, names: Sequence[str], sequences: Sequence[Encoded], logits: Logits
) -> list[Prediction]:
    found = {}
    for group, scores in logits:
        for index, mine in zip(group, _split(scores, [len(sequences[index].lengths) for index in group]), strict=True):
            choice, probability = _most_probable(mine[None])
            found[index] = Prediction(rows[index].id, str(choice[0]), float(probability[0]))
    return [found[index] for index in range(len(rows))]


def _tags(
    rows: Sequence[Row], task: Task, names: Sequence[str], sequences: Sequence[Encoded], logits: Logits
) -> list[Prediction]:
    pieces: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {}
    for group, scores in logits:
        counts = [0 if (words := sequences[index].words) is None else len(words) for index in group]
        parts = (_split(each, counts) for each in _most_probable(scores))
        pieces |= dict(zip(group, zip(*parts, strict=True), strict=True))
    tags: dict[str, list[str]] = {row.id: [] for row in rows}
    sums = dict.fromkeys(tags, 0.0)
    # The pieces of a long sentence come in order: batches are by length, sequences are not.
    for index, sequence in enumerate(sequences):
        labels, probabilities = pieces[index]
        tags[sequence.example_id] += [names[label] for label in labels]
        sums[sequence.example_id] += float(probabilities.sum())
    return [Prediction(id_, " ".join(mine), sums[id_] / max(len(mine), 1)) for id_, mine in tags.items()]


def _spans(
    rows: Sequence[Row], task: Task, names: Sequence[str], sequences: Sequence[Encoded], logits: Logits
) -> list[Prediction]:
    scores, nulls = np.full((2, len(sequences)), -np.inf, dtype=np.float32)
    characters = np.zeros((len(sequences), 2), dtype=np.int64)
    for group, found in logits:
        bounds = np.cumsum([0, *(len(sequences[index].input_ids) for index in group)])
        offsets = [part for index in group if (part := sequences[index].offsets) is not None]
        spans = best_spans(found, np.concatenate(offsets), bounds)
        scores[group], characters[group], nulls[group] = spans.scores, spans.characters, spans.nulls
    place = {row.id: index for index, row in enumerate(rows)}
    owners = [place[sequence.example_id] for sequence in sequences]
    windows = WindowSpans(scores, characters, nulls)
    best = best_per_example(windows, owners, len(rows), unanswerable=task.unanswerable)
    return [
        Prediction(row.id, (int(start), int(end)), float(score) if np.isfinite(score) else 0.0)
        for row, (start, end), score in zip(rows, best.characters, best.scores, strict=True)
    ]


_DECODERS: Mapping[Kind, Decoder] = {
    "pair_classification": _pairs,
    "multiple_choice": _choices,
    "tagging": _tags,
    "span_qa": _spans,
}


def _most_probable(logits: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The class of the highest of each row's logits and its softmax probability."""
    # numpy's argmax takes the first of equal logits; torch's promises nothing.
    labels = logits.argmax(axis=1)
    odds = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return labels, 1 / odds.sum(axis=1)


def _split(values: npt.NDArray[Any], counts: Sequence[int]) -> list[npt.NDArray[Any]]:
    return np.split(values, np.cumsum(counts)[:-1])
