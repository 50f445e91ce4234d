"""Adversarial training on packed batches: the losses that an optimiser step learns from, one backward pass each.

A perturbation ``[T, E]`` of the word embeddings of a batch has a norm for each sequence, and the noise that it starts
from follows from a seed of each sequence: neither depends on which sequences share a batch, a micro-batch or a process.
Every pass draws its own dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from xlt_kernels.segments import at_least_fp32, segment_logsumexp

from xlt.data.packing import PackedBatch
from xlt.model.encoder import PackedModel
from xlt.tasks.adversarial import Adversarial

Pass = Callable[[PackedBatch], tuple[Tensor, Tensor]]
"""The loss and the scores of a batch."""
_32_BITS = 0xFFFFFFFF


def losses(
    model: PackedModel,
    batch: PackedBatch,
    how: Adversarial | None,
    weighed: Pass,
    probed: Pass,
    averaged: Pass | None = None,
) -> Iterator[Tensor]:
    """The losses of ``batch``, ``how.passes`` of them, whose mean is to be learnt from; without a method its own alone.

    The next one may be asked for only after the backward pass of the one before, which tells where to move. The last
    pass that a loss is made of is through ``weighed``, which prepares an engine for gradients of the weights; all
    others are through ``probed``. ``averaged`` is the pass of a model with averaged weights, which SMART may stay near.
    """
    if how is None:
        yield weighed(batch)[0]
    elif how.method in ("freelb", "smoothing"):
        yield from _freelb(model, batch, how, weighed)
    elif how.method in ("fgm", "pgd"):
        yield from _pgd(model, batch, how, weighed, probed)
    else:
        yield _consistent(model, batch, how, weighed, probed, averaged)


def _freelb(model: PackedModel, batch: PackedBatch, how: Adversarial, weighed: Pass) -> Iterator[Tensor]:
    """FreeLB (Zhu et al. 2020, arXiv:1909.11764): the weights learn from every step of the ascent. With one step it is
    the randomized smoothing of arXiv:2104.08645 by noise: the weights learn from noise alone."""
    moved = bounded_noise(model, batch, how.noise)
    for step in range(how.steps):
        if step:
            moved = ascend(batch, moved, moved.grad, how)
        with model.perturbed(batch, moved.requires_grad_()):
            loss = weighed(batch)[0]
        yield loss


def _pgd(model: PackedModel, batch: PackedBatch, how: Adversarial, weighed: Pass, probed: Pass) -> Iterator[Tensor]:
    """Projected gradient descent (Madry et al. 2018), and with one step FGM (Miyato et al. 2017): the loss of the batch
    plus its loss where the steps end. The clean pass tells the direction of the first one."""
    moved = torch.zeros_like(noise(model, batch)).requires_grad_()
    with model.perturbed(batch, moved):
        loss = weighed(batch)[0]
    yield 2 * loss
    moved = ascend(batch, moved, moved.grad, how)
    for _ in range(how.steps - 1):
        with model.perturbed(batch, moved.requires_grad_()):
            (gradient,) = torch.autograd.grad(probed(batch)[0], moved)
        moved = ascend(batch, moved, gradient, how)
    with model.perturbed(batch, moved):
        loss = weighed(batch)[0]
    yield 2 * how.weight * loss


def _consistent(
    model: PackedModel, batch: PackedBatch, how: Adversarial, weighed: Pass, probed: Pass, averaged: Pass | None
) -> Tensor:
    """SMART (Jiang et al. 2020, arXiv:1911.03437), and without its ascent R3F (Aghajanyan et al. 2021,
    arXiv:2008.03156): the loss of the batch plus how far the predictions under noise are from those without.

    As in the code of both, the perturbed pass trains no word embeddings. SMART's step divides by the largest gradient
    of the sequence (its code: of the token). With ``averaged`` weights the predictions are also to stay near theirs
    (Bregman proximal point).
    """
    drawn = noise(model, batch)
    moved = drawn * how.noise
    # The clean pass, too: in bf16 both are then rounded alike.
    with model.perturbed(batch, torch.zeros_like(drawn)):
        loss, clean = probed(batch)
    if how.method == "smart":
        moved = torch.erfinv(drawn) * 2**0.5 * how.noise  # normal
        for _ in range(how.steps):
            with model.perturbed(batch, moved.requires_grad_()):
                apart = divergence(batch, probed(batch)[1], clean.detach())
                (gradient,) = torch.autograd.grad(apart, moved)
            largest = torch.segment_reduce(gradient.abs().amax(1), "max", lengths=_lengths(batch), unsafe=True)
            moved = moved.detach() + gradient * _spread(batch, how.step_size / _above_zero(largest))
    if averaged:
        with torch.no_grad():
            _, before = averaged(batch)
        loss = loss + how.proximal * divergence(batch, clean, before)
    with model.perturbed(batch, moved.detach(), trained=False):
        _, scores = weighed(batch)
    return loss + how.weight * divergence(batch, clean, scores)


def divergence(batch: PackedBatch, one: Tensor, other: Tensor) -> Tensor:
    """The symmetric Kullback-Leibler divergence of two scores of ``batch``, as its loss is summed and divided: over the
    classes of pairs, the choices of an example, the tags of a word, the pieces of a hidden token, or, as the mean of
    start and end, over the tokens of a sequence."""
    left, right = (_log_probabilities(batch, at_least_fp32(each)) for each in (one, other))
    terms = (left.exp() - right.exp()) * (left - right)
    assert batch.labels is not None
    # Sequences that only fill a batch up count for nothing; in multiple choice they have one choice, which is certain.
    if batch.kind == "span_qa":
        tokens = torch.arange(batch.tokens, device=terms.device)
        terms = terms * (tokens < batch.cu_seqlens[len(batch.labels)])[:, None] / 2
    elif batch.kind != "multiple_choice":
        terms = terms * (batch.labels >= 0)[:, None]
    return terms.sum() / batch.denominator


def _log_probabilities(batch: PackedBatch, scores: Tensor) -> Tensor:
    if batch.kind == "multiple_choice":
        assert batch.cu_groups is not None
        sums = segment_logsumexp(scores[:, None], batch.cu_groups, batch.max_group)
        return scores[:, None] - sums.repeat_interleave(batch.cu_groups.diff(), dim=0, output_size=len(scores))
    if batch.kind == "span_qa":
        return scores - _spread(batch, segment_logsumexp(scores, batch.cu_seqlens, batch.max_seqlen)).squeeze(1)
    return scores.log_softmax(dim=-1)


@torch.no_grad()
def ascend(batch: PackedBatch, moved: Tensor, gradient: Tensor | None, how: Adversarial) -> Tensor:
    """``moved [T, E]`` one step of ``how.step_size`` up its ``gradient``, within ``how.radius`` where that is set.

    A sequence whose gradient is zero stays where it is.
    """
    assert gradient is not None
    moved = moved + gradient * _spread(batch, how.step_size / _above_zero(norms(batch, gradient)))
    if how.radius:
        moved = moved * _spread(batch, (how.radius / _above_zero(norms(batch, moved))).clamp(max=1))
    return moved


def norms(batch: PackedBatch, rows: Tensor) -> Tensor:
    """The Euclidean norm ``[B]`` of all of each sequence's ``rows [T, E]``."""
    return torch.segment_reduce(rows.square().sum(1), "sum", lengths=_lengths(batch), unsafe=True).sqrt()


