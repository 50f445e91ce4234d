"""Query, key and value of a block as one product: three parameters with their own names, side by side in one storage.

A product for each of them is too narrow to fill a large GPU, and so are the two of its backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

NAMES = ("query", "key", "value")


class Projection(nn.Linear):
    """One of the three. The first that is called with some hidden states computes all of them."""

    together: Together

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden [..., H]``."""
        return self.together.take(self, hidden)


class Together:
    """The three projections of a block. Where their weights lie apart (a change of their type moves them), each is
    computed by itself."""

    def __init__(self, parts: Sequence[nn.Linear]) -> None:
        self._parts = parts
        self._waiting: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def take(self, part: nn.Linear, hidden: Tensor) -> Tensor:
        """What ``part`` gives for ``hidden [..., H]``."""
        source, found = self._waiting.pop(part, (None, None))
        if source is hidden and found is not None:
            return found
        weights, biases = [each.weight for each in self._parts], [each.bias for each in self._parts]
        if side_by_side(weights, 0) is None or side_by_side(biases, 0) is None:
            return F.linear(hidden, part.weight, part.bias)
        made = _Product.apply(hidden, *weights, *biases)
        self._waiting = {each: (hidden, out) for each, out in zip(self._parts, made, strict=True)}
        return self._waiting.pop(part)[1]


def lay_together(encoder: nn.Module) -> None:
    """Give the query, key and value of every block of ``encoder`` one storage, and one product.

    Names, shapes and values of parameters stay. What holds a parameter's memory has to be made afterwards.
    """
    for block in list(encoder.modules()):
        parts: Any = [getattr(block, name, None) for name in NAMES]
        if any(type(part) not in (nn.Linear, Projection) or part.bias is None for part in parts):
            continue
        if len({part.weight.shape for part in parts}) > 1:
            continue
        for name in ("weight", "bias"):
            own = [getattr(part, name) for part in parts]
            for parameter, place in zip(own, torch.cat([each.detach() for each in own]).chunk(3), strict=True):
                parameter.data = place
        projections = [Projection.__new__(Projection) for _ in parts]
        together = Together(projections)
        for name, part, projection in zip(NAMES, parts, projections, strict=True):
            projection.__dict__.update(part.__dict__)
            projection.__dict__["together"] = together
            setattr(block, name, projection)


def side_by_side(parts: Sequence[Tensor], dim: int) -> Tensor | None:
    """The tensor of which ``parts``, all of one shape, are the slices along ``dim``; ``None`` where they are not."""
    first = parts[0]
    size, step = first.shape[dim], first.shape[dim] * first.stride(dim)
    for index, part in enumerate(parts):
        place = first.storage_offset() + index * step
        same = part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not same or part.storage_offset() != place or part.stride() != first.stride():
            return None
    shape = [*first.shape]
    shape[dim] = len(parts) * size
    # Rows as long as one part are rows of its own, and not of a tensor that holds the others beside it.
    whole = dim == 0 or first.stride(dim - 1) == shape[dim] * first.stride(dim)
    return first.detach().as_strided(shape, first.stride()) if whole else None


class _Product(torch.autograd.Function):
    """``hidden [..., H]`` times three weights ``[H', H]`` plus three biases ``[H']``, side by side: three slices of one
    product, and of one gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        weight, bias = side_by_side(parameters[:3], 0), side_by_side(parameters[3:], 0)
        assert weight is not None
        ctx.save_for_backward(hidden, weight)
        return F.linear(hidden, weight, bias).chunk(3, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        hidden, weight = ctx.saved_tensors
        rows = [grad.flatten(0, -2) for grad in grads]
        # The kernel of packed attention writes its gradients as slices of one; else they are brought together.
        gradient = side_by_side(rows, 1)
        gradient = torch.cat(rows, 1) if gradient is None else gradient
        dhidden = (gradient @ weight).view(hidden.shape)
        return dhidden, *(gradient.T @ hidden.flatten(0, -2)).chunk(3), *gradient.sum(0).chunk(3)
