"""Runs in other processes of this machine: several side by side, or one that several share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Self

import torch
from pydantic import TypeAdapter

from xlt.errors import EnvironmentFault, ExitCode, XltError
from xlt.pipeline.run import Progress
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.spec import RunSpec
from xlt.runtime import PLACE, free_port, place, prepare_deepspeed
from xlt.train.engine import EngineSettings
from xlt.train.loop import StepRecord

EVENT = "xlt-event "
WORKER = "xlt.pipeline.worker"
LINES_KEPT = 20


@dataclass(frozen=True, slots=True)
class Order:
    """Everything another process needs to make a run."""

    spec: RunSpec
    parent_model: Path | None
    source: SourceOptions
    results: Path
    settings: EngineSettings
    threads: int


ORDER = TypeAdapter(Order)


class Workers:
    """Processes that make runs, one each at a time. They all end with the ``with`` block, whatever ends it."""

    def __init__(self) -> None:
        self._heard: SimpleQueue[tuple[_Worker, str]] = SimpleQueue()
        self._all: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.end()

    @property
    def busy(self) -> int:
        """How many runs are being made."""
        return sum(worker.order is not None for worker in self._all)

    def give(self, order: Order, progress: Progress) -> None:
        """Have the run made by a worker that is free; if none is, by a new one."""
        worker = next((worker for worker in self._all if worker.order is None), None)
        if worker is None:
            worker = self._start([sys.executable, "-m", WORKER], _device(len(self._all)))
        worker.order, worker.progress = order, progress
        # A worker that died meanwhile is reported by wait().
        with suppress(BrokenPipeError):
            worker.write(ORDER.dump_json(order).decode() + "\n")

    def spread(self, order: Order, progress: Progress, processes: int) -> None:
        """Have the run made by ``processes`` processes that share it; the first of them tells how it goes."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "order.json"
            path.write_bytes(ORDER.dump_json(order))
            command, port = [sys.executable, "-m", WORKER, str(path)], free_port()
            first, *_ = [
                self._start(command, place(rank, processes, port) | _device(rank)) for rank in range(processes)
            ]
            first.order, first.progress = order, progress
            self.wait()

    def wait(self) -> RunSpec:
        """Pass on the progress of all runs until one of them is complete, and return that one.

        Raises:
            XltError: a worker reported an error; it is raised here again.
            EnvironmentFault: a worker ended without one.
        """
        while True:
            worker, line = self._heard.get()
            if not line and worker.is_done():
                continue
            if not line:
                raise worker.death()
            if (order := worker.hear(line)) is not None:
                return order.spec

    def _start(self, command: list[str], environment: dict[str, str]) -> _Worker:
        self._all.append(_Worker(command, environment, self._heard))
        return self._all[-1]


class _Worker:
    """A process that says line by line what it does.

    It leads a process group of its own, so that what it started ends with it. Its standard input closes when this
    process is gone, even killed, and that ends it too.
    """

    def __init__(
        self, command: list[str], environment: dict[str, str], heard: SimpleQueue[tuple[_Worker, str]]
    ) -> None:
        prepare_deepspeed()
        self.order: Order | None = None
        self.progress: Progress
        self._last_lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env={name: value for name, value in os.environ.items() if name not in PLACE} | environment,
            start_new_session=True,
        )
        self._listener = Thread(target=self._listen, args=(heard,), daemon=True)
        self._listener.start()

    def _listen(self, heard: SimpleQueue[tuple[_Worker, str]]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            heard.put((self, line))
        heard.put((self, ""))

    def write(self, line: str) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def hear(self, line: str) -> Order | None:
        """Pass on what ``line`` tells; the order if it is carried out. Libraries print lines too: the last are kept."""
        place = line.find(EVENT)
        if place < 0:
            self._last_lines.append(line)
            return None
        event = json.loads(line[place + len(EVENT) :])
        if event["event"] == "step":
            self.progress.step(StepRecord(**event["record"]), event["steps"])
        elif event["event"] == "cell":
            self.progress.cell(*event["cell"])
        elif event["event"] == "done":
            order, self.order = self.order, None
            return order
        else:
            fault = XltError(event["what"], why=event["why"], fix=event["fix"])
            fault.exit_code = ExitCode(event["exit_code"])
            raise fault
        return None

    def is_done(self) -> bool:
        """Whether it has done its share of a run that another process tells of."""
        return self._process.wait() == 0 and self.order is None

    def death(self) -> EnvironmentFault:
        """That it ended without a word of its own."""
        run = f"that made '{self.order.spec.name}' " if self.order else ""
        return EnvironmentFault(
            f"The process {run}ended with exit code {self._process.wait()}.",
            why="Its last lines:\n" + "".join(self._last_lines) if self._last_lines else "It said nothing.",
            fix="Give the same command again, with --processes 1 if memory was short; finished runs are kept.",
        )

    def end(self) -> None:
        """End it and all it started. Of a run in progress an unfinished folder is left, of a complete one nothing."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._listener.join()
        with suppress(BrokenPipeError), self._process:
            pass


def _device(number: int) -> dict[str, str]:
    """The settings that show worker ``number`` one GPU alone, its own where there are enough."""
    if not torch.cuda.is_available():
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    names = visible.split(",")
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)], "LOCAL_RANK": "0"}
