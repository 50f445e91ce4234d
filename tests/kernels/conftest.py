"""Triton's interpreter where there is no GPU, and ragged inputs of attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from xlt_kernels import switch

from tests.kernels import interpreter

interpreter.import_kernels()
# The machines that run these tests are shared.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the tests of the kernels, and in no others, tensors on a CPU run Triton's interpreter."""
    monkeypatch.setattr(switch, "INTERPRETED", not interpreter.missing and not torch.cuda.is_available())


@pytest.fixture
def triton_device() -> str:
    """The device whose tensors the Triton kernels serve: a GPU, or the CPU with the interpreter, or skip."""
    if interpreter.missing:
        pytest.skip(interpreter.missing)
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def gpu(triton_device: str) -> str:
    """``cuda``, or skip."""
    if triton_device != "cuda":
        pytest.skip("needs an NVIDIA GPU")
    return triton_device


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
