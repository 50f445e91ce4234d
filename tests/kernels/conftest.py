"""Ragged inputs for the kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

# The machines that run these tests are shared.
torch.set_num_threads(1)

Ragged = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


@pytest.fixture
def ragged() -> Ragged:
    """Makes ``query, key, value [T, heads, dim]`` (leaves that want gradients) and ``cu_seqlens``."""

    def make(
        lengths: Sequence[int],
        heads: int = 4,
        dim: int = 8,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(sum(lengths) + 7 * len(lengths))
        query, key, value = (
            torch.randn(sum(lengths), heads, dim, generator=generator, dtype=torch.float64)
            .to(device, dtype)
            .requires_grad_()
            for _ in range(3)
        )
        bounds = torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
        return query, key, value, bounds

    return make
