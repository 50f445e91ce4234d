"""Runs in other processes of this machine: several at a time, or one that several share."""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

from xlt.errors import EnvironmentFault, XltError, package_fault
from xlt.pipeline.spec import RunSpec
from xlt.stopping import hear_signals

# A new process imports this module before it can see that its parent is gone, so what is slow to import, torch above
# all, is imported in functions.
if TYPE_CHECKING:
    from xlt.data.source import Source
    from xlt.pipeline.run import Progress
    from xlt.pipeline.sources import SourceOptions
    from xlt.train.engine import EngineSettings
    from xlt.train.loop import StepRecord

LINES_SHOWN = 20
# Longer than the 30 minutes that processes which share a run wait for each other, so that their own error comes first.
STANDSTILL_SECONDS = 40 * 60
STOPPING_SECONDS = 8.0  # of the ten that `docker stop` gives


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that another process needs to make a run."""

    spec: RunSpec
    parent_model: Path | None
    source: SourceOptions
    results: Path
    settings: EngineSettings
    threads: int


Make = Callable[[Job, "Progress"], object]


def make_run(job: Job, progress: Progress) -> None:
    """Make the run in this process."""
    from xlt.pipeline.run import execute_run
    from xlt.pipeline.store import RunStore
    from xlt.pipeline.tiers import use_threads
    from xlt.train.seeding import deterministic

    deterministic(True)
    use_threads(job.threads)
    job.spec.add_tasks()
    execute_run(job.spec, job.parent_model, _source(job.source), RunStore(job.results), job.settings, progress)


@cache
def _source(options: SourceOptions) -> Source:
    from xlt.pipeline.sources import open_source

    return open_source(options)


class Workers:
    """Processes that make runs, one each at a time. They end with the ``with`` block, and when this process is killed.

    Not those of submitit's local executor: it starts two processes for every run, and its jobs outlive the command
    that submitted them. Runs on other machines are jobs of a queue (``xlt.pipeline.cluster``).
    """

    def __init__(self, make: Make = make_run, standstill: float = STANDSTILL_SECONDS) -> None:
        self._make, self._standstill = make, standstill
        self._all: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            self._ask_to_stop()
        for worker in self._all:
            worker.end()

    def _ask_to_stop(self) -> None:
        """Give those that train the time to write their state."""
        busy = [worker for worker in self._all if worker.job]
        for worker in busy:
            worker.ask_to_stop()
        ends = time.monotonic() + STOPPING_SECONDS
        for worker in busy:
            worker.join(max(0.0, ends - time.monotonic()))

    @property
    def busy(self) -> int:
        """How many runs are being made."""
        return sum(worker.job is not None for worker in self._all)

    def submit(self, job: Job, progress: Progress) -> None:
        """Have the run made by a worker that is free; if none is, by a new one."""
        worker = next((worker for worker in self._all if worker.job is None), None)
        (worker or self._start(_device(len(self._all)))).submit(job, progress)

    def share(self, job: Job, progress: Progress, processes: int) -> None:
        """Have the run made by ``processes`` new processes that share it, and wait for all of them."""
        from xlt.runtime import free_port, place

        port = free_port()
        for rank in range(processes):
            self._start(place(rank, processes, port) | _device(rank)).submit(job, progress)
        for _ in range(processes):
            self.wait()

    def wait(self) -> RunSpec:
        """Pass on the progress of all runs until one of them is complete, and return that one.

        The error that a worker reports is raised here again; a worker that ends without one is an error, too.
        """
        while True:
            busy = {worker.pipe: worker for worker in self._all if worker.job}
            for pipe in wait(list(busy)):
                if done := busy[pipe].hear():  # type: ignore[index]
                    return done

    def _start(self, environment: dict[str, str]) -> _Worker:
        self._all.append(_Worker(self._make, self._standstill, environment))
        return self._all[-1]


class _Worker:
    """A process that makes the runs it is given, and reports how far they are."""

    def __init__(self, make: Make, standstill: float, environment: dict[str, str]) -> None:
        from xlt.runtime import PLACE, prepare_deepspeed

        prepare_deepspeed()
        self.job: Job | None = None
        self._progress: Progress
        self._output = tempfile.NamedTemporaryFile(prefix="xlt-worker-")  # noqa: SIM115 - closed by end()
        environment = {name: value for name, value in os.environ.items() if name not in PLACE} | environment
        # Not forked: a copy of a process with threads, or with CUDA in use, is not usable.
        context = get_context("spawn")
        self.pipe, its_end = context.Pipe()
        given = (its_end, make, standstill, environment, self._output.name)
        self._process = context.Process(target=_serve, args=given)
        self._process.start()
        its_end.close()

    def submit(self, job: Job, progress: Progress) -> None:
        """Have a run made."""
        self.job, self._progress = job, progress
        # A worker that died meanwhile is reported by hear().
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(job)

    def hear(self) -> RunSpec | None:
        """Pass on what the process tells; the run if it is complete."""
        assert self.job is not None
        try:
            event = self.pipe.recv()
        except (EOFError, OSError):
            raise self._crash() from None
        if isinstance(event, XltError):
            raise event
        if event is None:
            job, self.job = self.job, None
            return job.spec
        name, *what = event
        getattr(self._progress, name)(*what)
        return None

    def _crash(self) -> EnvironmentFault:
        """The error for a process that ended without reporting one."""
        assert self.job is not None
        self._process.join(timeout=10)
        last_lines = Path(self._output.name).read_text("utf-8", errors="replace").splitlines()[-LINES_SHOWN:]
        return EnvironmentFault(
            f"The process that made '{self.job.spec.name}' ended with exit code {self._process.exitcode}.",
            why="\n".join(["Its last lines:", *last_lines]) if last_lines else "It printed nothing.",
            fix="Give the same command again, with --processes 1 if memory was short; finished runs are kept.",
        )

    def ask_to_stop(self) -> None:
        """Have it end when its state is written."""
        self._process.terminate()

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        self._process.join(seconds)

    def end(self) -> None:
        """End the process and all that it started. A run in progress leaves an unfinished folder, nothing else."""
        assert self._process.pid  # 0 would be the group of this process
        with suppress(ProcessLookupError):  # it leads no group yet, or is gone
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self.pipe.close()
        self._output.close()


class _Report:
    """Progress that is told to the parent process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def step(self, record: StepRecord, steps: int) -> None:
        self._pipe.send(("step", record, steps))

    def cell(self, task: str, split: str, language: str) -> None:
        self._pipe.send(("cell", task, split, language))