def bounded_noise(model: PackedModel, batch: PackedBatch, norm: float) -> Tensor:
    """:func:`noise` between bounds that leave each sequence a norm of at most ``norm``, as FreeLB draws it."""
    drawn = noise(model, batch)
    return drawn * _spread(batch, norm / (_lengths(batch) * drawn.shape[1]).to(drawn.dtype).sqrt())


@torch.no_grad()
def noise(model: PackedModel, batch: PackedBatch) -> Tensor:
    """``[T, E]`` in fp32 or wider: numbers uniform between -1 and 1.

    Each follows from the seed of its sequence and its place there alone, by a hash of integers, so that every device
    computes the same.
    """
    assert batch.noise_seeds is not None
    width = model.backbone.get_input_embeddings().embedding_dim
    places = torch.arange(batch.tokens, device=batch.input_ids.device)
    places = places - _spread(batch, batch.cu_seqlens[:-1])[:, 0]
    tokens = _hash(_spread(batch, batch.noise_seeds)[:, 0] ^ _hash(places))
    bits = _hash((tokens[:, None] + torch.arange(width, device=places.device) * 0x9E3779B9) & _32_BITS)
    # 23 bits: these sums and products are exact in fp32, and neither bound is reached.
    kind = torch.promote_types(model.backbone.dtype, torch.float32)
    return ((bits >> 9).to(kind) + 0.5) * 2.0**-22 - 1


def _hash(words: Tensor) -> Tensor:
    """A bijection of 32-bit numbers, held in int64, that leaves no pattern (the constants of ``lowbias32``)."""
    words = (words ^ (words >> 16)) * 0x7FEB352D & _32_BITS
    words = (words ^ (words >> 15)) * 0x846CA68B & _32_BITS
    return words ^ (words >> 16)


def _lengths(batch: PackedBatch) -> Tensor:
    """``[B]``, for reductions that are not to check it (``unsafe``), which would wait for the device."""
    return batch.cu_seqlens.diff().long()


def _above_zero(values: Tensor) -> Tensor:
    return values.clamp(min=torch.finfo(values.dtype).tiny)


def _spread(batch: PackedBatch, values: Tensor) -> Tensor:
    """``values [B, ...]`` for each of the tokens, ``[T, 1, ...]``."""
    return values.repeat_interleave(batch.cu_seqlens.diff(), dim=0, output_size=batch.tokens)[:, None]
