# ruff: noqa: N803 - constants of a kernel are arguments in capitals
# mypy: allow-untyped-defs, allow-incomplete-defs
"""The kernel of :mod:`xlt_kernels.pooling`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from xlt_kernels.compile import Variant

# One program takes one sequence, whole rows of it: eight at a time, so that a thread waits for eight loads at once. A
# batch for inference has hundreds of sequences.
ROWS = 8


@triton.jit
def pool_kernel(hidden, cu_seqlens, out, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """The unit vector of one sequence."""
    sequence = tl.program_id(0)
    begin = tl.load(cu_seqlens + sequence).to(tl.int64)
    length = (tl.load(cu_seqlens + sequence + 1) - begin).to(tl.int32)
    column = tl.arange(0, BLOCK)
    real = column < width
    hidden += begin * width
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, length, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < length)[:, None] & real[None, :]
        part = tl.load(hidden + row[:, None] * width + column[None, :], mask=inside, other=0.0)
        total += tl.sum(part.to(tl.float32), axis=0)
    mean = total / tl.maximum(length, 1)
    norm = tl.sqrt(tl.sum(mean * mean, axis=0))
    unit = mean / tl.maximum(norm, 1e-12)
    tl.store(out + sequence.to(tl.int64) * width + column, unit.to(out.dtype.element_ty), mask=real)


def forward(hidden: Tensor, cu_seqlens: Tensor, out_dtype: torch.dtype) -> Tensor:
    """Unit vectors ``[B, d]`` of the sequences of ``hidden``."""
    sequences, width = cu_seqlens.shape[0] - 1, hidden.shape[1]
    out = torch.empty((sequences, width), dtype=out_dtype, device=hidden.device)
    block = triton.next_power_of_2(width)
    if sequences:
        pool_kernel[(sequences,)](hidden, cu_seqlens, out, width, ROWS, block, num_warps=_warps(block))
    return out


def _warps(block: int) -> int:
    # Eight neighbours, one 16-byte load of 16-bit numbers, for each thread.
    return max(1, min(block // 256, 16))


def variants() -> list[Variant]:
    """Every type of input with both types of output, at the width of XLM-R Large."""
    from xlt_kernels.compile import Variant

    sizes = {"width": "i32:16", "ROWS": "constexpr", "BLOCK": "constexpr"}
    return [
        Variant(
            name=f"{kind}-{result}",
            kernel=pool_kernel,
            signature={"hidden": f"*{kind}", "cu_seqlens": "*i32", "out": f"*{result}"} | sizes,
            constants={"ROWS": ROWS, "BLOCK": 1024},
            num_warps=_warps(1024),
            num_stages=1,
            matmul=False,
        )
        for kind in ("bf16", "fp16", "fp32")
        for result in ("fp16", "fp32")
    ]
