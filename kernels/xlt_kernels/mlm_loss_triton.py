# ruff: noqa: N803 - constants of a kernel are arguments in capitals
# mypy: allow-untyped-defs, allow-incomplete-defs
"""The kernels of :mod:`xlt_kernels.mlm_loss`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from xlt_kernels.compile import Variant

# One program takes one row, of 250,002 words in 62 blocks: a chunk has more rows than a chip holds programs. 16
# elements a thread leave room for five programs of eight warps on a multiprocessor, so that one reads while another
# sums.
BLOCK, WARPS = 4096, 8


@triton.jit
def cross_entropy_kernel(
    logits, bias, labels, losses, vocabulary, padded, GRADIENT: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """The loss of one row of ``logits + bias``; the row is overwritten by the gradient of its loss.

    Rows are ``padded`` long, a multiple of 64 so that they are read 16 bytes at a time; the padding's bias is ``-inf``.
    """
    row = tl.program_id(0)
    logits += row.to(tl.int64) * padded
    label = tl.load(labels + row).to(tl.int32)
    # A label that is no word gives NaN.
    known = (label >= 0) & (label < vocabulary)
    right = tl.load(logits + label, mask=known, other=float("nan")).to(tl.float32)
    right += tl.load(bias + label, mask=known, other=0.0)
    column = tl.arange(0, BLOCK)
    top = -float("inf")
    total = 0.0
    for start in range(0, padded, BLOCK):
        inside = start + column < padded
        z = tl.load(logits + start + column, mask=inside, other=0.0).to(tl.float32)
        z += tl.load(bias + start + column, mask=inside, other=-float("inf"))
        higher = tl.maximum(top, tl.max(z, axis=0))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(z - higher), axis=0)
        top = higher
    logsumexp = top + tl.log(total)
    counts = label != -100
    tl.store(losses + row, tl.where(counts, logsumexp - right, 0.0))
    if GRADIENT:
        for start in range(0, padded, BLOCK):
            inside = start + column < padded
            z = tl.load(logits + start + column, mask=inside, other=0.0).to(tl.float32)
            z += tl.load(bias + start + column, mask=inside, other=-float("inf"))
            grad = tl.exp(z - logsumexp) - tl.where(start + column == label, 1.0, 0.0)
            grad = tl.where(counts, grad, 0.0)
            tl.store(logits + start + column, grad.to(logits.dtype.element_ty), mask=inside)


@triton.jit
def scale_kernel(x, factor, count, BLOCK: tl.constexpr):
    """Multiply by a factor on the device, in fp32: torch would round it to the type of ``x`` first."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + place, mask=place < count, other=0.0).to(tl.float32) * tl.load(factor).to(tl.float32)
    tl.store(x + place, value.to(x.dtype.element_ty), mask=place < count)


def padded_logits(rows: int, bias: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Room for ``rows`` rows of logits of the type ``kind``, and ``bias`` in fp32, both padded as the kernel wants."""
    vocabulary = bias.shape[0]
    padded = triton.cdiv(vocabulary, 64) * 64
    logits = torch.empty((rows, padded), dtype=kind, device=bias.device)
    logits[:, vocabulary:] = 0
    return logits, F.pad(bias.float(), (0, padded - vocabulary), value=-torch.inf)


def cross_entropy(
    logits: Tensor, bias: Tensor, labels: Tensor, losses: Tensor, vocabulary: int, *, gradient: bool
) -> None:
    """Fill ``losses`` and, with ``gradient``, overwrite ``logits``, rows and ``bias`` of :func:`padded_logits`."""
    rows, padded = logits.shape
    cross_entropy_kernel[(rows,)](logits, bias, labels, losses, vocabulary, padded, gradient, BLOCK, num_warps=WARPS)


def scale_(x: Tensor, factor: Tensor) -> None:
    """``x *= factor``, one number on the device; ``x`` is contiguous."""
    if x.numel():
        scale_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, factor, x.numel(), BLOCK, num_warps=WARPS)


def variants() -> list[Variant]:
    """Every type, with the gradient and without."""
    from xlt_kernels.compile import Variant

    found = []
    for kind in ("bf16", "fp16", "fp32"):
        element = f"*{kind}"
        for gradient in (False, True):
            signature = {"logits": element, "bias": "*fp32", "labels": "*i64", "losses": "*fp32", "vocabulary": "i32"}
            signature |= {"padded": "i32:16", "GRADIENT": "constexpr", "BLOCK": "constexpr"}
            constants = {"GRADIENT": gradient, "BLOCK": BLOCK}
            name = f"cross_entropy-{kind}{'-gradient' if gradient else ''}"
            found.append(Variant(name, cross_entropy_kernel, signature, constants, WARPS, 1, matmul=False))
        signature = {"x": element, "factor": "*fp32", "count": "i32:16", "BLOCK": "constexpr"}
        found.append(Variant(f"scale-{kind}", scale_kernel, signature, {"BLOCK": BLOCK}, WARPS, 1, matmul=False))
    return found
