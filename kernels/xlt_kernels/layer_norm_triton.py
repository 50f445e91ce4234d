# ruff: noqa: N803 - constants of a kernel are arguments in capitals
# mypy: allow-untyped-defs, allow-incomplete-defs
"""The kernels of :mod:`xlt_kernels.layer_norm`."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from xlt_kernels.switch import multiprocessors

# A tile is four whole rows: Philox gives four numbers for one counter, and four rows hide each other's reductions.
ROWS = 4
# Programs of the backward pass on each multiprocessor: as many as its registers hold at once. Each sums the weight's
# gradient over its tiles in registers. One program there would wait for every row alone; many more would write, and
# read again, more sums than rows.
RESIDENT = 3
# Seven rounds of Philox 4x32 pass every known test of randomness (Salmon et al., SC 2011); Triton's default is ten.
_ROUNDS = tl.constexpr(7)
# What is new in every batch or in every step must not decide which kernel is compiled: rows, the dropout threshold,
# and the address of the seed, which lies wherever torch.randint put it.
_ANY = {"do_not_specialize": ["rows", "least"], "do_not_specialize_on_alignment": ["seed"]}


@triton.jit
def _keep(seed, tile, column, hidden, least):
    """Which elements of a tile ``[4, BLOCK]`` are kept: those that draw at least ``least``, as signed integers.

    Both passes draw here, from the seed and the element's place, so that no mask is ever stored.
    """
    a, b, c, d = tl.randint4x(tl.load(seed), tile * hidden + column, _ROUNDS)
    # As bits, the mask of four rows takes the registers of one; the compiler would undo a sum of integers.
    bits = tl.where(a.to(tl.int32, bitcast=True) >= least, 1.0, 0.0)
    bits += tl.where(b.to(tl.int32, bitcast=True) >= least, 2.0, 0.0)
    bits += tl.where(c.to(tl.int32, bitcast=True) >= least, 4.0, 0.0)
    bits += tl.where(d.to(tl.int32, bitcast=True) >= least, 8.0, 0.0)
    return (bits.to(tl.int32)[None, :] >> tl.arange(0, 4)[:, None]) & 1 != 0


@triton.jit(**_ANY)
def mask_kernel(
    out,  # [rows, hidden] int8
    seed,  # one int64
    rows,
    hidden,
    least,
    BLOCK: tl.constexpr,
):
    """Write the dropout mask, one byte an element: only references need it."""
    tile = tl.program_id(0)
    row = tile * 4 + tl.arange(0, 4)
    column = tl.arange(0, BLOCK)
    place = row.to(tl.int64)[:, None] * hidden + column[None, :]
    keep = _keep(seed, tile, column, hidden, least)
    tl.store(out + place, keep.to(tl.int8), mask=(row < rows)[:, None] & (column < hidden)[None, :])


@triton.jit(**_ANY)
def forward_kernel(
    x,  # [rows, hidden], contiguous, as are residual and y
    residual,
    weight,  # [hidden], as is bias
    bias,
    y,
    mean,  # [rows] fp32, as is rstd: read again by the backward pass
    rstd,
    seed,  # one int64; None without dropout
    rows,
    hidden,
    least,  # an element is dropped if it draws less: the share of dropout among all int32
    scale,  # 1 / (1 - dropout_p)
    eps,
    DROPOUT: tl.constexpr,
    BLOCK: tl.constexpr,  # hidden, rounded up to a power of two
):
    """One tile of ``y``; ``mean`` and ``rstd`` of its rows."""
    tile = tl.program_id(0)
    row = tile * 4 + tl.arange(0, 4)
    column = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (column < hidden)[None, :]
    place = row.to(tl.int64)[:, None] * hidden + column[None, :]
    total = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if DROPOUT:
        total = tl.where(_keep(seed, tile, column, hidden, least), total * scale, 0.0)
    total += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    average = tl.sum(total, axis=1) / hidden
    # The row is in registers, so the variance is taken from the deviations: E[x^2] - E[x]^2 would cancel.
    centred = tl.where(inside, total - average[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / hidden + eps)
    w = tl.load(weight + column, mask=column < hidden, other=0.0).to(tl.float32)
    b = tl.load(bias + column, mask=column < hidden, other=0.0).to(tl.float32)
    out = centred * inverse[:, None] * w[None, :] + b[None, :]
    tl.store(y + place, out.to(y.dtype.element_ty), mask=inside)
    tl.store(mean + row, average, mask=row < rows)
    tl.store(rstd + row, inverse, mask=row < rows)


@triton.jit(**_ANY)
def backward_kernel(
    dy,  # [rows, hidden], contiguous, as are x, residual, dx and dresidual
    x,
    residual,
    weight,  # [hidden]
    mean,  # [rows] fp32, as is rstd
    rstd,
    dx,  # not written without dropout: it equals dresidual
    dresidual,
    partial,  # [2, programs, hidden] fp32: each program's sums for weight and for bias
    seed,  # one int64; None without dropout
    rows,
    hidden,
    least,
    scale,
    DROPOUT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Every ``num_programs``-th tile of ``dx`` and ``dresidual``, and the sums over them for weight and bias.

    Partial sums and not atomics: those would be added in another order, and give other bits, each time.
    """
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    column = tl.arange(0, BLOCK)
    real = column < hidden
    w = tl.load(weight + column, mask=real, other=0.0).to(tl.float32)
    dweight = tl.zeros([BLOCK], dtype=tl.float32)
    dbias = tl.zeros([BLOCK], dtype=tl.float32)
    for tile in range(program, tl.cdiv(rows, 4), programs):
        row = tile * 4 + tl.arange(0, 4)
        inside = (row < rows)[:, None] & real[None, :]
        place = row.to(tl.int64)[:, None] * hidden + column[None, :]
        normed = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        if DROPOUT:
            keep = _keep(seed, tile, column, hidden, least)
            normed = tl.where(keep, normed * scale, 0.0)
        normed += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
        grad = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
        average = tl.load(mean + row, mask=row < rows, other=0.0)
        inverse = tl.load(rstd + row, mask=row < rows, other=0.0)
        normed = tl.where(inside, (normed - average[:, None]) * inverse[:, None], 0.0)
        dweight += tl.sum(grad * normed, axis=0)
        dbias += tl.sum(grad, axis=0)
        grad *= w[None, :]
        along = tl.sum(grad * normed, axis=1) / hidden
        level = tl.sum(grad, axis=1) / hidden
        grad = (grad - level[:, None] - normed * along[:, None]) * inverse[:, None]
        tl.store(dresidual + place, grad.to(dresidual.dtype.element_ty), mask=inside)
        if DROPOUT:
            tl.store(dx + place, tl.where(keep, grad * scale, 0.0).to(dx.dtype.element_ty), mask=inside)
    tl.store(partial + program * hidden + column, dweight, mask=real)
    tl.store(partial + (programs + program) * hidden + column, dbias, mask=real)


