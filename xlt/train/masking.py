"""The masked-LM objective: which tokens are hidden, and what stands in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    mask_id: int
    special_ids: tuple[int, ...]


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
    ordinary_ids = np.setdiff1d(np.arange(vocabulary.size), vocabulary.special_ids)
    result = []
    for row in rows:
        ordinary = np.flatnonzero(~np.isin(row, vocabulary.special_ids))
        chosen = ordinary[random.random(len(ordinary)) < probability]
        if len(ordinary) and not len(chosen):
            chosen = random.choice(ordinary, size=1)
        action = random.random(len(chosen))
        seen = row.copy()
        seen[chosen[action < MASK_SHARE]] = vocabulary.mask_id
        swapped = chosen[(action >= MASK_SHARE) & (action < MASK_SHARE + RANDOM_SHARE)]
        seen[swapped] = random.choice(ordinary_ids, size=len(swapped))
        result.append((chosen, seen))
    return result


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
