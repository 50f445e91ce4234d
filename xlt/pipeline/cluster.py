"""Runs as jobs of a cluster's queue, through submitit: each on the machines and GPUs that it asks for.

The command that submits them waits for them, so that what starts from a run is submitted once that is done. A job that
is asked to stop (it is preempted, or its time is over) writes the state of its training first and is submitted again;
one that is killed goes on from its last state.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from xlt.errors import EnvironmentFault, IncompleteFault, XltError
from xlt.files import check_writable, writable
from xlt.pipeline.jobs import LINES_SHOWN, Job, Make, make_run, sendable
from xlt.pipeline.spec import RunSpec
from xlt.stopping import hear_signals, stop_request

if TYPE_CHECKING:
    from xlt.pipeline.run import Progress
    from xlt.train.loop import StepRecord

MINUTES = 240
"""The time limit of a job, unless one is given. A training that does not end in it goes on in the next job."""
MOST_RESTARTS = 50
"""A job that was interrupted so often gets nowhere."""
# In these states of SLURM a job without a result has ended by no fault of its own.
INTERRUPTED = ("PREEMPTED", "TIMEOUT", "NODE_FAIL", "REVOKED", "INTERRUPTED")
SUBMIT = "Give the command where sbatch works, with what your cluster asks for, as --slurm partition=NAME."
PYTHON = "python"  # a parameter that is none of sbatch


def jobs_folder() -> Path:
    """Where the files of jobs lie, on a disk that all machines share: ``XLT_JOBS``, else in the user's cache.

    Not in the results: they name machines, and what submitit leaves there are pickles.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("XLT_JOBS") or f"{cache}/xlt/jobs")


@dataclass(frozen=True, slots=True)
class Queue:
    """What every job asks for."""

    parameters: Mapping[str, str | bool] = field(default_factory=dict)
    """Parameters of sbatch by name, such as ``partition``, true for one without a value; and ``python``, the command
    that starts Python there."""
    nodes: int = 1
    """The machines of one training."""
    processes: int = 1
    """The processes of one training on each of them, with a GPU each if there are any."""
    gpus: int = 0
    """The GPUs of each machine."""
    kind: Literal["slurm", "local"] = "slurm"
    """``local`` is submitit's own stand-in for a queue, on this machine."""

    def asks(self) -> tuple[int, str]:
        """How many processes share a training, and how, in words."""
        machines = f", on {self.nodes} machines" if self.nodes > 1 else ""
        return self.nodes * self.processes, f"each a job of SLURM{machines}"

    def check(self) -> None:
        """Raise ``EnvironmentFault`` where nothing can be submitted."""
        if self.kind == "slurm" and not shutil.which("sbatch"):
            raise EnvironmentFault("This machine has no sbatch, by which jobs are given to SLURM.", fix=SUBMIT)

    def executor(self, folder: Path, spec: RunSpec) -> Any:
        """submitit's executor for the run ``spec``, with its files in ``folder``."""
        import submitit
        from submitit.slurm.slurm import SlurmExecutor

        # What only scores is made by one process.
        nodes, processes = (self.nodes, self.processes) if spec.train else (1, 1)
        if self.kind == "local":
            local = submitit.LocalExecutor(folder)
            local.update_parameters(tasks_per_node=processes, timeout_min=MINUTES)
            return local

        class Slurm(SlurmExecutor):
            """Without the look for srun, which a script that is only shown does not need."""

            @classmethod
            def affinity(cls) -> int:
                return 1

        python = self.parameters.get(PYTHON)
        slurm = Slurm(folder, python=python if isinstance(python, str) else None)
        # It is this command that submits a job again: not SLURM too, or a run would be made twice at the same time.
        asked = {"no-requeue": True} | {key: its for key, its in self.parameters.items() if key != PYTHON}
        slurm.update_parameters(
            job_name=f"xlt-{spec.name}",
            time=MINUTES,
            nodes=nodes,
            ntasks_per_node=processes,
            **({"gpus_per_node": min(self.gpus, processes)} if self.gpus else {}),
            # A process that fails ends the others, which would wait for it.
            srun_args=["--kill-on-bad-exit=1"],
            additional_parameters={key.replace("_", "-"): value for key, value in asked.items()},
        )
        return slurm

    def script(self, spec: RunSpec) -> str:
        """What sbatch would be given for a run."""
        executor = self.executor(jobs_folder() / "JOBS", spec)
        text: str = executor._make_submission_file_text(executor._submitit_command_str, "")
        return text


@dataclass(slots=True)
class _Submitted:
    """A run in the queue."""

    job: Job
    progress: Progress
    handle: Any
    """submitit's job."""
    restarts: int = 0


