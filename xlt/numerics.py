"""One way to round on x86-64 processors with AVX2 and FMA: fixed variants of what libraries choose by the processor.

torch, oneDNN, MKL and OpenBLAS each take the widest instructions and the vendor's own order of sums. Two processors
then round differently from the first step on, and after a thousand steps of training nothing is the same. With the
variables below, and with the products of matrices computed by the OpenBLAS that numpy brings, nothing that is known is
left to choose; that other real processors then agree is not shown (``artifact/LOG.md``). MKL has a variant for that too
(``MKL_CBWR=COMPATIBLE``), which made a training step 1.6 times as long; OpenBLAS's for AVX2 made it no longer.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Literal

Numerics = Literal["native", "portable"]
SWITCH = "XLT_NUMERICS"
# Each is read when its library is loaded. What MKL still computes (logarithms, for one) must not depend on it either.
LIBRARIES = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENBLAS_L2_SIZE": "512",
    "FAISS_OPT_LEVEL": "avx2",
}


def request_portable() -> None:
    """Ask for portable numerics in this process and those that it starts. Without effect once torch or numpy is loaded,
    on another kind of processor, or where ``XLT_NUMERICS=native`` was set."""
    if "torch" in sys.modules or "numpy" in sys.modules or not _has_avx2():
        return
    os.environ.setdefault(SWITCH, "portable")
    follow_request()


def follow_request() -> None:
    """Set the variables of all libraries if ``XLT_NUMERICS=portable`` is asked for, before any of them is loaded."""
    if os.environ.get(SWITCH) == "portable" and _has_avx2():
        os.environ.update(LIBRARIES)


def numerics() -> Numerics:
    """How this process computes on its CPU."""
    return "portable" if _products.cache_info().currsize else "native"


def use_portable_products() -> None:
    """Let OpenBLAS compute the products of matrices on the CPU, where portable numerics were asked for in time."""
    import torch

    asked = os.environ.get(SWITCH) == "portable" and all(os.environ.get(name) == its for name, its in LIBRARIES.items())
    if asked and torch.backends.cpu.get_cpu_capability() == "AVX2":
        _products()


@cache
def _products() -> object:
    """Put OpenBLAS in the place of MKL, once for a process; the registration lasts as long as what is returned."""
    import numpy as np
    import torch
    from torch import Tensor

    def product(one: Tensor, other: Tensor) -> Tensor:
        if one.dtype in (torch.bfloat16, torch.float16):
            return product(one.float(), other.float()).to(one.dtype)
        return torch.from_numpy(np.matmul(one.detach().numpy(), other.detach().numpy()))

    def sum_and_product(added: Tensor, one: Tensor, other: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        found = product(one, other)
        return (found if alpha == 1 else found.mul_(alpha)).add_(added if beta == 1 else added * beta)

    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is an implementation already: that is the point
        for name, function in (("mm", product), ("bmm", product), ("addmm", sum_and_product)):
            library.impl(name, function, "CPU")
    # torch's fused attention multiplies inside itself, by MKL.
    torch.backends.cuda.enable_flash_sdp(False)
    return library


def _has_avx2() -> bool:
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8").split()
    except OSError:
        return False
    return {"avx2", "fma"} <= set(flags)
