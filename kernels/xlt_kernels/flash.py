"""Packed attention with dropout by the flash kernels that torch carries (CUDA, fp16 and bf16).

The operators are called directly because ``torch.nn.attention.varlen`` has no dropout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def flash_serves(query: Tensor) -> bool:
    """Whether :func:`flash_attention` can take ``query`` (``[..., dim]``): device, type, head size."""
    if query.device.type != "cuda" or query.dtype not in (torch.float16, torch.bfloat16):
        return False
    if query.shape[-1] % 8 or query.shape[-1] > 256:
        return False
    # Without a device (fake tensors) the question is only about the wiring.
    return not torch.cuda.is_available() or torch.cuda.get_device_capability(query.device) >= (8, 0)


def flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    scale: float,
    dropout_p: float,
    causal: bool = False,
    window: int | None = None,
) -> Tensor:
    """Attention within each sequence, ``[T, heads, dim]`` in and out, fp16 or bf16 on CUDA.

    With ``causal`` a query reads no key behind it, with a ``window`` only keys that are less than so many tokens away.
    ``cu_seqlens`` is ``[B+1]`` int32 on the same device, ``max_seqlen`` the longest length in tokens. The
    backward pass draws the forward pass's dropout mask again from its saved generator state.
    """
    out: Tensor = _FlashAttention.apply(query, key, value, cu_seqlens, max_seqlen, scale, dropout_p, causal, window)
    return out


class _FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, max_seqlen: int, scale: float,
        dropout_p: float, causal: bool = False, window: int | None = None,
    ) -> Tensor:  # fmt: skip
        lengths = (cu_seqlens, cu_seqlens, max_seqlen, max_seqlen)  # of the queries and of the keys
        debug_mask, reach = False, _reach(causal, window)
        out, logsumexp, rng_state, unused, _ = torch.ops.aten._flash_attention_forward(
            query, key, value, *lengths, dropout_p, causal, debug_mask, scale=scale, **reach
        )
        ctx.save_for_backward(query, key, value, out, logsumexp, cu_seqlens, rng_state, unused)
        ctx.max_seqlen, ctx.scale, ctx.dropout_p, ctx.causal, ctx.reach = max_seqlen, scale, dropout_p, causal, reach
        return out  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, cu_seqlens, rng_state, unused = ctx.saved_tensors
        lengths = (cu_seqlens, cu_seqlens, ctx.max_seqlen, ctx.max_seqlen)
        how = (ctx.dropout_p, ctx.causal, rng_state, unused)
        with _repeatable():
            gradients = torch.ops.aten._flash_attention_backward(
                grads[0].contiguous(), *tensors, *lengths, *how, scale=ctx.scale, **ctx.reach
            )
        return *gradients, None, None, None, None, None, None


def _reach(causal: bool, window: int | None) -> dict[str, int]:
    """How many tokens are read to the left and to the right, where that is bounded."""
    if window is None:
        return {}
    return {"window_size_left": window - 1, "window_size_right": 0 if causal else window - 1}


@contextmanager
def _repeatable() -> Iterator[None]:
    """Where deterministic mode only warns, torch's backward pass adds in no fixed order, although it has another."""
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled(), warn_only=warns)