class LayerNorm(torch.autograd.Function):
    """``LayerNorm(dropout(x) + residual)``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, dropout_p: float,
        seed: Tensor | None,
    ) -> Tensor:  # fmt: skip
        x, residual = x.contiguous(), residual.contiguous()
        hidden = x.shape[-1]
        rows, block = x.numel() // hidden, triton.next_power_of_2(hidden)
        y = torch.empty_like(x, dtype=torch.promote_types(x.dtype, residual.dtype))
        mean, rstd = torch.empty((2, rows), dtype=torch.float32, device=x.device)
        if rows:
            forward_kernel[(triton.cdiv(rows, ROWS),)](
                x, residual, weight, bias, y, mean, rstd, seed if dropout_p else None, rows, hidden,
                _least(dropout_p), 1 / (1 - dropout_p), eps, bool(dropout_p), block, num_warps=_warps(block),
            )  # fmt: skip
        # The sum is not kept but made again: x and residual are as many bytes, and residual lives on anyway.
        ctx.save_for_backward(x, residual, weight, mean, rstd, seed)
        ctx.dropout_p = dropout_p
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, residual, weight, mean, rstd, seed = ctx.saved_tensors
        hidden = x.shape[-1]
        rows, block = x.numel() // hidden, triton.next_power_of_2(hidden)
        programs = min(triton.cdiv(rows, ROWS), RESIDENT * multiprocessors(x))
        dresidual = torch.empty_like(residual)
        dx = torch.empty_like(x) if ctx.dropout_p else dresidual
        partial = torch.empty((2, programs, hidden), dtype=torch.float32, device=x.device)
        if rows:
            backward_kernel[(programs,)](
                grads[0].contiguous(), x, residual, weight, mean, rstd, dx, dresidual, partial,
                seed if ctx.dropout_p else None, rows, hidden, _least(ctx.dropout_p), 1 / (1 - ctx.dropout_p),
                bool(ctx.dropout_p), block, num_warps=_warps(block),
            )  # fmt: skip
        dweight, dbias = partial.sum(1).to(weight.dtype)
        return dx.to(x.dtype), dresidual, dweight, dbias, None, None, None


def layer_norm_mask(rows: int, hidden: int, dropout_p: float, seed: Tensor) -> Tensor:
    """The mask ``[rows, hidden]`` that the kernels draw: true where kept."""
    out = torch.empty((rows, hidden), dtype=torch.int8, device=seed.device)
    block = triton.next_power_of_2(hidden)
    mask_kernel[(triton.cdiv(rows, ROWS),)](out, seed, rows, hidden, _least(dropout_p), block, num_warps=_warps(block))
    return out.bool()


def _least(dropout_p: float) -> int:
    # Compared as signed integers: the unsigned threshold, moved down by half the range.
    return round(dropout_p * 2**32) - 2**31


def _warps(block: int) -> int:
    # A thread holds at most 32 elements of a tile: eight neighbours, one 16-byte load, of each of the four rows.
    return max(1, min(block // 256, 16))
