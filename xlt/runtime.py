"""The device of this process, and the process group that it belongs to."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import socket
import sysconfig
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO

import torch
from torch.utils.file_baton import FileBaton

# The environment variables that say a process's place in its process group.
PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def device() -> torch.device:
    """The device of this process."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def prepare_deepspeed() -> None:
    """Set what DeepSpeed must find before it is imported: the accelerator, a folder to compile into, the program ninja,
    and a lock that a killed process gives up.

    torch compiles DeepSpeed's operators on first use and marks a build under way by a file. A process that is killed
    meanwhile leaves the file behind, and every later one waits for it to go, without end.
    """
    from torch.utils import cpp_extension

    cpp_extension.FileBaton = BuildLock  # type: ignore[attr-defined]
    # pip puts ninja beside this Python, where torch finds it only if the environment was activated.
    programs, path = sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)
    if programs not in path.split(os.pathsep):
        os.environ["PATH"] = f"{path}{os.pathsep}{programs}"
    if not os.environ.get("TORCH_EXTENSIONS_DIR"):
        # What is compiled names the folder of the packages. In one folder for all, two environments of a user would
        # each compile again what the other has left.
        place = hashlib.sha256(f"{torch.__file__} {torch.__version__}".encode()).hexdigest()[:8]
        os.environ["TORCH_EXTENSIONS_DIR"] = f"{cpp_extension.get_default_build_root()}/xlt-{place}"
    _find_build_folder(Path(os.environ["TORCH_EXTENSIONS_DIR"]))
    # Without this DeepSpeed searches for a GPU, and warns.
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def _find_build_folder(folder: Path) -> None:
    """Where nothing can be written to ``folder``, such as in a home that is read-only, compile into one that this
    process makes and removes."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return
    own = tempfile.mkdtemp(prefix="xlt-extensions-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    os.environ["TORCH_EXTENSIONS_DIR"] = own  # for other processes of this command, too


class BuildLock(FileBaton):
    """A lock on a build that the kernel releases when its process ends, however it ends.

    Processes take turns: each runs the build, which finds nothing to do once it has been done.
    """

    def __init__(self, lock_file_path: str, *_: object, **__: object) -> None:
        self._path = f"{lock_file_path}.held"
        self._file: IO[str] | None = None

    def try_acquire(self) -> bool:
        """Wait for the other builds, then hold the lock."""
        self._file = open(self._path, "w")  # noqa: SIM115 - held until release()
        # A file system without locks: then builds at the same time are not told apart.
        with suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Let the next build begin."""
        if self._file:
            self._file.close()


def start_process_group() -> None:
    """Join the process group that the environment names, or make one of this process alone. Safe to call again."""
    prepare_deepspeed()
    if torch.distributed.is_initialized():
        return
    if "RANK" not in os.environ:
        os.environ.update(place(0, 1, free_port()))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(device())
    # DeepSpeed takes this group for its own. Its limit: the others wait for process 0 while it scores.
    own = device() if backend == "nccl" and os.environ["WORLD_SIZE"] != "1" else None
    torch.distributed.init_process_group(backend, timeout=timedelta(minutes=30), device_id=own)
    # A group that is still there when Python shuts down can abort the process after its work is done.
    atexit.register(stop_process_group)


def free_port() -> int:
    """A port of this machine that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def place(rank: int, world: int, port: int) -> dict[str, str]:
    """The variables of process ``rank`` of ``world`` on this machine, which meet at ``port``."""
    # Not by the machine's own name, which a container may not be able to resolve.
    return dict(zip(PLACE, (str(rank), str(rank), str(world), "127.0.0.1", str(port)), strict=True))


def stop_process_group() -> None:
    """Leave the process group in step with the other processes."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
