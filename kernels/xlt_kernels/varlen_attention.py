"""Attention with dropout within each sequence of a packed batch, by our own Triton kernels.

The oracle is :func:`xlt_kernels.attention.packed_attention_reference`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlt_kernels.switch import serves

_DIMS = (16, 32, 64, 128)


def varlen_serves(query: Tensor) -> bool:
    """Whether :func:`varlen_attention` can take ``query`` (``[..., dim]``): device, type, head size, switch."""
    # fp32 has no matrix instruction of full precision; the interpreter does not mind.
    narrow = query.dtype in (torch.float16, torch.bfloat16) or query.device.type == "cpu"
    return narrow and query.dtype != torch.float64 and query.shape[-1] in _DIMS and serves("varlen_attention", query)


def varlen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    scale: float,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """Attention within each sequence, ``[T, heads, dim]`` in and out; differentiable, bitwise repeatable.

    ``cu_seqlens`` is ``[B+1]`` int32 on the same device; what is launched depends on ``B`` and ``max_seqlen``, which
    no length may exceed, and not on the lengths. Tokens after ``cu_seqlens[B]`` belong to no sequence: their output
    and gradients are zero. Each attention weight is dropped with probability ``dropout_p`` (in steps of 2**-16, below
    1); the mask is a function of ``seed`` (one int64 on the device; drawn from the device's generator where not
    given), the head, the query's place in the batch and the key's in its sequence, and is drawn again in the backward
    pass. Scores, weights and sums are fp32.
    """
    if dropout_p and seed is None:
        seed = torch.randint(2**63 - 1, (1,), device=query.device)
    out: Tensor = _VarlenAttention.apply(query, key, value, cu_seqlens, max_seqlen, scale, dropout_p, seed)
    return out


class _VarlenAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        scale: float,
        dropout_p: float,
        seed: Tensor | None,
    ) -> Tensor:
        from xlt_kernels import varlen_attention_triton as kernels

        # The kernels take one pair of strides for all three, as parts of one projection have it.
        if query.stride(2) != 1 or not query.stride() == key.stride() == value.stride():
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        threshold = round(dropout_p * 2**16)
        out, logsumexp = kernels.forward(query, key, value, cu_seqlens, max_seqlen, scale, threshold, seed)
        kept_out = None if kernels.one_tile(max_seqlen) else out
        ctx.save_for_backward(query, key, value, kept_out, logsumexp, cu_seqlens, seed)
        ctx.max_seqlen, ctx.scale, ctx.threshold = max_seqlen, scale, threshold
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from xlt_kernels import varlen_attention_triton as kernels

        query, key, value, out, logsumexp, cu_seqlens, seed = ctx.saved_tensors
        gradients = kernels.backward(
            query, key, value, out, grads[0].contiguous(), logsumexp, cu_seqlens, ctx.max_seqlen, ctx.scale,
            ctx.threshold, seed,
        )  # fmt: skip
        return *gradients, None, None, None, None, None
