"""Tatoeba: for every English sentence, the foreign sentence that is nearest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from xlt.data.predictions import Prediction
from xlt.data.rows import BitextRow
from xlt.model.encoder import PackedModel
from xlt.retrieval.embed import embed
from xlt.retrieval.search import Vectors, nearest


def retrieve(
    model: PackedModel,
    rows: Sequence[BitextRow],
    tokenizer: PreTrainedTokenizerBase,
    *,
    layer: int,
    max_length: int,
    max_tokens: int,
    device: torch.device | str,
) -> list[Prediction]:
    """One prediction per row: the id of the row whose foreign sentence is nearest to this row's English one.

    The arguments are those of ``embed``; ``max_length`` is the recipe's.

    Raises:
        DataFault: there are no rows, or the model's vectors are not finite.
    """
    texts = [row.english for row in rows] + [row.foreign for row in rows]
    vectors = embed(
        model,
        texts,
        tokenizer,
        layer=layer,
        max_length=max_length,
        max_tokens=max_tokens,
        device=device,
    )
    english, foreign = vectors[: len(rows)], vectors[len(rows) :]
    return nearest_translations([row.id for row in rows], english, foreign)


def nearest_translations(ids: Sequence[str], english: Vectors, foreign: Vectors) -> list[Prediction]:
    """The nearest row of ``foreign [N, H]`` for each row of ``english [N, H]``, all unit vectors.

    English sentences are the queries and foreign ones the index, by cosine and without a margin, as in the
    code of XTREME and of jiant; the other direction gives another accuracy.
    """
    scores, found = nearest(english, foreign, 1)
    return [
        Prediction(id_, ids[row], float(cosine))
        for id_, row, cosine in zip(ids, found[:, 0], scores[:, 0], strict=True)
    ]
