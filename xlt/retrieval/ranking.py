"""LAReQA and Mewsli-X: for every query, the nearest of a pool of candidates, best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from xlt.data.predictions import MOST_RANKED, Prediction
from xlt.data.rows import CandidateRow, QueryRow, Row
from xlt.errors import DataFault
from xlt.retrieval.search import Vectors, nearest


def rank(
    rows: Sequence[Row],
    embed: Callable[..., Vectors],
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> list[Prediction]:
    """The ids of the 20 nearest candidates of each query of ``rows`` by cosine, and the cosine of the first.

    ``embed`` makes unit vectors ``[N, H]`` of texts and reports to its ``progress``. ``progress`` gets what is being
    done, how much of it is done, and of how much.

    Raises:
        DataFault: there are no queries or no candidates.
    """
    queries = [row for row in rows if isinstance(row, QueryRow)]
    candidates = [row for row in rows if isinstance(row, CandidateRow)]
    if not queries or not candidates:
        raise DataFault("A search needs queries and candidates.", fix="A larger --limit, or none.")
    keys = embed([row.text for row in candidates], progress=partial(progress, "candidates embedded"))
    asked = embed([row.text for row in queries], progress=partial(progress, "queries embedded"))
    scores, found = nearest(asked, keys, MOST_RANKED, progress=partial(progress, "queries searched"))
    return [
        Prediction(query.id, " ".join(candidates[place].id for place in places), float(cosines[0]))
        for query, places, cosines in zip(queries, found, scores, strict=True)
    ]
