"""Batches of the same examples: packed for us, padded for the library in the ways of a Hugging Face user."""

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


def pad(tokens: Tensor, lengths: Sequence[int], filler: float = 0) -> Tensor:
    """``tokens [T, ...]`` of sequences of ``lengths`` as ``[B, L, ...]``, ``filler`` after the end of each."""
    return pad_sequence(list(tokens.split(list(lengths))), batch_first=True, padding_value=filler)


def is_token(lengths: Sequence[int], device: torch.device | str) -> Tensor:
    """``[B, L]`` bool: what of a padded batch is not padding. ``pad(x, lengths)[is_token(...)]`` is ``x`` again."""
    return pad(torch.ones(sum(lengths), dtype=torch.bool, device=device), lengths)


def padded_inputs(ids: Tensor, lengths: Sequence[int], width: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and attention mask ``[B, L]`` of packed ``ids``, padded to the longest sequence or to ``width``."""
    padded, mask = pad(ids, lengths, PADDING), is_token(lengths, ids.device).long()
    more = (0, max(0, width - padded.shape[1]))
    return F.pad(padded, more, value=PADDING), F.pad(mask, more)


def same_batches(
    sequences: Sequence[Encoded], kind: Kind, policy: Policy, shape: Shape, first_position: int
) -> list[SameBatch]:
    """``shape.steps`` batches of labelled examples, whose order is taken as random; their task is named ``kind``.

    Raises:
        UsageFault: there are too few examples for so many full batches.
    """
    width = shape.max_length if policy == "fixed padding" else 0
    return [same_batch(members, kind, first_position, width) for members in sample_batches(sequences, policy, shape)]


def same_batch(members: Sequence[Encoded], kind: Kind, first_position: int, width: int = 0) -> SameBatch:
    """``members`` as one batch, padded to the longest sequence or to ``width``."""
    packed = pack(members, task=kind, kind=kind, first_position=first_position, denominator=len(members))
    assert packed.labels is not None
    ids, mask = padded_inputs(packed.input_ids, packed.cu_seqlens.diff().tolist(), width)
    shape = (len(members), -1, ids.shape[1]) if kind == "multiple_choice" else ids.shape
    return SameBatch(
        packed, {"input_ids": ids.view(shape), "attention_mask": mask.view(shape), "labels": packed.labels}
    )


def sample_batches(sequences: Sequence[Encoded], policy: Policy, shape: Shape) -> list[list[Encoded]]:
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
