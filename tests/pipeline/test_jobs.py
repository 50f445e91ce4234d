"""Runs in other processes: in parallel, shared, errors that come back whole, nothing left running."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from tests.pipeline import stand_ins
from tests.pipeline.conftest import TinyGrid, Watcher
from xlt.errors import DataFault, EnvironmentFault, ExitCode, XltError
from xlt.pipeline.jobs import Job, Make, Workers
from xlt.pipeline.run import execute_run
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore
from xlt.train.engine import EngineSettings
from xlt.train.loop import StepRecord


class Cells(Watcher):
    """Remembers the cells that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[tuple[str, str, str]] = []

    def cell(self, task: str, split: str, language: str) -> None:
        self.cells.append((task, split, language))


def a_job(spec: RunSpec, data_root: Path, results: Path, settings: EngineSettings | None = None) -> Job:
    """A job; one without ``settings``, for a stand-in, loads no torch."""
    return Job(spec, None, SourceOptions(name="files", data_root=data_root), results, settings, 1)  # type: ignore[arg-type]


def make_two(tiny_grid: TinyGrid, results: Path, watcher: Watcher, make: Make, standstill: float = 60) -> None:
    """The first two runs of the grid in parallel, as if neither needed the other."""
    with Workers(make, standstill) as workers:
        for spec in tiny_grid.grid().runs[:2]:
            workers.submit(a_job(spec, tiny_grid.files, results), watcher)
        workers.wait()
        workers.wait()


def without_dropout(spec: RunSpec) -> RunSpec:
    """Each process draws its own dropout, so only without it can the losses be those of one process."""
    config = {**spec.backbone.config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"config": config})})


