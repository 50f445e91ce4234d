"""Rows, peers and bytes of the benchmark of the optimiser, and that another update stops it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from xlt_kernels.adamw import AdamW

from xlt.bench import optimizer, shapes
from xlt.bench.optimizer import bench_optimizer
from xlt.bench.workload import Bench

WORDS, WIDTH = 200, 32


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    sizes = {"vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(shapes.CONFIGS, "small", {**shapes.CONFIGS["small"], **sizes})
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


@pytest.fixture(scope="module")
def result() -> Bench:
    return bench_optimizer("small", 2)


def test_lazy_and_dense_beside_the_same_peers(result: Bench) -> None:
    assert [row.name for row in result.workloads] == ["lazy word embeddings", "dense"]
    for row in result.workloads:
        assert [(each.name, each.not_run) for each in row.timings] == [
            ("ours, in its plain form: no kernel here", ""),
            ("torch fused AdamW", ""),
            ("torch foreach AdamW", ""),
            ("DeepSpeed FusedAdam", "needs a GPU"),
        ]
        assert row.share is not None


def test_bytes_counted_from_the_model(result: Bench) -> None:
    parameters = sum(each.numel() for each in shapes.fresh_model("small").backbone.parameters())
    lazy, dense = (row.quantity for row in result.workloads)
    assert lazy["parameters"] == dense["parameters"] == parameters
    # Read: weight, gradient, two moments. Written: all but the gradient. Read for the norm: the gradient.
    assert dense["bytes"] == (16 + 12 + 4) * parameters
    assert result.settings["used"] == 24
    assert dense["bytes"] - lazy["bytes"] == 32 * (WORDS - 24) * WIDTH


class _Unclipped(AdamW):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "max_norm": 0.0})


class _Unflushed(AdamW):
    def flush(self) -> None:
        """Leave the rows that were not used as they are."""


@pytest.mark.parametrize("other", [_Unclipped, _Unflushed])
def test_another_update_is_not_timed(other: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "AdamW", other)
    lazy = bench_optimizer("small", 2).workloads[0]
    assert "computes something else" in lazy.timings[0].not_run


def test_a_peer_in_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def foreach(*arguments: Any, foreach: bool = False, **options: Any) -> torch.optim.Optimizer:
        if foreach:
            raise TypeError("no foreach here")
        return torch.optim.Adam(*arguments, decoupled_weight_decay=True, **options)

    monkeypatch.setattr(torch.optim, "AdamW", foreach)
    assert [row.timings[2].not_run for row in bench_optimizer("small", 2).workloads] == ["no foreach here"] * 2
