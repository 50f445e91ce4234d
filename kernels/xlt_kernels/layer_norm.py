"""Dropout, residual and LayerNorm: the end of each half of a transformer block."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xlt_kernels.segments import at_least_fp32
from xlt_kernels.switch import serves

MAX_HIDDEN = 2048  # a row lies in the registers of one program


def layer_norm_reference(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, *, eps: float, dropout_p: float = 0.0
) -> Tensor:
    """The oracle: ``LayerNorm(dropout(x) + residual)``, normalised in fp32 or wider; see :func:`layer_norm`."""
    total = F.dropout(x, dropout_p) + residual
    wide = (at_least_fp32(tensor) for tensor in (total, weight, bias))
    normed, weight, bias = wide
    return F.layer_norm(normed, weight.shape, weight, bias, eps).to(total.dtype)


def layer_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """Differentiable ``LayerNorm(dropout(x) + residual)``, with statistics and sums in fp32.

    ``x`` and ``residual`` are ``[..., hidden]``, ``weight`` and ``bias`` ``[hidden]``. Each element of ``x`` is zeroed
    with probability ``dropout_p`` (below 1) and the others are divided by ``1 - dropout_p``. The mask is a function of
    ``seed`` (one int64 on the device; drawn from the device's generator where not given) and the element's place; it
    is drawn again in the backward pass, before which ``seed`` must not change, and it is the same in every call with
    one seed. Where the kernel does not serve, ``seed`` is not read and torch's dropout draws.
    """
    if not serves("layer_norm", x) or x.shape[-1] > MAX_HIDDEN:
        return layer_norm_reference(x, residual, weight, bias, eps=eps, dropout_p=dropout_p)
    if dropout_p and seed is None:
        seed = torch.randint(2**63 - 1, (1,), device=x.device)
    out: Tensor = _LayerNorm.apply(x, residual, weight, bias, eps, dropout_p, seed)
    return out


class _LayerNorm(torch.autograd.Function):
    # The sum is not kept but made again: x and residual are as many bytes, and residual lives on anyway.
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        dropout_p: float,
        seed: Tensor | None,
    ) -> Tensor:
        from xlt_kernels.layer_norm_triton import forward

        x, residual = x.contiguous(), residual.contiguous()
        y, mean, rstd = forward(x, residual, weight, bias, eps, dropout_p, seed)
        ctx.save_for_backward(x, residual, weight, bias, mean, rstd, seed)
        ctx.dropout_p = dropout_p
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from xlt_kernels.layer_norm_triton import backward

        x, residual, weight, bias, mean, rstd, seed = ctx.saved_tensors
        dx, dresidual, partial = backward(grads[0].contiguous(), x, residual, weight, mean, rstd, ctx.dropout_p, seed)
        dweight, dbias = partial.sum(1)
        return dx, dresidual, dweight.to(weight.dtype), dbias.to(bias.dtype), None, None, None
