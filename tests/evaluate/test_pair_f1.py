"""The threshold of mined pairs against every possible cut, and its F1."""

from __future__ import annotations

import random

import pytest

from xlt.data.predictions import Prediction
from xlt.errors import DataFault
from xlt.evaluate.pair_f1 import Pairs, best_threshold, mined_pairs, pair_f1

GOLD = {("f1", "e1"), ("f2", "e2"), ("f3", "e3"), ("f4", "e4")}


def _candidates(*scored: tuple[str, float]) -> list[Prediction]:
    """``("1", 1.2)`` is the right pair f1–e1, ``("9x", 1.1)`` the wrong pair f9–ex."""
    return [Prediction(f"f{name[0]}", f"e{name[-1]}", score) for name, score in scored]


def mining_f1(candidates: list[Prediction], gold: Pairs, threshold: float) -> dict[str, float]:
    return pair_f1(gold, mined_pairs(candidates, threshold))


def test_by_hand() -> None:
    candidates = _candidates(("1", 1.5), ("9x", 1.4), ("2", 1.3), ("3", 1.2), ("8y", 1.0), ("7z", 0.9))
    # Cuts after each: 1 of 1 -> 2/5, 1 of 2 -> 2/6, 2 of 3 -> 4/7, 3 of 4 -> 6/8, 6/9, 6/10.
    assert best_threshold(candidates, GOLD) == (1.1, 75.0)
    assert best_threshold(candidates[::-1], GOLD) == (1.1, 75.0)
    assert mining_f1(candidates, GOLD, 1.1) == {"precision": 75.0, "recall": 75.0, "f1": 75.0}
    assert mining_f1(candidates, GOLD, 1.4) == {"precision": 50.0, "recall": 25.0, "f1": pytest.approx(100 / 3)}
    assert mining_f1(candidates, GOLD, 2.0) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_of_equal_f1_the_one_that_keeps_fewest() -> None:
    # With two gold pairs the first alone has 2 / (1 + 2), and all four have 4 / (4 + 2).
    gold = [("f1", "e1"), ("f2", "e2")]
    candidates = _candidates(("1", 1.5), ("9x", 1.4), ("8y", 1.3), ("2", 1.2))
    assert best_threshold(candidates, gold) == (1.45, pytest.approx(200 / 3))


def test_equal_scores_cannot_be_parted() -> None:
    # In the order given the cut after "1" has 2/5, but a threshold keeps all three of 1.5: 2/7.
    candidates = _candidates(("1", 1.5), ("9x", 1.5), ("8y", 1.5), ("7z", 1.0))
    threshold, f1 = best_threshold(candidates, GOLD)
    assert (threshold, f1) == (1.25, pytest.approx(200 / 7))
    assert mining_f1(candidates, GOLD, threshold)["f1"] == f1


def test_all_candidates_kept() -> None:
    candidates = _candidates(("9x", 1.5), ("1", 1.2), ("2", 1.1))
    assert best_threshold(candidates, GOLD) == (1.1, pytest.approx(400 / 7))
    assert mining_f1(candidates, GOLD, 1.1)["precision"] == pytest.approx(200 / 3)
    assert best_threshold(candidates[1:2], GOLD) == (1.2, 40.0)


def test_no_candidate_is_right() -> None:
    wrong = _candidates(("9x", 1.5), ("1x", 1.2))
    assert best_threshold(wrong, GOLD) == (0.0, 0.0)
    assert best_threshold([], GOLD) == (0.0, 0.0)
    assert mining_f1([], GOLD, 0.0) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_refusals() -> None:
    candidates = _candidates(("1", 1.5), ("2", 1.4), ("1", 1.3))
    with pytest.raises(DataFault, match="1 of 3 mined pairs repeat"):
        best_threshold(candidates, GOLD)
    with pytest.raises(DataFault, match="repeat"):
        mining_f1(candidates, GOLD, 1.0)
    with pytest.raises(DataFault, match="no gold pairs"):
        best_threshold(candidates[:2], [])
    with pytest.raises(DataFault, match="no gold pairs"):
        mining_f1(candidates[:2], set(), 1.0)


@pytest.mark.parametrize("seed", range(60))
def test_no_cut_is_better(seed: int) -> None:
    rng = random.Random(seed)
    steps = rng.choice([3, 10, 10**6])  # few distinct scores, or hardly a tie
    gold = [(f"f{i}", f"e{i}") for i in range(rng.randint(1, 12))]
    candidates = [
        Prediction(f"f{i}", f"e{i if rng.random() < 0.6 else i + 100}", 0.9 + rng.randrange(steps) / steps / 5)
        for i in range(rng.randint(0, 20))
    ]
    scores = sorted({candidate.score for candidate in candidates})
    cuts = {}
    for cut in [*scores, 9.0]:
        kept = {(candidate.id, candidate.prediction) for candidate in candidates if candidate.score >= cut}
        correct = len(kept & set(gold))
        precision, recall = correct / max(len(kept), 1), correct / len(gold)
        cuts[cut] = 100 * 2 * precision * recall / (precision + recall) if correct else 0.0
        measured = {"precision": 100 * precision, "recall": 100 * recall, "f1": cuts[cut]}
        assert mining_f1(candidates, gold, cut) == pytest.approx(measured)
    threshold, f1 = best_threshold(candidates, gold)
    assert f1 == pytest.approx(max(cuts.values()))
    assert mining_f1(candidates, gold, threshold)["f1"] == f1
    if f1:
        lowest = max(cut for cut in scores if cuts[cut] == pytest.approx(f1))  # the best cut that keeps fewest
        below = [score for score in scores if score < lowest]
        assert threshold == pytest.approx((lowest + below[-1]) / 2 if below else lowest, rel=1e-12)
