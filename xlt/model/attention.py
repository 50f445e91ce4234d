"""The attention of packed batches, as an implementation that the library's own models can be told to use."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from xlt_kernels.attention import Reach, packed_attention, ragged_attention
from xlt_kernels.plan import AttentionPlan, plan_attention

IMPLEMENTATION = "xlt_packed"
# For models that compute attention in their own modules: it only keeps the library from making masks.
INSIDE = "xlt_packed_inside"


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
    AttentionInterface.register(IMPLEMENTATION, attend)
    AttentionMaskInterface.register(IMPLEMENTATION, _no_mask)
    AttentionInterface.register(INSIDE, attend)
    AttentionMaskInterface.register(INSIDE, lambda **_: None)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    slopes: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
    lazy_plan: LazyPlan | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """``query`` is ``[1, heads, T, dim]``, ``key`` and ``value`` have the same heads or a part of their number; the
    result is ``[1, T, heads, dim]``. ``slopes [heads]`` are those of ALiBi."""
    if cu_seqlens is None or max_seqlen is None or query.shape[0] != 1:
        # Without the bounds every token would see every other one; of several rows only one would be read.
        raise ValueError(f"{IMPLEMENTATION} needs cu_seqlens= and max_seqlen=, of a batch without padding.")
    # Not [0], whose backward pass fills a tensor with zeros and copies into it.
    q, k, v = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))
    if k.shape[1] < q.shape[1]:  # grouped queries
        k, v = (tensor.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for tensor in (k, v))
    reach = Reach(bool(getattr(module, "is_causal", False)), sliding_window, slopes)
    plan = None if lazy_plan is None or ragged_attention(q, reach) else lazy_plan.plan
    out = packed_attention(q, k, v, cu_seqlens, max_seqlen, scale=scaling, dropout_p=dropout, plan=plan, reach=reach)
    return out.unsqueeze(0), None


def _no_mask(*, attention_mask: Tensor | None = None, **_: Any) -> None:
    if attention_mask is not None:
        raise ValueError(f"{IMPLEMENTATION} takes no attention mask: a packed batch has no padding.")
