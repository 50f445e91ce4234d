# ruff: noqa: N803 - constants of a kernel are arguments in capitals
# mypy: allow-untyped-defs, allow-incomplete-defs
"""Triton kernels of :func:`xlt_kernels.mutual_top_k.mutual_top_k`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from xlt_kernels.mutual_top_k import GROUP

# 128 x 128 tiles by 8 warps: 64 fp32 sums a thread, and three stages of 32 KB, two programs on one SM of an H100.
_TILE, _STEP, _WARPS, _STAGES = 128, 64, 8, 3
# Programs walk bands of as many tiles of rows, column by column: the y of a column is read from the L2 cache by all
# tiles of the band but the first, and the x of the band stays there.
_BAND = 16


# Sizes are new in every search and differ in its last chunk: they must not decide which kernel is compiled.
@triton.jit(do_not_specialize=["rows", "columns", "row_groups", "column_groups"])
def group_maxima_kernel(
    x,  # [rows, width] fp16, contiguous
    y,  # [columns, width] fp16, contiguous
    by_row,  # [rows, row_groups] fp32
    by_column,  # [columns, column_groups] fp32
    rows,
    columns,
    width,  # a multiple of STEP
    row_groups,
    column_groups,
    BAND: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    GROUP: tl.constexpr,
):
    """The maxima of one tile of scores in both directions: of 16,384 scores 512 numbers leave the chip."""
    program = tl.program_id(0)
    tiles = tl.cdiv(columns, TILE)
    first = program // (BAND * tiles) * BAND
    band = min(tl.cdiv(rows, TILE) - first, BAND)
    row = (first + program % (BAND * tiles) % band) * TILE + tl.arange(0, TILE)
    column = program % (BAND * tiles) // band * TILE + tl.arange(0, TILE)
    step = tl.arange(0, STEP)
    # Beyond the edge the last vector is read again; its scores are left out below.
    x_at = x + tl.minimum(row, rows - 1).to(tl.int64)[:, None] * width + step[None, :]
    y_at = y + tl.minimum(column, columns - 1).to(tl.int64)[None, :] * width + step[:, None]
    scores = tl.zeros((TILE, TILE), tl.float32)
    for _ in range(0, width, STEP):
        scores = tl.dot(tl.load(x_at), tl.load(y_at), scores)
        x_at += STEP
        y_at += STEP
    scores = tl.where((row < rows)[:, None] & (column < columns)[None, :], scores, float("-inf"))
    # A group lies in one tile, so that each maximum has one program that writes it, without atomics.
    parts: tl.constexpr = TILE // GROUP
    part = tl.arange(0, parts)
    row_maxima = tl.max(tl.reshape(scores, (TILE, parts, GROUP)), axis=2)
    group = (tl.min(column, axis=0) // GROUP + part)[None, :]
    tl.store(by_row + row.to(tl.int64)[:, None] * row_groups + group, row_maxima,
             mask=(row < rows)[:, None] & (group < row_groups))  # fmt: skip
    column_maxima = tl.max(tl.reshape(scores, (parts, GROUP, TILE)), axis=1)
    group = (tl.min(row, axis=0) // GROUP + part)[:, None]
    tl.store(by_column + column.to(tl.int64)[None, :] * column_groups + group, column_maxima,
             mask=(column < columns)[None, :] & (group < column_groups))  # fmt: skip


@triton.jit(do_not_specialize=["count", "chosen"])
def member_scores_kernel(
    queries,  # [N, width] fp16 or fp32, contiguous
    keys,  # [count, width], contiguous
    groups,  # [N, chosen] int64; -1 for none
    out,  # [N, chosen, GROUP] fp32
    count,
    width,
    chosen,
    GROUP: tl.constexpr,
    STEP: tl.constexpr,
):
    """The scores of one query with the keys of one of its groups.

    In double precision: what is exact needs no bound, and reading the keys takes longer than multiplying them.
    """
    query = tl.program_id(0).to(tl.int64)
    group = tl.load(groups + query * chosen + tl.program_id(1))
    member = tl.arange(0, GROUP)
    key = group * GROUP + member
    wanted = (group >= 0) & (key < count)
    sums = tl.zeros((GROUP, STEP), tl.float64)
    for start in range(0, width, STEP):
        step = start + tl.arange(0, STEP)
        q = tl.load(queries + query * width + step, mask=step < width, other=0.0).to(tl.float64)
        mask = wanted[:, None] & (step < width)[None, :]
        sums += tl.load(keys + key[:, None] * width + step[None, :], mask=mask, other=0.0).to(tl.float64) * q[None, :]
    scores = tl.where(wanted, tl.sum(sums, axis=1).to(tl.float32), float("-inf"))
    tl.store(out + (query * chosen + tl.program_id(1)) * GROUP + member, scores)


def group_maxima(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Maxima of the scores of ``x [N, d]`` and ``y [M, d]``, fp16, ``d`` a multiple of 64: fp32, of each row over
    groups of 64 columns ``[N, ceil(M / 64)]`` and of each column over groups of 64 rows ``[M, ceil(N / 64)]``.
    """
    groups = triton.cdiv(len(y), GROUP), triton.cdiv(len(x), GROUP)
    by_row = torch.empty((len(x), groups[0]), device=x.device)
    by_column = torch.empty((len(y), groups[1]), device=x.device)
    grid = (triton.cdiv(len(x), _TILE) * triton.cdiv(len(y), _TILE),)
    group_maxima_kernel[grid](
        x, y, by_row, by_column, len(x), len(y), x.shape[1], *groups, BAND=_BAND, TILE=_TILE, STEP=_STEP, GROUP=GROUP,
        num_warps=_WARPS, num_stages=_STAGES,
    )  # fmt: skip
    return by_row, by_column


def member_scores(queries: Tensor, keys: Tensor, groups: Tensor) -> Tensor:
    """Scores of each query with the 64 members of each of its ``groups [N, g]`` of keys: fp32 ``[N, g * 64]``, added
    in double precision; -inf in a group of -1 and beyond the last key.
    """
    out = torch.empty((len(queries), groups.shape[1] * GROUP), device=queries.device)
    member_scores_kernel[(len(queries), groups.shape[1])](
        queries, keys, groups.contiguous(), out, len(keys), keys.shape[1], groups.shape[1], GROUP=GROUP, STEP=64,
        num_warps=4, num_stages=3,
    )  # fmt: skip
    return out
