"""The measuring script: a step that fails or hangs costs the others nothing, and its parts fit their time."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path

import pytest

from tests.bench.test_steps import TINY
from xlt.bench import gpu
from xlt.bench.gpu import compare_engines, find, main, measure, rates, repeat
from xlt.bench.shapes import CONFIGS
from xlt.bench.steps import DEEPSPEED, OURS, ROWS


def test_every_step_has_its_file_however_it_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = '{"device": "Chip X"}\n{"name": "B1", "quantity": {}}\n{"name": "B'
    slow = f"import time; open({str(tmp_path / 'slow.rows')!r}, 'w').write({rows!r}); print('so far', flush=True)"
    commands = {
        "slow": ["-c", f"{slow}; time.sleep(60)"],
        "tests": ["-c", "import sys; print('1 failed'); sys.exit(1)"],
        "doctor": ["-c", "print('{\"healthy\": true}')"],
    }
    monkeypatch.setattr(gpu, "COMMANDS", commands)
    monkeypatch.setattr(gpu, "PARTS", {1: {"slow": 4, "tests": 60, "doctor": 60}})
    start = time.monotonic()
    assert main(["--part", "1", "--out", str(tmp_path), "--size", "small"]) == 1
    assert time.monotonic() - start < 50
    slow, tests, doctor = (json.loads((tmp_path / f"{name}.json").read_text("utf-8")) for name in commands)
    assert (slow["state"], slow["tail"]) == ("timeout", "so far\n")
    assert slow["result"] == {"device": "Chip X", "workloads": [{"name": "B1", "quantity": {}}]}
    assert (tests["state"], tests["tail"]) == ("failed", "1 failed\n")
    assert (doctor["state"], doctor["result"]) == ("done", {"healthy": True})


def test_a_step_of_its_own_is_a_process_that_writes_what_it_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "PARTS", {1: {"absent": 60}})
    (outcome,) = measure(1, tmp_path, "small", 1)
    assert outcome.state == "failed"
    assert "absent" in outcome.tail


def test_the_parts_fit_their_time_and_every_step_is_known() -> None:
    for steps in gpu.PARTS.values():
        assert sum(steps.values()) <= gpu.PART_SECONDS
    known = {"machine", "engines", "repeatability", *ROWS, *gpu.BENCHES, *gpu.COMMANDS} - {"compile"}
    assert {name for steps in gpu.PARTS.values() for name in steps} == known


@pytest.mark.parametrize("place", gpu.BENCHES.values())
def test_every_benchmark_is_where_the_table_says(place: str) -> None:
    module, _, function = place.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_rates_are_tokens_per_second_of_our_engines(tmp_path: Path) -> None:
    def write(step: str, row: str, **seconds: float) -> None:
        timings = [{"name": {"graph": OURS, "ds": DEEPSPEED}[key], "seconds": value} for key, value in seconds.items()]
        rows = [{"name": row, "quantity": {"tokens": 1000.0}, "timings": timings}]
        text = json.dumps({"state": "done", "result": {"device": "Chip X", "workloads": rows}})
        (tmp_path / f"{step}.json").write_text(text, encoding="utf-8")

    assert rates(tmp_path, "large") == []
    write("B1", "B1, dynamic padding", graph=0.5, ds=2.0)
    write("B2", "B2, dynamic padding", graph=0.25)
    write("embed", "B8 whole forward", graph=0.1)
    (tmp_path / "B3.json").write_text(json.dumps({"state": "timeout", "result": None}), encoding="utf-8")
    graph, deepspeed = rates(tmp_path, "large")
    assert (graph.device, graph.backbone, graph.engine) == ("Chip X", "xlm-roberta-large", "graph")
    assert graph.training == {"pair_classification": 2000.0, "span_qa": 4000.0}
    assert deepspeed.training == {"pair_classification": 500.0}
    assert graph.inference == deepspeed.inference == 10_000


def test_engines_agree_and_a_training_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "small", TINY)
    monkeypatch.setattr(gpu, "STEPS", 5)
    found = compare_engines("small")
    assert found["within"] == {"graph without graphs": True, "deepspeed": True}
    assert len(set(found["losses"]["graph"])) == 5
    assert repeat("small") == {"steps": 5, "losses_equal": True, "weights_that_differ": []}


def test_the_machine_is_described_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlt.bench.workload.MATMUL", {"cpu": 64})
    monkeypatch.setattr("xlt.bench.workload.COPIED", {"cpu": 1 << 16})
    found = find("machine", "small", 1)
    assert {"packages", "device", "ceilings", "smi"} <= found.keys()
    json.dumps(found)
