"""A training that is killed or asked to stop, as a process of its own: the same command goes on, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.conftest import PROJECT
from xlt.pipeline.store import read_provenance
from xlt.runtime import PLACE


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, tiny_tier: Path, tiny_files: Path) -> list[str]:
    """Training on MNLI from a small model, with a checkpoint at every dev score if a tenth of a second has passed."""
    folder = tmp_path_factory.mktemp("start")
    tier = folder / "tier.toml"
    recipes = "[sources.files.recipes]\n"
    scored = f"{recipes}mnli = {{ batch_size = 8, evaluate_every = 4, patience = 99 }}\n"
    tier.write_text(tiny_tier.read_text("utf-8").replace(recipes, scored), "utf-8")
    data = ["--source", "files", "--data-root", str(tiny_files), "--tier", str(tier)]
    finished(["train", "mlm", *data, "--results", str(folder)])
    (model,) = (folder / "runs" / "pretrain").iterdir()
    often = ["--checkpoint-seconds", "1", "--steps", "200"]
    return ["train", "mnli", *data, "--model", str(model), *often, "--results"]


def xlt(arguments: list[str]) -> subprocess.Popen[str]:
    # Another test may have joined a process group in this process: the one that is started is no member of it.
    environment = {name: value for name, value in os.environ.items() if name not in PLACE} | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "xlt", *arguments], cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True
    )


def finished(arguments: list[str]) -> None:
    process = xlt(arguments)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def weights(results: Path) -> dict[str, str]:
    (run,) = (results / "runs" / "intermediate").iterdir()
    return read_provenance(run).weights


def resumed(results: Path) -> list[dict[str, object]]:
    (run,) = (results / "runs" / "intermediate").iterdir()
    found: list[dict[str, object]] = json.loads((run / "provenance.json").read_text("utf-8"))["resumed"]
    return found


def ended(arguments: list[str], results: Path, number: int) -> tuple[int, str]:
    """The exit code and the errors of a process that gets a signal when it has written a checkpoint of its own."""
    before = {*results.glob("runs/*/*.checkpoints/step-*")}
    process = xlt(arguments)
    while process.poll() is None and not {*results.glob("runs/*/*.checkpoints/step-*[0-9]")} - before:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def test_killed_and_asked_to_stop_it_ends_with_the_bits_of_a_quiet_one(command: list[str], tmp_path: Path) -> None:
    quiet, loud = tmp_path / "quiet", tmp_path / "loud"
    finished([*command, str(quiet)])
    code, said = ended([*command, str(loud)], loud, signal.SIGKILL)
    assert code == -signal.SIGKILL, said
    for number in (signal.SIGTERM, signal.SIGINT):
        code, said = ended([*command, str(loud)], loud, number)
        assert (code, "the same command resumes" in said) == (5, True), said
    # Whole checkpoints alone: none was cut off.
    assert all(path.name.startswith("step-") and path.suffix != ".tmp" for path in loud.glob("runs/*/*.checkpoints/*"))
    finished([*command, str(loud)])
    assert int(str(resumed(loud)[0]["step"])) > 0
    assert weights(loud) == weights(quiet)
    # Nothing is left beside the run.
    assert [path.name for path in (loud / "runs" / "intermediate").iterdir()] == [
        path.name for path in (quiet / "runs" / "intermediate").iterdir()
    ]


def test_kept_checkpoints_are_files_of_the_run(command: list[str], tmp_path: Path, invoke: Invoke) -> None:
    keep = [*command[:-1], "--keep-checkpoints", "2", "--results", str(tmp_path)]
    assert invoke(*keep).code == 0
    (run,) = (tmp_path / "runs" / "intermediate").iterdir()
    listed = json.loads((run / "MANIFEST.json").read_text("utf-8"))["files"]
    for step in (66, 133):
        assert f"checkpoints/step-{step:08d}/engine.safetensors" in listed
    data = command[command.index("--data-root") :][:2]
    verify = ["verify", *data, "--recheck", "0", "--json", "--results", str(tmp_path)]
    assert not invoke(*verify).document["problems"]
    kept = run / "checkpoints" / "step-00000066" / "engine.safetensors"
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    assert "step-00000066/engine.safetensors" in str(invoke(*verify).document["problems"])


@pytest.mark.parametrize("given", [["--checkpoint-seconds", "0"], ["--keep-checkpoints", "-1"]], ids=" ".join)
def test_amounts_below_zero_are_refused(given: list[str], command: list[str], tmp_path: Path, invoke: Invoke) -> None:
    refused = invoke(*command[:-5], *given, "--results", str(tmp_path))
    assert refused.code == 2, refused.err
