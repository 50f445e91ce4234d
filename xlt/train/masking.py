"""The objectives of phase 1: of an encoder which tokens are hidden, and what stands in their place; of a decoder the
next tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from xlt.data.packing import PackedBatch

MASK_SHARE = 0.8
RANDOM_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What masking must know of a tokenizer."""

    size: int
    """How many tokens it has, special ones included."""
    mask_id: int
    """The token that stands in the place of a hidden one."""
    special_ids: tuple[int, ...]
    """Tokens that are neither hidden nor drawn as random ones."""


def choose_masks(
    rows: Sequence[npt.NDArray[np.int32]],
    vocabulary: Vocabulary,
    probability: float,
    random: np.random.Generator,
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]]:
    """For each sequence the positions that are scored and the sequence as the model sees it.

    As in BERT and XLM-R: each ordinary token is chosen with ``probability``; of the chosen ones 80 % become the
    mask token, 10 % a random token and 10 % stay. Every sequence with an ordinary token has at least one chosen.
    """
    ordinary_ids, is_ordinary = _ordinary(vocabulary)
    lengths = [len(row) for row in rows]
    bounds = np.cumsum([0, *lengths])
    seen = np.concatenate(rows)
    ordinary = is_ordinary[seen]
    chosen = ordinary & (random.random(len(seen)) < probability)
    # A short sequence often has no chosen token; nothing would be learnt from it.
    for begin, end in pairwise(bounds):
        if ordinary[begin:end].any() and not chosen[begin:end].any():
            chosen[begin + random.choice(np.flatnonzero(ordinary[begin:end]))] = True
    places = np.flatnonzero(chosen)
    action = random.random(len(places))
    seen[places[action < MASK_SHARE]] = vocabulary.mask_id
    swapped = places[(action >= MASK_SHARE) & (action < MASK_SHARE + RANDOM_SHARE)]
    seen[swapped] = random.choice(ordinary_ids, size=len(swapped))
    return [(np.flatnonzero(chosen[begin:end]), seen[begin:end]) for begin, end in pairwise(bounds)]


@cache
def _ordinary(vocabulary: Vocabulary) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The ids of ordinary tokens, and for each id whether it is one."""
    is_ordinary = np.ones(vocabulary.size, dtype=bool)
    is_ordinary[list(vocabulary.special_ids)] = False
    return np.flatnonzero(is_ordinary), is_ordinary


def with_masks(
    batch: PackedBatch,
    masks: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]],
    denominator: float,
) -> PackedBatch:
    """``batch`` with its sequences replaced by their masked form, the hidden tokens as labels."""
    starts = batch.cu_seqlens.numpy()[:-1]
    positions = np.concatenate([chosen + start for (chosen, _), start in zip(masks, starts, strict=True)])
    scored = torch.from_numpy(positions.astype(np.int64))
    seen = np.concatenate([row for _, row in masks]).astype(np.int64)
    return replace(
        batch,
        input_ids=torch.from_numpy(seen),
        labels=batch.input_ids[scored],
        scored_positions=scored,
        denominator=denominator,
    )


def with_next_tokens(batch: PackedBatch, denominator: float) -> PackedBatch:
    """``batch`` with, at each token but the last of its sequence, the one that follows it as the label."""
    lasts = batch.cu_seqlens[1:].long() - 1
    followed = torch.ones(batch.tokens, dtype=torch.bool).index_fill(0, lasts, False)
    scored = followed.nonzero().squeeze(1)
    return replace(batch, labels=batch.input_ids[scored + 1], scored_positions=scored, denominator=denominator)
