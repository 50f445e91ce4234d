"""Sequences and packed batches: every token of a batch in one row, no padding.

Positions begin anew in each sequence, at ``padding_idx + 1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xlt.tasks.record import Kind

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the model reads at once: one sequence, or in multiple choice one per choice, end to end."""

    example_id: str
    input_ids: npt.NDArray[np.int32]
    label: tuple[int, ...] = ()
    """The class of a pair, the index of the right choice, the first and last token of a span, or the tag of each word;
    empty at inference."""
    offsets: npt.NDArray[np.int32] | None = None
    """``[L, 2]``, in span QA: the characters of the context that each token covers, with the invisible ones after them;
    ``-1, -1`` outside the context."""
    words: npt.NDArray[np.int32] | None = None
    """``[W]``, in tagging: where the first token of each word stands."""
    lengths: tuple[int, ...] = ()
    """In multiple choice: the length of the sequence of each choice."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Sequences in one row, without padding."""

    task: str
    kind: Kind
    example_ids: tuple[str, ...]
    input_ids: Tensor
    """``[T]``: the tokens of all sequences."""
    position_ids: Tensor
    """``[T]``: begins anew in each sequence."""
    cu_seqlens: Tensor
    """``[B + 1]``: where each sequence begins, and where the last one ends."""
    max_seqlen: int
    labels: Tensor | None
    """``[B]`` for pairs, ``[B, 2]`` (token of the sequence) for spans, ``[E]`` for multiple choice, ``[M]`` for tagging
    and masked LM, ``None`` at inference."""
    scored_positions: Tensor | None
    """``[M]``: tokens of the row, in tagging the first of each word, in masked LM the hidden ones, of a decoder those
    before another token."""
    denominator: float
    """Divides a summed loss, so that shards and micro-batches add up to the mean over the whole batch."""
    cu_groups: Tensor | None = None
    """``[E + 1]``, in multiple choice: which sequences are the choices of one example."""
    max_group: int = 0
    """In multiple choice: how many choices an example has at most."""
    noise_seeds: Tensor | None = None
    """``[B]``, below 2**32: what the noise of each sequence follows from, in trainings that perturb embeddings."""

    @property
    def tokens(self) -> int:
        """Number of real tokens; there are no others."""
        return self.input_ids.numel()

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch with its tensors on ``device``."""
        # From pinned memory a copy does not wait for what the GPU was given before it.
        pin = torch.device(device).type == "cuda" and not self.input_ids.is_cuda
        moved: dict[str, Any] = {
            field.name: (value.pin_memory() if pin else value).to(device, non_blocking=True)
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
    # 0, 1, 2, ... over the whole row, less the start of each token's own sequence.
    positions = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths) + first_position
    groups = [len(each.lengths) for each in sequences] if kind == "multiple_choice" else []
    return PackedBatch(
        task=task,
        kind=kind,
        example_ids=tuple(sequence.example_id for sequence in sequences),
        input_ids=torch.from_numpy(_joined([sequence.input_ids for sequence in sequences])),
        position_ids=torch.from_numpy(positions),
        cu_seqlens=torch.from_numpy(bounds.astype(np.int32)),  # the attention kernels take no other type
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
    # Longest first, so that a batch that does not fit into memory fails at once and not after an hour.
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


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items in their order, each when the one after it has been made.

    Where making an item gives work to a GPU, the GPU computes the next one while this one is read and used. An error is
    raised in its place: after the items before it.
    """
    waiting: list[Item] = []
    try:
        for item in items:
            yield from waiting
            waiting = [item]
    except Exception:
        yield from waiting
        raise
    yield from waiting
