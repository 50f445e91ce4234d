"""The search of a pool: as many candidates as are scored, best first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xlt.data.predictions import MOST_RANKED
from xlt.data.rows import CandidateRow, QueryRow, Row
from xlt.errors import DataFault
from xlt.retrieval.ranking import rank
from xlt.retrieval.search import Floats


def test_the_nearest_candidates_come_first_and_equal_ones_in_their_order() -> None:
    draw = np.random.default_rng(0)
    vectors: dict[str, Floats] = {}
    for name in [f"c{n}" for n in range(40)] + ["q", "r"]:
        vector = draw.standard_normal(8).astype(np.float32)
        vectors[name] = vector / np.linalg.norm(vector)
    vectors["c7"] = vectors["c3"]
    told: list[tuple[str, int, int]] = []

    def embed(texts: list[str], progress: Any) -> Floats:
        progress(len(texts), len(texts))
        return np.stack([vectors[text] for text in texts])

    rows: list[Row] = [QueryRow(name, name, ("c0",)) for name in "qr"]
    rows += [CandidateRow(f"id{n}", f"c{n}") for n in range(40)]
    found = rank(rows, embed, lambda *each: told.append(each))
    for prediction in found:
        cosines = {n: float(vectors[f"c{n}"].astype(float) @ vectors[prediction.id]) for n in range(40)}
        expected = sorted(cosines, key=lambda n: (-round(cosines[n], 6), n))[:MOST_RANKED]
        assert prediction.prediction == " ".join(f"id{n}" for n in expected)
        assert prediction.score == pytest.approx(cosines[expected[0]], abs=1e-5)
    assert [each[:2] for each in told] == [
        ("candidates embedded", 40),
        ("queries embedded", 2),
        ("queries searched", 2),
    ]
    few = rank([*rows[:1], *rows[2:5]], embed)
    assert len(str(few[0].prediction).split()) == 3
    for lacking in (rows[:2], rows[2:]):
        with pytest.raises(DataFault, match="needs queries and candidates"):
            rank(lacking, embed)