def _serve(pipe: Connection, make: Make, standstill: float, environment: dict[str, str], output: str) -> None:
    """What a worker does: make every run that comes through the pipe, and send back progress and errors."""
    # A process group of its own, so that what it starts (compilers, for one) can be ended with it.
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    # Libraries print lines too. They would run into the progress of the parent process.
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    jobs: SimpleQueue[Job] = SimpleQueue()
    Thread(target=_receive, args=(pipe, jobs), daemon=True).start()
    with suppress(KeyboardInterrupt):
        _serve_jobs(pipe, jobs, make, standstill)


def _serve_jobs(pipe: Connection, jobs: SimpleQueue[Job], make: Make, standstill: float) -> None:
    hear_signals()
    while True:
        job = jobs.get()
        fault: XltError | None = None
        try:
            with _ended_after(standstill):
                make(job, _Report(pipe))
        except (XltError, ModuleNotFoundError) as error:
            fault = sendable(error)
        pipe.send(fault)


def sendable(error: XltError | ModuleNotFoundError) -> XltError:
    """The error in a form that another process can take: not every kind of it can be pickled."""
    found = error if isinstance(error, XltError) else package_fault(error)
    fault = XltError(found.what, why=found.why, fix=found.fix)
    fault.exit_code = found.exit_code
    return fault


def _receive(pipe: Connection, jobs: SimpleQueue[Job]) -> None:
    """Take in jobs. The other end of the pipe is closed when the parent process is gone, even if it was killed: then
    this process ends itself and all that it started."""
    with suppress(EOFError, OSError):
        while True:
            jobs.put(pipe.recv())
    os.killpg(0, signal.SIGKILL)


@contextmanager
def _ended_after(standstill: float) -> Iterator[None]:
    """End this process if it does nothing for so many seconds: it waits for something that will not come, then, and
    nothing else would end it."""
    done = Event()

    def watch() -> None:
        used = time.process_time()
        while not done.wait(standstill):
            before, used = used, time.process_time()
            if used - before < standstill / 100:
                faulthandler.dump_traceback()
                print(f"It did nothing for {standstill / 60:.0f} minutes, and was ended.", flush=True)
                os.killpg(0, signal.SIGKILL)

    Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _device(number: int) -> dict[str, str]:
    """The settings that show worker ``number`` one GPU alone, its own where there are enough."""
    import torch

    if not torch.cuda.is_available():
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    names = visible.split(",")
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)], "LOCAL_RANK": "0"}
