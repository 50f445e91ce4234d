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
    """One sequence that the model reads.

    ``label`` is the class of a pair, the first and last token of a span, or empty. ``offsets [L, 2]`` (span QA)
    holds the characters of the context that a token covers and ``-1, -1`` outside the context.
    """

    example_id: str
    input_ids: npt.NDArray[np.int32]
    label: tuple[int, ...] = ()
    offsets: npt.NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Sequences in one row, without padding.

    ``labels`` is ``[B]`` for pairs, ``[B, 2]`` (token of the sequence) for spans, ``[M]`` for masked LM, ``None``
    at inference. ``scored_positions [M]`` indexes the row's tokens (masked LM only). A summed loss is divided by
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
    lengths = np.array([len(sequence.input_ids) for sequence in sequences], dtype=np.int64)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    starts = np.repeat(bounds[:-1], lengths)
    positions = np.arange(bounds[-1]) - starts + first_position
    labels = None
    if sequences and all(sequence.label for sequence in sequences):
        labels = torch.tensor([sequence.label for sequence in sequences])
        if kind == "pair_classification":
            labels = labels[:, 0]
    row = np.concatenate([sequence.input_ids for sequence in sequences]) if sequences else np.zeros(0)
    return PackedBatch(
        task=task,
        kind=kind,
        example_ids=tuple(sequence.example_id for sequence in sequences),
        input_ids=torch.from_numpy(row.astype(np.int64)),
        position_ids=torch.from_numpy(positions),
        cu_seqlens=torch.from_numpy(bounds.astype(np.int32)),
        max_seqlen=int(lengths.max(initial=0)),
        labels=labels,
        scored_positions=None,
        denominator=denominator,
    )


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
