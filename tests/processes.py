"""Several processes that share a process group, as those of one run do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from tests.conftest import PROJECT


def leash() -> dict[str, str]:
    """Variables with which every Python process that is started, by whomever, ends with this one."""
    path = [str(PROJECT / "tests" / "leash"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), "XLT_LEASH": str(os.getpid())}


def run_together(module: str, processes: int = 2) -> list[str]:
    """The last line of each process of ``python -m MODULE``, on the CPU; one that fails fails the test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    place |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "DS_LOG_LEVEL": "error"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=PROJECT,
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        ended = [(process, *process.communicate(timeout=600)) for process in started]
    finally:
        for process in started:
            process.kill()
    assert all(process.returncode == 0 for process, _, _ in ended), "\n".join(said for _, _, said in ended)
    return [printed.splitlines()[-1] for _, printed, _ in ended]
