"""Embeddings whose gradient is added up in fp32 and rounded once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xlt_kernels.case import Case, normal
from xlt_kernels.switch import serves

DTYPES = (torch.bfloat16, torch.float16)  # of fp32 torch adds up in fp32 itself
# So many rows or fewer (positions, segments) get their gradient from a product with ones and zeros, which adds up in
# fp32 too: it needs no sorting, and a row that every token reads is no longer than the others.
FEW_ROWS = 1024
# The words of a batch, and its positions.
LARGE = ({"rows": 3000, "tokens": 517, "width": 1024}, {"rows": 514, "tokens": 517, "width": 1024})
SMALL = ({"rows": FEW_ROWS + 6, "tokens": 50, "width": 24}, {"rows": 9, "tokens": 50, "width": 24})
# The sums are in fp32, in another order than torch's, and each is rounded once, by at most eps / 2. In fp32 each
# addition rounds, and the row that most tokens read is a sum of a tenth of them.
TOLERANCE = {torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float32: 2**-16}


def embedding(ids: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """``F.embedding``: the rows ``[..., width]`` of ``weight [rows, width]`` that ``ids [...]`` name; differentiable.

    The gradient of each row is added up in fp32, in the order of the tokens, and rounded once. torch's own adds in the
    type of ``weight`` up to 3,072 tokens: in bf16 the rows of frequent tokens are off by up to 1 %. That of
    ``padding_idx`` is zero.
    """
    if weight.dtype not in DTYPES or not serves("embedding", weight):
        return F.embedding(ids, weight, padding_idx)
    out: Tensor = _Embedding.apply(ids, weight, padding_idx)
    return out


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor, padding_idx: int | None) -> Tensor:
        ctx.save_for_backward(ids)
        # Not the weight itself: ZeRO takes it away when the module has been called.
        ctx.rows, ctx.padding_idx = len(weight), padding_idx
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        ids, dy = ctx.saved_tensors[0].flatten(), grads[0].flatten(0, -2)
        if ctx.rows <= FEW_ROWS:
            reads = torch.arange(ctx.rows, device=ids.device, dtype=ids.dtype)[:, None] == ids
            dweight = reads.to(dy.dtype) @ dy
            if ctx.padding_idx is not None:
                dweight[ctx.padding_idx] = 0
        else:
            from xlt_kernels.embedding_triton import sum_rows

            dweight = sum_rows(dy, ids, ctx.rows, ctx.padding_idx)
        return None, dweight, None


def case(rows: int, tokens: int, width: int, *, dtype: torch.dtype, device: str) -> Case:
    """Few rows that many tokens read, and many that few do, among them the last; row 1 is padding, and read."""
    drawn = torch.rand(tokens, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    ids = (drawn**4 * rows).int()  # as those of the words that a training reads
    ids[:2], ids[-3:] = 1, rows - 1
    ids = ids.to(device)

    def op(weight: Tensor) -> Tensor:
        return embedding(ids, weight, 1)

    def reference(weight: Tensor) -> Tensor:
        return F.embedding(ids, weight, 1)

    return Case(op, reference, [normal(rows, width, seed=0, device=device).to(dtype)], TOLERANCE[dtype])
