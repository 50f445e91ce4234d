"""Seeds of dropout: all that the kernels of a forward pass need are drawn at once, not by an operation for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_LARGEST = 2**63 - 1
_left: list[Tensor] | None = None
_count = 1


@contextmanager
def seeds_of_a_pass(count: int) -> Iterator[None]:
    """Within the block the first call of :func:`next_seed` draws ``count`` seeds, for itself and the calls after it.

    What is left at the end is not used: a CUDA graph that holds the block draws anew at every replay.
    """
    global _left, _count
    before = _left, _count
    _left, _count = [], count
    try:
        yield
    finally:
        _left, _count = before


def next_seed(device: torch.device) -> Tensor:
    """A seed (one int64) from the generator of ``device``."""
    if _left is None:
        return torch.randint(_LARGEST, (1,), device=device)
    if not _left:
        _left.extend(torch.randint(_LARGEST, (_count,), device=device).split(1))
    return _left.pop()
