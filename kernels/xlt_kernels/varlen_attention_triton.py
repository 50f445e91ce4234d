# ruff: noqa: N803 - constants of a kernel are arguments in capitals
# mypy: allow-untyped-defs, allow-incomplete-defs
"""Triton kernels of :mod:`xlt_kernels.varlen_attention`.

Scores are taken to base 2, whose exponential is one instruction: the host multiplies the scale by log2(e), and the
saved logsumexp is to base 2 too.
Every tensor is addressed from its sequence's first token, so that offsets within a tile fit 32 bits.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Queries, and keys, of a tile. 64 queries are what one matrix instruction of a Hopper warpgroup (four warps) takes, and
# most sequences of the recipes fit one tile. Wider ones would compute padding, and with 128 keys the backward pass runs
# out of registers. Stages: as many tiles in shared memory as leave the registers to decide how many programs a
# multiprocessor holds; with 128 columns a head, one is what the 99 KB of the smaller chips take.
_BLOCK, _WARPS, _FORWARD_STAGES, _BACKWARD_STAGES = 64, 4, 2, 3
# Philox 4x32 passes BigCrush from seven rounds on (Salmon et al., SC 2011); Triton's default is ten.
_ROUNDS = tl.constexpr(7)
_LOG2E = 1.4426950408889634
_LN2 = tl.constexpr(0.6931471805599453)
# What is new in every batch or in every step must not decide which kernel is compiled: the dropout threshold, the
# number of tokens, and the address of the seed, which lies wherever torch.randint put it.
_ANY = {"do_not_specialize": ["threshold", "total"], "do_not_specialize_on_alignment": ["seed"]}


@triton.jit
def _load(base, rows, limit, stride, DIM: tl.constexpr):
    """``[rows, DIM]`` of a matrix whose rows are ``stride`` apart; zero from row ``limit`` on."""
    return tl.load(base + rows[:, None] * stride + tl.arange(0, DIM)[None, :], mask=(rows < limit)[:, None], other=0.0)


@triton.jit
def _store(base, rows, limit, stride, values, DIM: tl.constexpr):
    into = base + rows[:, None] * stride + tl.arange(0, DIM)[None, :]
    tl.store(into, values.to(base.dtype.element_ty), mask=(rows < limit)[:, None])


@triton.jit
def _clear(base, first, limit, step, stride, BLOCK: tl.constexpr, DIM: tl.constexpr):
    """Zero the rows from ``first`` to ``limit``, ``BLOCK`` at a time, ``step`` apart."""
    for row in range(first, limit, step):
        _store(base, row + tl.arange(0, BLOCK), limit, stride, tl.zeros([BLOCK, DIM], tl.float32), DIM)


@triton.jit
def _bounds(cu_seqlens, total):
    """First token and length of this program's sequence, and whether it is what follows the last one.

    There is a program more than there are sequences: it clears the tokens of no sequence. A batch in a CUDA graph may
    have some, and what they hold must not be NaN.
    """
    sequence, last = tl.program_id(0), tl.num_programs(0) - 1
    start = tl.load(cu_seqlens + sequence)
    end = tl.load(cu_seqlens + sequence + 1, mask=sequence < last, other=total)
    return start, end - start, sequence == last


@triton.jit
def _keep(seed, head, tokens, column, threshold, BLOCK: tl.constexpr):
    """The dropout mask ``[BLOCK, BLOCK]`` of the queries ``tokens`` and the keys from ``column`` on.

    One Philox call gives eight draws of 16 bits. Which columns share a call follows the registers of a thread in the
    matrix instruction's result (bits 0, 3 and 4 of the column), so that no draw has to move between threads on Hopper.
    """
    calls = column // 8 + tl.arange(0, BLOCK // 8)[None, :]
    a, b, c, d = tl.philox(seed, calls, tokens[:, None], head, 0, _ROUNDS)
    ab = tl.join(tl.join(a & 0xFFFF, a >> 16), tl.join(b & 0xFFFF, b >> 16))
    cd = tl.join(tl.join(c & 0xFFFF, c >> 16), tl.join(d & 0xFFFF, d >> 16))
    drawn = tl.join(ab, cd).to(tl.int32).reshape(BLOCK, BLOCK // 32, 4, 4, 2)
    return drawn.permute(0, 1, 3, 2, 4).reshape(BLOCK, BLOCK) >= threshold


@triton.jit(**_ANY)
def forward_kernel(
    query,  # [total, heads, DIM]; strides (token_stride, head_stride, 1), as key and value
    key,
    value,
    out,  # [total, heads, DIM], contiguous
    logsumexp,  # [heads, total] fp32, to base 2
    cu_seqlens,  # [sequences + 1] int32
    seed,  # one int64; None without dropout
    scale,  # of the scores, times log2(e)
    threshold,  # a weight is dropped if it draws less, of 2**16
    total,
    token_stride,
    head_stride,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    ONE_TILE: tl.constexpr,  # no sequence has more than BLOCK tokens
    DROPOUT: tl.constexpr,
):
    """A tile of queries of one sequence and head, over all its keys: softmax in one pass (Milakov, Gimelshein 2018).

    Programs count sequences, heads and tiles of the longest sequence; those beyond the end of theirs do nothing. The
    host need not know the lengths, and one launch serves every batch of a shape.
    """
    head, first = tl.program_id(1), tl.program_id(2) * BLOCK
    start, length, rest = _bounds(cu_seqlens, total)
    at = start.to(tl.int64) * token_stride + head * head_stride
    packed_stride = tl.num_programs(1) * DIM
    out += start.to(tl.int64) * packed_stride + head * DIM
    if rest:
        _clear(out, first, length, tl.num_programs(2) * BLOCK, packed_stride, BLOCK, DIM)
    elif first < length:
        rows = first + tl.arange(0, BLOCK)
        q = _load(query + at, rows, length, token_stride, DIM)
        summed = tl.zeros([BLOCK, DIM], tl.float32)
        peak = tl.full([BLOCK], float("-inf"), tl.float32)
        weight = tl.zeros([BLOCK], tl.float32)
        for column in range(0, BLOCK if ONE_TILE else length, BLOCK):
            columns = column + tl.arange(0, BLOCK)
            k = _load(key + at, columns, length, token_stride, DIM)
            v = _load(value + at, columns, length, token_stride, DIM)
            scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
            scores = tl.where((columns < length)[None, :], scores, float("-inf"))
            # What was summed so far is brought to the new maximum, so that no exponential overflows.
            higher = tl.maximum(peak, tl.max(scores, 1))
            weights = tl.exp2(scores - higher[:, None])
            shrink = tl.exp2(peak - higher)
            weight = weight * shrink + tl.sum(weights, 1)
            if DROPOUT:  # after the sum, which the softmax divides by: dropout does not change it
                weights = tl.where(_keep(tl.load(seed), head, start + rows, column, threshold, BLOCK), weights, 0.0)
            summed = tl.dot(weights.to(v.dtype), v, summed * shrink[:, None], input_precision="ieee")
            peak = higher
        tl.store(logsumexp + head * total + start + rows, peak + tl.log2(weight), mask=rows < length)
        weight *= 1.0 - threshold / 65536.0  # dropout's own division, once a row
        _store(out, rows, length, packed_stride, summed / weight[:, None], DIM)


@triton.jit
def _keys_of(
    query, key, value, dout, dquery, dkey, dvalue, logsumexp, delta, seed, scale, threshold,
    start, first, length, head, token_stride, packed_stride,
    DIM: tl.constexpr, BLOCK: tl.constexpr, WHOLE: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """Gradients of the keys and values from ``first`` on, over all queries, with the pointers of one sequence and head.

    ``WHOLE``: the sequence is one tile, and the gradients of its queries are written too, by the one program that has
    all their keys. In longer sequences they are a kernel of their own: summing them from here would take atomics,
    which add in another order each time.
    """
    columns = first + tl.arange(0, BLOCK)
    k = _load(key, columns, length, token_stride, DIM)
    v = _load(value, columns, length, token_stride, DIM)
    dk, dv = tl.zeros([BLOCK, DIM], tl.float32), tl.zeros([BLOCK, DIM], tl.float32)
    rescale = 65536.0 / (65536 - threshold)
    for row in range(0, BLOCK if WHOLE else length, BLOCK):
        rows = row + tl.arange(0, BLOCK)
        q = _load(query, rows, length, token_stride, DIM)
        do = _load(dout, rows, length, packed_stride, DIM)
        lse = tl.load(logsumexp + rows, mask=rows < length, other=float("inf"))  # no weight beyond the end
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        weights = tl.where((columns < length)[None, :], tl.exp2(scores - lse[:, None]), 0.0)
        if DROPOUT:  # the sign of a weight holds the mask, which then takes no registers of its own
            weights = tl.where(_keep(seed, head, start + rows, first, threshold, BLOCK), weights, -weights)
        dv = tl.dot(tl.trans(tl.maximum(weights, 0.0).to(do.dtype)), do, dv, input_precision="ieee")
        dweights = tl.dot(do, tl.trans(v), input_precision="ieee") * rescale
        dweights = tl.where(weights > 0, dweights, 0.0)
        weights = tl.abs(weights)
        mean = tl.sum(weights * dweights, 1) if WHOLE else tl.load(delta + rows, mask=rows < length, other=0.0)
        dscores = (weights * (dweights - mean[:, None])).to(q.dtype)
        dk = tl.dot(tl.trans(dscores), q, dk, input_precision="ieee")
        if WHOLE:
            dq = tl.dot(dscores, k, input_precision="ieee")
            _store(dquery, rows, length, 3 * packed_stride, dq * (scale * _LN2), DIM)
    _store(dkey, columns, length, 3 * packed_stride, dk * (scale * _LN2), DIM)
    _store(dvalue, columns, length, 3 * packed_stride, dv * rescale, DIM)


@triton.jit(**_ANY)
def backward_keys_kernel(
    query,  # [total, heads, DIM]; strides (token_stride, head_stride, 1), as key and value
    key,
    value,
    dout,  # [total, heads, DIM], contiguous
    dquery,  # slice [total, heads, DIM] of [total, 3, heads, DIM], as dkey and dvalue; for sequences of one tile
    dkey,
    dvalue,
    logsumexp,  # [heads, total] fp32, to base 2
    delta,  # [heads, total] fp32, of backward_queries_kernel; None if ONE_TILE
    cu_seqlens,  # [sequences + 1] int32
    seed,  # one int64; None without dropout
    scale,
    threshold,
    total,
    token_stride,
    head_stride,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    ONE_TILE: tl.constexpr,
    DROPOUT: tl.constexpr,
):
    """A tile of keys of one sequence and head; of a sequence that is one tile, all gradients."""
    head, first = tl.program_id(1), tl.program_id(2) * BLOCK
    start, length, rest = _bounds(cu_seqlens, total)
    packed_stride = tl.num_programs(1) * DIM
    packed = start.to(tl.int64) * packed_stride + head * DIM
    own = start.to(tl.int64) * 3 * packed_stride + head * DIM
    dkey += own
    dvalue += own
    if rest:
        step = tl.num_programs(2) * BLOCK
        _clear(dkey, first, length, step, 3 * packed_stride, BLOCK, DIM)
        _clear(dvalue, first, length, step, 3 * packed_stride, BLOCK, DIM)
        if ONE_TILE:
            _clear(dquery + own, first, length, step, 3 * packed_stride, BLOCK, DIM)
    elif first < length:
        at = start.to(tl.int64) * token_stride + head * head_stride
        row = head * total + start
        drawn = tl.load(seed) if DROPOUT else 0
        if ONE_TILE or length <= BLOCK:
            _keys_of(
                query + at, key + at, value + at, dout + packed, dquery + own, dkey, dvalue, logsumexp + row,
                delta, drawn, scale, threshold, start, first, length, head, token_stride, packed_stride,
                DIM, BLOCK, True, DROPOUT,
            )  # fmt: skip
        else:
            _keys_of(
                query + at, key + at, value + at, dout + packed, dquery + own, dkey, dvalue, logsumexp + row,
                delta + row, drawn, scale, threshold, start, first, length, head, token_stride, packed_stride,
                DIM, BLOCK, False, DROPOUT,
            )  # fmt: skip


@triton.jit(**_ANY)
def backward_queries_kernel(
    query,  # [total, heads, DIM]; strides (token_stride, head_stride, 1), as key and value
    key,
    value,
    out,  # [total, heads, DIM], contiguous, as dout
    dout,
    dquery,  # slice [total, heads, DIM] of [total, 3, heads, DIM]
    logsumexp,  # [heads, total] fp32, to base 2
    delta,  # [heads, total] fp32: written here, for backward_keys_kernel
    cu_seqlens,  # [sequences + 1] int32
    seed,  # one int64; None without dropout
    scale,
    threshold,
    total,
    token_stride,
    head_stride,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    DROPOUT: tl.constexpr,
):
    """A tile of queries of a sequence of several tiles.

    ``delta`` is each query's product of out and dout, which equals the mean of its weights' gradients.
    """
    head, first = tl.program_id(1), tl.program_id(2) * BLOCK
    start, length, rest = _bounds(cu_seqlens, total)
    at = start.to(tl.int64) * token_stride + head * head_stride
    packed_stride = tl.num_programs(1) * DIM
    packed = start.to(tl.int64) * packed_stride + head * DIM
    dquery += start.to(tl.int64) * 3 * packed_stride + head * DIM
    if rest:
        _clear(dquery, first, length, tl.num_programs(2) * BLOCK, 3 * packed_stride, BLOCK, DIM)
    elif first < length and length > BLOCK:
        rows = first + tl.arange(0, BLOCK)
        q = _load(query + at, rows, length, token_stride, DIM)
        do = _load(dout + packed, rows, length, packed_stride, DIM)
        o = _load(out + packed, rows, length, packed_stride, DIM)
        mean = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
        row = head * total + start + rows
        tl.store(delta + row, mean, mask=rows < length)
        lse = tl.load(logsumexp + row, mask=rows < length, other=float("inf"))
        rescale = 65536.0 / (65536 - threshold)
        drawn = tl.load(seed) if DROPOUT else 0
        dq = tl.zeros([BLOCK, DIM], tl.float32)
        for column in range(0, length, BLOCK):
            columns = column + tl.arange(0, BLOCK)
            k = _load(key + at, columns, length, token_stride, DIM)
            v = _load(value + at, columns, length, token_stride, DIM)
            scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
            weights = tl.where((columns < length)[None, :], tl.exp2(scores - lse[:, None]), 0.0)
            if DROPOUT:
                weights = tl.where(_keep(drawn, head, start + rows, column, threshold, BLOCK), weights, -weights)
            dweights = tl.dot(do, tl.trans(v), input_precision="ieee") * rescale
            dscores = tl.abs(weights) * (tl.where(weights > 0, dweights, 0.0) - mean[:, None])
            dq = tl.dot(dscores.to(k.dtype), k, dq, input_precision="ieee")
        _store(dquery, rows, length, 3 * packed_stride, dq * (scale * _LN2), DIM)


class VarlenAttention(torch.autograd.Function):
    """Attention within each sequence, with its dropout; see :func:`xlt_kernels.varlen_attention.varlen_attention`."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, max_seqlen: int, scale: float,
        dropout_p: float, seed: Tensor | None,
    ) -> Tensor:  # fmt: skip
        # The kernels take one pair of strides for all three, as parts of one projection have it.
        if query.stride(2) != 1 or not query.stride() == key.stride() == value.stride():
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        total, heads, _ = query.shape
        out = query.new_empty(query.shape)
        logsumexp = query.new_empty((heads, total), dtype=torch.float32)
        ctx.one_tile, ctx.max_seqlen = max_seqlen <= _BLOCK, max_seqlen
        threshold = round(dropout_p * 2**16)
        seed = seed if threshold else None
        ctx.scalars = scale * _LOG2E, threshold, total, query.stride(0), query.stride(1)
        grid, options = _launch(query, cu_seqlens, max_seqlen, seed, _FORWARD_STAGES)
        forward_kernel[grid](
            query, key, value, out, logsumexp, cu_seqlens, seed, *ctx.scalars, ONE_TILE=ctx.one_tile, **options
        )
        # In one tile a program has all of a query's weights and their gradients, and need not read the output.
        kept_out = None if ctx.one_tile else out
        ctx.save_for_backward(query, key, value, kept_out, logsumexp, cu_seqlens, seed)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, logsumexp, cu_seqlens, seed = ctx.saved_tensors
        dout = grads[0].contiguous()
        total, heads, dim = dout.shape
        # Slices of one tensor: where all three are parts of one projection it takes that as its gradient.
        dquery, dkey, dvalue = dout.new_empty((total, 3, heads, dim)).unbind(1)
        delta = None if ctx.one_tile else torch.empty_like(logsumexp)
        grid, options = _launch(query, cu_seqlens, ctx.max_seqlen, seed, _BACKWARD_STAGES)
        if not ctx.one_tile:
            backward_queries_kernel[grid](
                query, key, value, out, dout, dquery, logsumexp, delta, cu_seqlens, seed, *ctx.scalars, **options
            )
        backward_keys_kernel[grid](
            query, key, value, dout, dquery, dkey, dvalue, logsumexp, delta, cu_seqlens, seed, *ctx.scalars,
            ONE_TILE=ctx.one_tile, **options,
        )  # fmt: skip
        return dquery, dkey, dvalue, None, None, None, None, None


def _launch(
    query: Tensor, cu_seqlens: Tensor, max_seqlen: int, seed: Tensor | None, stages: int
) -> tuple[tuple[int, int, int], dict[str, Any]]:
    """The grid and the options of a launch."""
    _, heads, dim = query.shape
    grid = cu_seqlens.shape[0], heads, max(1, triton.cdiv(max_seqlen, _BLOCK))
    options = {"DIM": dim, "BLOCK": _BLOCK, "DROPOUT": seed is not None, "num_warps": _WARPS}
    return grid, options | {"num_stages": stages if dim <= 64 else 1}
