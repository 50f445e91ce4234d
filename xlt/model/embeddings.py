"""Adding to the word embeddings of a model while it computes, without losing small numbers to bf16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@contextmanager
def added_to_words(backbone: Any, added: Tensor, *, trained: bool) -> Iterator[None]:
    """Within the block the word embeddings of every pass of ``backbone`` are what they are plus ``added``; they are not
    ``trained`` by it otherwise.

    In bf16 the sum and the LayerNorm behind it are computed in fp32: numbers of bf16 near 0.1 are 5e-4 apart, and of a
    smaller perturbation nothing would be left. Where no LayerNorm follows, the sum is rounded.
    """
    words = backbone.get_input_embeddings()
    norm: Any = _norm_behind(backbone, words)

    # A hook, not inputs_embeds: models count positions by token ids, and ZeRO stage 3 gathers weights for modules.
    def add(_: nn.Module, __: Any, embedded: Tensor) -> Tensor:
        total = (embedded if trained else embedded.detach()) + added
        return total if norm else total.to(embedded.dtype)

    def wide(hidden: Tensor) -> Tensor:
        weight, bias = (None if each is None else each.to(hidden.dtype) for each in (norm.weight, norm.bias))
        return F.layer_norm(hidden, norm.normalized_shape, weight, bias, norm.eps).to(words.weight.dtype)

    hook = words.register_forward_hook(add)
    if norm:
        norm.forward = wide
    try:
        yield
    finally:
        hook.remove()
        if norm:
            del norm.forward


def _norm_behind(backbone: nn.Module, words: nn.Module) -> nn.LayerNorm | None:
    """The one LayerNorm beside the word embeddings ``words`` where they are in less than fp32, and nothing between."""
    if next(words.parameters()).dtype.itemsize >= torch.float32.itemsize:
        return None
    (parent,) = (each for each in backbone.modules() if any(child is words for child in each.children()))
    # Where the blocks stand beside the words, as in most decoders, the norm behind the blocks is another one.
    own = [*takewhile(lambda child: not isinstance(child, nn.ModuleList), parent.children())]
    found = [each for each in own if isinstance(each, nn.LayerNorm)]
    between = any(isinstance(each, nn.Linear) for each in own)
    return found[0] if len(found) == 1 and not between else None
