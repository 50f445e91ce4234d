"""Baselines of the benchmark of masked LM, its counts, and that another loss stops it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from xlt.bench import mlm, shapes
from xlt.bench.mlm import TASK, bench_mlm, masked_batch
from xlt.bench.shapes import fitting_lengths
from xlt.bench.workload import NOT_COMPILED, Bench


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(shapes.CONFIGS, "small", {**shapes.CONFIGS["small"], **sizes})
        patch.setitem(mlm.TOKENS, "small", 700)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        for package in ("liger_kernel", "cut_cross_entropy"):
            patch.setitem(sys.modules, package, None)
        yield


@pytest.fixture(scope="module")
def result() -> Bench:
    return bench_mlm("small", 2)


def test_ours_first_and_every_baseline_runs_or_says_why_not(result: Bench) -> None:
    (row,) = result.workloads
    names = [each.name for each in row.timings]
    assert names[0] == "ours, in its plain form: no kernel here"
    assert [each.name for each in row.timings if not each.not_run] == [
        names[0],
        "library, padded, every position",
        "library, padded, masked rows, torch cross entropy",
    ]
    liger, cut, compiled = (each for each in row.timings if each.not_run)
    assert compiled.name.endswith("blocks compiled")
    assert compiled.not_run == NOT_COMPILED
    assert "liger_kernel" in liger.not_run
    assert "cut_cross_entropy" in cut.not_run
    assert row.share is not None


def test_the_batch_is_masked_as_in_training() -> None:
    lengths = fitting_lengths(TASK, 5000)
    batch = masked_batch(lengths, "small", 2)
    assert batch.cu_seqlens.diff().tolist() == lengths
    assert batch.labels is not None
    assert batch.scored_positions is not None
    # 15 % of the ordinary tokens, within five standard deviations of a binomial count.
    assert len(batch.labels) == batch.denominator == pytest.approx(0.15 * sum(lengths), abs=5 * 25)
    masked = batch.input_ids[batch.scored_positions] == 299
    assert float(masked.float().mean()) == pytest.approx(0.8, abs=0.1)


def test_products_are_as_many_as_a_counter_sees() -> None:
    lengths = fitting_lengths(TASK, 300)
    assert len(lengths) == 1  # nothing is padded
    model = shapes.fresh_model("small", dropout=0.0)
    batch = masked_batch(lengths, "small", model.first_position)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(batch)[0].backward()
    assert mlm._flop("small", lengths, int(batch.denominator)) == counter.get_total_flops()


def test_another_loss_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    library = mlm.library_masked_lm

    def other(*arguments: Any) -> Any:
        model = library(*arguments)
        with torch.no_grad():
            model.lm_head.decoder.bias[::2] += 0.01
        return model

    monkeypatch.setattr(mlm, "library_masked_lm", other)
    (row,) = bench_mlm("small", 2).workloads
    assert "computes something else" in row.timings[0].not_run
