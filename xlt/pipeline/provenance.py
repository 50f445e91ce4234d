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
    if named := os.environ.get("XLT_COMMIT"):
        return named
    head = _git("rev-parse", "HEAD")
    return head + ("+changes" if head and _git("status", "--porcelain", "--untracked-files=no") else "")


def tag() -> str:
    """The tags of the checkout's commit, separated by spaces; empty where it has none, and outside a checkout."""
    return " ".join(_git("tag", "--points-at", "HEAD").split())


def _git(*arguments: str) -> str:
    """What git says of the checkout; nothing outside of one, or where git is not installed or fails."""
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


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
