"""The measuring script: a step that fails or hangs costs the others nothing."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.bench.test_steps import TINY
from xlt.bench import gpu, workload
from xlt.bench.gpu import compare_engines, find, main, measure, pace, profile, repeat, side_by_side
from xlt.bench.shapes import CONFIGS
from xlt.bench.steps import ROWS


def test_every_step_has_its_file_however_it_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = '{"device": "Chip X", "workloads": [{"name": "B1", "quantity": {}}]}'
    slow = f"import time; open({str(tmp_path / 'slow.rows')!r}, 'w').write({rows!r}); print('so far', flush=True)"
    commands = {
        "slow": ["-c", f"{slow}; time.sleep(60)"],
        "tests": ["-c", "import sys; print('1 failed'); sys.exit(1)"],
    }
    monkeypatch.setattr(gpu, "COMMANDS", commands)
    monkeypatch.setattr(gpu, "STEPS", {"slow": 4, "tests": 60})
    start = time.monotonic()
    assert main(["--out", str(tmp_path), "--size", "small"]) == 1
    assert time.monotonic() - start < 50
    slow, tests = (json.loads((tmp_path / f"{name}.json").read_text("utf-8")) for name in commands)
    assert (slow["state"], slow["tail"]) == ("timeout", "so far\n")
    assert slow["result"] == {"device": "Chip X", "workloads": [{"name": "B1", "quantity": {}}]}
    assert (tests["state"], tests["tail"]) == ("failed", "1 failed\n")


def test_a_killed_benchmark_leaves_the_rows_that_it_timed(tmp_path: Path) -> None:
    """By SIGKILL, in the middle of its second row."""
    code = """
import sys, time
from pathlib import Path
from xlt.bench.workload import Candidate, compare, keep_rows
keep_rows(Path(sys.argv[1]))
compare("first", "", [Candidate("ours", lambda: time.sleep(0.001))], rounds=2, quantity={})
print("timed", flush=True)
compare("second", "", [Candidate("ours", lambda: time.sleep(60))], rounds=2, quantity={})
"""
    file = tmp_path / "B1.rows"
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "timed\n"
        process.kill()
    (row,) = json.loads(file.read_text("utf-8"))["workloads"]
    assert (row["name"], row["rounds"]) == ("first", 2)
    assert row["timings"][0]["seconds"] > 0


def test_a_step_of_its_own_is_a_process_that_writes_what_it_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "STEPS", {"absent": 60})
    assert not measure(["absent"], tmp_path, "small", 1)
    outcome = json.loads((tmp_path / "absent.json").read_text("utf-8"))
    assert outcome["state"] == "failed"
    assert "absent" in outcome["tail"]


def test_every_step_is_known_and_another_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    known = {"machine", "engines", "repeatability", "profile", "processes", *ROWS, *gpu.BENCHES, *gpu.COMMANDS}
    assert known == {name.removesuffix(gpu.COMPILED) for name in gpu.STEPS}
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "B1", "B9"])
    assert "no such step: B9. There are: tests, engines" in capsys.readouterr().err


def test_a_part_takes_ten_minutes_at_most_and_compiled_peers_are_last() -> None:
    assert all(sum(part.values()) <= 590 for part in gpu.PARTS)
    assert sum(gpu.STEPS.values()) <= 25 * 60
    assert len(gpu.STEPS) == sum(map(len, gpu.PARTS))
    last = [name.endswith(gpu.COMPILED) for name in gpu.STEPS]
    assert last == sorted(last)


def test_a_part_is_its_steps_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(gpu, "measure", lambda steps, *_: asked.append(steps) or True)
    assert main(["--out", str(tmp_path), "--part", "2"]) == 0
    assert main(["--out", str(tmp_path)]) == 0
    assert asked == [list(gpu.PARTS[1]), list(gpu.STEPS)]


@pytest.mark.parametrize(("step", "which"), [("kernels", "without"), ("B1-compiled", "only")])
def test_compiled_peers_have_steps_of_their_own(step: str, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    made = SimpleNamespace(model_dump=lambda mode: {})
    monkeypatch.setattr(workload, "compiled_peers", asked.append)
    monkeypatch.setattr("xlt.bench.kernels.bench_kernels", lambda *_: made)
    monkeypatch.setattr("xlt.bench.steps.bench_steps", lambda *_, rows: asked.append(rows) or made)
    assert find(step, "small", 1) == {}
    assert asked == [which, *([("B1",)] if which == "only" else [])]


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


def test_the_profile_is_of_one_step_longest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "small", TINY)
    found = profile("small")
    seconds = [us for us, *_ in found["kernels"]]
    assert seconds == sorted(seconds, reverse=True)
    assert found["tokens"] > 32
    assert 0 < seconds[0] < found["sum_us"]
    assert any("mm" in name for *_, name in found["kernels"])


def test_processes_wait_for_each_other_and_one_that_fails_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nvidia-cuda-mps-control").write_text("#!/bin/sh\ncat\n", "utf-8")
    (tmp_path / "nvidia-cuda-mps-control").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    # Its pace is the number of its turns so far, or with MPS a number that nobody mistakes for one.
    (tmp_path / "pace.py").write_text(
        """
import os, sys
print("a library's line", file=sys.stderr)
print("a library's line\\nready", flush=True)
for turn, _ in enumerate(sys.stdin, 1):
    print("pace", 100 * len(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "")) or turn, flush=True)
""",
        "utf-8",
    )
    monkeypatch.setattr(gpu, "PACE", [str(tmp_path / "pace.py")])
    found = side_by_side("small", 1)
    # The first of the two takes the turn alone as well: no process is started for it.
    assert (found["one process"], found["two processes"]) == ([1.0], [2.0, 1.0])
    assert all(length >= 100 for length in found["two processes, MPS"])
    monkeypatch.setattr(gpu, "PACE", ["-c", "raise SystemExit('no memory')"])
    monkeypatch.setenv("PATH", "")
    found = side_by_side("small", 1)
    assert found["one process"] == found["two processes"] == "no memory\n"
    assert "nvidia-cuda-mps-control" in found["two processes, MPS"]


def test_a_pace_begins_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(CONFIGS, "small", TINY)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    assert pace("small", 0) == 0
    assert capsys.readouterr().out.splitlines() == ["ready", "pace 0.0", "pace 0.0"]
