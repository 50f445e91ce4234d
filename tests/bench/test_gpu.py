"""The measuring script: a step that fails or hangs costs the others nothing."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path

import pytest

from tests.bench.test_steps import TINY
from xlt.bench import gpu
from xlt.bench.gpu import compare_engines, find, main, measure, repeat
from xlt.bench.shapes import CONFIGS
from xlt.bench.steps import ROWS


def test_every_step_has_its_file_however_it_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = '{"device": "Chip X", "workloads": [{"name": "B1", "quantity": {}}]}'
    slow = f"import time; open({str(tmp_path / 'slow.rows')!r}, 'w').write({rows!r}); print('so far', flush=True)"
    commands = {
        "slow": ["-c", f"{slow}; time.sleep(60)"],
        "tests": ["-c", "import sys; print('1 failed'); sys.exit(1)"],
        "doctor": ["-c", "print('{\"healthy\": true}')"],
    }
    monkeypatch.setattr(gpu, "COMMANDS", commands)
    monkeypatch.setattr(gpu, "STEPS", {"slow": 4, "tests": 60, "doctor": 60})
    start = time.monotonic()
    assert main(["--out", str(tmp_path), "--size", "small"]) == 1
    assert time.monotonic() - start < 50
    slow, tests, doctor = (json.loads((tmp_path / f"{name}.json").read_text("utf-8")) for name in commands)
    assert (slow["state"], slow["tail"]) == ("timeout", "so far\n")
    assert slow["result"] == {"device": "Chip X", "workloads": [{"name": "B1", "quantity": {}}]}
    assert (tests["state"], tests["tail"]) == ("failed", "1 failed\n")
    assert (doctor["state"], doctor["result"]) == ("done", {"healthy": True})


def test_a_step_of_its_own_is_a_process_that_writes_what_it_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "STEPS", {"absent": 60})
    assert not measure(["absent"], tmp_path, "small", 1)
    outcome = json.loads((tmp_path / "absent.json").read_text("utf-8"))
    assert outcome["state"] == "failed"
    assert "absent" in outcome["tail"]


def test_every_step_is_known_and_another_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert {"machine", "engines", "repeatability", *ROWS, *gpu.BENCHES, *gpu.COMMANDS} == gpu.STEPS.keys()
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "B1", "B9"])
    assert "no such step: B9. There are: compile, machine" in capsys.readouterr().err


@pytest.mark.parametrize("name", gpu.BENCHES)
def test_every_benchmark_is_where_its_name_says(name: str) -> None:
    assert callable(getattr(importlib.import_module(f"xlt.bench.{name}"), f"bench_{name}"))


def test_engines_agree_and_a_training_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "small", TINY)
    monkeypatch.setattr(gpu, "TRAINED", 5)
    found = compare_engines("small")
    assert found["within"] == {"graph without graphs": True, "deepspeed": True}
    assert len(set(found["losses"]["graph"])) == 5
    assert repeat("small") == {"steps": 5, "losses_equal": True, "weights_that_differ": []}


def test_the_machine_is_described_without_a_gpu() -> None:
    found = find("machine", "small", 1)
    assert {"packages", "device", "ceilings", "smi"} <= found.keys()
    json.dumps(found)
