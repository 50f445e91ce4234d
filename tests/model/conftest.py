"""Tiny models and packed batches, and the same batches padded for the library's own models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from xlt.data.packing import PackedBatch
from xlt.model.encoder import PackedModel

# The machines that run these tests are shared.
torch.set_num_threads(1)

VOCABULARY, PAD, LONGEST = 60, 1, 30
CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": LONGEST + 2,
    # Ten times the usual spread: with 0.02, attention is near uniform and hides faults.
    "initializer_range": 0.2,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture
def tiny() -> Callable[..., PackedModel]:
    """Makes a fresh tiny XLM-R; dropout is off unless ``config`` says otherwise."""

    def make(seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any) -> PackedModel:
        torch.manual_seed(seed)
        return PackedModel.fresh({**CONFIG, **NO_DROPOUT, **config}).to(dtype)

    return make


@pytest.fixture
def batch_of() -> Callable[..., PackedBatch]:
    """Makes a packed batch of random tokens (never the padding token) with the given lengths."""

    def make(
        lengths: Sequence[int],
        kind: Any = "retrieval",
        *,
        labels: Tensor | None = None,
        scored_positions: Tensor | None = None,
        denominator: float = 1.0,
        first_position: int = 2,
        task: str = "task",
    ) -> PackedBatch:
        generator = torch.Generator().manual_seed(len(lengths))
        return PackedBatch(
            task=task,
            kind=kind,
            example_ids=tuple(map(str, range(len(lengths)))),
            input_ids=torch.randint(3, VOCABULARY, (sum(lengths),), generator=generator),
            position_ids=torch.cat([torch.arange(n) for n in lengths]) + first_position,
            cu_seqlens=torch.tensor([0, *lengths]).cumsum(0).int(),
            max_seqlen=max(lengths),
            labels=labels,
            scored_positions=scored_positions,
            denominator=denominator,
        )

    return make


@dataclass(frozen=True)
class Padded:
    """``input_ids`` and ``attention_mask`` ``[B, L]``; ``flat`` picks the real tokens from ``[B * L]``."""

    input_ids: Tensor
    attention_mask: Tensor

    @property
    def flat(self) -> Tensor:
        return self.attention_mask.flatten().nonzero().squeeze(1)

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}

    @property
    def segments(self) -> Tensor:
        """BERT's: 1 behind the first token that is also the last of its sequence."""
        result = torch.zeros_like(self.input_ids)
        for row, mask, segment in zip(self.input_ids, self.attention_mask, result, strict=True):
            length = int(mask.sum())
            first = row[:length].tolist().index(int(row[length - 1]))
            segment[first + 1 : length] = 1
        return result


@pytest.fixture
def padded() -> Callable[[PackedBatch], Padded]:
    """Pads a packed batch on the right."""

    def make(batch: PackedBatch) -> Padded:
        rows = batch.input_ids.split(batch.cu_seqlens.diff().tolist())
        input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
        return Padded(input_ids, (input_ids != PAD).long())

    return make
