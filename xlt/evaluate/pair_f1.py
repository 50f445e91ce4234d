"""BUCC: from mined candidates with their margins to the pairs above a threshold, and their F1."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from xlt.data.predictions import Prediction
from xlt.data.rows import MiningRow, Row
from xlt.errors import DataFault

Pairs = Collection[tuple[str, str]]


def gold_pairs(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """The pairs of foreign and English id that are translations of each other."""
    return {(row.id, match) for row in rows if isinstance(row, MiningRow) for match in row.matches}


def mined_pairs(candidates: Sequence[Prediction], threshold: float) -> list[tuple[str, str]]:
    """The pairs of foreign and English id of the candidates that score at least ``threshold``."""
    pairs = [(candidate.id, str(candidate.prediction)) for candidate in candidates]
    if len(set(pairs)) < len(pairs):
        raise DataFault(
            f"{len(pairs) - len(set(pairs))} of {len(pairs)} mined pairs repeat another one.",
            why="The ids of a corpus are not unique, or the file of predictions was changed.",
            fix="Mine again on the same data.",
        )
    return [pair for pair, candidate in zip(pairs, candidates, strict=True) if candidate.score >= threshold]


def best_threshold(candidates: Sequence[Prediction], gold: Pairs) -> tuple[float, float]:
    """The threshold that gives the highest F1 on the pairs ``gold``, and that F1 in percent; no order matters.

    As in the code of XTREME and of jiant, the threshold lies halfway between the lowest score kept and the next one,
    and of equal F1 the one that keeps fewest wins. Three things are left open there: equal scores are kept or dropped
    together; where the best is to keep all candidates (an error there) the threshold is the lowest score, for no lower
    one was seen; where no candidate is right it is 0, which keeps all.
    """
    wanted = set(_some(gold))
    right = np.array([pair in wanted for pair in mined_pairs(candidates, -np.inf)], dtype=bool)
    if not right.any():
        return 0.0, 0.0
    scores = np.array([candidate.score for candidate in candidates])
    order = np.argsort(-scores)
    scores = scores[order]
    f1 = 200 * np.cumsum(right[order]) / (np.arange(1, len(scores) + 1) + len(wanted))
    # No threshold lies between equal scores: a cut is possible only after the last of them.
    f1[:-1][scores[:-1] == scores[1:]] = 0
    last = int(f1.argmax())
    return float(scores[last : last + 2].mean()), float(f1[last])


def pair_f1(gold: Pairs, found: Pairs, language: str = "") -> dict[str, float]:
    """``precision``, ``recall`` and ``f1``, in percent, of the pairs found; where none is, the precision is 0."""
    wanted, given = set(_some(gold)), set(found)
    right = len(wanted & given)
    return {
        "precision": 100 * right / max(len(given), 1),
        "recall": 100 * right / len(wanted),
        "f1": 200 * right / (len(given) + len(wanted)),
    }


def mining_chance(rows: Sequence[Row]) -> dict[str, float]:
    """The expected metrics, in percent, of pairing each foreign sentence with any English one."""
    pairs = len(_some(gold_pairs(rows)))
    english = sum(isinstance(row, MiningRow) and row.english for row in rows)
    # Each gold pair is found with the chance of one English sentence among all; F1 divides by a fixed number.
    foreign, found = len(rows) - english, pairs / english
    return {"f1": 200 * found / (foreign + pairs), "precision": 100 * found / foreign, "recall": 100 / english}


def _some(gold: Pairs) -> Pairs:
    if not gold:
        raise DataFault("There are no gold pairs to score mined sentences against.", fix="A larger --limit, or none.")
    return gold
