"""The two sides of a training benchmark: our packed model, and the library's padded one with the same weights.

Both are plain torch: the same AdamW, no dropout, forward, backward and step; on a GPU both under bf16 autocast.
Packing is the only difference.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from xlt.bench.batches import SameBatch
from xlt.errors import EnvironmentFault
from xlt.model.encoder import PackedModel

# Both sides add the same numbers in another order. fp32 keeps 24 bits (6e-8 relative): seen, with up to 24 layers of
# width 1024, are differences of 1e-7. bf16 keeps 8 bits (4e-3 per operation).
TOLERANCE = {"cpu": 1e-5, "cuda": 1e-2}


class Side:
    """A model in training with its optimiser; ``loss`` reads its half of a batch."""

    def __init__(self, model: nn.Module, loss: Callable[[SameBatch], Tensor], device: torch.device) -> None:
        self.model = model.to(device).train()
        self.device = device
        self._loss = loss
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)

    def loss_and_gradient(self, batch: SameBatch) -> tuple[float, float]:
        """The loss and the norm of the whole gradient; no weight changes."""
        loss = self._backward(batch)
        norm = nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self._optimizer.zero_grad()
        return float(loss.detach()), float(norm)

    def step(self, batch: SameBatch) -> float:
        """One training step; its seconds, until the device has finished."""
        self._wait()
        start = time.perf_counter()
        self._backward(batch)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._wait()
        return time.perf_counter() - start

    def _backward(self, batch: SameBatch) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self._loss(batch)
        loss.backward()
        return loss

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def ours(model: PackedModel, device: torch.device) -> Side:
    """The packed model with its head for pairs."""
    return Side(model, lambda batch: model(batch.packed)[0], device)


def peer(model: PackedModel, device: torch.device) -> Side:
    """The library's own sequence classifier (SDPA attention, attention mask) with a copy of ``model``'s weights."""
    head = model.heads["pairs"]
    config = copy.deepcopy(model.backbone.config)
    config.num_labels = head.labels
    library = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    library.base_model.load_state_dict(model.backbone.state_dict())
    library.classifier.load_state_dict(head.state_dict())
    return Side(library, lambda batch: library(**batch.padded).loss, device)


def check_parity(left: Side, right: Side, batch: SameBatch) -> None:
    """Both sides compute the same loss and the same gradient norm.

    Raises:
        EnvironmentFault: they differ by more than rounding.
    """
    for name, mine, theirs in zip(
        ("loss", "gradient norm"), left.loss_and_gradient(batch), right.loss_and_gradient(batch), strict=True
    ):
        if not abs(mine - theirs) <= TOLERANCE[left.device.type] * abs(theirs):
            raise EnvironmentFault(
                f"Nothing was timed: the {name} is {mine:.7g} packed and {theirs:.7g} padded.",
                why="Sides that do not compute the same cannot be compared.",
                mend="xlt doctor; the installed transformers may have changed its XLM-R.",
            )
