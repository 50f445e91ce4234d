"""Mean average precision of the first 20 candidates, which LAReQA and Mewsli-X are scored by in XTREME-R.

Source: utils_lareqa.py and utils_mewslix.py of https://github.com/google-research/xtreme; written anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from xlt.data.predictions import MOST_RANKED
from xlt.data.rows import CandidateRow, QueryRow, Row


def average_precision(right: Sequence[str], ranked: Sequence[str]) -> float:
    """The sum of the precisions at the ranks of right candidates among the first 20, by how many there can be.

    Where one candidate alone is right it is one over its rank. A candidate that is named twice counts once.
    """
    wanted, hits, total = {*right}, 0, 0.0
    for rank, candidate in enumerate(ranked[:MOST_RANKED], start=1):
        if candidate in wanted:
            wanted.discard(candidate)
            hits += 1
            total += hits / rank
    return total / min(len({*right}), MOST_RANKED)


def mean_average_precision(gold: Sequence[Sequence[str]], given: Sequence[Sequence[str]]) -> dict[str, float]:
    """``map@20``, and as ``accuracy`` the share of queries whose first candidate is right, in percent."""
    pairs = list(zip(gold, given, strict=True))
    return {
        "map@20": 100 * fmean(average_precision(right, ranked) for right, ranked in pairs),
        "accuracy": 100 * fmean(bool(ranked) and ranked[0] in right for right, ranked in pairs),
    }


def ranking_chance(rows: Sequence[Row]) -> dict[str, float]:
    """What the candidates in random order are expected to score.

    A candidate is right with probability R/N at each rank, and of those before it each with (R-1)/(N-1).
    """
    pool = sum(isinstance(row, CandidateRow) for row in rows)
    sizes = Counter(len({*row.answers}) for row in rows if isinstance(row, QueryRow))
    ranks = range(1, min(MOST_RANKED, pool) + 1)
    scores = {
        right: sum(right / pool * (1 + (rank - 1) * (right - 1) / max(pool - 1, 1)) / rank for rank in ranks)
        / min(right, MOST_RANKED)
        for right in sizes
    }
    queries = sizes.total()
    return {
        "map@20": 100 * sum(count * scores[right] for right, count in sizes.items()) / queries,
        "accuracy": 100 * sum(count * right / pool for right, count in sizes.items()) / queries,
    }
