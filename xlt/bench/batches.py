"""Batches of the same examples: packed for us, padded for the peer in the ways of a Hugging Face user."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.trainer_pt_utils import LengthGroupedSampler

from xlt.data.packing import Encoded, PackedBatch, pack
from xlt.errors import UsageFault
from xlt.tasks.record import Kind

Policy = Literal["dynamic padding", "fixed padding", "length grouping"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
PADDING = 1  # XLM-R's


@dataclass(frozen=True, slots=True)
class SameBatch:
    """The same examples twice. ``padded`` holds what the library's model takes: ``input_ids`` and ``attention_mask``
    ``[B, L]``, of multiple choice ``[B, choices, L]``, and ``labels`` as the packed batch has them."""

    packed: PackedBatch
    padded: dict[str, Tensor]

    def pinned(self) -> SameBatch:
        """The same in memory from which a GPU copies without making the host wait."""
        tensors = {field.name: getattr(self.packed, field.name) for field in fields(self.packed)}
        pinned: dict[str, Any] = {name: each.pin_memory() for name, each in tensors.items() if isinstance(each, Tensor)}
        padded = {name: value.pin_memory() for name, value in self.padded.items()}
        return SameBatch(replace(self.packed, **pinned), padded)


@dataclass(frozen=True, slots=True)
class Shape:
    """How many batches, of how many examples, of at most how many tokens each."""

    steps: int
    batch_size: int
    max_length: int


def same_batches(
    sequences: Sequence[Encoded], kind: Kind, policy: Policy, shape: Shape, first_position: int
) -> list[SameBatch]:
    """``shape.steps`` batches of labelled examples, whose order is taken as random; their task is named ``kind``.

    Raises:
        UsageFault: there are too few examples for so many full batches.
    """
    width = shape.max_length if policy == "fixed padding" else 0
    return [together(members, kind, first_position, width) for members in draw(sequences, policy, shape)]


def together(members: Sequence[Encoded], kind: Kind, first_position: int, width: int = 0) -> SameBatch:
    """``members`` as one batch, padded to the longest sequence or to ``width``."""
    packed = pack(members, task=kind, kind=kind, first_position=first_position, denominator=len(members))
    assert packed.labels is not None
    lengths = packed.cu_seqlens.diff()
    ids = pad_sequence(list(packed.input_ids.split(lengths.tolist())), batch_first=True, padding_value=PADDING)
    ids = F.pad(ids, (0, max(0, width - ids.shape[1])), value=PADDING)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    shape = (len(members), -1, ids.shape[1]) if kind == "multiple_choice" else ids.shape
    return SameBatch(
        packed, {"input_ids": ids.view(shape), "attention_mask": mask.view(shape), "labels": packed.labels}
    )


def draw(sequences: Sequence[Encoded], policy: Policy, shape: Shape) -> list[list[Encoded]]:
    """The examples of each batch; see :func:`same_batches`."""
    size, order = shape.batch_size, list(range(len(sequences)))
    full = len(order) // size
    if full < shape.steps:
        raise UsageFault(
            f"{len(order)} examples make {full} batches of {size}; {shape.steps} steps were asked for.",
            fix="Use a smaller --batch-size or fewer --steps.",
        )
    if policy == "length grouping":
        lengths = [max(each.lengths or (len(each.input_ids),)) for each in sequences]
        order = list(LengthGroupedSampler(size, lengths=lengths, generator=torch.Generator().manual_seed(0)))
    batches = [order[start : start + size] for start in range(0, full * size, size)]
    # The sampler hands out its long batches first: only batches from all over the order have its mean length.
    return [[sequences[index] for index in batch] for batch in random.Random(0).sample(batches, shape.steps)]
