"""Runs in other processes: side by side, shared, faults that come back whole, nothing left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.pipeline.conftest import TinyGrid, Watcher
from xlt.errors import DataFault, EnvironmentFault, ExitCode, XltError
from xlt.pipeline import launch
from xlt.pipeline.launch import Order, Workers
from xlt.pipeline.run import execute_run
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore
from xlt.train.engine import EngineSettings

# What a worker does in these tests instead of a run; it loads nothing.
STAND_IN = """
import json, os, sys, time
def say(**event): print("of a library: " + {event!r} + json.dumps(event), flush=True)
for line in sys.stdin:
    name = json.loads(line)["spec"]["name"]
    {body}
"""
StandIn = Callable[[str], None]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Let workers do what is given, with ``name`` and ``say``, for every order."""

    def install(body: str) -> None:
        (tmp_path / "stand_in.py").write_text(STAND_IN.format(event=launch.EVENT, body=body), encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(launch, "WORKER", "stand_in")

    return install


def order(spec: RunSpec, data_root: Path, results: Path, zero: str = "0") -> Order:
    return Order(spec, None, SourceOptions(name="files", data_root=data_root), results, EngineSettings(zero=zero), 1)


def make_two(tiny_grid: TinyGrid, results: Path, watcher: Watcher) -> None:
    """The first two runs of the grid side by side, as if neither needed the other."""
    with Workers() as workers:
        for spec in tiny_grid.grid().runs[:2]:
            workers.give(order(spec, tiny_grid.files, results), watcher)
        workers.wait()


def without_dropout(spec: RunSpec) -> RunSpec:
    """Each process draws its own dropout, so only without it can the losses be those of one process."""
    config = {**spec.backbone.config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"config": config})})


def losses(store: RunStore, spec: RunSpec) -> list[float]:
    lines = (store.path(spec.folder) / "log.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_a_free_worker_takes_the_next_run(tiny_grid: TinyGrid, tmp_path: Path, stand_in: StandIn) -> None:
    stand_in('say(event="cell", cell=[name, str(os.getpid()), ""]); say(event="done")')
    told: list[tuple[str, str]] = []

    class Cells(Watcher):
        def cell(self, task: str, split: str, language: str) -> None:
            told.append((task, split))

    first, second, third = tiny_grid.grid().runs[:3]
    with Workers() as workers:
        for spec in (first, second):
            workers.give(order(spec, tiny_grid.files, tmp_path), Cells())
        assert workers.busy == 2
        done = [workers.wait()]
        workers.give(order(third, tiny_grid.files, tmp_path), Cells())
        done += [workers.wait(), workers.wait()]
        assert workers.busy == 0
    assert {spec.hash for spec in done} == {spec.hash for spec in (first, second, third)}
    assert sorted(name for name, _ in told) == sorted(spec.name for spec in (first, second, third))
    assert len({process for _, process in told}) == 2


def test_a_worker_that_dies_is_named_with_its_last_words_and_ends_the_others(
    tiny_grid: TinyGrid, tmp_path: Path, stand_in: StandIn
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    stand_in(
        f'open(f"{pids}/{{os.getpid()}}", "w"); print("out of luck", flush=True); '
        'time.sleep(60) if name == "mlm" else os._exit(9)'
    )
    with pytest.raises(EnvironmentFault, match=r"that made '[\w.]+' ended with exit code 9") as caught:
        make_two(tiny_grid, tmp_path, Watcher())
    assert "out of luck" in caught.value.why
    for pid in pids.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.name), 0)


def test_a_worker_that_died_between_two_runs_is_found(tiny_grid: TinyGrid, tmp_path: Path, stand_in: StandIn) -> None:
    stand_in('say(event="done"); os._exit(9)')
    spec = tiny_grid.grid().runs[0]
    with Workers() as workers:
        workers.give(order(spec, tiny_grid.files, tmp_path), Watcher())
        workers.wait()
        time.sleep(0.2)
        workers.give(order(spec, tiny_grid.files, tmp_path), Watcher())
        with pytest.raises(EnvironmentFault, match="exit code 9"):
            workers.wait()