class Jobs:
    """Runs in a queue: what ``Workers`` are on this machine. Those that are left are cancelled with the block."""

    def __init__(self, queue: Queue, make: Make = make_run, poll: float = 2.0) -> None:
        self._queue, self._make, self._poll = queue, make, poll
        self._all: list[_Submitted] = []
        self._folder = Path()

    def __enter__(self) -> Self:
        folder = jobs_folder()
        check_writable(folder, "XLT_JOBS=DIR", "the folder for jobs")
        with writable(folder, "XLT_JOBS=DIR", "the folder for jobs"):
            folder.mkdir(parents=True, exist_ok=True)
            # Of this command alone: the pickles that are loaded from it are those of its own jobs.
            self._folder = Path(tempfile.mkdtemp(dir=folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for each in self._all:
            each.handle.cancel(check=False)
        if kind is None:
            shutil.rmtree(self._folder, ignore_errors=True)  # else what jobs printed may be wanted

    @property
    def busy(self) -> int:
        """How many runs are in the queue."""
        return len(self._all)

    def submit(self, job: Job, progress: Progress) -> None:
        """Put a run into the queue."""
        job = replace(job, results=job.results.resolve(), parent_model=job.parent_model and job.parent_model.resolve())
        self._all.append(_Submitted(job, progress, self._submitted(job)))

    def wait(self) -> RunSpec:
        """Wait until one of the runs is complete, and return it. Jobs that were interrupted are submitted again.

        Raises:
            XltError: what a job reports, or that it ended without a report.
        """
        while True:
            for each in list(self._all):
                if not _ended(each.handle):
                    continue
                if _complete(each.handle, each.job.spec.name):
                    self._all.remove(each)
                    return each.job.spec
                if each.restarts >= MOST_RESTARTS:
                    raise IncompleteFault(
                        f"The job of '{each.job.spec.name}' was interrupted {MOST_RESTARTS} times.",
                        fix="Give it more time (--slurm time=MINUTES), and give the same command again; it resumes.",
                    )
                each.handle, each.restarts = self._submitted(each.job), each.restarts + 1
            time.sleep(self._poll)

    def _submitted(self, job: Job) -> Any:
        from submitit import helpers
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        executor = self._queue.executor(self._folder, job.spec)
        try:
            with helpers.clean_env():  # this command may run in a job itself
                return executor.submit(_make_in_job, self._make, job)
        except (OSError, FailedSubmissionError, FailedJobError) as error:
            raise EnvironmentFault(
                f"The run '{job.spec.name}' could not be submitted.",
                why=f"{error}".strip() or type(error).__name__,
                fix=SUBMIT,
            ) from error


def _tasks(handle: Any) -> list[Any]:
    """The processes of a job."""
    return [handle.task(number) for number in range(handle.num_tasks)]


def _ended(handle: Any) -> bool:
    """Whether nothing is to be waited for: the others of a process that reports an error may never end."""
    reports = [task.result() for task in _tasks(handle) if task.paths.result_pickle.exists() and not task.exception()]
    return handle.done() or _interrupted(handle) or any(isinstance(each, XltError) for each in reports)


def _interrupted(handle: Any) -> bool:
    return handle.state.upper().startswith(INTERRUPTED) and not _tasks(handle)[0].paths.result_pickle.exists()


def _complete(handle: Any, name: str) -> bool:
    """Whether the run of a job that has ended was made; False if it was interrupted."""
    if _interrupted(handle):
        return False
    reports = []
    for task in _tasks(handle):
        if task.paths.result_pickle.exists() or handle.done():
            if (failed := task.exception()) is not None:
                raise EnvironmentFault(
                    f"The job {handle.job_id} of '{name}' ended as {handle.state}, without a result.",
                    why="\n".join(["Its last lines:", *str(failed).strip().splitlines()[-LINES_SHOWN:]]),
                    fix="Give the same command again, with --slurm mem=SIZE if memory was short; it resumes.",
                )
            reports.append(task.result())
    if fault := next((each for each in reports if isinstance(each, XltError)), None):
        raise fault
    return all(reports)


class _Quiet:
    """Progress that nobody is told: a job has no pipe to the command that submitted it."""

    def step(self, record: StepRecord, steps: int) -> None:
        pass

    def cell(self, task: str, split: str, language: str) -> None:
        pass


def _make_in_job(make: Make, job: Job) -> XltError | bool:
    """What each process of a job does: True when the run is made, False if it was asked to stop before."""
    hear_signals()
    # SLURM sends it before the time is over; submitit's own answer would end a step in the middle.
    signal.signal(signal.SIGUSR2, stop_request.receive)
    try:
        _join()
        make(job, _Quiet())
    except KeyboardInterrupt:
        return False
    except (XltError, ModuleNotFoundError) as error:
        return sendable(error)
    return True


def _join() -> None:
    """Set this process's place among those of its job, where they are several."""
    from submitit import JobEnvironment

    from xlt.runtime import PLACE

    for name in PLACE:  # that of the command which submitted the job
        os.environ.pop(name, None)
    here = JobEnvironment()
    if here.num_tasks > 1:
        # Not by its own name where there is one machine, which a container may not be able to resolve.
        first = here.hostnames[0] if here.num_nodes > 1 else "127.0.0.1"
        port = 20_000 + int(here.raw_job_id) % 20_000
        values = (here.global_rank, here.local_rank, here.num_tasks, first, port)
        os.environ.update(zip(PLACE, map(str, values), strict=True))
