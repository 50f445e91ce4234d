"""Neighbours against baselines: all find the same before any clock runs, and XTREME's loops mine the same pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from xlt_kernels.mutual_top_k import Nearest

from xlt.bench import retrieval
from xlt.bench.retrieval import bench_retrieval
from xlt.retrieval.mining import mine


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "SIZES", {"small": (130, 90, 32)})
    monkeypatch.setattr(retrieval, "SLICE", {"small": 2})
    monkeypatch.setattr(retrieval, "SENTENCES", {"small": 120})
    monkeypatch.setattr(retrieval, "TILE", {"cpu": 1000, "cuda": 1000})


def test_all_find_the_same_and_the_slice_is_labelled() -> None:
    whole, part, crowded, mining = bench_retrieval("small", 1).workloads
    assert [each.not_run for each in whole.timings] == ["", "", "", "", "", "needs a GPU"]
    assert "1/4 of all" in part.about
    assert whole.quantity["flop"] == 4 * part.quantity["flop"] == 2 * crowded.quantity["flop"] == 2 * 130 * 90 * 32
    assert [each.not_run for each in mining.timings] == ["", "", ""]
    assert mining.quantity == {"sentences": 240}


def test_other_neighbours_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(x: Tensor, y: Tensor, k: int = 4) -> tuple[Nearest, Nearest]:
        first = [Nearest(torch.ones(len(side), k), torch.arange(k).repeat(len(side), 1)) for side in (x, y)]
        return first[0], first[1]

    monkeypatch.setattr(retrieval, "_one_product", lambda x, y: tuple(side.ids for side in wrong(x, y)))
    baseline = bench_retrieval("small", 1).workloads[0].timings[2]
    assert (baseline.name, baseline.seconds) == ("torch fp32, one product", None)
    assert "computes something else" in baseline.not_run
    monkeypatch.setattr(retrieval, "mutual_top_k", wrong)
    row = bench_retrieval("small", 1).workloads[0]
    assert "computes something else" in row.timings[0].not_run
    assert not any(each.seconds for each in row.timings)


def test_loops_over_sentences_mine_the_pairs_that_we_mine() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.normal(1.0, 1.0, size=(count, 16)).astype(np.float32) for count in (60, 50))
    x[:20] += 3 * y[:20]
    x, y = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (x, y))
    ours = mine(x, y, [str(row) for row in range(60)], [str(column) for column in range(50)])
    theirs = {(str(row), str(column)): margin for row, column, margin in retrieval._mined(x, y)}
    assert {(each.id, each.prediction) for each in ours} == theirs.keys()
    assert all(each.score == pytest.approx(theirs[each.id, str(each.prediction)], rel=1e-5) for each in ours)
