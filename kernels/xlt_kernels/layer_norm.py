"""Dropout, residual and LayerNorm: the end of each half of a transformer block."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xlt_kernels.case import Case, normal
from xlt_kernels.seeds import next_seed
from xlt_kernels.segments import at_least_fp32
from xlt_kernels.switch import serves

MAX_HIDDEN = 2048  # a row lies in the registers of one program
EPS = 1e-5  # of the BERT and RoBERTa families
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# XLM-R Large in training and in inference; narrow rows, for one warp, and the widest.
LARGE = (
    {"rows": 517, "hidden": 1024, "dropout_p": 0.1},
    {"rows": 517, "hidden": 1024, "dropout_p": 0.0},
    {"rows": 9, "hidden": 128, "dropout_p": 0.1, "dtype": torch.bfloat16},
    {"rows": 9, "hidden": MAX_HIDDEN, "dropout_p": 0.1, "dtype": torch.bfloat16},
)
SMALL = ({"rows": 5, "hidden": 40, "dropout_p": 0.1},)
# All is computed in fp32 and each result rounded once, by at most eps / 2. fp32: sums over a row, in any order.
TOLERANCE = {torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float32: 2**-18}


def layer_norm_reference(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, *, eps: float, dropout_p: float = 0.0
) -> Tensor:
    """``LayerNorm(dropout(x) + residual)``, normalised in fp32 or wider; see :func:`layer_norm`."""
    total = F.dropout(x, dropout_p) + residual
    wide, weight, bias = (at_least_fp32(tensor) for tensor in (total, weight, bias))
    return F.layer_norm(wide, weight.shape, weight, bias, eps).to(total.dtype)


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
    from xlt_kernels.layer_norm_triton import LayerNorm

    if dropout_p and seed is None:
        seed = next_seed(x.device)
    out: Tensor = LayerNorm.apply(x, residual, weight, bias, eps, dropout_p, seed)
    return out


def case(
    rows: int, hidden: int, dropout_p: float = 0.0, *, dtype: torch.dtype, device: str, seed: int = 11, mean: float = 1
) -> Case:
    """A residual of ``mean`` and three times the spread of ``x``; the reference has the dropout mask of the kernel."""
    shapes = [(rows, hidden), (rows, hidden), (hidden,), (hidden,)]
    x, residual, weight, bias = (normal(*shape, seed=i, device=device) for i, shape in enumerate(shapes))
    drawn = torch.tensor([seed], device=device)

    def op(*tensors: Tensor) -> Tensor:
        return layer_norm(*tensors, eps=EPS, dropout_p=dropout_p, seed=drawn)

    def reference(x: Tensor, *rest: Tensor) -> Tensor:
        if dropout_p:
            from xlt_kernels.layer_norm_triton import layer_norm_mask

            x = x * layer_norm_mask(rows, hidden, dropout_p, drawn) / (1 - dropout_p)
        return layer_norm_reference(x, *rest, eps=EPS)

    inputs = [tensor.to(dtype) for tensor in (x, 3 * residual + mean, 1 + weight / 4, bias)]
    return Case(op, reference, inputs, TOLERANCE[dtype])
