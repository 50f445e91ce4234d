"""Attention with dropout within each sequence of a packed batch, by our own Triton kernels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from xlt_kernels.case import Case, normal
from xlt_kernels.seeds import next_seed
from xlt_kernels.segments import at_least_fp32
from xlt_kernels.switch import serves

# Sizes of a head that are whole steps of the matrix instruction, and of which a tile fits shared memory.
DIMS = (16, 32, 64, 128)
DTYPES = (torch.bfloat16, torch.float16)
_TILES: dict[str, Any] = {"lengths": (1, 37, 64, 0, 50, 128, 300), "heads": 8, "dim": 64}  # a tile is 64 tokens
_ONE_TILE: dict[str, Any] = {"lengths": (1, 37, 64, 0, 50), "heads": 8, "dim": 64, "dtype": torch.bfloat16}
LARGE = (
    _TILES | {"dropout_p": 0.1},
    _TILES | {"dtype": torch.bfloat16},
    _ONE_TILE | {"dropout_p": 0.1},
    _ONE_TILE,
)
SMALL = tuple({"lengths": (1, 5, 0, 16), "heads": 1, "dim": 16, "dropout_p": dropout_p} for dropout_p in (0.1, 0.0))
# Weights and gradients of scores are rounded on their way into the next product, and results once more. The same
# roundings, done in plain torch at the shapes of LARGE, put a result off by up to 0.8 * 2**-5 in bf16 and 0.9 * 2**-8
# in fp16. fp32 (the interpreter): the same sums in another order.
TOLERANCE = {torch.bfloat16: 2**-4, torch.float16: 2**-7, torch.float32: 2**-16}


def varlen_attention_reference(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, scale: float, factors: Tensor | None = None
) -> Tensor:
    """One sequence after the other, softmax in fp32 or wider.

    ``query``, ``key``, ``value`` and the result are ``[T, heads, dim]``; ``cu_seqlens`` is ``[B+1]`` in tokens, from 0
    to T, and empty sequences are allowed. Scores are multiplied by ``scale``. ``factors [T, heads, longest]`` are what
    the weights of each query are multiplied by, as dropout does: 0 or ``1 / (1 - dropout_p)``.
    """
    parts = [value[:0]]
    for start, end in pairwise(cu_seqlens.tolist()):
        q, k, v = (at_least_fp32(tensor[start:end]).transpose(0, 1) for tensor in (query, key, value))
        weights = (q @ k.transpose(1, 2) * scale).softmax(dim=-1)
        if factors is not None:
            weights = weights * factors[start:end, :, : end - start].transpose(0, 1)
        parts.append((weights @ v).transpose(0, 1).to(query.dtype))
    return torch.cat(parts)


def varlen_serves(query: Tensor) -> bool:
    """Whether :func:`varlen_attention` can take ``query`` (``[..., dim]``): device, type, head size, switch."""
    # fp32 has no matrix instruction of full precision; the interpreter does not mind.
    narrow = query.dtype in DTYPES or query.device.type == "cpu"
    return narrow and query.shape[-1] in DIMS and serves("varlen_attention", query)


def varlen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    scale: float,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """Attention within each sequence, ``[T, heads, dim]`` in and out; differentiable, bitwise repeatable.

    ``cu_seqlens`` is ``[B+1]`` int32 on the same device; what is launched depends on ``B`` and ``max_seqlen``, which
    no length may exceed, and not on the lengths. Tokens after ``cu_seqlens[B]`` belong to no sequence: their output
    and gradients are zero. Each attention weight is dropped with probability ``dropout_p`` (in steps of 2**-16, below
    1); the mask is a function of ``seed`` (one int64 on the device; drawn from the device's generator where not
    given), the head, the query's place in the batch and the key's in its sequence, and is drawn again in the backward
    pass. Scores, weights and sums are fp32.
    """
    from xlt_kernels.varlen_attention_triton import VarlenAttention

    if dropout_p and seed is None:
        seed = next_seed(query.device)
    out: Tensor = VarlenAttention.apply(query, key, value, cu_seqlens, max_seqlen, scale, dropout_p, seed)
    return out


def attention_mask(cu_seqlens: Tensor, heads: int, max_seqlen: int, dropout_p: float, seed: Tensor) -> Tensor:
    """Which weights ``[T, heads, max_seqlen or more]`` the kernels keep: for references.

    Queries and keys of zero give equal weights, and one-hot values, 128 keys at a time, show which of them are there.
    """
    place = torch.cat([torch.arange(end - start) for start, end in pairwise(cu_seqlens.tolist())]).to(cu_seqlens.device)
    shown = []
    for first in range(0, max(max_seqlen, 1), 128):
        value = (place[:, None] - first == torch.arange(128, device=place.device)).half()
        value = value[:, None].expand(-1, heads, -1).contiguous()
        blank = torch.zeros_like(value)
        shown.append(
            varlen_attention(blank, blank, value, cu_seqlens, max_seqlen, scale=1, dropout_p=dropout_p, seed=seed)
        )
    return torch.cat(shown, dim=2) > 0


def case(
    lengths: Sequence[int],
    heads: int,
    dim: int,
    dropout_p: float = 0.0,
    *,
    dtype: torch.dtype,
    device: str,
    seed: int = 11,
) -> Case:
    """Sequences of these lengths; the reference has the dropout mask of the kernel."""
    bounds = torch.tensor([0, *lengths]).cumsum(0).int().to(device)
    drawn, longest, scale = torch.tensor([seed], device=device), max(lengths), dim**-0.5

    def op(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return varlen_attention(query, key, value, bounds, longest, scale=scale, dropout_p=dropout_p, seed=drawn)

    def reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        factors = None
        if dropout_p:
            factors = attention_mask(bounds, heads, longest, dropout_p, drawn) / (1 - dropout_p)
        return varlen_attention_reference(query, key, value, bounds, scale, factors)

    inputs = [normal(sum(lengths), heads, dim, seed=part, device=device).to(dtype) for part in range(3)]
    return Case(op, reference, inputs, TOLERANCE[dtype])
