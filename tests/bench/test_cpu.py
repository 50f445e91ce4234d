"""The benchmark of a CPU's training steps: its candidates, and that another computation is not timed."""

from __future__ import annotations

import pytest

from xlt.bench import cpu
from xlt.numerics import numerics
from xlt.train import used_rows


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"vocab_size": 400, "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 4}
    monkeypatch.setattr(cpu, "CONFIG", {**cpu.CONFIG, **tiny, "intermediate_size": 48})
    monkeypatch.setattr(cpu, "USED", 50)
    monkeypatch.setattr(used_rows, "WORTHWHILE", 1)


def test_rows_and_products_in_turn() -> None:
    (row,) = cpu.bench_cpu(2).workloads
    assert [each.not_run for each in row.timings] == [""] * 4
    assert [each.name for each in row.timings][::3] == [
        "used rows, oneDNN's products",
        "all rows, the libraries' products",
    ]
    assert row.quantity["tokens"] > 0
    assert numerics() == "native"


def test_what_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "TOLERANCE", -1.0)
    (row,) = cpu.bench_cpu(1).workloads
    assert all("computes something else" in each.not_run or "ours" in each.not_run for each in row.timings)
    assert all(each.seconds is None for each in row.timings)
