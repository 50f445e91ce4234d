# ruff: noqa: N803 - constants of a kernel are arguments in capitals
# mypy: allow-untyped-defs, allow-incomplete-defs
"""The kernels of :mod:`xlt_kernels.layer_norm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from xlt_kernels.compile import Variant

# A tile is four whole rows: Philox gives four numbers for one counter, and four rows hide each other's reductions.
ROWS = 4
# Programs of the backward pass on each multiprocessor: as many as its registers hold at once. Each sums the weight's
# gradient over its tiles in registers. One program there would wait for every row alone; many more would write, and
# read again, more sums than rows.
RESIDENT = 3
# Seven rounds of Philox 4x32 pass every known test of randomness (Salmon et al., SC 2011); Triton's default is ten.
_ROUNDS = tl.constexpr(7)
_ANY = {"do_not_specialize": ["rows", "least"], "do_not_specialize_on_alignment": ["seed"]}


@triton.jit
def _keep(seed, tile, column, hidden, least):
    """Which elements of a tile ``[4, BLOCK]`` are kept: those that draw at least ``least``, as signed integers."""
    a, b, c, d = tl.randint4x(tl.load(seed), tile * hidden + column, _ROUNDS)
    # As bits, the mask of four rows takes the registers of one; the compiler would undo a sum of integers.
    bits = tl.where(a.to(tl.int32, bitcast=True) >= least, 1.0, 0.0)
    bits += tl.where(b.to(tl.int32, bitcast=True) >= least, 2.0, 0.0)
    bits += tl.where(c.to(tl.int32, bitcast=True) >= least, 4.0, 0.0)
    bits += tl.where(d.to(tl.int32, bitcast=True) >= least, 8.0, 0.0)
    return (bits.to(tl.int32)[None, :] >> tl.arange(0, 4)[:, None]) & 1 != 0


@triton.jit(**_ANY)
def mask_kernel(out, seed, rows, hidden, least, BLOCK: tl.constexpr):
    """Write the dropout mask, one byte an element: for tests."""
    tile = tl.program_id(0)
    row = tile * 4 + tl.arange(0, 4)
    column = tl.arange(0, BLOCK)
    place = row.to(tl.int64)[:, None] * hidden + column[None, :]
    keep = _keep(seed, tile, column, hidden, least)
    tl.store(out + place, keep.to(tl.int8), mask=(row < rows)[:, None] & (column < hidden)[None, :])


@triton.jit(**_ANY)
def forward_kernel(
    x, residual, weight, bias, y, mean, rstd, seed, rows, hidden, least, scale, eps,
    DROPOUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
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
    dy, x, residual, weight, mean, rstd, dx, dresidual, partial, seed, rows, hidden, least, scale,
    DROPOUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Every ``num_programs``-th tile of ``dx`` and ``dresidual``, and the sums over them for weight and bias.

    Without dropout, ``dx`` is not written: it equals ``dresidual``.
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


def forward(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dropout_p: float,
    seed: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``y`` and, per row, mean and reciprocal standard deviation in fp32."""
    hidden = x.shape[-1]
    rows = x.numel() // hidden
    y = torch.empty_like(x, dtype=torch.promote_types(x.dtype, residual.dtype))
    mean, rstd = torch.empty((2, rows), dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(hidden)
    if rows:
        forward_kernel[(triton.cdiv(rows, ROWS),)](
            x, residual, weight, bias, y, mean, rstd, seed if dropout_p else x, rows, hidden,
            _least(dropout_p), 1 / (1 - dropout_p), eps, bool(dropout_p), block, num_warps=_warps(block),
        )  # fmt: skip
    return y, mean, rstd


def backward(
    dy: Tensor,
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    dropout_p: float,
    seed: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``dx``, ``dresidual`` and ``[2, programs, hidden]`` in fp32, whose sums are the gradients of weight and bias."""
    hidden = x.shape[-1]
    rows = x.numel() // hidden
    processors = torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 1
    programs = min(triton.cdiv(rows, ROWS), RESIDENT * processors)
    dresidual = torch.empty_like(residual)
    dx = torch.empty_like(x) if dropout_p else dresidual
    partial = torch.empty((2, programs, hidden), dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(hidden)
    if rows:
        backward_kernel[(programs,)](
            dy, x, residual, weight, mean, rstd, dx, dresidual, partial, seed if dropout_p else x, rows, hidden,
            _least(dropout_p), 1 / (1 - dropout_p), bool(dropout_p), block, num_warps=_warps(block),
        )  # fmt: skip
    return dx.to(x.dtype), dresidual, partial


def layer_norm_mask(rows: int, hidden: int, dropout_p: float, seed: Tensor) -> Tensor:
    """The mask ``[rows, hidden]`` that the kernels draw: true where kept."""
    out = torch.empty((rows, hidden), dtype=torch.int8, device=seed.device)
    block = triton.next_power_of_2(hidden)
    mask_kernel[(triton.cdiv(rows, ROWS),)](out, seed, rows, hidden, _least(dropout_p), block, num_warps=_warps(block))
    return out.bool()


def _least(dropout_p: float) -> int:
    return round(dropout_p * 2**32) - 2**31


def _warps(block: int) -> int:
    # A thread holds at most 32 elements of a tile: eight neighbours, one 16-byte load, of each of the four rows.
    return max(1, min(block // 256, 16))


def variants() -> list[Variant]:
    """Every type with and without dropout at the width of XLM-R Large; the narrowest and the widest rows."""
    from xlt_kernels.compile import Variant

    shapes = [(1024, kind, dropout) for kind in ("bf16", "fp16", "fp32") for dropout in (False, True)]
    found = []
    for block, kind, dropout in [*shapes, (128, "bf16", True), (2048, "bf16", True)]:
        element, seed = f"*{kind}", "*i64" if dropout else f"*{kind}"
        tail = {"seed": seed, "rows": "i32", "hidden": "i32:16", "least": "i32", "scale": "fp32"}
        switches = {"DROPOUT": "constexpr", "BLOCK": "constexpr"}
        sides = {
            forward_kernel: dict.fromkeys(("x", "residual", "weight", "bias", "y"), element)
            | {"mean": "*fp32", "rstd": "*fp32", **tail, "eps": "fp32", **switches},
            backward_kernel: dict.fromkeys(("dy", "x", "residual", "weight"), element)
            | {"mean": "*fp32", "rstd": "*fp32", "dx": element, "dresidual": element, "partial": "*fp32"}
            | tail
            | switches,
        }
        for kernel, signature in sides.items():
            side = "forward" if kernel is forward_kernel else "backward"
            found.append(
                Variant(
                    name=f"{side}-{block}-{kind}{'-dropout' if dropout else ''}",
                    kernel=kernel,
                    signature=signature,
                    constants={"DROPOUT": dropout, "BLOCK": block},
                    num_warps=_warps(block),
                    num_stages=1,
                    matmul=False,
                )
            )
    return found
