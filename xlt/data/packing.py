"""Sequences and packed batches: every token of a batch in one row, no padding.

Design: ``input_ids [T]``, positions that restart at ``padding_idx + 1`` in each sequence, and ``cu_seqlens`` that
says where sequences begin and end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xlt.tasks.record import Kind


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the model reads at once: one sequence, or in multiple choice one per choice, end to end.

    ``label`` is the class of a pair, the index of the right choice, the first and last token of a span, the tag of
    each word, or empty. ``lengths`` are those of the sequences of a multiple choice, else empty. ``offsets [L, 2]``
    (span QA) holds the characters of the context that a token covers, with the invisible ones after them, and
    ``-1, -1`` outside the context. ``words [W]`` (tagging) are the places of the first tokens of the words.
    """

    example_id: str
    input_ids: npt.NDArray[np.int32]
    label: tuple[int, ...] = ()
    offsets: npt.NDArray[np.int32] | None = None
    words: npt.NDArray[np.int32] | None = None
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Sequences in one row, without padding.

    ``labels`` is ``[B]`` for pairs, ``[B, 2]`` (token of the sequence) for spans, ``[E]`` for multiple choice,
    ``[M]`` for tagging and masked LM, ``None`` at inference. ``scored_positions [M]`` indexes the row's tokens
    (tagging: first tokens of words; masked LM: hidden ones). ``cu_groups [E+1]`` says which sequences are the
    choices of one example, ``max_group`` how many at most (multiple choice only). A summed loss is divided by
    ``denominator``, so that shards and micro-batches add up to the mean over the whole batch.
    """

    task: str
    kind: Kind
    example_ids: tuple[str, ...]
    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    labels: Tensor | None
    scored_positions: Tensor | None
    denominator: float
    cu_groups: Tensor | None = None
    max_group: int = 0

    @property
    def tokens(self) -> int:
        """Number of real tokens; there are no others."""
        return self.input_ids.numel()

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch with its tensors on ``device``."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


def pack(
    sequences: Sequence[Encoded],
    *,
    task: str,
    kind: Kind,
    first_position: int,
    denominator: float = 1.0,
) -> PackedBatch:
    """Lay ``sequences`` end to end. ``first_position`` is ``padding_idx + 1`` of the backbone (2 for XLM-R)."""
    lengths = np.array([n for each in sequences for n in each.lengths or (len(each.input_ids),)], dtype=np.int64)
    bounds = _cumulative(lengths)
    positions = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths) + first_position
    groups = [len(each.lengths) for each in sequences] if kind == "multiple_choice" else []
    return PackedBatch(
        task=task,
        kind=kind,
        example_ids=tuple(sequence.example_id for sequence in sequences),
        input_ids=torch.from_numpy(_joined([sequence.input_ids for sequence in sequences])),
        position_ids=torch.from_numpy(positions),
        cu_seqlens=torch.from_numpy(bounds.astype(np.int32)),
        max_seqlen=int(lengths.max(initial=0)),
        labels=_labels(sequences, kind),
        scored_positions=_scored(sequences) if kind == "tagging" else None,
        denominator=denominator,
        cu_groups=torch.from_numpy(_cumulative(groups)) if groups else None,
        max_group=max(groups, default=0),
    )


def _labels(sequences: Sequence[Encoded], kind: Kind) -> Tensor | None:
    if not sequences or not all(sequence.label for sequence in sequences):
        return None
    if kind == "span_qa":
        return torch.tensor([sequence.label for sequence in sequences])
    return torch.tensor([label for sequence in sequences for label in sequence.label])


def _scored(sequences: Sequence[Encoded]) -> Tensor:
    starts = _cumulative([len(sequence.input_ids) for sequence in sequences])
    places = [each.words + start for each, start in zip(sequences, starts, strict=False) if each.words is not None]
    return torch.from_numpy(_joined(places))


def _cumulative(counts: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _joined(rows: Sequence[npt.NDArray[np.signedinteger]]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(0, dtype=np.int64), *rows]).astype(np.int64)


def by_tokens(sequences: Sequence[Encoded], max_tokens: int) -> Iterator[list[int]]:
    """Indices of ``sequences``, longest first, in groups of at most ``max_tokens`` tokens.

    For inference, where the order of examples does not matter. A sequence longer than ``max_tokens`` is a group of
    its own.
    """
    order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i].input_ids), i))
    group: list[int] = []
    tokens = 0
    for index in order:
        length = len(sequences[index].input_ids)
        if group and tokens + length > max_tokens:
            yield group
            group, tokens = [], 0
        group.append(index)
        tokens += length
    if group:
        yield group
