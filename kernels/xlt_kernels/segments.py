"""Reductions over the tokens of each sequence of a packed batch, in fp32 or wider."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def at_least_fp32(tensor: Tensor) -> Tensor:
    """``tensor`` in fp32, or as it is where it is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def mean_pool(hidden: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Mean over all tokens of each sequence, special ones included.

    ``hidden`` is ``[T, H]`` of any float type, ``cu_seqlens`` ``[B+1]`` in tokens; the result is ``[B, H]``
    fp32 and zero for an empty sequence.
    """
    lengths = cu_seqlens.diff().long()
    # unsafe: skip a check of the lengths that would wait for the device.
    sums = torch.segment_reduce(at_least_fp32(hidden), "sum", lengths=lengths, unsafe=True)
    return sums / lengths.clamp(min=1).unsqueeze(1)


def unit_means(hidden: Tensor, cu_seqlens: Tensor, out_dtype: torch.dtype = torch.float32) -> Tensor:
    """:func:`mean_pool` divided by its Euclidean norm: sentence vectors ``[B, H]`` in ``out_dtype``.

    The norm is computed in fp32 before the result is rounded; a mean of zero gives zeros.
    """
    return normalize(mean_pool(hidden, cu_seqlens), dim=1).to(out_dtype)


def segment_logsumexp(logits: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
    """Log of the sum of exponentials over the tokens of each sequence, per column.

    ``logits`` is ``[T, C]`` of any float type, ``cu_seqlens`` ``[B+1]`` in tokens, ``max_seqlen`` at least
    the longest length; the result is ``[B, C]`` fp32 and ``-inf`` for an empty sequence.
    """
    total, columns = logits.shape
    sequences = cu_seqlens.shape[0] - 1
    tokens = torch.arange(total, device=logits.device, dtype=cu_seqlens.dtype)
    sequence = torch.searchsorted(cu_seqlens[1:].contiguous(), tokens, right=True)
    slots = sequence * max_seqlen + tokens - cu_seqlens[sequence]
    logits = at_least_fp32(logits)
    padded = logits.new_full((sequences * max_seqlen, columns), -torch.inf).index_copy(0, slots, logits)
    return padded.view(sequences, max_seqlen, columns).logsumexp(dim=1)
