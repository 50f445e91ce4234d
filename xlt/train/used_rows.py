"""Training only the rows of the word embeddings that a training reads: most of a multilingual vocabulary has none.

The examples of a run are known before its first step, and so are the pieces in them, a small part of XLM-R's 250,002.
The gradient of every other row is zero, so that AdamW only shrinks it by its weight decay. The rows that are read are
trained as a matrix of their own; gradient, clipping, moments, masters and what processes exchange then have its size.
Afterwards the others get in one multiplication what they would have got step by step: the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from xlt_kernels.embedding import embedding

from xlt.data.packing import Encoded
from xlt.model.encoder import PackedModel
from xlt.model.fused import Embedding
from xlt.tasks.record import Recipe
from xlt.train.loop import Trained

# Below this number of weights that need not be trained nothing is gained.
WORTHWHILE = 4_000_000


class RowsEmbedding(nn.Embedding):
    """Some rows ``[R, H]`` of an embedding, which takes the token ids of all of it.

    ``places`` maps each token id to its row here, and every id that has none to ``R``, which is an error to look up.
    """

    def __init__(self, whole: nn.Embedding, rows: Tensor) -> None:
        padding = None
        if whole.padding_idx is not None:
            padding = int(torch.searchsorted(rows, torch.tensor(whole.padding_idx)))
        super().__init__(len(rows), whole.embedding_dim, padding, _weight=whole.weight.detach()[rows].clone())
        places = torch.full((whole.num_embeddings,), len(rows), dtype=torch.int32)
        places[rows] = torch.arange(len(rows), dtype=torch.int32)
        self.register_buffer("places", places, persistent=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """The vectors ``[..., H]`` of ``token_ids [...]``."""
        places: Any = self.places
        return embedding(places[token_ids], self.weight, self.padding_idx)


@dataclass(frozen=True, slots=True)
class UsedRows:
    """A model whose word embeddings were replaced by the rows that a training reads."""

    model: PackedModel
    whole: nn.Embedding
    """The word embeddings before training."""
    rows: Tensor
    """The token ids ``[R]`` that are read, in order."""

    def restored(self, trained: Trained, recipe: Recipe, steps: int) -> Trained:
        """What training gave, with all rows, also in the model; ``steps`` is the length of the learning rate's
        schedule."""
        name = next(
            f"{prefix}.weight"
            for prefix, module in self.model.named_modules()
            if module is self.model.backbone.get_input_embeddings()
        )
        kept = 1.0
        for step in range(trained.step):
            rate = recipe.learning_rate * recipe.learning_rate_factor(step, steps)
            kept *= 1 - rate * recipe.weight_decay
        whole = self.whole.weight.detach().to("cpu", torch.float32) * kept
        whole[self.rows] = trained.weights[name]
        with torch.no_grad():
            self.whole.weight.copy_(whole)
        own = self.model.backbone.get_input_embeddings().weight
        self.model.backbone.set_input_embeddings(self.whole.to(own.device, own.dtype))
        return replace(trained, weights={**trained.weights, name: whole})


def train_used_rows(model: PackedModel, examples: Iterable[Encoded], special: Iterable[int]) -> UsedRows | None:
    """Replace the word embeddings of ``model`` by those of the token ids in ``examples`` and of ``special`` ones.

    None, and the model as it is, where masked LM needs all rows, or where there is little to leave out.
    """
    whole = model.backbone.get_input_embeddings()
    if model.lm_head is not None or type(whole) not in (nn.Embedding, Embedding):
        return None
    read = np.zeros(whole.num_embeddings, dtype=bool)
    read[list(special)] = True
    for example in examples:
        read[example.input_ids] = True
    for padding in (whole.padding_idx, model.backbone.config.pad_token_id):
        if padding is not None:
            read[padding] = True
    if int((~read).sum()) * whole.embedding_dim < WORTHWHILE:
        return None
    rows = torch.from_numpy(np.flatnonzero(read))
    model.backbone.set_input_embeddings(RowsEmbedding(whole, rows))
    return UsedRows(model, whole, rows)
