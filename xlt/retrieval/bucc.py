"""BUCC: translations found among two corpora of which only a part are translations of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from xlt.data.predictions import Prediction
from xlt.data.rows import MiningRow
from xlt.errors import DataFault
from xlt.model.encoder import PackedModel
from xlt.retrieval.embed import embed
from xlt.retrieval.mining import mine


def mine_translations(
    model: PackedModel,
    rows: Sequence[MiningRow],
    tokenizer: PreTrainedTokenizerBase,
    *,
    layer: int,
    max_length: int,
    max_tokens: int,
    device: torch.device | str,
    keep: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> list[Prediction]:
    """The candidate pairs of the two sides of ``rows`` with their margins, highest first; see ``mine``.

    The other arguments are those of ``embed``; ``max_length`` is the recipe's. ``progress`` is told what is being done
    as well.

    Raises:
        DataFault: a side has no sentences, or the model's vectors are not finite.
    """
    sides = [row for row in rows if not row.english], [row for row in rows if row.english]
    if not all(sides):
        raise DataFault("Mining needs sentences on both sides.", fix="A larger --limit, or none.")
    foreign, english = (
        embed(
            model,
            [row.text for row in side],
            tokenizer,
            layer=layer,
            max_length=max_length,
            max_tokens=max_tokens,
            device=device,
            keep=keep,
            progress=partial(progress, f"{name} sentences embedded"),
        )
        for name, side in zip(("foreign", "English"), sides, strict=True)
    )
    foreign_ids, english_ids = ([row.id for row in side] for side in sides)
    foreign_texts, english_texts = ([row.text for row in side] for side in sides)
    return mine(
        foreign,
        english,
        foreign_ids,
        english_ids,
        foreign_texts,
        english_texts,
        progress=partial(progress, "sentences searched"),
    )