def losses(store: RunStore, spec: RunSpec) -> list[float]:
    lines = (store.path(spec.folder) / "log.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_a_free_worker_takes_the_next_run_and_what_it_prints_is_not_shown(
    tiny_grid: TinyGrid, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    watcher = Cells()
    first, second, third = tiny_grid.grid().runs[:3]
    with Workers(stand_ins.tell_pid) as workers:
        for spec in (first, second):
            workers.submit(a_job(spec, tiny_grid.files, tmp_path), watcher)
        assert workers.busy == 2
        done = [workers.wait()]
        workers.submit(a_job(third, tiny_grid.files, tmp_path), watcher)
        done += [workers.wait(), workers.wait()]
        assert workers.busy == 0
    assert {spec.hash for spec in done} == {spec.hash for spec in (first, second, third)}
    assert sorted(name for name, _, _ in watcher.cells) == sorted(spec.name for spec in (first, second, third))
    assert len({process for _, process, _ in watcher.cells}) == 2
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_dies_is_named_with_its_last_words_and_ends_the_others(
    tiny_grid: TinyGrid, tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentFault, match=r"that made '[\w.]+' ended with exit code 9") as caught:
        make_two(tiny_grid, tmp_path, Watcher(), stand_ins.die)
    assert "out of luck" in caught.value.why
    for pid in tmp_path.iterdir():
        assert not is_running(int(pid.name))


def test_a_worker_that_died_between_two_runs_is_found(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    job = a_job(tiny_grid.grid().runs[0], tiny_grid.files, tmp_path)
    with Workers(stand_ins.die_after) as workers:
        workers.submit(job, Watcher())
        workers.wait()
        time.sleep(1)
        workers.submit(job, Watcher())
        with pytest.raises(EnvironmentFault, match="exit code 9"):
            workers.wait()


def test_a_worker_that_stands_still_is_ended_and_says_where(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="ended with exit code -9") as caught:
        make_two(tiny_grid, tmp_path, Watcher(), stand_ins.stand_still, standstill=0.5)
    assert "did nothing for" in caught.value.why
    assert "in stand_still" in caught.value.why


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (stand_ins.fail, ExitCode.DATA, ("Nothing is there.", "It was moved.", "Move it back.")),
        (stand_ins.lack, ExitCode.ENVIRONMENT, ("'a_package_that_is_not_there'", "", "pip install")),
    ],
)
def test_an_error_arrives_whole(
    tiny_grid: TinyGrid, tmp_path: Path, make: Make, code: ExitCode, words: tuple[str, str, str]
) -> None:
    with pytest.raises(XltError) as caught:
        make_two(tiny_grid, tmp_path, Watcher(), make)
    assert caught.value.exit_code == code
    for part, found in zip(words, (caught.value.what, caught.value.why, caught.value.fix), strict=True):
        assert part in found


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("2,3", ["2", "3"]),
        ("GPU-6a1f,GPU-77c0,GPU-9", ["GPU-6a1f", "GPU-77c0"]),
        ("MIG-a,MIG-b", ["MIG-a", "MIG-b"]),
        (None, ["0", "1"]),
        ("5", ["5", "5"]),  # more processes than GPUs: --processes on one GPU
    ],
)
def test_every_process_sees_one_gpu_of_its_own_where_there_are_enough(
    tiny_grid: TinyGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, devices: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("RANK", "7")
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    apart, shared = Cells(), Cells()
    make_two(tiny_grid, tmp_path, apart, stand_ins.tell_devices)
    assert sorted(apart.cells) == sorted((own, "none", "none 0 none none") for own in devices)
    with Workers(stand_ins.tell_devices) as workers:
        workers.share(a_job(tiny_grid.grid().runs[0], tiny_grid.files, tmp_path), shared, 2)
    (port,) = {port for _, port, _ in shared.cells}
    assert sorted(shared.cells) == sorted((own, port, f"{rank} 0 2 127.0.0.1") for rank, own in enumerate(devices))


def test_a_process_that_shares_a_run_may_end_before_the_first_but_not_fail(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    job = a_job(tiny_grid.grid().runs[0], tiny_grid.files, tmp_path)
    watcher = Cells()
    with Workers(stand_ins.second_ends_first) as workers:
        workers.share(job, watcher, 2)
    assert sorted(rank for rank, _, _ in watcher.cells) == ["0", "1"]
    with Workers(stand_ins.second_dies) as workers, pytest.raises(EnvironmentFault, match="ended with exit code 9"):
        workers.share(job, watcher, 2)


def test_all_processes_end_when_the_one_that_started_them_is_killed(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    (tmp_path / "pids").mkdir()
    (tmp_path / "job").write_bytes(pickle.dumps(a_job(tiny_grid.grid().runs[0], tiny_grid.files, tmp_path / "pids")))
    parent = subprocess.Popen([sys.executable, "-m", "tests.pipeline.stand_ins", str(tmp_path / "job")])
    written = [tmp_path / "pids" / rank for rank in "01"]
    try:
        until(lambda: all(pids.is_file() and pids.read_text() for pids in written))
    finally:
        parent.kill()
        parent.wait()
    left = [int(pid) for pids in written for pid in pids.read_text().split()]
    assert len(left) == 4
    with suppress(AssertionError):
        until(lambda: not any(map(is_running, left)))
    assert [pid for pid in left if is_running(pid)] == []


def test_a_worker_imports_the_program_without_running_it_again() -> None:
    code = "import runpy; runpy.run_module('xlt.__main__', run_name='__mp_main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    # One that has ended and that nobody has asked for is a zombie.
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["1", "2", "3"])
def test_two_processes_give_the_losses_of_one(tiny_grid: TinyGrid, tmp_path: Path, zero: str) -> None:
    spec = without_dropout(tiny_grid.grid().runs[0])
    one, two = RunStore(tmp_path / "one"), RunStore(tmp_path / "two")
    execute_run(spec, None, tiny_grid.source, one, EngineSettings(), Watcher())
    watcher = Watcher()
    with Workers() as workers:
        workers.share(a_job(spec, tiny_grid.files, two.root, EngineSettings(zero=zero)), watcher, 2)
    assert two.check(spec).state == "done"
    # Two halves of a batch are added in another order than the whole: float32 rounding, amplified by Adam.
    assert losses(two, spec) == pytest.approx(losses(one, spec), abs=2e-5)
    assert watcher.losses == losses(two, spec)
    provenance = json.loads((two.path(spec.folder) / "provenance.json").read_text("utf-8"))
    assert (provenance["world_size"], provenance["zero"]) == (2, zero)


class Killer(Watcher):
    """Kills the second process of a run after its third step."""

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers, self.pids, self.struck = workers, [0, 0], 0.0

    def step(self, record: StepRecord, steps: int) -> None:
        super().step(record, steps)
        if record.step == 3:
            self.pids = [worker._process.pid or 0 for worker in self._workers._all]
            os.kill(self.pids[1], signal.SIGKILL)
            self.struck = time.monotonic()


@pytest.mark.slow
def test_a_process_that_is_killed_in_a_shared_training_ends_the_other_within_a_minute(
    tiny_grid: TinyGrid, tmp_path: Path
) -> None:
    spec, store = tiny_grid.grid().runs[0], RunStore(tmp_path)
    with Workers() as workers:
        killer = Killer(workers)
        with pytest.raises(EnvironmentFault, match="ended with exit code"):
            workers.share(a_job(spec, tiny_grid.files, tmp_path, EngineSettings()), killer, 2)
    assert killer.struck
    assert time.monotonic() - killer.struck < 60
    assert not any(map(is_running, killer.pids))
    assert store.check(spec).state != "done"
    with Workers() as workers:
        workers.share(a_job(spec, tiny_grid.files, tmp_path, EngineSettings()), Watcher(), 2)
    assert store.check(spec).state == "done"


@pytest.mark.slow
def test_an_error_in_a_process_that_shares_a_run_arrives_with_its_advice(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    spec = tiny_grid.grid().runs[0]
    with Workers() as workers, pytest.raises(XltError) as caught:
        workers.share(a_job(spec, tmp_path / "nowhere", tmp_path, EngineSettings()), Watcher(), 2)
    assert "nowhere" in caught.value.what
    assert caught.value.exit_code == DataFault.exit_code
    assert caught.value.fix
