"""What this machine has, what it lacks, and the command that fixes each lack."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from xlt.errors import DataFault, EnvironmentFault
from xlt.pipeline.memory import free_memory, memory_limit
from xlt.pipeline.provenance import commit, cpu_name, device_name, versions

Status = Literal["pass", "warn", "fail", "not tested"]
GIB = 1024**3
COMPILE_SECONDS = 300.0
# By CUDA's version, the first driver that serves it: NVIDIA's table of minor version compatibility.
OLDEST_DRIVER = {"12": 525, "13": 580}
# Nothing else imports these before the step that needs them.
PACKAGES = ("huggingface_hub", "datasets", "seqeval")


@dataclass(slots=True)
class DoctorCheck:
    """One check of this machine."""

    name: str
    """What was checked; names of the self-test begin with ``GPU: ``."""
    status: Status
    """The outcome. ``not tested``: the self-test's time was over before its turn."""
    found: str
    """The outcome in words: a version, a size, or what went wrong."""
    fix: str = ""
    """What to do; empty where the check passed."""


@dataclass(slots=True, kw_only=True)
class DoctorReport:
    """All checks of ``xlt doctor``."""

    format: Literal[1] = 1
    """The version of this document."""
    checks: list[DoctorCheck]
    packages: dict[str, str]
    """The version of every package that can move a result."""
    commit: str
    """The commit of the source; empty where that is unknown."""

    @property
    def healthy(self) -> bool:
        """Whether nothing failed; warnings and what was not tested do not count."""
        return all(check.status != "fail" for check in self.checks)


def examine(results: Path, tier: str = "core", data_root: Path | None = None) -> DoctorReport:
    """Check this machine for what the smoke tier and the GPU tiers need, and for the models and data of ``tier``.

    Raises:
        UsageFault: there is no such tier.
    """
    needed = list(_needed(tier, data_root))
    return DoctorReport(checks=[*_checks(results), *needed], packages=versions(), commit=commit())


def self_test(engines: Collection[str] = ("deepspeed", "graph"), limit: float = 300.0) -> list[DoctorCheck]:
    """Compute on the GPU and compare, within ``limit`` seconds after the kernels are compiled.

    A kernel that fails is switched off, and FAISS moved to the CPU, in this process and, through their environment
    variables, in those that it starts. What is not reached in time is used untested. Of the engines only ``engines``
    are tested.

    Raises:
        EnvironmentFault: there is no GPU.
    """
    import torch

    from xlt.pipeline.selftest import CHECKS, ENGINES

    if not torch.cuda.is_available():
        raise EnvironmentFault(
            "There is no GPU to test.",
            why="torch finds no CUDA device.",
            fix="With docker, pass --gpus all. Without a GPU: xlt doctor.",
        )
    left_out = {check for engine, check in ENGINES.items() if engine not in engines}
    waiting = [name for name in CHECKS if name not in left_out]
    checks = [_compilation(waiting)]
    deadline = time.monotonic() + limit
    while waiting:
        found, failure = _run_self_test(waiting, deadline - time.monotonic())
        checks += [_check(f"GPU: {name}", True, text, "") for name, text in zip(waiting, found, strict=False)]
        waiting = waiting[len(found) :]
        if waiting and failure:
            checks.append(_do_without(waiting.pop(0), failure))
        elif waiting:
            late = f"not reached within {limit:.0f} s"
            fix = "It is used untested. When the machine is less busy: xlt doctor --gpu"
            checks += [_check(f"GPU: {name}", False, late, fix, otherwise="not tested") for name in waiting]
            waiting = []
    return checks


def _compilation(names: Sequence[str]) -> DoctorCheck:
    """Compile the kernels, which the disk keeps, in a process of its own: an error may leave it unable to compute."""
    begun = time.monotonic()
    _, failure = _run_self_test(["--compile", *names], COMPILE_SECONDS)
    seconds = time.monotonic() - begun
    found = f"{seconds:.0f} s, apart from the limit of the checks" + (f"; {failure}" if failure else "")
    good = not failure and seconds < COMPILE_SECONDS
    return _check("GPU: compilation", good, found, "What is left is compiled within the checks.", otherwise="warn")


def _run_self_test(arguments: Sequence[str], limit: float) -> tuple[list[str], str]:
    """What the checks found, up to the first that did not pass, and why it did not; no reason where time was over."""
    from xlt.pipeline.selftest import FOUND
    from xlt.runtime import PLACE

    if limit <= 0:
        return [], ""
    command = [sys.executable, "-m", "xlt.pipeline.selftest", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in PLACE}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=limit, check=False)
        out, errors = done.stdout, done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        failure = f"the process ended with exit code {done.returncode}: {errors[-1]}" if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        out, failure = late.stdout or b"", ""
    lines = out.decode(errors="replace").splitlines()
    events = [json.loads(line.partition(FOUND)[2]) for line in lines if FOUND in line]
    failed = [event["found"] for event in events if not event["good"]]
    return [event["found"] for event in events if event["good"]], failed[0] if failed else failure


