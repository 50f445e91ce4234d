"""Runs as jobs of a queue: by submitit's own executor for this machine, and by SLURM's commands, which are stood in."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pipeline import stand_ins
from tests.pipeline.conftest import TinyGrid, Watcher
from tests.pipeline.test_jobs import a_job, is_running, losses, until, without_dropout
from tests.processes import leash
from xlt.errors import EnvironmentFault, ExitCode, IncompleteFault, XltError
from xlt.pipeline import cluster
from xlt.pipeline.cluster import Jobs, Queue
from xlt.pipeline.jobs import Make, make_run
from xlt.pipeline.store import RunStore, read_provenance
from xlt.train.engine import EngineSettings

LOCAL = Queue(kind="local")


@pytest.fixture(autouse=True)
def jobs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XLT_JOBS", str(tmp_path / "jobs"))
    for name, value in leash().items():
        monkeypatch.setenv(name, value)
    return tmp_path / "jobs"


@pytest.fixture
def slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's commands, and the folder in which they keep what they know."""
    state, programs = tmp_path / "slurm", tmp_path / "bin"
    state.mkdir()
    programs.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel"):
        file = Path(__file__).with_name("slurm.py")
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {file} {name} "$@"\n', "utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_SLURM", str(state))
    return state


def made(queue: Queue, tiny_grid: TinyGrid, results: Path, make: Make) -> None:
    """The first run of the grid, by a stand-in."""
    results.mkdir(exist_ok=True)
    spec = tiny_grid.grid().runs[0]
    with Jobs(queue, make, poll=0.05) as jobs:
        jobs.submit(a_job(spec, tiny_grid.files, results), Watcher())
        assert jobs.busy == 1
        assert jobs.wait() == spec
        assert jobs.busy == 0


def test_a_job_that_is_asked_to_stop_is_submitted_again(tiny_grid: TinyGrid, tmp_path: Path, jobs_folder: Path) -> None:
    made(LOCAL, tiny_grid, tmp_path / "results", stand_ins.be_stopped_twice)
    assert len(list((tmp_path / "results").iterdir())) == 3
    assert list(jobs_folder.iterdir()) == []


def test_a_job_that_gets_nowhere_is_given_up(
    tiny_grid: TinyGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "MOST_RESTARTS", 1)
    with pytest.raises(IncompleteFault, match="was interrupted 1 times"):
        made(LOCAL, tiny_grid, tmp_path / "results", stand_ins.be_stopped_twice)


def test_what_a_job_reports_and_how_it_dies_is_told(
    tiny_grid: TinyGrid, tmp_path: Path, jobs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 1)  # its wait for a slow disk
    with pytest.raises(XltError, match="Nothing is there") as caught:
        made(LOCAL, tiny_grid, tmp_path / "results", stand_ins.fail)
    assert (caught.value.fix, caught.value.exit_code) == ("Move it back.", ExitCode.DATA)
    with pytest.raises(EnvironmentFault, match="without a result") as died:
        made(LOCAL, tiny_grid, tmp_path / "results", stand_ins.break_off)
    assert "a word of the last" in died.value.why
    assert len(list(jobs_folder.iterdir())) == 2  # with what the jobs printed


