"""``xlt reproduce`` for a cluster: what would be submitted, and results that jobs made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.hub_home import own_home
from tests.processes import leash
from xlt.cli.options import ClusterOptions, EngineOptions
from xlt.cli.reproduce import _introduce, _repeated
from xlt.errors import ExitCode
from xlt.pipeline.cluster import Queue
from xlt.pipeline.grid import REPEATED
from xlt.pipeline.tiers import read_tier


def test_what_slurm_would_be_given_is_shown_and_nothing_is_made(
    invoke: Invoke, tiny_tier: Path, tiny_files: Path, tmp_path: Path
) -> None:
    command = ["reproduce", "--tier", str(tiny_tier), "--source", "files", "--data-root", str(tiny_files)]
    command += ["--results", str(tmp_path / "results"), "--executor", "slurm", "--gpus", "4", "--shard", "--zero", "2"]
    command += ["--nodes", "2", "--slurm", "partition=gpu", "--slurm", "exclusive", "--dry-run"]
    shown = invoke(*command)
    assert shown.code == 0, shown.err
    assert "Processes that share each run: 8 (each a job of SLURM, on 2 machines)." in shown.out
    assert "Device: GPUs, bf16, of the machines that SLURM gives." in shown.out
    # Of the small model that phase 1 makes nobody has timed anything.
    assert "Time of one seed, from the beginning: not timed on a GPU yet." in shown.out
    for line in ("mlm", "mnli, after mlm", "#SBATCH --ntasks-per-node=4", "#SBATCH --exclusive"):
        assert f"\n{line}\n" in shown.out, line
    jobs = invoke(*command, "--json").document["jobs"]
    assert [(job["run"], job["after"]) for job in jobs][:2] == [("mlm", ""), ("mnli", "mlm")]
    assert all("#SBATCH --partition=gpu\n" in job["script"] for job in jobs)
    assert not (tmp_path / "results").exists()


def test_where_there_is_no_slurm_nothing_is_computed_first(
    invoke: Invoke, tiny_tier: Path, tiny_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlt.pipeline.cluster.shutil.which", lambda program: None)
    monkeypatch.setattr("xlt.cli.verify.golden_checks", lambda *asked: pytest.fail("computed before it was refused"))
    command = ["reproduce", "--tier", str(tiny_tier), "--source", "files", "--data-root", str(tiny_files)]
    refused = invoke(*command, "--results", str(tmp_path / "results"), "--executor", "slurm")
    assert (refused.code, "This machine has no sbatch" in refused.err) == (ExitCode.ENVIRONMENT, True)
    assert "Fix: Give the command where sbatch works" in refused.err


@pytest.mark.parametrize(
    ("model", "device"),
    [
        ("", "Device: CPU, fp32, through the code that a GPU runs."),
        ("xlm-roberta-large", "Device: CPU, fp32. xlm-roberta-large takes long without a GPU;"),
    ],
)
def test_the_first_lines_say_which_model_is_trained_and_where(
    model: str, device: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    _introduce(read_tier("smoke"), "world", [], model, None)
    said = "".join(capfd.readouterr())
    assert f"Model: {model or 'a small XLM-R, trained here from its first step (phase 1)'}." in said
    assert device in said


def test_what_decides_how_runs_are_made_is_repeated_and_no_more() -> None:
    assert _repeated(EngineOptions(), ClusterOptions(), shard=False, search=None) == {}
    engine = EngineOptions(keep_checkpoints=2, zero="1", processes=3)
    given = _repeated(engine, ClusterOptions("slurm", ["account=mine"], nodes=2), shard=True, search="torch")
    assert given == {
        "keep-checkpoints": "2",
        "zero": "1",
        "processes": "3",
        "shard": "",
        "search": "torch",
        "executor": "slurm",
        "nodes": "2",
    }
    assert not {*given} - {*REPEATED}


@pytest.mark.parametrize(
    ("command", "fix"),
    [
        ("reproduce --tier pocket --part A1", "xlt fetch --tier pocket --part A1 --data-root DIR"),
        (
            "reproduce --tier core --model xlm-roberta-base",
            "xlt fetch --tier core --model xlm-roberta-base --data-root DIR",
        ),
        ("retrieve tatoeba --source hub --model xlm-roberta-large", "xlt fetch tatoeba --model xlm-roberta-large"),
        ("train xnli --source hub --model xlm-roberta-large", "xlt fetch xnli mnli --model xlm-roberta-large"),
    ],
)
def test_without_model_and_data_the_fix_fetches_both(
    command: str, fix: str, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_home(tmp_path, monkeypatch)
    refused = invoke(*command.split(), "--results", str(tmp_path / "results"))
    assert refused.code == ExitCode.DATA
    assert f"Fix: {fix}\n" in refused.err
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no such file system here")
@pytest.mark.parametrize(
    "command",
    [
        *(
            "reproduce --results /proc/x",
            "train mlm --tier smoke --results /proc/x",
            "bench controls --results /proc/x",
        ),
        *("bench tasks --results /proc/x", "plan --calibrate --record", "report --ship /proc/x.tar.gz"),
        *("report --results /proc/self", "verify --record", "verify --record --results /proc/self"),
        "fetch udpos --data-root /proc/x",
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is_computed(
    command: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--record" in command and "--results" not in command:
        monkeypatch.setattr("xlt.artifact.artifact_root", lambda: Path("/proc/self"))
        monkeypatch.setattr("xlt.pipeline.calibration.artifact_root", lambda: Path("/proc/self"))
    refused = invoke(*command.split())
    assert refused.code == ExitCode.ENVIRONMENT
    assert "cannot be written" in refused.err
    assert refused.err.count("\n") == refused.err.count("Error: ") + refused.err.count("  Why: ") + refused.err.count(
        "  Fix: "
    )


@pytest.mark.slow
def test_runs_that_are_jobs_give_what_processes_give(
    invoke: Invoke, tiny_tier: Path, tiny_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else a job has all cores of its machine, and a process its share of them: sums in another order.
    for name, value in (leash() | {"XLT_JOBS": str(tmp_path / "jobs"), "OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(name, value)
    command = ["reproduce", "--tier", str(tiny_tier), "--source", "files", "--data-root", str(tiny_files), "--json"]
    here = invoke(*command, "--results", str(tmp_path / "here"))
    monkeypatch.setattr("xlt.cli.options.cluster.Queue", lambda *given: Queue(*given, kind="local"))
    there = invoke(*command, "--results", str(tmp_path / "there"), "--executor", "slurm")
    assert (here.code, there.code) == (0, 0), there.err
    assert here.document["result_hash"] == there.document["result_hash"]
