"""A model whose weights are the average of those of the steps so far, which SMART's proximal point stays near."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xlt.model.encoder import PackedModel
from xlt.runtime import device
from xlt.tasks.record import Recipe

AVERAGE = "average.safetensors"


class AveragedModel:
    """A copy of ``model`` that follows it: after every step each weight keeps ``momentum`` of itself.

    Every process holds all of it, the average in fp32 and, in bf16, rounded copies to compute with; it has no dropout.
    """

    def __init__(self, model: PackedModel, momentum: float, precision: Literal["fp32", "bf16"]) -> None:
        self.model = copy.deepcopy(model).to(device()).requires_grad_(False).eval()
        self._average = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}
        self._momentum = momentum
        self.model.compute_in(device(), precision)

    @torch.no_grad()
    def follow(self, weights: Mapping[str, Tensor]) -> None:
        """Take the ``weights`` after a step, in fp32, into the average."""
        for name, own in self.model.named_parameters():
            own.copy_(self._average[name].lerp_(weights[name], 1 - self._momentum))

    def save(self, folder: Path) -> None:
        """Write the average beside an engine's state."""
        save_file({name: value.to("cpu", copy=True) for name, value in self._average.items()}, folder / AVERAGE)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Go back to what ``save`` wrote."""
        for name, value in load_file(folder / AVERAGE).items():
            self._average[name].copy_(value)
        for name, own in self.model.named_parameters():
            own.copy_(self._average[name])


def averaged_model(model: PackedModel, recipe: Recipe, precision: Literal["fp32", "bf16"]) -> AveragedModel | None:
    """The average that ``recipe`` asks for, before an engine takes the weights of ``model`` over."""
    how = recipe.adversarial
    return AveragedModel(model, how.momentum, precision) if how and how.proximal else None
