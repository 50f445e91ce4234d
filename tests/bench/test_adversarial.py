"""The cost of adversarial training: every method is timed, with its passes and its memory beside the standard ones."""

from __future__ import annotations

import pytest

from xlt.bench.adversarial import bench_adversarial
from xlt.bench.shapes import CONFIGS

from .test_steps import TINY


def test_every_method_has_its_passes_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "small", TINY)
    found = bench_adversarial("small", 1)
    (row,) = found.workloads
    assert [timing.name for timing in row.timings] == [
        "standard: 1 + 1 passes",
        "fgm: 2 + 2 passes",
        "pgd: 4 + 2 passes",
        "freelb: 2 + 2 passes",
        "smart: 3 + 1 passes",
        "r3f: 2 + 1 passes",
        "smoothing: 1 + 1 passes",
        "smart, with the proximal point: 3 + 1 passes",
    ]
    assert all(timing.not_run == "" for timing in row.timings)
    memory = list(found.settings["memory"].values())
    assert memory[0] == 1
    # Two graphs are kept until the backward pass where predictions are compared, and a second model by the average.
    assert memory[5] > 1.02
    assert memory[7] > memory[4] + 0.02
