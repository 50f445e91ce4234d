"""Random streams: every source of randomness of a run follows from its seed and a name."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch

from xlt.numerics import use_requested_products


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called ``names``, the same on every machine and Python version."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_everything(seed: int) -> None:
    """Set the global generators of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def deterministic(enabled: bool) -> None:
    """Ask torch for operations that give the same bits on the same machine type and world size; where portable
    numerics were asked for, as far as is known on other types too (``xlt.numerics``).

    ``CUBLAS_WORKSPACE_CONFIG`` must be set before CUDA starts, which the command line does. On a GPU an operation
    that has no such form warns; on a CPU it is an error.
    """
    use_requested_products()
    accumulate_in_fp32()
    torch.use_deterministic_algorithms(enabled, warn_only=torch.cuda.is_available())
    # Else torch fills every new tensor with NaN in this mode: one more write of it, for code that reads it unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = enabled
    torch.backends.cudnn.benchmark = False


def accumulate_in_fp32() -> None:
    """Ask cuBLAS to add up the parts of a product in fp32: by default it may round bf16 and fp16 parts first."""
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
