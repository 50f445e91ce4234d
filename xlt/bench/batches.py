"""Batches of the same examples: packed for us, padded for the peer in the ways of a Hugging Face user."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase
from transformers.trainer_pt_utils import LengthGroupedSampler

from xlt.data.packing import Encoded, PackedBatch, pack
from xlt.errors import UsageFault

Policy = Literal["dynamic padding", "fixed padding", "length grouping"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True, slots=True)
class SameBatch:
    """The same examples twice. ``padded`` holds what the library's model takes, ``[B, L]`` and ``labels [B]``."""

    packed: PackedBatch
    padded: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Shape:
    """How many batches, of how many examples, of at most how many tokens each."""

    steps: int
    batch_size: int
    max_length: int


def same_batches(
    sequences: Sequence[Encoded], policy: Policy, shape: Shape, tokenizer: PreTrainedTokenizerBase, first_position: int
) -> list[SameBatch]:
    """``shape.steps`` batches of labelled pairs, whose order of examples is taken as random.

    Raises:
        UsageFault: there are too few examples for so many full batches.
    """
    fixed = policy == "fixed padding"
    collate = DataCollatorWithPadding(
        tokenizer, padding="max_length" if fixed else "longest", max_length=shape.max_length if fixed else None
    )
    batches = []
    for indices in _choose(sequences, policy, shape):
        members = [sequences[index] for index in indices]
        padded = collate([{"input_ids": one.input_ids.tolist(), "labels": one.label[0]} for one in members])
        packed = pack(
            members,
            task="pairs",
            kind="pair_classification",
            first_position=first_position,
            denominator=len(members),
        )
        batches.append(SameBatch(packed, dict(padded)))
    return batches


def _choose(sequences: Sequence[Encoded], policy: Policy, shape: Shape) -> list[list[int]]:
    size, order = shape.batch_size, list(range(len(sequences)))
    full = len(order) // size
    if full < shape.steps:
        raise UsageFault(
            f"{len(order)} examples make {full} batches of {size}; {shape.steps} steps were asked for.",
            mend="Use a smaller --batch-size or fewer --steps.",
        )
    if policy == "length grouping":
        lengths = [len(sequence.input_ids) for sequence in sequences]
        order = list(LengthGroupedSampler(size, lengths=lengths, generator=torch.Generator().manual_seed(0)))
    batches = [order[start : start + size] for start in range(0, full * size, size)]
    # The sampler hands out its long batches first: only batches from all over the order have its mean length.
    return random.Random(0).sample(batches, shape.steps)
