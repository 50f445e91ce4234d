# ruff: noqa: N803 - constants of a kernel are arguments in capitals
# mypy: allow-untyped-defs, allow-incomplete-defs
"""Triton kernels of :func:`xlt_kernels.mutual_top_k.mutual_top_k`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from xlt_kernels.mutual_top_k import GROUP

if TYPE_CHECKING:
    from xlt_kernels.compile import Variant

# 128 x 128 tiles by 8 warps: 64 fp32 sums a thread, and three stages of 32 KB, two programs on one SM of an H100.
_TILE, _STEP, _WARPS, _STAGES = 128, 64, 8, 3
# Tiles of as many rows are walked together, so that what they share stays in the L2 cache.
_BAND = 16


@triton.jit
def _group_maxima(x, y, by_row, by_column, rows, columns, width, row_groups, column_groups, BAND: tl.constexpr,
                  TILE: tl.constexpr, STEP: tl.constexpr, GROUP: tl.constexpr):  # fmt: skip
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


@triton.jit
def _member_scores(queries, keys, groups, out, count, width, chosen, GROUP: tl.constexpr, STEP: tl.constexpr):
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
    _group_maxima[grid](
        x, y, by_row, by_column, len(x), len(y), x.shape[1], *groups, BAND=_BAND, TILE=_TILE, STEP=_STEP, GROUP=GROUP,
        num_warps=_WARPS, num_stages=_STAGES,
    )  # fmt: skip
    return by_row, by_column


def member_scores(queries: Tensor, keys: Tensor, groups: Tensor) -> Tensor:
    """Scores of each query with the 64 members of each of its ``groups [N, g]`` of keys: fp32 ``[N, g * 64]``, added
    in double precision; -inf in a group of -1 and beyond the last key.
    """
    out = torch.empty((len(queries), groups.shape[1] * GROUP), device=queries.device)
    _member_scores[(len(queries), groups.shape[1])](
        queries, keys, groups.contiguous(), out, len(keys), keys.shape[1], groups.shape[1], GROUP=GROUP, STEP=64,
        num_warps=4, num_stages=3,
    )  # fmt: skip
    return out


def variants() -> list[Variant]:
    """What :mod:`xlt_kernels.compile` compiles ahead of time."""
    from xlt_kernels.compile import Variant

    sizes = dict.fromkeys(("rows", "columns", "width", "row_groups", "column_groups"), "i32") | {"width": "i32:16"}
    tile = {"BAND": _BAND, "TILE": _TILE, "STEP": _STEP, "GROUP": GROUP}
    maxima = {"x": "*fp16", "y": "*fp16", "by_row": "*fp32", "by_column": "*fp32", **sizes}
    found = [
        Variant("group_maxima", _group_maxima, maxima | dict.fromkeys(tile, "constexpr"), tile, _WARPS, _STAGES, True)
    ]
    step = {"GROUP": GROUP, "STEP": 64}
    for name in ("fp16", "fp32"):
        members = {"queries": f"*{name}", "keys": f"*{name}", "groups": "*i64", "out": "*fp32"}
        members |= {"count": "i32", "width": "i32:16", "chosen": "i32"} | dict.fromkeys(step, "constexpr")
        found.append(Variant(f"member_scores_{name}", _member_scores, members, step, 4, 3, False))
    return found
