"""One run over several processes: DeepSpeed's launcher is started here, users never type it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xlt.errors import EnvironmentFault, ExitCode, XltError
from xlt.pipeline.run import Progress
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore
from xlt.train.engine import EngineSettings, name_accelerator
from xlt.train.loop import StepRecord

EVENT = "xlt-event "
LINES_KEPT = 60


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """Everything a worker process needs, as JSON values."""

    spec: dict[str, Any]
    parent_model: str | None
    source: dict[str, Any]
    results: str
    settings: dict[str, Any]
    threads: int


def launch_run(
    spec: RunSpec,
    parent_model: Path | None,
    source: SourceOptions,
    store: RunStore,
    settings: EngineSettings,
    processes: int,
    progress: Progress,
) -> None:
    """Run ``spec`` in ``processes`` processes of this machine, one per GPU or plain ones, and pass on their progress.

    Raises:
        XltError: a worker reported an error; it is raised here again.
        EnvironmentFault: the workers ended without one.
    """
    order = WorkerOrder(
        spec=spec.model_dump(mode="json"),
        parent_model=str(parent_model) if parent_model else None,
        source={**asdict(source), "data_root": str(source.data_root) if source.data_root else None},
        results=str(store.root),
        settings=asdict(settings),
        threads=max(1, (os.cpu_count() or 1) // processes),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "order.json"
        path.write_text(json.dumps(asdict(order)), encoding="utf-8")
        _follow(_command(path, processes), progress)


def _command(order: Path, processes: int) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The address is given: without it the launcher asks the machine for its own name, which a container may
    # not be able to resolve.
    return [
        *(sys.executable, "-m", "deepspeed.launcher.runner"),
        *("--num_gpus", str(processes), "--master_addr", "127.0.0.1", "--master_port", str(port)),
        *("--no_local_rank", "--module", "xlt.pipeline.worker", str(order)),
    ]


def _follow(command: list[str], progress: Progress) -> None:
    """Run the launcher. Its other output is kept for the case that it fails."""
    fault: XltError | None = None
    last_lines: deque[str] = deque(maxlen=LINES_KEPT)
    with _own_group(command) as launcher:
        assert launcher.stdout is not None
        for line in launcher.stdout:
            place = line.find(EVENT)
            if place < 0:
                last_lines.append(line)
                continue
            event = json.loads(line[place + len(EVENT) :])
            if event["event"] == "step":
                progress.step(StepRecord(**event["record"]), event["steps"])
            elif event["event"] == "cell":
                progress.cell(*event["cell"])
            elif fault is None:
                fault = XltError(event["what"], why=event["why"], mend=event["mend"])
                fault.exit_code = ExitCode(event["exit_code"])
    if fault is not None:
        raise fault
    if launcher.returncode != 0:
        sys.stderr.writelines(last_lines)
        raise EnvironmentFault(
            f"The training processes ended with exit code {launcher.returncode}.",
            why="Their own messages are above.",
            mend="Give the same command again; finished runs are kept.",
        )


@contextmanager
def _own_group(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The launcher in a process group of its own, so that an interruption ends its workers with it."""
    name_accelerator()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as launcher:
        try:
            yield launcher
        except BaseException:
            os.killpg(launcher.pid, signal.SIGKILL)
            raise
