"""The attention of packed batches, as an implementation that the library's own models can be told to use."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from xlt_kernels.attention import packed_attention, ragged_attention
from xlt_kernels.plan import AttentionPlan, plan_attention

IMPLEMENTATION = "xlt_packed"


class LazyPlan:
    """The padded form of the current batch, planned once by the first layer that needs it.

    ``cu_seqlens`` is ``[B+1]`` int32 in tokens.
    """

    def __init__(self, cu_seqlens: Tensor) -> None:
        self._cu_seqlens = cu_seqlens

    @cached_property
    def plan(self) -> AttentionPlan:
        """Computed on first use: the flash kernel needs none, and planning waits for the device."""
        return plan_attention(self._cu_seqlens)


def register() -> None:
    """Make ``attn_implementation="xlt_packed"`` known to the library. Safe to call again."""
    AttentionInterface.register(IMPLEMENTATION, _attend)
    AttentionMaskInterface.register(IMPLEMENTATION, _no_mask)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
    lazy_plan: LazyPlan | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """``query``, ``key``, ``value`` are ``[1, heads, T, dim]``; the result is ``[1, T, heads, dim]``."""
    if cu_seqlens is None or max_seqlen is None or query.shape[0] != 1:
        # Without the bounds every token would see every other one; of several rows only one would be read.
        raise ValueError(f"{IMPLEMENTATION} needs cu_seqlens= and max_seqlen=, of a batch without padding.")
    # Not [0], whose backward pass fills a tensor with zeros and copies into it.
    q, k, v = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))
    plan = None if lazy_plan is None or ragged_attention(q) else lazy_plan.plan
    out = packed_attention(q, k, v, cu_seqlens, max_seqlen, scale=scaling, dropout_p=dropout, plan=plan)
    return out.unsqueeze(0), None


def _no_mask(*, attention_mask: Tensor | None = None, **_: Any) -> None:
    if attention_mask is not None:
        raise ValueError(f"{IMPLEMENTATION} takes no attention mask: a packed batch has no padding.")
