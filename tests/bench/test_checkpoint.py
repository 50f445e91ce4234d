"""The state of a training beside DeepSpeed's: both bring the weights back, or are not timed."""

from __future__ import annotations

import pytest

from xlt.bench import checkpoint
from xlt.bench.checkpoint import OURS, PLAIN, bench_checkpoint
from xlt.bench.shapes import CONFIGS
from xlt.pipeline.resume import RunCheckpoints

from .test_steps import TINY


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "small", TINY)


def test_both_write_and_read_the_same_weights() -> None:
    found = bench_checkpoint("small", 1)
    assert [row.name for row in found.workloads] == ["write", "read"]
    for row in found.workloads:
        assert [(each.name, each.not_run) for each in row.timings] == [(OURS, ""), (PLAIN, "")]
    weights = found.workloads[0].quantity["weights"]
    sizes = found.settings["bytes"]
    # Weights and two moments in fp32, and little more; DeepSpeed's holds as much.
    assert 12 * weights <= sizes["ours"] < 1.5 * 12 * weights
    assert sizes["DeepSpeed"] >= 12 * weights


def test_what_does_not_bring_the_weights_back_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunCheckpoints, "resume", lambda self, engine, best: [])
    row = bench_checkpoint("small", 1).workloads[1]
    assert "computes something else" in row.timings[0].not_run
    assert row.timings[1].seconds is None
    assert row.about == checkpoint.HOW