def test_jobs_of_a_test_that_is_killed_end_with_it(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    (tmp_path / "pids").mkdir()
    job = a_job(tiny_grid.grid().runs[0], tiny_grid.files, tmp_path / "pids")
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    killed = subprocess.Popen([sys.executable, "-m", "tests.pipeline.stand_ins", str(tmp_path / "job"), "submit"])
    written = tmp_path / "pids" / "0"
    try:
        until(lambda: written.is_file() and bool(written.read_text()))
    finally:
        killed.kill()
        killed.wait()
    pid = int(written.read_text().split()[0])
    until(lambda: not is_running(pid))
    assert not is_running(pid)


def test_processes_of_a_job_know_their_places(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    made(replace(LOCAL, processes=2), tiny_grid, tmp_path / "results", stand_ins.write_place)
    told = sorted(path.read_text("utf-8").split() for path in (tmp_path / "results").iterdir())
    assert [place[:4] for place in told] == [["0", "0", "2", "127.0.0.1"], ["1", "1", "2", "127.0.0.1"]]
    assert told[0][4] == told[1][4]


def test_slurm_submits_what_was_preempted_and_two_nodes_meet_at_the_first(
    tiny_grid: TinyGrid, tmp_path: Path, slurm_here: Path
) -> None:
    queue = Queue({"partition": "gpu", "exclusive": True}, nodes=2)
    made(queue, tiny_grid, tmp_path / "results", stand_ins.be_preempted_once)
    told = sorted(path.read_text("utf-8").split() for path in (tmp_path / "results").glob("place-*"))
    assert [place[:4] for place in told] == [["0", "0", "2", "localhost"], ["1", "0", "2", "localhost"]]
    assert (slurm_here / "1").read_text("utf-8") == "PREEMPTED"
    assert sorted(path.name for path in slurm_here.glob("*.sh")) == ["1.sh", "2.sh"]
    assert "#SBATCH --partition=gpu\n" in (slurm_here / "2.sh").read_text("utf-8")
    assert "#SBATCH --exclusive\n" in (slurm_here / "2.sh").read_text("utf-8")


def test_what_is_left_is_cancelled(tiny_grid: TinyGrid, tmp_path: Path, slurm_here: Path) -> None:
    spec = tiny_grid.grid().runs[0]
    with Jobs(Queue(), stand_ins.stand_still) as jobs:
        jobs.submit(a_job(spec, tiny_grid.files, tmp_path), Watcher())
        while not (slurm_here / "1.pid").exists():
            time.sleep(0.05)
    assert (slurm_here / "1").read_text("utf-8").startswith("CANCELLED")


def test_without_slurm_the_error_says_so(tiny_grid: TinyGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFault, match="could not be submitted") as caught:
        made(Queue(), tiny_grid, tmp_path / "results", stand_ins.tell_pid)
    assert "sbatch" in caught.value.why


def test_a_script_asks_for_what_a_training_needs_and_less_for_scoring(tiny_grid: TinyGrid) -> None:
    runs = tiny_grid.grid().runs
    training = next(run for run in runs if run.train)
    scoring = next(run for run in runs if not run.train)
    queue = Queue({"time": "1-0", "python": "apptainer exec xlt.sif python"}, nodes=2, processes=4, gpus=4)
    lines = queue.script(training).splitlines()
    for line in ("nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "time=1-0", "no-requeue", "signal=USR2@90"):
        assert f"#SBATCH --{line}" in lines, line
    assert any("apptainer exec xlt.sif python -u -m submitit" in line for line in lines)
    lines = queue.script(scoring).splitlines()
    for line in ("nodes=1", "ntasks-per-node=1", "gpus-per-node=1"):
        assert f"#SBATCH --{line}" in lines, line


@pytest.mark.slow
def test_two_nodes_train_one_run(tiny_grid: TinyGrid, tmp_path: Path, slurm_here: Path) -> None:
    spec = without_dropout(tiny_grid.grid().runs[0])
    store = RunStore(tmp_path / "two")
    with Jobs(Queue(nodes=2), make_run, poll=0.5) as jobs:
        job = a_job(spec, tiny_grid.files, store.root, EngineSettings(zero="2"))
        jobs.submit(job, Watcher())
        assert jobs.wait() == spec
    assert store.check(spec).state == "done"
    assert read_provenance(store.path(spec.folder)).world_size == 2
    alone = RunStore(tmp_path / "alone")
    make_run(a_job(spec, tiny_grid.files, alone.root, EngineSettings()), Watcher())
    assert losses(store, spec) == pytest.approx(losses(alone, spec), abs=1e-4)
