"""Whole steps beside a library user's: everyone computes the same, nobody is lost without a reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn

from xlt.bench import steps
from xlt.bench.batches import SameBatch
from xlt.bench.shapes import CONFIGS
from xlt.bench.steps import bench_steps
from xlt.bench.trainers import GraphTrainer
from xlt.bench.workload import Bench, NotRun

TINY = {
    "vocab_size": 120,
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 514,
    "initializer_range": 0.2,
}
PACKED = [steps.OURS, steps.DEEPSPEED, steps.TORCH, steps.NESTED]


@pytest.fixture(autouse=True, scope="module")
def _tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONFIGS, "small", TINY)
        patch.setattr(steps, "POOL", 2)
        patch.setattr(steps, "BATCHES", {"cpu": 2})
        yield


@pytest.fixture(scope="module")
def result(_tiny: None) -> Bench:
    return bench_steps("small", 1, rows=("issue", "B1", "B4"))


def test_every_row_has_ours_first_and_names_who_did_not_run(result: Bench) -> None:
    names = [row.name for row in result.workloads]
    assert names == ["issue", "B1, dynamic padding", "B1, length grouping", "B4"]
    for row in result.workloads[1:]:
        assert row.timings[0].name == steps.OURS
        idle = {timing.name for timing in row.timings if timing.not_run}
        assert idle
        assert all("torch.compile" in name for name in idle)
    assert [timing.name for timing in result.workloads[1].timings][:5] == [*PACKED, steps.BASELINE]
    assert {timing.not_run for timing in result.workloads[0].timings} == {
        "on a CPU a call returns when the step is done"
    }


def test_what_a_round_does_is_counted(result: Bench) -> None:
    _, dynamic, grouped, _ = result.workloads
    assert dynamic.quantity["slots"] > dynamic.quantity["tokens"] > 64 * 10
    waste = [row.quantity["slots"] / row.quantity["tokens"] for row in (dynamic, grouped)]
    assert waste[0] > waste[1] >= 1
    assert dynamic.share is not None
    # Products of 4 * 32 ** 2 + 2 * 32 * 32 weights, two operations each, three times; attention comes on top.
    assert 1 < dynamic.quantity["flop"] / (6 * 6 * 32**2 * dynamic.quantity["tokens"]) < 2
    parameters = sum(each.numel() for each in steps.fresh_model("small").backbone.parameters())
    # Two steps; 32 bytes of a weight in fp32, and of a word that was not used yet 4 zeros of its gradient.
    assert 2 * 4 * parameters < dynamic.quantity["optimizer_bytes"] < 2 * 36 * (parameters + 2000)


@pytest.mark.parametrize("task", ["squad", "hellaswag"])
def test_spans_and_choices_compute_the_same_packed_and_padded(task: str) -> None:
    found = steps._candidates(task, "small", 1)
    assert not [each for name, each in found.trainers.items() if isinstance(each, NotRun) and "compile" not in name]
    rates = {
        module.p
        for each in found.trainers.values()
        if not isinstance(each, NotRun)
        for module in each.model.modules()
        if isinstance(module, nn.Dropout)
    }
    assert rates == {0.1}


def test_a_trainer_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(self: GraphTrainer, batch: SameBatch) -> tuple[float, float]:
        return 1.0, 1.0

    monkeypatch.setattr(GraphTrainer, "loss_and_gradient", off)
    result = bench_steps("small", 1, rows=("B1",))
    assert not result.sound
    assert "Nothing was timed: the loss is 1 packed" in result.workloads[0].timings[0].not_run


def test_a_baseline_that_fails_is_named_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'deepspeed'")

    monkeypatch.setattr(steps, "DeepSpeedTrainer", absent)
    trainer = steps._candidates("mnli", "small", 1).trainers[steps.DEEPSPEED]
    assert trainer == NotRun(steps.DEEPSPEED, "No module named 'deepspeed'")
