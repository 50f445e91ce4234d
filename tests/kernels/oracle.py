"""What tests of kernels share: the oracle in double precision, and memory that is NaN until it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Op = Callable[..., Tensor]


@contextmanager
def poisoned() -> Iterator[None]:
    """New tensors are full of NaN: what a kernel reads or leaves without writing it shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # our runs turn it off
    assert torch.empty(3).isnan().all()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def run(op: Op, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The result of ``op`` and the gradients of a weighted sum of it, for every tensor."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    with poisoned():
        out = op(*leaves)
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        # Rounded, so that every precision has the same ones.
        return [out.detach(), *torch.autograd.grad(out, leaves, weights.bfloat16().to(out.device, out.dtype))]


def assert_agrees(
    op: Op, oracle: Op, tensors: Sequence[Tensor], device: str, dtype: torch.dtype, rtol: float, atol: float
) -> Tensor:
    """``op`` on ``tensors`` in ``dtype`` gives what ``oracle`` gives in double precision, gradients included.

    Returns the result of ``op``.
    """
    rounded = [tensor.to(device, dtype) for tensor in tensors]
    wanted = run(oracle, [tensor.double() for tensor in rounded])
    got = run(op, rounded)
    assert all(gradient.dtype == dtype for gradient in got[1:])
    for mine, want in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine.double(), want, rtol=rtol, atol=atol)
    return got[0]