def _do_without(name: str, reason: str) -> DoctorCheck:
    """Go on without what failed, where that is possible."""
    from xlt_kernels.switch import switch_off

    from xlt.pipeline.selftest import KERNELS

    if name in KERNELS:
        switch_off(name, reason)
        before = [each for each in os.environ.get("XLT_KERNELS", "").split(",") if each.startswith("-")]
        os.environ["XLT_KERNELS"] = ",".join([*before, f"-{name}"])
        fix = f"The kernel is switched off, plain torch does its work. Elsewhere: export XLT_KERNELS=-{name}"
    elif name == "FAISS":
        os.environ["XLT_FAISS"] = "cpu"
        fix = "FAISS searches on the CPU. Elsewhere: export XLT_FAISS=cpu"
    elif name == "graph engine":
        fix = "Train with --engine deepspeed."
    else:
        fix = "make install, or the image; DeepSpeed cannot train on this GPU as it is."
        return _check(f"GPU: {name}", False, reason, fix)
    return _check(f"GPU: {name}", False, f"FAILED: {reason}", fix, otherwise="warn")


def _check(name: str, good: bool, found: str, fix: str, otherwise: Status = "fail") -> DoctorCheck:
    return DoctorCheck(name=name, status="pass" if good else otherwise, found=found, fix="" if good else fix)


def _checks(results: Path) -> Iterator[DoctorCheck]:
    yield _check("Python", sys.version_info >= (3, 11), sys.version.split()[0], "Install Python 3.11 or newer.")
    # As torch does that compiles with it: what CXX names, and nothing else where it names something.
    named = os.environ.get("CXX", "")
    compiler = shutil.which(named.split()[0]) if named.strip() else shutil.which("c++") or shutil.which("g++")
    fix = "apt-get install g++ (DeepSpeed compiles one operator when it starts on a CPU)"
    found = Path(compiler).name if compiler else f"absent: CXX is '{named}'" if named else "absent"
    yield _check("C++ compiler", compiler is not None, found, "unset CXX, or name a compiler" if named else fix)
    headers = (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()
    yield _check("Python headers", headers, "present" if headers else "absent", "apt-get install python3-dev")
    for name, (module, describe) in _IMPORTS.items():
        try:
            if name == "DeepSpeed":
                import_module("xlt.runtime").prepare_deepspeed()
            yield _check(name, True, describe(import_module(module)), "")
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            yield _check(name, False, str(error).split("\n")[0], "make install")
    if find_spec("torch"):
        yield from _larger_than_needed()
    absent = ", ".join(name for name in PACKAGES if find_spec(name) is None)
    fix = f"make install, or: pip install {absent.replace(',', '')}"
    yield _check("other packages", not absent, f"absent: {absent}" if absent else ", ".join(PACKAGES), fix)
    yield from _gpu()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fix = "The smoke tier takes about twice as long on one core."
    yield _check("processor", cores >= 2, f"{cores} cores, {cpu_name() or 'unknown'}", fix, otherwise="warn")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = memory_limit()
    free = free_memory() or memory  # of a container that is limited, what is left of its limit
    fix = "The smoke tier needs 4 GiB: end other programs, or give the container more (docker run --memory)."
    found = f"{free / GIB:.1f} GiB free, the machine has {memory / GIB:.1f}"
    found += f", this container may take {limit / GIB:.1f}" if limit else ""
    # What other programs hold now may be free later.
    least, most = 3.5 * GIB, min(memory, limit or memory)
    yield _check("memory", free >= least, found, fix, otherwise="fail" if most < least else "warn")
    place = next(folder for folder in (results.absolute(), *results.absolute().parents) if folder.exists())
    free, writable = shutil.disk_usage(place).free, os.access(place, os.W_OK)
    fix = "The smoke tier writes about 0.2 GiB." if writable else "Choose another folder: --results DIR"
    found = f"{free / GIB:.1f} GiB free" if writable else f"'{place}' cannot be written"
    yield _check("disk for results", writable and free >= GIB, found, fix)


def _needed(name: str, data_root: Path | None) -> Iterator[DoctorCheck]:
    """Whether the public models and the data of a tier are here, and what their licences ask."""
    try:
        from xlt.pipeline.needs import lacking, tier_needs
        from xlt.pipeline.tiers import read_tier
    except ImportError as error:  # a package that is missing is told by a check of its own
        yield _check("weights, data", False, f"not looked for: {error}", "make install", otherwise="warn")
        return
    if "hub" not in read_tier(name).sources:
        yield _check("weights, data", True, f"the tier {name} makes its own", "")
        return
    needs = tier_needs(name)
    try:
        absent = lacking(needs, data_root)
    except DataFault as fault:
        yield _check("weights, data", False, f"{fault.what} {fault.why}".split("\n")[0], fault.fix)
        return
    root = shlex.quote(str(data_root)) if data_root else "DIR"
    fetch = f"xlt fetch --tier {name} --data-root {root} (for official files); the smoke tier needs none"
    found = f"{name}: {', '.join(needs.models)}" + (f"; absent: {', '.join(absent.models)}" if absent.models else "")
    yield _check("weights", not absent.models, found, fetch, otherwise="warn")
    licensed = {task.key for task in needs.licensed}
    missing = [task for task in absent.tasks if task.key not in licensed]
    found = f"{name}: {len(needs.tasks) - len(licensed)} tasks"
    for what, tasks in (("here in part, for --source files", absent.in_part), ("absent", missing)):
        found += f"; {what}: {', '.join(task.key for task in tasks)}" if tasks else ""
    yield _check("data", not missing and not absent.in_part, found, fetch, otherwise="warn")
    here = not any(task.key in licensed for task in absent.tasks)
    names = ", ".join(f"{task.name} ({task.licence}, {task.address})" for task in needs.licensed)
    found = "each task has its own: artifact/LICENCES.md" + (
        f"; runs do without, where it is absent: {names}" if names else ""
    )
    fix = "Whoever has it names its folder: --data-root DIR"
    yield _check("licences", here, found, fix, otherwise="warn")


def _accelerator(deepspeed: Any) -> str:
    return f"{deepspeed.__version__}, accelerator {deepspeed.accelerator.get_accelerator().device_name()}"


def _search(search: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in search.search_report().items())


def _kept(encodings: Any) -> str:
    if (folder := encodings.encodings_folder()) is None:
        return "not kept: XLT_ENCODINGS is off, or there is no home"
    size, most = encodings.kept_bytes(folder) / GIB, encodings.MOST_BYTES / GIB
    return f"{size:.1f} of at most {most:.0f} GiB in {folder}, which can be removed at any time"


# What has to be imported without an error, and what its module says of itself.
_IMPORTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "torch": ("torch", lambda torch: f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}"),
    "transformers": ("transformers", lambda package: f"{package.__version__}, {package.XLMRobertaModel.__name__}"),
    "DeepSpeed": ("deepspeed", _accelerator),
    "FAISS": ("xlt.retrieval.search", _search),
    "tokenized rows": ("xlt.data.encodings", _kept),
}


