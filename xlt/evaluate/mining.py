"""BUCC: from mined candidates with their margins to a threshold and its F1."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from xlt.data.predictions import Prediction
from xlt.errors import DataFault
from xlt.evaluate.metrics import Metrics

Gold = Collection[tuple[str, str]]


def best_threshold(candidates: Sequence[Prediction], gold: Gold) -> tuple[float, float]:
    """The threshold that gives the highest F1 on ``gold``, and that F1 in percent; no order matters.

    ``gold`` holds pairs of foreign and English id. As in the code of XTREME and of jiant, the threshold lies
    halfway between the lowest score kept and the next one, and of equal F1 the one that keeps fewest wins.
    Three things are left open there: equal scores are kept or dropped together; where the best is to keep all
    candidates (an error there) the threshold is the lowest score, for no lower one was seen; where no
    candidate is right it is 0, which keeps all.

    Raises:
        DataFault: there is no gold pair, or a pair is a candidate twice.
    """
    right = _right(candidates, gold)
    if not right.any():
        return 0.0, 0.0
    scores = np.array([candidate.score for candidate in candidates])
    order = np.argsort(-scores)
    scores = scores[order]
    f1 = 200 * np.cumsum(right[order]) / (np.arange(1, len(scores) + 1) + len(set(gold)))
    f1[:-1][scores[:-1] == scores[1:]] = 0
    last = int(f1.argmax())
    return float(scores[last : last + 2].mean()), float(f1[last])


def mining_f1(candidates: Sequence[Prediction], gold: Gold, threshold: float) -> Metrics:
    """``precision``, ``recall`` and ``f1``, in percent, of the candidates that score at least ``threshold``.

    ``gold`` holds pairs of foreign and English id. Where nothing is kept, the precision is 0.

    Raises:
        DataFault: there is no gold pair, or a pair is a candidate twice.
    """
    right = _right(candidates, gold)
    kept = np.array([candidate.score >= threshold for candidate in candidates], dtype=bool)
    correct, extracted, wanted = int((right & kept).sum()), int(kept.sum()), len(set(gold))
    return {
        "precision": 100 * correct / max(extracted, 1),
        "recall": 100 * correct / wanted,
        "f1": 200 * correct / (extracted + wanted),
    }


def _right(candidates: Sequence[Prediction], gold: Gold) -> npt.NDArray[np.bool_]:
    if not gold:
        raise DataFault("There are no gold pairs to score mined sentences against.", fix="A larger --limit, or none.")
    pairs = [(candidate.id, candidate.prediction) for candidate in candidates]
    if len(set(pairs)) < len(pairs):
        raise DataFault(
            f"{len(pairs) - len(set(pairs))} of {len(pairs)} mined pairs repeat another one.",
            why="The ids of a corpus are not unique, or the file of predictions was changed.",
            fix="Mine again on the same data.",
        )
    wanted = set(gold)
    return np.array([pair in wanted for pair in pairs], dtype=bool)
