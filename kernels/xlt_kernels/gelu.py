"""Bias and exact GELU: the middle of a transformer block's feed-forward half."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xlt_kernels.segments import at_least_fp32
from xlt_kernels.switch import serves


def bias_gelu_reference(x: Tensor, bias: Tensor) -> Tensor:
    """The oracle: ``gelu(x + bias)`` with the error function, in fp32 or wider; see :func:`bias_gelu`."""
    return F.gelu(at_least_fp32(x) + bias).to(x.dtype)


def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Differentiable ``gelu(x + bias)``, ``x`` and the result ``[..., width]``, ``bias`` ``[width]``.

    The error function's form, not the one with tanh. Computed in fp32; of what was computed only ``x`` is kept for
    the backward pass.
    """
    if not serves("gelu", x):
        return bias_gelu_reference(x, bias)
    out: Tensor = _BiasGelu.apply(x, bias)
    return out


class _BiasGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        from xlt_kernels.gelu_triton import forward

        x = x.contiguous()
        ctx.save_for_backward(x, bias)
        return forward(x, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        from xlt_kernels.gelu_triton import backward

        x, bias = ctx.saved_tensors
        dx, partial = backward(grads[0].contiguous(), x, bias)
        return dx, partial.sum(0).to(bias.dtype)
