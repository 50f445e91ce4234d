"""``xlt reproduce`` for a cluster: what would be submitted, and results that jobs made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from xlt.pipeline.cluster import Queue


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


@pytest.mark.slow
def test_runs_that_are_jobs_give_what_processes_give(
    invoke: Invoke, tiny_tier: Path, tiny_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLT_JOBS", str(tmp_path / "jobs"))
    command = ["reproduce", "--tier", str(tiny_tier), "--source", "files", "--data-root", str(tiny_files), "--json"]
    here = invoke(*command, "--results", str(tmp_path / "here"))
    monkeypatch.setattr("xlt.cli.options.cluster.Queue", lambda *given: Queue(*given, kind="local"))
    there = invoke(*command, "--results", str(tmp_path / "there"), "--executor", "slurm")
    assert (here.code, there.code) == (0, 0), there.err
    assert here.document["result_hash"] == there.document["result_hash"]
