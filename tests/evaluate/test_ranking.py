"""mAP@20 by hand, beside what XTREME-R's evaluator gives, and what no model at all scores."""

from __future__ import annotations

from itertools import permutations
from statistics import fmean

import pytest

from xlt.data.predictions import Prediction
from xlt.data.rows import CandidateRow, QueryRow, Row
from xlt.errors import DataFault
from xlt.evaluate.metrics import chance, majority, n_trials, score, task_score
from xlt.evaluate.parts import score_parts
from xlt.evaluate.ranking import average_precision
from xlt.tasks.catalogue import get_task

LAREQA = get_task("lareqa")
POOL: list[Row] = [CandidateRow(f"c{n}", "x") for n in range(30)]


# DERIVED: average_precision_at_k(targets, ranked, 20) of utils_lareqa.py and, with one right candidate, evaluate of
# utils_mewslix.py in google-research/xtreme give these; 0 differences on 3,000 random rankings and 33 random files.
@pytest.mark.parametrize(
    ("right", "ranked", "expected"),
    [
        ([1], [5, 3, 1], 1 / 3),
        ([1], [1], 1.0),
        ([1], [], 0.0),
        ([1], [*range(2, 22), 1], 0.0),
        ([1, 2], [1, 5, 2], (1 + 2 / 3) / 2),
        ([1, 2], [1, 1, 2], (1 + 2 / 3) / 2),
        ([*range(25)], [*range(25)], 1.0),
        ([*range(25)], [*range(10)], 0.5),
    ],
)
def test_average_precision_by_hand(right: list[int], ranked: list[int], expected: float) -> None:
    named = [[f"c{n}" for n in each] for each in (right, ranked)]
    assert average_precision(*named) == pytest.approx(expected, abs=1e-12)


def test_a_language_is_scored_by_the_mean_over_its_queries() -> None:
    rows: list[Row] = [QueryRow("q", "?", ("c1", "c2")), QueryRow("r", "?", ("c3",)), *POOL]
    said = [Prediction("r", "c0 c3", 0.5), Prediction("q", "c1 c9 c2", 0.9)]
    values = score(LAREQA, rows, said, "de")
    assert values == {"map@20": pytest.approx(100 * (5 / 6 + 1 / 2) / 2), "accuracy": 50.0}
    assert task_score(LAREQA, values) == values["map@20"]
    assert n_trials(LAREQA, rows) == 2
    parts = score_parts(LAREQA, rows, said, "de")
    assert parts == {"q": (pytest.approx(5 / 6), 1), "r": (0.5, 1)}
    assert majority(LAREQA, rows) is None


@pytest.mark.parametrize("found", ["c99", "q", "c1 c1", " ".join(f"c{n}" for n in range(21)), "c1 nothing"])
def test_what_cannot_be_ranked(found: str) -> None:
    rows: list[Row] = [QueryRow("q", "?", ("c1",)), *POOL]
    with pytest.raises(DataFault, match="1 examples of 'lareqa' rank"):
        score(LAREQA, rows, [Prediction("q", found, 0.0)], "de")
    with pytest.raises(DataFault, match="do not fit the 1 gold rows"):
        score(LAREQA, rows, [], "de")


def test_chance_is_the_mean_over_all_orders() -> None:
    pool = [f"c{n}" for n in range(6)]
    rows: list[Row] = [QueryRow("q", "?", ("c0", "c1", "c2")), QueryRow("r", "?", ("c5",))]
    rows += [CandidateRow(name, "x") for name in pool]
    orders = [list(order) for order in permutations(pool)]
    expected = fmean(fmean(average_precision(row.answers, order) for order in orders) for row in rows[:2])
    found = chance(LAREQA, rows, "de")
    assert found == {"map@20": pytest.approx(100 * expected), "accuracy": pytest.approx(100 * (3 / 6 + 1 / 6) / 2)}
