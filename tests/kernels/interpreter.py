"""Triton under its interpreter, where there is no GPU.

Triton looks at ``TRITON_INTERPRET`` when it is imported and when a kernel is defined, so this module has to be
imported before anything imports Triton. The variable is set only meanwhile: what tests start would inherit it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys

import torch
import xlt_kernels
import xlt_kernels.switch  # reads the variable: nothing is interpreted but in the tests of the kernels

# Why the kernels cannot run here; empty where they can.
missing = ""


def import_interpreted(*names: str) -> None:
    """Import modules that define kernels, as functions of the interpreter."""
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        if before is None:
            del os.environ["TRITON_INTERPRET"]


def import_kernels() -> None:
    """Import every kernel of the package: compiled where there is a GPU, interpreted where there is none."""
    names = [f"xlt_kernels.{m.name}" for m in pkgutil.iter_modules(xlt_kernels.__path__) if m.name.endswith("_triton")]
    if not missing and not torch.cuda.is_available():
        import_interpreted(*names)


if importlib.util.find_spec("triton") is None:
    missing = "Triton is not installed"
elif not torch.cuda.is_available():
    if "triton" in sys.modules:
        missing = "no NVIDIA GPU, and Triton was imported without its interpreter"
    else:
        # The first launch would import gluon, which accepts no interpreted functions unless the variable is set.
        import_interpreted("triton.language", "triton.experimental.gluon")
