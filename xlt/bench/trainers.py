"""What takes part in a benchmark of training: our packed model, and the library's padded one with the same weights.

Each makes whole optimiser steps from batches on the host. Those of class :class:`TorchTrainer` are plain torch: fp32
weights, on a GPU bf16 autocast, clipping and torch's fused AdamW.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from xlt.bench.batches import SameBatch
from xlt.bench.library import library_with_head
from xlt.bench.shapes import forward_flop
from xlt.errors import EnvironmentFault
from xlt.model.encoder import PackedModel
from xlt.runtime import start_process_group
from xlt.tasks.record import Kind, Recipe
from xlt.train.engine import EngineSettings, Precision, build_engine
from xlt.train.graph import GraphEngine

# Packed and padded models add the same numbers in another order. fp32 keeps 24 bits (6e-8 relative): seen, with up to
# 24 layers of width 1024, are differences of 1e-7. bf16 keeps 8 bits (4e-3 per operation).
TOLERANCE = {"cpu": 1e-5, "cuda": 1e-2}
RECIPE = Recipe(steps=100_000)  # more than any benchmark makes
NESTED = "xlt_bench_nested"


class Trainer(Protocol):
    """A model that makes optimiser steps."""

    @property
    def model(self) -> nn.Module:
        """In training, with dropout."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def loss_and_gradient(self, batch: SameBatch) -> tuple[float, float]:
        """The loss and the norm of the whole gradient, of the weights as they are."""

    def step(self, *batches: SameBatch) -> object:
        """One optimiser step on all of these micro-batches; it need not wait for the device."""


class TorchTrainer:
    """A model in training with torch's optimiser; ``loss`` reads its half of a batch."""

    def __init__(self, model: nn.Module, loss: Callable[[SameBatch], Tensor], device: torch.device) -> None:
        self.model = model.to(device).train()
        self.device = device
        self._loss = loss
        self._parameters = list(self.model.parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=RECIPE.learning_rate, weight_decay=RECIPE.weight_decay, fused=True
        )

    def loss_and_gradient(self, batch: SameBatch) -> tuple[float, float]:
        """See ``Trainer``; no weight changes."""
        loss = self._backward(batch, 1)
        norm = _norm(self._parameters)
        self._optimizer.zero_grad()
        return float(loss.detach()), norm

    def step(self, *batches: SameBatch) -> None:
        """See ``Trainer``."""
        for batch in batches:
            self._backward(batch, len(batches))
        nn.utils.clip_grad_norm_(self._parameters, RECIPE.gradient_clipping)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def compiled(self, blocks: Iterable[nn.Module], **options: Any) -> TorchTrainer:
        """The same model and optimiser, the ``blocks`` of its encoder through torch.compile: alike, they share one."""
        calls = [(block, torch.compile(block._call_impl, dynamic=True, **options)) for block in blocks]
        return self._changed(*((block, "_compiled_call_impl", call) for block, call in calls))

    def nested(self, encoder: Any) -> TorchTrainer:
        """The same model and optimiser, its packed attention that of torch's nested tensors."""
        AttentionInterface.register(NESTED, _nested_attention)
        AttentionMaskInterface.register(NESTED, lambda **_: None)
        return self._changed((encoder.config, "_attn_implementation", NESTED))

    def _changed(self, *changes: tuple[Any, str, Any]) -> TorchTrainer:
        """A copy that computes with other values of these attributes (owner, name, value)."""
        other = copy.copy(self)

        def loss(batch: SameBatch) -> Tensor:
            before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
            for change in changes:
                setattr(*change)
            try:
                return self._loss(batch)
            finally:
                for change in before:
                    setattr(*change)

        other._loss = loss
        return other

    def _backward(self, batch: SameBatch, parts: int) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self._loss(batch)
        (loss / parts).backward()
        return loss


class GraphTrainer:
    """The graph engine; without ``graphs`` it launches every kernel itself."""

    def __init__(self, model: PackedModel, device: torch.device, *, graphs: bool = True) -> None:
        settings = EngineSettings(engine="graph", precision=_precision(device))
        self.model, self.device = model, device
        self._engine = GraphEngine(model, RECIPE, RECIPE.steps, settings)
        self._engine.captures = self._engine.captures and graphs

    def loss_and_gradient(self, batch: SameBatch) -> tuple[float, float]:
        """See ``Trainer``; it makes a step. Shapes seen until here count as unseen."""
        loss, _ = self._engine.step([batch.packed])
        found = float(loss), _norm(self.model.parameters())
        self._engine.forget_shapes()
        return found

    def step(self, *batches: SameBatch) -> None:
        """See ``Trainer``; it takes one batch."""
        self._engine.step([batch.packed for batch in batches])

    def optimizer_bytes(self) -> float:
        """What one update must move: masters and moments read and written, gradients read for the norm and for the
        update, rounded copies written."""
        total = 0
        for parameter, state in self._engine._optimizer.state.items():
            size = parameter.element_size()
            total += parameter.numel() * (24 + 2 * size + size * ("master" in state))
        return float(total)