def test_with_several_gpus_each_worker_sees_its_own(
    tiny_grid: TinyGrid, tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    monkeypatch.setenv("RANK", "0")
    stand_in('say(event="cell", cell=[os.environ["CUDA_VISIBLE_DEVICES"], os.environ.get("RANK", "none"), ""])')
    seen: list[tuple[str, str]] = []

    class Enough(Watcher):
        def cell(self, task: str, split: str, language: str) -> None:
            seen.append((task, split))
            if len(seen) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_two(tiny_grid, tmp_path, Enough())
    assert sorted(seen) == [("3", "none"), ("5", "none")]


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("2,3", ["2", "3"]),
        ("GPU-6a1f,GPU-77c0,GPU-9", ["GPU-6a1f", "GPU-77c0"]),
        ("MIG-a,MIG-b", ["MIG-a", "MIG-b"]),
        (None, ["0", "1"]),
    ],
)
def test_processes_that_share_a_run_see_a_visible_gpu_each(
    tiny_grid: TinyGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, devices: list[str]
) -> None:
    started: list[dict[str, str]] = []

    def start(self: Workers, command: list[str], environment: dict[str, str]) -> SimpleNamespace:
        assert Path(command[-1]).is_file()
        started.append(environment)
        return SimpleNamespace()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(Workers, "_start", start)
    monkeypatch.setattr(Workers, "wait", lambda self: None)
    with Workers() as workers:
        workers.spread(order(tiny_grid.grid().runs[0], tiny_grid.files, tmp_path), Watcher(), 2)
    (port,) = {each["MASTER_PORT"] for each in started}
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": "0"}
    assert started == [{**shared, "RANK": str(rank), "CUDA_VISIBLE_DEVICES": own} for rank, own in enumerate(devices)]


def test_a_process_that_shares_a_run_may_end_before_the_first_but_not_fail(
    tiny_grid: TinyGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def share(second: str) -> None:
        body = f"""
import json, os, sys, time
if os.environ["RANK"] == "1":
    {second}
time.sleep(0.5)
print({launch.EVENT!r} + json.dumps(dict(event="done")), flush=True)
"""
        (tmp_path / "sharing.py").write_text(body, encoding="utf-8")
        with Workers() as workers:
            workers.spread(order(tiny_grid.grid().runs[0], tiny_grid.files, tmp_path), Watcher(), 2)

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(launch, "WORKER", "sharing")
    share("sys.exit()")
    with pytest.raises(EnvironmentFault, match="ended with exit code 9"):
        share("os._exit(9)")


@pytest.mark.slow
def test_processes_that_share_a_run_end_when_the_one_that_started_them_is_killed(
    tiny_grid: TinyGrid, tmp_path: Path
) -> None:
    (tmp_path / "sharing.py").write_text(
        "import os, time\nfrom xlt.pipeline.worker import _orders\n_orders()\n"
        f"open({str(tmp_path)!r} + '/pid-' + os.environ['RANK'], 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    path = tmp_path / "order.json"
    path.write_bytes(launch.ORDER.dump_json(order(tiny_grid.grid().runs[0], tiny_grid.files, tmp_path)))
    code = (
        "import sys\nfrom pathlib import Path\nfrom xlt.pipeline import launch\nlaunch.WORKER = 'sharing'\n"
        "order = launch.ORDER.validate_json(Path(sys.argv[1]).read_bytes())\n"
        "with launch.Workers() as workers:\n    workers.spread(order, None, 2)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": str(tmp_path)})
    pids = [tmp_path / f"pid-{rank}" for rank in (0, 1)]
    try:
        until(lambda: all(pid.is_file() and pid.read_text() for pid in pids))
    finally:
        parent.kill()
        parent.wait()
    children = [int(pid.read_text()) for pid in pids]
    with suppress(AssertionError):
        until(lambda: not any(map(is_running, children)))
    assert [child for child in children if is_running(child)] == []


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
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
def test_a_worker_ends_when_nobody_is_left_to_order() -> None:
    worker = subprocess.run([sys.executable, "-m", launch.WORKER], stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert worker.returncode == ExitCode.INCOMPLETE


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["1", "2", "3"])
def test_two_processes_give_the_losses_of_one(tiny_grid: TinyGrid, tmp_path: Path, zero: str) -> None:
    spec = without_dropout(tiny_grid.grid().runs[0])
    one, two = RunStore(tmp_path / "one"), RunStore(tmp_path / "two")
    execute_run(spec, None, tiny_grid.source, one, EngineSettings(), Watcher())
    watcher = Watcher()
    with Workers() as workers:
        workers.spread(order(spec, tiny_grid.files, two.root, zero), watcher, 2)
    assert two.check(spec).state == "done"
    # Two halves of a batch are added in another order than the whole: float32 rounding, amplified by Adam.
    assert losses(two, spec) == pytest.approx(losses(one, spec), abs=2e-5)
    assert watcher.losses == losses(two, spec)
    provenance = json.loads((two.path(spec.folder) / "provenance.json").read_text("utf-8"))
    assert (provenance["world_size"], provenance["zero"]) == (2, zero)


@pytest.mark.slow
def test_an_error_in_a_process_arrives_with_its_advice(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    spec = tiny_grid.grid().runs[0]
    with Workers() as workers, pytest.raises(XltError) as caught:
        workers.spread(order(spec, tmp_path / "nowhere", tmp_path), Watcher(), 2)
    assert "nowhere" in caught.value.what
    assert caught.value.exit_code == DataFault.exit_code
    assert caught.value.fix
