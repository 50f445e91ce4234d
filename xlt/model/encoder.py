"""The model: a backbone of the library, a head per task, and packed batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from xlt_kernels.segments import at_least_fp32

from xlt.data.packing import PackedBatch
from xlt.errors import UsageFault
from xlt.model import storage
from xlt.model.attention import LazyPlan
from xlt.model.backbone import Backbone, blocks, first_position, load_backbone, new_backbone
from xlt.model.heads import choice_loss, class_loss, new_head, span_loss
from xlt.tasks.record import Kind


class PackedModel(nn.Module):
    """A backbone, the heads of tasks, and where present the backbone's own masked-LM head.

    ``heads`` maps a task's key to its head. Whichever way the model was made, it starts in evaluation mode:
    call ``train()`` for dropout.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.encoder
        self.lm_head: nn.Module | None = backbone.lm_head
        self.lm_head_name = backbone.lm_head_name
        self.heads = nn.ModuleDict()
        self.eval()

    @classmethod
    def fresh(cls, config: Mapping[str, Any]) -> PackedModel:
        """A new XLM-R with its masked-LM head, from torch's global generator; see ``new_backbone``."""
        return cls(new_backbone(config))

    @classmethod
    def load(
        cls, name_or_folder: str | Path, *, revision: str | None = None, masked_lm: bool | None = None
    ) -> PackedModel:
        """A public checkpoint by name, or what :meth:`save` wrote, with its task heads. In fp32, on the CPU.

        ``masked_lm`` asks for the masked-LM head; ``None`` takes it where the checkpoint has one. Raises what
        ``load_backbone`` raises, and ``DataFault`` if the heads are damaged.
        """
        model = cls(load_backbone(name_or_folder, revision=revision, masked_lm=masked_lm))
        storage.load_heads(model, Path(name_or_folder))
        return model

    def save(self, folder: str | Path, *, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write config.json, model.safetensors and, with task heads, heads.json and heads.safetensors.

        ``state_dict`` gives the weights under the names of ``named_parameters()`` where this process does not
        hold them (ZeRO), or holds rounded ones. Raises ``ValueError`` if it lacks a weight.
        """
        storage.save(self, Path(folder), state_dict)

    def add_head(self, task: str, kind: Kind, labels: int) -> None:
        """Give ``task`` a fresh head (replacing one it has), drawn from torch's global generator."""
        config = self.backbone.config
        dropout = getattr(config, "classifier_dropout", None)
        head = new_head(
            kind,
            hidden=config.hidden_size,
            labels=labels,
            dropout=config.hidden_dropout_prob if dropout is None else dropout,
            std=config.initializer_range,
        )
        head.train(self.training)
        self.heads[task] = head.to(device=self.device, dtype=self.backbone.dtype)

    def drop_masked_lm_head(self) -> None:
        """Take the masked-LM head off; the word embeddings stay with the backbone."""
        self.lm_head = None

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    @property
    def first_position(self) -> int:
        """The position id of a sequence's first token (2 for XLM-R)."""
        return first_position(self.backbone)

    def forward(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """``(loss, scores)``: the summed loss over ``batch.denominator``, and what predictions are made from.

        The loss is a scalar in fp32, and NaN where the batch has no labels. Scores are fp32: pair
        classification ``[B, labels]``, multiple choice ``[B]``, tagging ``[M, labels]``, span QA ``[T, 2]``, masked
        LM empty. No sequence may be empty.

        Raises:
            ValueError: the kind has no loss, or the model lacks the head.
        """
        hidden = self._encode(batch)
        if batch.kind == "masked_lm":
            return self._masked_lm(hidden, batch)
        if batch.task not in self.heads:
            raise ValueError(f"the model has no head for task {batch.task!r} ({batch.kind})")
        head = self.heads[batch.task]
        logits: Tensor = head(hidden, batch.scored_positions if head.kind == "tagging" else batch.cu_seqlens)
        scores = at_least_fp32(logits)
        if batch.labels is None:
            return _no_loss(scores), scores
        if head.kind == "span_qa":
            loss = span_loss(scores, batch.labels, batch.cu_seqlens, batch.max_seqlen)
        elif batch.cu_groups is not None:
            loss = choice_loss(scores, batch.labels, batch.cu_groups, batch.max_group)
        else:
            loss = class_loss(scores, batch.labels)
        return loss / batch.denominator + self._idle(batch.task, hidden), scores

    def _idle(self, task: str, hidden: Tensor) -> Tensor | float:
        """Zero, with a zero gradient for the heads of other tasks.

        ZeRO stage 3 (whose parameters have a ``ds_id``) applies the last gradient of a parameter again in a step that
        gives it none.
        """
        others = [head for key, head in self.heads.items() if key != task]
        if not self.training or not others or not hasattr(next(others[0].parameters()), "ds_id"):
            return 0.0
        nothing = hidden.new_zeros((2, hidden.shape[1]))
        first = torch.zeros(2, dtype=torch.int32, device=hidden.device)
        return 0.0 * torch.stack([head(nothing, first).float().sum() for head in others]).sum()

    def hidden_states(self, batch: PackedBatch, layer: int) -> Tensor:
        """Output ``[T, H]`` of transformer block ``layer`` (0: the embeddings); nothing above it is computed.

        Raises:
            UsageFault: there is no such block, or the backbone is not a plain stack of blocks.
        """
        with _only_first(self.backbone, layer):
            return self._encode(batch)

    def _encode(self, batch: PackedBatch) -> Tensor:
        output = self.backbone(
            input_ids=batch.input_ids.unsqueeze(0),
            position_ids=batch.position_ids.unsqueeze(0),
            cu_seqlens=batch.cu_seqlens,
            max_seqlen=batch.max_seqlen,
            lazy_plan=LazyPlan(batch.cu_seqlens),
        )
        hidden: Tensor = output.last_hidden_state.squeeze(0)
        return hidden

    def _masked_lm(self, hidden: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        if self.lm_head is None:
            raise ValueError("the model has no masked-LM head")
        empty = hidden.new_zeros(0, dtype=torch.float32)
        if batch.labels is None or batch.scored_positions is None:
            return _no_loss(empty), empty
        # The head is the widest product of the model: only the masked rows go through it.
        logits = self.lm_head(hidden.index_select(0, batch.scored_positions))
        return class_loss(logits, batch.labels) / batch.denominator, empty


def _no_loss(like: Tensor) -> Tensor:
    return like.new_full((), torch.nan)


@contextmanager
def _only_first(backbone: Any, layer: int) -> Iterator[None]:
    layers = blocks(backbone)
    if not 0 <= layer <= len(layers):
        raise UsageFault(
            f"There is no block {layer}: the backbone has {len(layers)} blocks.",
            why="0 stands for the embeddings, 1 for the output of the first block.",
            mend=f"--layer, from 0 to {len(layers)}",
        )
    backbone.encoder.layer = layers[:layer]
    try:
        yield
    finally:
        backbone.encoder.layer = layers
