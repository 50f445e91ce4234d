"""Tatoeba: for every English sentence, the foreign sentence that is nearest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xlt.data.predictions import Prediction
from xlt.data.rows import BitextRow
from xlt.retrieval.search import Vectors, nearest


def retrieve(rows: Sequence[BitextRow], embed: Callable[[Sequence[str]], Vectors]) -> list[Prediction]:
    """One prediction per row: the id of the row whose foreign sentence is nearest to this row's English one.

    ``embed`` makes unit vectors ``[N, H]`` of texts.
    """
    # In one call: both sides then share batches of equal lengths.
    vectors = embed([row.english for row in rows] + [row.foreign for row in rows])
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
