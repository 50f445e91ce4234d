"""Where and with what a run was made. No host name, user name or path is recorded: reviewers may be blind."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from xlt.numerics import numerics

PACKAGES = "xlt torch transformers tokenizers datasets deepspeed faiss-cpu faiss-gpu triton numpy sentencepiece".split()
# What the self-test of a GPU switched off, or a user chose; the results are the same.
SWITCHES = ("XLT_KERNELS", "XLT_FAISS", "XLT_SEARCH")


def environment() -> dict[str, Any]:
    """Versions, commit and device of this process."""
    import torch

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": versions(),
        "commit": commit(),
        "device": device_name(),
        "cuda": torch.version.cuda,
        "cpu_threads": torch.get_num_threads(),
        "numerics": numerics(),
        "cpu": cpu_name(),
        "switches": {name: os.environ[name] for name in SWITCHES if name in os.environ},
    }


@cache
def versions(*others: str) -> dict[str, str]:
    """The installed versions of the packages that matter to the numbers, and of ``others``."""
    found = {}
    for package in (*PACKAGES, *others):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str:
    """The commit of the checkout, with ``+changes`` if files differ from it; empty outside a checkout."""
    root = Path(__file__).resolve().parent.parent.parent
    if named := os.environ.get("XLT_COMMIT"):
        return named
    if not (root / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except OSError:
        return ""  # git is not installed
    return head + ("+changes" if head and changed else "")


def device_name() -> str:
    """The accelerator's model name, or ``cpu``."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


@cache
def cpu_name() -> str:
    """The processor's model name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
