"""Task heads on packed hidden states, and the losses of all kinds, in fp32 whatever the type of the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from xlt_kernels.segments import at_least_fp32, segment_logsumexp

from xlt.data.packing import PackedBatch
from xlt.tasks.record import Kind


class Linear(nn.Linear):
    """A product in fp32 or wider, whatever the types: in bf16 two close scores are one, and the first of them wins."""

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden [..., H]``."""
        return F.linear(at_least_fp32(hidden), at_least_fp32(self.weight), at_least_fp32(self.bias))


class Head(nn.Module):
    """What the model knows of a kind of task: how scores are made of hidden states, and what their loss is."""

    kind: Kind
    reads: Literal["cu_seqlens", "scored_positions"] = "cu_seqlens"
    """The field of a batch that says where in the hidden states the scores are made."""
    labels: int = 0
    """Number of classes or tags; 1 for multiple choice, 0 for span QA."""
    names: tuple[str, ...] = ()
    """What the labels are called, in the order of the scores; empty if only their number is known."""

    def __init__(self, hidden: int, labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.labels = labels

    def loss(self, scores: Tensor, labels: Tensor, batch: PackedBatch) -> Tensor:
        """The sum over the examples of ``batch``, or over the words of tagging."""
        return class_loss(scores, labels)


class PairHead(Head):
    """RoBERTa's classification head on the first token of each sequence."""

    kind: Kind = "pair_classification"

    def __init__(self, hidden: int, labels: int, dropout: float = 0.1) -> None:
        super().__init__(hidden, labels)
        self.dense = Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = Linear(hidden, labels)

    def forward(self, hidden: Tensor, cu_seqlens: Tensor) -> Tensor:
        """``hidden [T, H]``, ``cu_seqlens [B+1]``; logits ``[B, labels]``. No sequence may be empty."""
        first = self.dropout(at_least_fp32(hidden.index_select(0, cu_seqlens[:-1])))
        logits: Tensor = self.out_proj(self.dropout(torch.tanh(self.dense(first))))
        return logits


class ChoiceHead(PairHead):
    """The same head with one score per sequence: how well a choice fits its prompt."""

    kind: Kind = "multiple_choice"

    def __init__(self, hidden: int, labels: int = 1, dropout: float = 0.1) -> None:
        super().__init__(hidden, 1, dropout)

    def forward(self, hidden: Tensor, cu_seqlens: Tensor) -> Tensor:
        """``hidden [T, H]``, ``cu_seqlens [B+1]``; scores ``[B]``. No sequence may be empty."""
        return super().forward(hidden, cu_seqlens).squeeze(1)

    def loss(self, scores: Tensor, labels: Tensor, batch: PackedBatch) -> Tensor:
        """See ``choice_loss``."""
        assert batch.cu_groups is not None
        return choice_loss(scores, labels, batch.cu_groups, batch.max_group)


class TagHead(Head):
    """The library's token classifier, on the first token of each word."""

    kind: Kind = "tagging"
    reads = "scored_positions"

    def __init__(self, hidden: int, labels: int, dropout: float = 0.1) -> None:
        super().__init__(hidden, labels)
        self.dropout = nn.Dropout(dropout)
        self.classifier = Linear(hidden, labels)

    def forward(self, hidden: Tensor, scored_positions: Tensor) -> Tensor:
        """``hidden [T, H]``, ``scored_positions [M]``; logits ``[M, labels]``."""
        logits: Tensor = self.classifier(self.dropout(at_least_fp32(hidden.index_select(0, scored_positions))))
        return logits


class SpanHead(Head):
    """Start and end logits of every token."""

    kind: Kind = "span_qa"

    def __init__(self, hidden: int, labels: int = 0, dropout: float = 0.0) -> None:
        super().__init__(hidden, 0)
        self.qa_outputs = Linear(hidden, 2)

    def forward(self, hidden: Tensor, cu_seqlens: Tensor) -> Tensor:
        """``hidden [T, H]``; logits ``[T, 2]``, start and end."""
        logits: Tensor = self.qa_outputs(hidden)
        return logits

    def loss(self, scores: Tensor, labels: Tensor, batch: PackedBatch) -> Tensor:
        """See ``span_loss``."""
        return span_loss(scores, labels, batch.cu_seqlens, batch.max_seqlen)


HEADS: Mapping[Kind, type[Head]] = {head.kind: head for head in (PairHead, ChoiceHead, TagHead, SpanHead)}


def new_head(kind: Kind, *, hidden: int, labels: int, dropout: float, std: float) -> Head:
    """A head as the library makes it: weights N(0, std) from torch's global generator, zero biases.

    ``labels`` counts classes and is read by pair classification and tagging only. Raises ``ValueError`` where the kind
    has no head of its own, or ``labels`` is below one.
    """
    if kind not in HEADS or (HEADS[kind] in (PairHead, TagHead) and labels < 1):
        raise ValueError(f"no head for kind {kind!r} with {labels} labels")
    head = HEADS[kind](hidden, labels, dropout)
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=std)
            nn.init.zeros_(module.bias)
    return head


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the cross entropy over pairs, words or masked tokens; ``logits [N, classes]``, ``labels [N]``."""
    return F.cross_entropy(at_least_fp32(logits), labels, reduction="sum")


def choice_loss(scores: Tensor, labels: Tensor, cu_groups: Tensor, max_group: int) -> Tensor:
    """Sum over examples of the cross entropy of the right choice among the example's choices.

    ``scores [B]``, one per choice; ``labels [E]`` counts from the first choice of each example; ``cu_groups [E+1]``
    says which choices are an example's, ``max_group`` how many at most.
    """
    scores = at_least_fp32(scores)
    right = scores.index_select(0, cu_groups[:-1] + labels)
    return (segment_logsumexp(scores.unsqueeze(1), cu_groups, max_group).squeeze(1) - right).sum()


def span_loss(logits: Tensor, labels: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
    """Sum over sequences of the mean of the start and end cross entropies, over the sequence's own tokens.

    ``logits [T, 2]``; ``labels [B, 2]`` are token indices within the sequence.
    """
    logits = at_least_fp32(logits)
    places = cu_seqlens[:-1, None] + labels
    right = torch.stack([logits[:, side].index_select(0, places[:, side]) for side in (0, 1)], dim=1)
    return (segment_logsumexp(logits, cu_seqlens, max_seqlen) - right).sum() / 2
