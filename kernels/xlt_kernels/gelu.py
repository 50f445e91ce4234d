"""Bias and exact GELU: the middle of a transformer block's feed-forward half.

To be measured: ``torch.compile`` makes one kernel of the two lines of the reference as well, and the two were never
timed on a GPU. This kernel stays only if it is at least 3 % faster in the row "GELU" of ``xlt bench kernels``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xlt_kernels.case import Case, normal
from xlt_kernels.segments import at_least_fp32
from xlt_kernels.switch import serves

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
LARGE = ({"rows": 517, "width": 4096},)
SMALL = ({"rows": 5, "width": 40},)
# All is computed in fp32 and each result rounded once, by at most eps / 2. fp32: the fitted error function and sums.
TOLERANCE = {torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float32: 2**-19}


def bias_gelu_reference(x: Tensor, bias: Tensor) -> Tensor:
    """``gelu(x + bias)`` with the error function, in fp32 or wider; see :func:`bias_gelu`."""
    return F.gelu(at_least_fp32(x) + bias).to(x.dtype)


def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Differentiable ``gelu(x + bias)``, ``x`` and the result ``[..., width]``, ``bias`` ``[width]``.

    The error function's form, not the one with tanh. Computed in fp32; of what was computed only ``x`` is kept for
    the backward pass.
    """
    if not serves("gelu", x):
        return bias_gelu_reference(x, bias)
    from xlt_kernels.gelu_triton import BiasGelu

    out: Tensor = BiasGelu.apply(x, bias)
    return out


def case(rows: int, width: int, *, dtype: torch.dtype, device: str) -> Case:
    """Sums of a standard deviation of 4.2, which reach both tails."""
    x, bias = 3 * normal(rows, width, seed=0, device=device), 3 * normal(width, seed=1, device=device)
    return Case(bias_gelu, bias_gelu_reference, [x.to(dtype), bias.to(dtype)], TOLERANCE[dtype])
