# ruff: noqa: N803 - constants of a kernel are arguments in capitals
# mypy: allow-untyped-defs, allow-incomplete-defs
"""The kernel of :mod:`xlt_kernels.embedding`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# A thread of four warps holds 32 elements of a tile: eight neighbours, one load of 16 bytes, of each of four rows.
ROWS, BLOCK, WARPS = 16, 256, 4


# Which row is padding, of which model, must not decide which kernel is compiled.
@triton.jit(do_not_specialize=["padding"])
def sum_rows_kernel(
    dy,  # [tokens, width], contiguous
    ids,  # [tokens] integers, in order
    places,  # [tokens] int64: where in dy each of them stands
    ends,  # [tokens] int64: for each, one past the last of its equals
    dweight,  # [rows, width] of zeros, contiguous
    width,
    padding,  # the row that gets no gradient; -1 for none
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The sum of the gradients of one row's tokens, in one block of columns, by the program of the first of them.

    There is a program for each token, whatever the tokens are: a CUDA graph needs the same number every time. Those of
    the others end at once.
    """
    first = tl.program_id(0)
    row = tl.load(ids + first)
    before = tl.load(ids + first - 1, mask=first > 0, other=-1)
    if (row != before) & (row != padding):
        end = tl.load(ends + first).to(tl.int32)
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        real = column < width
        total = tl.zeros([BLOCK], dtype=tl.float32)
        for start in range(first, end, ROWS):
            at = start + tl.arange(0, ROWS)
            token = tl.load(places + at, mask=at < end, other=0)
            inside = (at < end)[:, None] & real[None, :]
            part = tl.load(dy + token[:, None] * width + column[None, :], mask=inside, other=0.0)
            total += tl.sum(part.to(tl.float32), axis=0)
        place = row.to(tl.int64) * width + column
        tl.store(dweight + place, total.to(dweight.dtype.element_ty), mask=real)


def sum_rows(dy: Tensor, ids: Tensor, rows: int, padding_idx: int | None) -> Tensor:
    """The gradient ``[rows, width]`` of an embedding: for each row the sum of ``dy [tokens, width]`` where ``ids
    [tokens]`` name it, and zeros where none does."""
    dy = dy.contiguous()
    tokens, width = dy.shape
    dweight = dy.new_zeros(rows, width)
    if tokens:
        # A stable order, so that a row is added up in the order of its tokens: with the same bits every time.
        ordered, places = ids.sort(stable=True)
        ends = torch.searchsorted(ordered, ordered, right=True)
        grid = (tokens, triton.cdiv(width, BLOCK))
        padding = -1 if padding_idx is None else padding_idx
        sum_rows_kernel[grid](dy, ordered, places, ends, dweight, width, padding, ROWS, BLOCK, num_warps=WARPS)
    return dweight
