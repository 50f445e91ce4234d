"""Attention within each sequence of a packed batch, by whichever form serves: what the model uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xlt_kernels.flash import flash_attention, flash_serves
from xlt_kernels.plan import AttentionPlan, Block, plan_attention
from xlt_kernels.varlen_attention import varlen_attention, varlen_serves


@dataclass(frozen=True, slots=True)
class Reach:
    """Which keys of its own sequence a query reads, and what their distance adds to a score."""

    causal: bool = False
    """Whether it reads no key behind it."""
    window: int | None = None
    """It reads keys that are less than so many tokens away; all where there is no window."""
    slopes: Tensor | None = None
    """``[heads]``: what each token of distance to a key before it takes from a score (ALiBi)."""

    @property
    def whole(self) -> bool:
        """Whether every query reads every key, whatever the distance."""
        return not self.causal and self.window is None and self.slopes is None


WHOLE = Reach()


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    scale: float,
    dropout_p: float,
    plan: AttentionPlan | None = None,
    reach: Reach = WHOLE,
) -> Tensor:
    """Differentiable attention within each sequence as far as ``reach`` goes, with dropout on the attention weights.

    ``query``, ``key``, ``value`` and the result are ``[T, heads, dim]``; ``cu_seqlens`` is ``[B+1]`` int32 in
    tokens, ``max_seqlen`` the longest length. fp16 and bf16 on CUDA run :func:`ragged_attention` and ignore
    ``plan``; everything else runs padded blocks, laid out by ``plan`` (made here where it is not given).
    """
    if query.shape[0] == 0:
        return value
    if ragged := ragged_attention(query, reach):
        return ragged(query, key, value, cu_seqlens, max_seqlen, scale=scale, dropout_p=dropout_p)
    plan = plan or plan_attention(cu_seqlens)
    return _blocks_attention(query, key, value, plan, scale, dropout_p, reach)


def ragged_attention(query: Tensor, reach: Reach = WHOLE) -> Callable[..., Tensor] | None:
    """The operator that takes ``query`` as it lies, without a plan; ``None`` where there is none.

    Our kernel comes first: it gives the same bits every time and needs no call of a private operator; torch's takes
    over where it does not serve, is switched off, or would read too far. Neither adds anything by distance.
    """
    if query.device.type != "cuda" or reach.slopes is not None:
        return None
    if reach.whole and varlen_serves(query):
        return varlen_attention
    if not flash_serves(query):
        return None
    return flash_attention if reach.whole else partial(flash_attention, causal=reach.causal, window=reach.window)


def _blocks_attention(
    query: Tensor, key: Tensor, value: Tensor, plan: AttentionPlan, scale: float, dropout_p: float, reach: Reach
) -> Tensor:
    heads, dim = query.shape[1:]
    sizes = [block.slots for block in plan.blocks]
    padded = [_Pad.apply(x, plan.slot_of_token, plan.slots).split(sizes) for x in (query, key, value)]
    outs = []
    for block, *parts in zip(plan.blocks, *padded, strict=True):
        shape = (block.sequences, block.length, heads, dim)
        q, k, v = (part.view(shape).transpose(1, 2) for part in parts)
        mask = block.key_mask if reach.whole else _mask(block, reach, q)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p, scale=scale)
        outs.append(out.transpose(1, 2).reshape(block.slots, heads, dim))
    unpadded: Tensor = _Unpad.apply(torch.cat(outs) if len(outs) > 1 else outs[0], plan.slot_of_token)
    return unpadded


def _mask(block: Block, reach: Reach, query: Tensor) -> Tensor:
    """What :class:`Reach` lets be read ``[sequences or 1, 1, length, length]``, or with slopes what is added to the
    scores of each head."""
    places = torch.arange(block.length, device=query.device)
    ahead = places - places[:, None]  # of the key, seen from the query
    read = ahead <= 0 if reach.causal else torch.ones_like(ahead, dtype=torch.bool)
    if reach.window is not None:
        read = read & (ahead.abs() < reach.window)
    if block.key_mask is not None and not reach.causal:
        # Padding stands behind the tokens: a causal query does not reach it. A query that is padding itself reads too,
        # or its softmax would have no terms.
        read = (read & block.key_mask) | (places == places[:, None])
    read = read.expand(1, 1, *read.shape) if read.dim() == 2 else read
    if reach.slopes is None:
        return read
    added = reach.slopes.to(query.dtype)[:, None, None] * ahead
    return added.masked_fill(~read, -torch.inf)


# Each of the two is the other's backward. Autograd's own backward of an index is an accumulating scatter,
# which is slower and, on a GPU, adds in no fixed order; no slot is used twice here, so nothing needs adding.
class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, slot_of_token: Tensor, slots: int) -> Tensor:
        ctx.save_for_backward(slot_of_token)
        return tokens.new_zeros((slots, *tokens.shape[1:])).index_copy_(0, slot_of_token, tokens)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0].index_select(0, ctx.saved_tensors[0]), None, None


class _Unpad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slots: Tensor, slot_of_token: Tensor) -> Tensor:
        ctx.save_for_backward(slot_of_token)
        ctx.slots = slots.shape[0]
        return slots.index_select(0, slot_of_token)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        empty = grads[0].new_zeros((ctx.slots, *grads[0].shape[1:]))
        return empty.index_copy_(0, ctx.saved_tensors[0], grads[0]), None
