"""The loss of the masked-LM head's last layer, without the logits of the whole batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xlt_kernels.segments import at_least_fp32
from xlt_kernels.switch import serves

# 1 GB of 16-bit logits over 250,002 words: the masked positions of 13,000 tokens, so that most batches are one chunk
# and their weight gradient needs no sum in fp32, which would take 1 GB itself.
CHUNK = 2048
IGNORED = -100


def mlm_loss_reference(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """The oracle: all logits at once, the cross entropy in fp32 or wider; see :func:`mlm_loss`."""
    logits = at_least_fp32(F.linear(hidden, weight, bias))
    return F.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED)


def mlm_loss(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """The sum over masked positions of the cross entropy of ``hidden @ weight.T + bias``, a scalar in fp32.

    ``hidden`` is ``[M, d]``, the rows of the masked positions alone, as the head's transform leaves them; ``weight`` is
    ``[V, d]`` (the word embeddings, of the type of ``hidden``), ``bias`` ``[V]``, ``labels`` ``[M]`` int64. A row whose
    label is -100 counts for nothing; one whose label is not a word makes the loss NaN. The caller divides by what it
    averages over.

    The kernel takes ``chunk`` rows at a time. Where a gradient is wanted, those of ``hidden``, ``weight`` and ``bias``
    are computed at once and the backward pass only scales them, in place: it can run only once. The gradient of
    ``weight`` is summed in fp32.
    """
    if not serves("mlm_loss", hidden):
        return mlm_loss_reference(hidden, weight, bias, labels)
    hidden = hidden.contiguous()
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (hidden, weight, bias)):
        loss: Tensor = _MlmLoss.apply(hidden, weight, bias, labels, chunk)
        return loss
    return _Pass(hidden, weight, bias, labels, chunk, gradient=False).loss


class _Pass:
    """One pass over the chunks: the loss and, where wanted, the gradients of its sum."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, chunk: int, *, gradient: bool
    ) -> None:
        from xlt_kernels.mlm_loss_triton import cross_entropy, padded_logits

        rows, vocabulary = hidden.shape[0], weight.shape[0]
        chunks = -(-rows // chunk) or 1
        chunk = -(-rows // chunks) or 1
        room, padded_bias = padded_logits(chunk, bias, hidden.dtype)
        losses = torch.empty(rows, dtype=torch.float32, device=hidden.device)
        if gradient:
            self.dhidden = torch.empty_like(hidden)
            self.dbias = torch.zeros(vocabulary, dtype=torch.float32, device=hidden.device)
            new = torch.empty if rows else torch.zeros  # the first chunk overwrites it
            wide = torch.float32 if chunks > 1 else weight.dtype
            self.dweight = new(weight.shape, dtype=wide, device=weight.device)
        for start in range(0, rows, chunk):
            part = slice(start, start + chunk)
            padded = room[: hidden[part].shape[0]]
            logits = padded[:, :vocabulary]
            torch.mm(hidden[part], weight.t(), out=logits)
            cross_entropy(padded, padded_bias, labels[part], losses[part], vocabulary, gradient=gradient)
            if gradient:  # the logits are their gradient now
                torch.mm(logits, weight, out=self.dhidden[part])
                self.dbias += logits.sum(0, dtype=torch.float32)
                _add_product(self.dweight, logits.t(), hidden[part], beta=min(start, 1))
        self.loss = losses.sum()


def _add_product(total: Tensor, left: Tensor, right: Tensor, *, beta: int) -> None:
    """``total = beta * total + left @ right``, summed in the type of ``total``."""
    if total.dtype != left.dtype and total.is_cuda:
        torch.addmm(total, left, right, out_dtype=total.dtype, beta=beta, out=total)
    else:
        total.addmm_(left.to(total.dtype), right.to(total.dtype), beta=beta)


class _MlmLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, chunk: int) -> Tensor:
        done = _Pass(hidden, weight, bias, labels, chunk, gradient=True)
        ctx.gradients = done.dhidden, done.dweight.to(weight.dtype), done.dbias.to(bias.dtype)
        return done.loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from xlt_kernels.mlm_loss_triton import scale_

        if ctx.gradients is None:
            raise RuntimeError("the backward pass of mlm_loss ran twice")
        gradients, ctx.gradients = ctx.gradients, None
        for tensor in gradients:
            scale_(tensor, grads[0])
        return *gradients, None, None
