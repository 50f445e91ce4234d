"""How a CPU computes: as its libraries like, fast, or with one way to round on x86-64 processors with AVX2 and FMA.

torch, oneDNN, MKL and OpenBLAS each take the widest instructions and the vendor's own order of sums. Two processors
then round differently from the first step on, and after a thousand steps of training nothing is the same. With the
variables below, and with the products of matrices computed by the OpenBLAS that numpy brings, nothing that is known is
left to choose; that other real processors then agree is not shown (``artifact/LOG.md``). MKL has a variant for that too
(``MKL_CBWR=COMPATIBLE``), which made a training step 1.6 times as long; OpenBLAS's for AVX2 made it no longer.

Fast numerics only move the products of fp32 matrices from MKL, which has no AVX-512 for processors of other makers
than its own, to oneDNN, which torch brings too and which compiles its kernels for the processor at hand: the type of
the numbers is the same, and the order of sums another. ``xlt bench cpu`` compares them.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

Numerics = Literal["native", "portable", "fast"]
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


def request_fast() -> None:
    """Ask for fast numerics in this process and those that it starts, unless ``XLT_NUMERICS`` says otherwise."""
    os.environ.setdefault(SWITCH, "fast")


def request(asked: Numerics) -> None:
    """Ask for the numerics of a tier."""
    if asked == "portable":
        request_portable()
    elif asked == "fast":
        request_fast()


def follow_request() -> None:
    """Set the variables of the libraries, before any of them is loaded: what all numerics need, and what portable ones
    do if ``XLT_NUMERICS=portable`` is asked for."""
    # oneDNN keeps 1,024 compiled kernels with their buffers, one for each shape. No two batches of real text have the
    # same number of tokens: after 300 of them that was 1 GB, and of these 32 is more than the layers of a step need.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    if os.environ.get(SWITCH) == "portable" and _has_avx2():
        os.environ.update(LIBRARIES)


def numerics() -> Numerics:
    """How this process computes on its CPU."""
    return _used[-1][0] if _used else "native"


def use_requested_products() -> None:
    """Replace what computes the products of matrices on the CPU, where that was asked for: by OpenBLAS for portable
    numerics, if they were asked for in time, and by oneDNN for fast ones."""
    import torch

    asked = os.environ.get(SWITCH)
    if _used or asked not in ("portable", "fast"):
        return
    if asked == "fast":
        if torch.backends.mkldnn.is_available():
            _used.append(("fast", _by_onednn()))
    elif (
        all(os.environ.get(name) == its for name, its in LIBRARIES.items())
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
    ):
        _used.append(("portable", _by_openblas()))


# What is used, with its registration, which lasts as long as the object: once for a process.
_used: list[tuple[Numerics, object]] = []


@contextmanager
def fast_products() -> Iterator[None]:
    """Let oneDNN compute products inside, as with fast numerics; for comparison, not for runs."""
    library: Any = _by_onednn()
    try:
        yield
    finally:
        library._destroy()


def _by_openblas() -> object:
    """Put OpenBLAS in the place of MKL."""
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

    # torch's fused attention multiplies inside itself, by MKL.
    torch.backends.cuda.enable_flash_sdp(False)
    return _registered({"mm": product, "bmm": product, "addmm": sum_and_product})


def _by_onednn() -> object:
    """Put oneDNN in the place of MKL for products of two matrices in fp32; all others stay where they are."""
    import torch
    from torch import Tensor

    linear = torch.ops.mkldnn._linear_pointwise.default

    def product(one: Tensor, other: Tensor) -> Tensor:
        if one.dtype != torch.float32 or 0 in (*one.shape, *other.shape):
            return torch.mm(one, other, out=one.new_empty(one.shape[0], other.shape[1]))
        found: Tensor = linear(one, other.t(), None, "none", [], "")
        return found

    def sum_and_product(added: Tensor, one: Tensor, other: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        plain = one.dtype == torch.float32 and added.dim() == 1 and (alpha, beta) == (1, 1)
        if not plain or 0 in (*one.shape, *other.shape):
            out = one.new_empty(one.shape[0], other.shape[1])
            return torch.addmm(added, one, other, beta=beta, alpha=alpha, out=out)
        found: Tensor = linear(one, other.t(), added, "none", [], "")
        return found

    return _registered({"mm": product, "addmm": sum_and_product})


def _registered(functions: Mapping[str, Callable[..., object]]) -> object:
    import torch

    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is an implementation already: that is the point
        for name, function in functions.items():
            library.impl(name, function, "CPU")
    return library


def _has_avx2() -> bool:
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8").split()
    except OSError:
        return False
    return {"avx2", "fma"} <= set(flags)
