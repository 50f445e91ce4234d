"""Memory of this machine and of this process: how much is free, and how much a run took at most."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from xlt.errors import EnvironmentFault

if TYPE_CHECKING:
    from xlt.train.engine import EngineSettings

Result = TypeVar("Result")
_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_RESET_HIGH_WATER_MARK = "5"  # proc(5), /proc/pid/clear_refs


def free_memory() -> int | None:
    """The bytes that new processes may take: what the kernel estimates to be available without swapping, or less where
    a container (cgroup v2) is limited to less; None where neither is known."""
    known = [*_available(), *_left_in_containers()]
    return min(known) if known else None


def _available() -> Iterator[int]:
    with suppress(OSError):
        yield from _kilobytes(_PROC / "meminfo", "MemAvailable")


def _left_in_containers() -> Iterator[int]:
    """What is left of the limit of each control group that this process is in, from the innermost out."""
    for folder, limit in _limits():
        with suppress(OSError, ValueError):
            used = int((folder / "memory.current").read_text("utf-8"))
            # Pages of files that were not read lately count as used, and are given up where memory is short.
            counts = dict(line.split() for line in (folder / "memory.stat").read_text("utf-8").splitlines())
            yield max(0, limit - used + int(counts.get("inactive_file", 0)))


def memory_limit() -> int | None:
    """The bytes that a container (cgroup v2) lets this process and all beside it take; None without a limit."""
    return min((limit for _, limit in _limits()), default=None)


def _limits() -> Iterator[tuple[Path, int]]:
    """Each control group that has a limit, with it, from the innermost out."""
    group = ""
    with suppress(OSError):
        lines = (_PROC / "self" / "cgroup").read_text("utf-8").splitlines()
        group = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    # In a container the path may be that of the host, which is not mounted; its own group is the root then.
    inner = _CGROUPS / group
    for folder in [inner, *inner.parents] if inner.is_relative_to(_CGROUPS) else [_CGROUPS]:
        if folder.is_relative_to(_CGROUPS):
            with suppress(OSError, ValueError):  # no limit: there is no such file, or it says max
                yield folder, int((folder / "memory.max").read_text("utf-8"))


def train_in_parts(settings: EngineSettings, batch_size: int, make: Callable[[EngineSettings], Result]) -> Result:
    """What ``make`` makes of a training, with half of the micro-batch as often as the device runs out of memory.

    The batch of a step, and the order of all of them, stay as they are.

    Raises:
        EnvironmentFault: even one example takes too much, or several processes share the training: the others wait for
            one that has no memory left.
    """
    import torch

    while True:
        try:
            return make(settings)
        except torch.OutOfMemoryError as error:
            parts, why = 2 * settings.accumulation, str(error).split("\n")[0]
            if torch.distributed.get_world_size() > 1 or parts > batch_size:
                raise EnvironmentFault(
                    f"The device has too little memory for this training with {settings.accumulation} micro-batches "
                    "for each step.",
                    why=why,
                    fix=f"Use --accumulation {parts}, or a ZeRO stage that shares more (--zero 3)."
                    if parts <= batch_size
                    else "Use a device with more memory, or --zero 3_offload.",
                ) from error
        # Here, not above: until then the error keeps the frames that hold the device's memory.
        warnings.warn(f"The device is out of memory: each step is computed in {parts} parts now. {why}", stacklevel=2)
        settings = replace(settings, accumulation=parts)
        release()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def release() -> None:
    """Give back to the system all memory that nothing uses any more, where the allocator can be told to (glibc).

    By itself it keeps most of what a training freed, between small blocks that are still in use: after a training of
    multilingual-e5-small it gave back 1.0 of 3.4 GB when told to.
    """
    gc.collect()
    _trim()


def _trim() -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class RegularTrim:
    """Gives back what training steps leave between blocks that stay, every so many seconds of the CPU.

    Batches have other lengths each time, so that more and more of it is too small for the next one. Once took 0.1 to
    0.2 s.
    """

    def __init__(self, every: float = 15.0) -> None:
        self._every, self._last = every, time.process_time()

    def __call__(self) -> None:
        """A step is done."""
        if time.process_time() - self._last > self._every:
            _trim()
            self._last = time.process_time()


def reset_peak() -> None:
    """Begin to measure the peak anew, from what this process holds now: several runs may share a process.

    Linux forgets the process's high-water mark where it allows that; elsewhere ``peak_memory`` stays the peak since
    the process began.
    """
    import torch

    with suppress(OSError):
        (_PROC / "self" / "clear_refs").write_text(_RESET_HIGH_WATER_MARK, "utf-8")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, int]:
    """Peak memory of this process in bytes: resident, and on the accelerator where there is one.

    Resident is the kernel's high-water mark since ``reset_peak`` (VmHWM), or where the system has none
    (macOS) ``ru_maxrss``, which is that of the largest run so far.
    """
    import torch

    marks: list[int] = []
    with suppress(OSError):
        marks += _kilobytes(_PROC / "self" / "status", "VmHWM")
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"resident_bytes": marks[0] if marks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peak["device_bytes"] = torch.cuda.max_memory_allocated()
    return peak


def _kilobytes(path: Path, name: str) -> Iterator[int]:
    """The bytes that a file of /proc gives in KiB under that name."""
    yield from (
        1024 * int(each) for each in re.findall(rf"^{name}:\s+(\d+) kB$", path.read_text("utf-8"), re.MULTILINE)
    )
