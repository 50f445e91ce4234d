"""Sentence vectors: the mean of each sequence's rows, at unit length."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from xlt_kernels.segments import mean_pool
from xlt_kernels.switch import serves


def unit_means_reference(hidden: Tensor, cu_seqlens: Tensor, out_dtype: torch.dtype = torch.float32) -> Tensor:
    """The oracle: mean and norm in fp32 or wider; see :func:`unit_means`."""
    return normalize(mean_pool(hidden, cu_seqlens), dim=1).to(out_dtype)


def unit_means(hidden: Tensor, cu_seqlens: Tensor, out_dtype: torch.dtype = torch.float32) -> Tensor:
    """The mean over all tokens of each sequence divided by its Euclidean norm, ``[B, d]``; for inference only.

    ``hidden`` is ``[T, d]``, ``cu_seqlens`` ``[B+1]`` in tokens. Sums are fp32. An empty sequence gives zeros, as does
    a mean of zero; a norm below 1e-12 counts as that.

    Raises:
        ValueError: a gradient is wanted.
    """
    if hidden.requires_grad and torch.is_grad_enabled():
        raise ValueError("unit_means has no gradient: call it under torch.inference_mode().")
    if not serves("pooling", hidden):
        return unit_means_reference(hidden, cu_seqlens, out_dtype)
    from xlt_kernels.pooling_triton import forward

    return forward(hidden.contiguous(), cu_seqlens, out_dtype)
