"""From rows to sequences of token ids, one function per kind of task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from xlt.data.packing import Encoded
from xlt.data.rows import BitextRow, PairRow, Row, SpanRow, TextRow
from xlt.errors import DataFault
from xlt.tasks.record import Kind, Task

LONGEST_QUESTION = 64
Encoder = Callable[[Sequence[Row], Task, PreTrainedTokenizerBase, bool], list[Encoded]]


def encode(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, *, training: bool) -> list[Encoded]:
    """Token ids of every row, in the order of the rows; ``training`` adds the labels.

    A row gives one sequence, except in span QA, where a long context gives several overlapping windows.
    """
    if not rows:
        return []
    return _ENCODERS[task.kind](rows, task, tokenizer, training)


def encode_texts(
    ids: Sequence[str], texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Encoded]:
    """One truncated sequence per text."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    return [Encoded(id_, _int32(tokens)) for id_, tokens in zip(ids, encoded, strict=True)]


def _encode_pairs(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, training: bool) -> list[Encoded]:
    pairs = [row for row in rows if isinstance(row, PairRow)]
    encoded = tokenizer(
        [row.text_a for row in pairs],
        [row.text_b for row in pairs],
        truncation=True,
        max_length=task.recipe.max_length,
    )["input_ids"]
    classes = {label: index for index, label in enumerate(task.labels)}
    return [
        Encoded(row.id, _int32(tokens), (classes[row.label],) if training else ())
        for row, tokens in zip(pairs, encoded, strict=True)
    ]


def _encode_spans(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, training: bool) -> list[Encoded]:
    """Windows over question and context with a stride, as in the original SQuAD fine-tuning of BERT.

    In training a window that does not hold the answer points to its first token; rows whose answer has no known
    place (``start`` below 0) are left out. A question keeps its first 64 tokens at most, as in XTREME's script.
    """
    spans = [row for row in rows if isinstance(row, SpanRow)]
    if training:
        spans = [row for row in spans if row.answers and row.answers[0].start >= 0]
    max_length = task.recipe.max_length
    encoded = tokenizer(
        _shortened([row.question.strip() for row in spans], tokenizer, min(LONGEST_QUESTION, max_length // 3)),
        [row.context for row in spans],
        truncation="only_second",
        max_length=max_length,
        stride=min(task.recipe.stride, max_length // 3),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    sequences = []
    for window, row_index in enumerate(encoded["overflow_to_sample_mapping"]):
        row = spans[row_index]
        in_context = np.array([part == 1 for part in encoded.sequence_ids(window)])
        offsets = np.array(encoded["offset_mapping"][window], dtype=np.int32)
        offsets[~in_context] = -1
        label = _span_label(row, offsets) if training else ()
        sequences.append(Encoded(row.id, _int32(encoded["input_ids"][window]), label, offsets))
    return sequences


def _shortened(texts: list[str], tokenizer: PreTrainedTokenizerBase, tokens: int) -> list[str]:
    """Each text as far as its first ``tokens`` tokens reach."""
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [
        text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]
        for text, offsets in zip(texts, encoded, strict=True)
    ]


def _span_label(row: SpanRow, offsets: npt.NDArray[np.int32]) -> tuple[int, int]:
    start = row.answers[0].start
    end = start + len(row.answers[0].text)
    covered = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > start) & (offsets[:, 0] >= 0))
    window = offsets[offsets[:, 0] >= 0]
    if not len(covered) or start < window[0, 0] or end > window[-1, 1]:
        return (0, 0)
    return (int(covered[0]), int(covered[-1]))


def _encode_text(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, training: bool) -> list[Encoded]:
    lines = [row for row in rows if isinstance(row, TextRow)]
    return encode_texts([row.id for row in lines], [row.text for row in lines], tokenizer, task.recipe.max_length)


def _encode_bitext(
    rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase, training: bool
) -> list[Encoded]:
    if training:
        raise DataFault(f"'{task.key}' has no training data: retrieval uses the encoder as it is.")
    pairs = [row for row in rows if isinstance(row, BitextRow)]
    return encode_texts([row.id for row in pairs], [row.foreign for row in pairs], tokenizer, task.recipe.max_length)


def _int32(tokens: Sequence[int]) -> npt.NDArray[np.int32]:
    return np.asarray(tokens, dtype=np.int32)


_ENCODERS: dict[Kind, Encoder] = {
    "pair_classification": _encode_pairs,
    "span_qa": _encode_spans,
    "masked_lm": _encode_text,
    "retrieval": _encode_bitext,
}
