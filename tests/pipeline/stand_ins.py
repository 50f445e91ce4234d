"""What workers do in tests instead of a run. A new process imports this module, so it loads nothing that is slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from xlt.errors import DataFault
from xlt.pipeline.jobs import Job, Workers

if TYPE_CHECKING:
    from xlt.pipeline.run import Progress


def tell_pid(job: Job, progress: Progress) -> None:
    """Be done at once."""
    print("of a library")
    progress.cell(job.spec.name, str(os.getpid()), "")


def tell_devices(job: Job, progress: Progress) -> None:
    """Tell which GPU is visible, and the place in the process group."""
    place = [os.environ.get(name, "none") for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR")]
    progress.cell(
        os.environ.get("CUDA_VISIBLE_DEVICES", "none"), os.environ.get("MASTER_PORT", "none"), " ".join(place)
    )


def die(job: Job, progress: Progress) -> None:
    """End with a last word, but for phase 1, which goes on."""
    (job.results / str(os.getpid())).touch()
    print("out of luck", flush=True)
    time.sleep(60) if job.spec.name == "mlm" else os._exit(9)


def die_after(job: Job, progress: Progress) -> None:
    """Be done, and end before the next job."""
    from threading import Timer

    Timer(0.1, os._exit, [9]).start()


def second_ends_first(job: Job, progress: Progress) -> None:
    """The second of two processes is done before the first."""
    time.sleep(0.3 if os.environ["RANK"] == "0" else 0)
    progress.cell(os.environ["RANK"], "", "")


def second_dies(job: Job, progress: Progress) -> None:
    """The second of two processes ends, and the first waits for it."""
    os._exit(9) if os.environ["RANK"] == "1" else time.sleep(60)


def stand_still(job: Job, progress: Progress) -> None:
    """Wait for what does not come."""
    time.sleep(60)


def fail(job: Job, progress: Progress) -> None:
    """Report an error."""
    raise DataFault("Nothing is there.", why="It was moved.", fix="Move it back.")


def lack(job: Job, progress: Progress) -> None:
    """Need a package that is not installed."""
    import a_package_that_is_not_there  # type: ignore[import-not-found]  # noqa: F401


def have_a_child(job: Job, progress: Progress) -> None:
    """Start a process, write down both, and go on."""
    child = subprocess.Popen(["sleep", "60"])
    (job.results / os.environ.get("RANK", "0")).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(60)


def be_stopped_twice(job: Job, progress: Progress) -> None:
    """Be asked to stop at the first two attempts."""
    attempts = len(list(job.results.iterdir()))
    (job.results / str(attempts)).touch()
    if attempts < 2:
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(60)


def break_off(job: Job, progress: Progress) -> None:
    """Be killed."""
    print("a word of the last", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def write_place(job: Job, progress: Progress) -> None:
    """Write down the place in the process group."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    text = " ".join(os.environ[name] for name in names)
    (job.results / f"place-{os.environ['RANK']}").write_text(text, "utf-8")


def be_preempted_once(job: Job, progress: Progress) -> None:
    """Be killed by SLURM at the first attempt, and write down the place at the second."""
    number = os.environ["SLURM_JOB_ID"]
    if number == "1":
        (Path(os.environ["STAND_IN_SLURM"]) / number).write_text("PREEMPTED", "utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    write_place(job, progress)


def main(pickled: str) -> None:
    """Share the pickled job among two processes, until somebody ends this one."""
    import pickle

    job = pickle.loads(Path(pickled).read_bytes())
    with Workers(have_a_child) as workers:
        workers.share(job, None, 2)  # type: ignore[arg-type]


def submit(pickled: str) -> None:
    """Do the same as a test that submits the pickled job to submitit's local executor."""
    import pickle

    from tests.processes import leash
    from xlt.pipeline.cluster import Jobs, Queue

    os.environ.update(leash())
    job = pickle.loads(Path(pickled).read_bytes())
    with Jobs(Queue(kind="local"), have_a_child) as jobs:
        jobs.submit(job, None)  # type: ignore[arg-type]
        jobs.wait()


if __name__ == "__main__":
    {"main": main, "submit": submit}[(sys.argv[2:] or ["main"])[0]](sys.argv[1])
