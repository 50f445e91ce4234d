"""Rows, peers and bytes of the benchmark of the optimiser, and that another update stops it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from xlt_kernels.adamw import AdamW

from xlt.bench import optimizer, shapes
from xlt.bench.optimizer import bench_optimizer, captured
from xlt.bench.workload import Bench
from xlt.train.used_rows import RowsEmbedding

WORDS, WIDTH = 200, 32


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    sizes = {"vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(shapes.CONFIGS, "small", {**shapes.CONFIGS["small"], **sizes})
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(optimizer, "VOCABULARY", (300, 16))
        patch.setattr(optimizer, "READ", 40)
        yield


@pytest.fixture(scope="module")
def result() -> Bench:
    return bench_optimizer("small", 2)


def test_used_words_and_all_beside_the_same_peers(result: Bench) -> None:
    assert [row.name for row in result.workloads[:2]] == ["used word embeddings", "all word embeddings"]
    for row in result.workloads[:2]:
        assert [(each.name, each.not_run) for each in row.timings] == [
            ("ours, in its plain form: no kernel here", ""),
            ("torch fused AdamW", ""),
            ("torch foreach AdamW", ""),
            ("DeepSpeed FusedAdam, without a CUDA graph", "needs a GPU"),
        ]
        assert row.share is not None


def test_bytes_counted_from_the_model(result: Bench) -> None:
    parameters = sum(each.numel() for each in shapes.fresh_model("small").backbone.parameters())
    some, dense = (row.quantity for row in result.workloads[:2])
    assert some["parameters"] == dense["parameters"] == parameters
    # Read: weight, gradient, two moments. Written: all but the gradient. Read for the norm: the gradient.
    assert dense["bytes"] == (16 + 12 + 4) * parameters
    assert result.settings["used"] == 24
    assert dense["bytes"] - some["bytes"] == 32 * (WORDS - 24) * WIDTH


class _Unclipped(AdamW):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "max_norm": 0.0})


def test_another_update_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "AdamW", _Unclipped)
    row = bench_optimizer("small", 2).workloads[0]
    assert "computes something else" in row.timings[0].not_run


def test_a_peer_in_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def foreach(*arguments: Any, foreach: bool = False, **options: Any) -> torch.optim.Optimizer:
        if foreach:
            raise TypeError("no foreach here")
        return torch.optim.Adam(*arguments, decoupled_weight_decay=True, **options)

    monkeypatch.setattr(torch.optim, "AdamW", foreach)
    assert [row.timings[2].not_run for row in bench_optimizer("small", 2).workloads[:2]] == ["no foreach here"] * 2


def test_used_rows_beside_the_whole_vocabulary(result: Bench) -> None:
    row = result.workloads[2]
    assert row.name == "word embeddings of 300 x 16"
    assert [(each.name, bool(each.seconds)) for each in row.timings] == [
        ("ours, 40 rows used", True),
        ("torch fused AdamW, all rows", True),
        ("torch SparseAdam", False),
    ]


def test_other_rows_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shifted(RowsEmbedding):
        def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
            return super().forward(token_ids).roll(1, 0)

    monkeypatch.setattr(optimizer, "RowsEmbedding", Shifted)
    assert "computes something else" in bench_optimizer("small", 2).workloads[2].timings[0].not_run


class _Graph:
    """A CUDA graph whose replay makes the calls that were made while it was captured."""

    def __init__(self) -> None:
        self.replayed = 0

    def replay(self) -> None:
        self.replayed += 1


def test_an_update_runs_is_captured_and_then_only_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, updates = _Graph(), []
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "is_available": lambda: True,
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "CUDAGraph": lambda: graph,
        "stream": lambda stream: nullcontext(),
        "graph": lambda graph, stream: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    run = captured(lambda: updates.append(graph.replayed))
    for _ in range(5):
        run()
    assert updates == [0, 0]
    assert graph.replayed == 4