def _larger_than_needed() -> Iterator[DoctorCheck]:
    import torch

    if torch.version.cuda and not torch.cuda.is_available():
        found = "for CUDA, which this machine cannot use: it works, and takes some 2.7 GB to download"
        fix = (
            "To have the CPU build: export PIP_EXTRA_INDEX_URL=ADDRESS, the index of CPU builds that torch's "
            "installation page names; then make clean install"
        )
        yield DoctorCheck(name="torch's build", status="warn", found=found, fix=fix)


def _driver(cuda: str | None) -> Iterator[DoctorCheck]:
    """Whether the driver, where there is one, is new enough for the CUDA that torch is built for."""
    least = OLDEST_DRIVER.get((cuda or "").partition(".")[0])
    if least is None or not (program := shutil.which("nvidia-smi")):
        return
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        found = []
    version = found[0] if found else "no answer of nvidia-smi"
    major = version.partition(".")[0]
    fix = f"CUDA {cuda} needs a driver of version {least} or newer: update it on the host; the image does not hold it."
    yield _check("driver", major.isdecimal() and int(major) >= least, version, fix)


def _gpu() -> Iterator[DoctorCheck]:
    import torch

    if not torch.cuda.is_available():
        fix = "The smoke tier needs none. With docker, pass --gpus all; XLM-R Large needs 24 GB of GPU memory."
        yield _check("GPU", False, "none", fix, otherwise="warn")
        yield from _driver(torch.version.cuda)
        return
    free, total = torch.cuda.mem_get_info()
    found = f"{torch.cuda.device_count()} x {device_name()}, {free / GIB:.0f} of {total / GIB:.0f} GiB free"
    yield _check("GPU", total >= 22 * GIB, found, "XLM-R Large needs 24 GB: use --zero 3_offload.", otherwise="warn")
    yield from _driver(torch.version.cuda)
    if torch.cuda.device_count() > 1:
        shared = shutil.disk_usage("/dev/shm").total
        fix = "GPUs that share a run (--shard) exchange data there: docker run --shm-size 8g"
        yield _check("shared memory", shared >= GIB, f"{shared / GIB:.1f} GiB", fix, otherwise="warn")
    # Where CUDA looks for the daemon through which several processes compute on one GPU at the same time.
    daemon = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps") / "control"
    off = "off: with --processes N the runs on one GPU take turns; to start it: nvidia-cuda-mps-control -d"
    yield _check("MPS", True, "on: the runs of --processes N compute at the same time" if daemon.exists() else off, "")
