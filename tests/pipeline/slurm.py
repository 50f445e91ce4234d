"""SLURM's commands on this machine, as far as submitit uses them: ``python slurm.py COMMAND ARGUMENTS``. All nodes are
this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["STAND_IN_SLURM"])


def sbatch(script: str) -> None:
    """Start a job."""
    number = len(list(STATE.glob("*.sh"))) + 1
    text = Path(script).read_text("utf-8")
    (STATE / f"{number}.sh").write_text(text, "utf-8")
    (STATE / str(number)).write_text("RUNNING", "utf-8")
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", text, re.MULTILINE))
    nodes, processes = int(asked["nodes"]), int(asked["ntasks-per-node"])
    environment = {
        "SLURM_JOB_ID": str(number),
        "SLURM_NTASKS": str(nodes * processes),
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_JOB_NODELIST": ",".join(["localhost"] * nodes),
    }
    subprocess.Popen(
        [sys.executable, __file__, "job", str(number)],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    print(f"Submitted batch job {number}")


def job(number: str) -> None:
    """Run a job's script, and write down how it ended."""
    (STATE / f"{number}.pid").write_text(str(os.getpid()), "utf-8")
    code = subprocess.run(["bash", STATE / f"{number}.sh"], check=False).returncode
    if (STATE / number).read_text("utf-8") == "RUNNING":
        (STATE / number).write_text("FAILED" if code else "COMPLETED", "utf-8")


def srun(*arguments: str) -> None:
    """Start the processes of a step; one that fails ends the others."""
    number, count = os.environ["SLURM_JOB_ID"], int(os.environ["SLURM_NTASKS"])
    options = {"--output": "", "--error": ""}
    given = list(arguments)
    while given[0].startswith("-"):
        option = given.pop(0)
        if option in options:
            options[option] = given.pop(0).replace("%j", number)
    started = []
    for rank in range(count):
        place = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": "0", "SLURM_NODEID": str(rank)}
        output, error = (Path(path.replace("%t", str(rank))) for path in options.values())
        with output.open("a") as out, error.open("a") as err:
            started.append(subprocess.Popen(given, env=os.environ | place, stdout=out, stderr=err))
    while started:
        pid, status = os.wait()
        started = [process for process in started if process.pid != pid]
        if status:
            for process in started:
                process.kill()
            sys.exit(1)


def sacct(*arguments: str) -> None:
    """Tell the states of all jobs."""
    print("JobID|State|NodeList")
    for path in STATE.iterdir():
        if not path.suffix:
            print(f"{path.name}|{path.read_text('utf-8')}|localhost")


def scancel(number: str) -> None:
    """End a job."""
    (STATE / number).write_text("CANCELLED by 0", "utf-8")
    os.killpg(int((STATE / f"{number}.pid").read_text("utf-8")), signal.SIGTERM)


if __name__ == "__main__":
    {"sbatch": sbatch, "job": job, "srun": srun, "sacct": sacct, "scancel": scancel}[sys.argv[1]](*sys.argv[2:])