class DeepSpeedTrainer:
    """DeepSpeed's engine as our runs use it, ZeRO stage 0."""

    def __init__(self, model: PackedModel, device: torch.device) -> None:
        start_process_group()
        self.model, self.device = model, device
        settings = EngineSettings(precision=_precision(device))
        self._engine = build_engine(model.to(device).train(), RECIPE, RECIPE.steps, settings)

    def loss_and_gradient(self, batch: SameBatch) -> tuple[float, float]:
        """See ``Trainer``; it makes a step."""
        loss = self._backward(batch)
        norm = _norm(self.model.parameters())
        self._engine.step()
        return float(loss), norm

    def step(self, *batches: SameBatch) -> None:
        """See ``Trainer``; it takes one batch."""
        (batch,) = batches
        self._backward(batch)
        self._engine.step()

    def _backward(self, batch: SameBatch) -> Tensor:
        loss: Tensor = self._engine(batch.packed.to(self.device))[0]
        self._engine.backward(loss)
        return loss.detach()


def packed_trainer(model: PackedModel, device: torch.device) -> TorchTrainer:
    """The packed model with its head, in plain torch."""
    return TorchTrainer(model, lambda batch: model(batch.packed.to(device))[0], device)


def padded_trainer(model: PackedModel, kind: Kind, device: torch.device) -> TorchTrainer:
    """The library's own model for ``kind`` with a copy of ``model``'s weights.

    The loss is the library's, but for spans: there the padding is left out of the softmax, as it is with us.
    """
    library = library_with_head(model, kind)

    def loss(batch: SameBatch) -> Tensor:
        padded = {name: value.to(device, non_blocking=True) for name, value in batch.padded.items()}
        if kind != "span_qa":
            found: Tensor = library(**padded).loss
            return found
        labels = padded.pop("labels")
        output = library(**padded)
        ends = (output.start_logits, output.end_logits)
        rows = [each.float().masked_fill(padded["attention_mask"] == 0, -torch.inf) for each in ends]
        return torch.stack([F.cross_entropy(row, labels[:, end]) for end, row in enumerate(rows)]).mean()

    return TorchTrainer(library, loss, device)


def work_of(batches: Sequence[SameBatch], config: Mapping[str, Any]) -> dict[str, float]:
    """What a step on each of ``batches`` does: real tokens, slots where they are padded, and FLOP of the products."""
    lengths = [length for batch in batches for length in batch.packed.cu_seqlens.diff().tolist()]
    return {
        "tokens": float(sum(lengths)),
        "slots": float(sum(batch.padded["input_ids"].numel() for batch in batches)),
        "flop": 3 * forward_flop(config, lengths),  # the backward pass has twice the products of the forward one
    }


@contextmanager
def library_modules() -> Iterator[None]:
    """A model that is made within the block keeps the library's LayerNorm and GELU."""
    before = os.environ.get("XLT_KERNELS")
    os.environ["XLT_KERNELS"] = "off"
    try:
        yield
    finally:
        del os.environ["XLT_KERNELS"]
        if before is not None:
            os.environ["XLT_KERNELS"] = before


def set_dropout(model: nn.Module, share: float) -> None:
    """Every dropout of ``model``, that of attention weights too, drops ``share`` from now on."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def check_parity(left: Trainer, right: Trainer, batch: SameBatch) -> None:
    """Both compute the same loss and the same gradient norm.

    Raises:
        EnvironmentFault: they differ by more than rounding.
    """
    for name, mine, theirs in zip(
        ("loss", "gradient norm"), left.loss_and_gradient(batch), right.loss_and_gradient(batch), strict=True
    ):
        if not abs(mine - theirs) <= TOLERANCE[left.device.type] * abs(theirs):
            raise EnvironmentFault(
                f"Nothing was timed: the {name} is {mine:.7g} packed and {theirs:.7g} padded.",
                why="Candidates that do not compute the same cannot be compared.",
                fix="xlt doctor; the installed transformers may have changed its XLM-R.",
            )


def _precision(device: torch.device) -> Precision:
    return "bf16" if device.type == "cuda" else "fp32"


def _norm(parameters: Any) -> float:
    gradients = [each.grad for each in parameters if each.grad is not None]
    # Rounded gradients are added up in fp32, as the engines do.
    return float(torch.stack([torch.linalg.vector_norm(each, dtype=torch.float32) for each in gradients]).norm())


def _nested_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    cu_seqlens: Tensor,
    max_seqlen: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """``query``, ``key``, ``value`` are ``[1, heads, T, dim]``; the result is ``[1, T, heads, dim]``."""
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(
            each[0].transpose(0, 1).contiguous(), cu_seqlens, min_seqlen=1, max_seqlen=max_seqlen
        ).transpose(1, 2)
        for each in (query, key, value)
    )
    out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
    return out.transpose(1, 2).values().unsqueeze(0), None
