"""Which kernels run here: one switch for each, and the reason where one is off."""

from __future__ import annotations

import importlib.util
import os

import torch
from torch import Tensor

# Set before this package is imported: Triton looks when a kernel is defined.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_HAS_TRITON = importlib.util.find_spec("triton") is not None
_off: dict[str, str] = {}


def serves(name: str, tensor: Tensor) -> bool:
    """Whether the Triton form of the kernel ``name`` runs on ``tensor``: its device, Triton, and the switch.

    ``XLT_KERNELS`` is ``on`` (or unset), ``off``, or the names of kernels to leave out, each after a minus sign:
    ``XLT_KERNELS=-gelu,-layer_norm``. On a CPU nothing runs but Triton's interpreter (``TRITON_INTERPRET=1``),
    which is for tests.
    """
    if not _HAS_TRITON or name in _off or tensor.dtype == torch.float64:
        return False
    setting = os.environ.get("XLT_KERNELS", "on").replace(" ", "")
    if setting == "off" or f"-{name}" in setting.split(","):
        return False
    if tensor.device.type == "cuda":  # without a device, the tensor is a fake one
        return torch.cuda.is_available() and torch.cuda.get_device_capability(tensor.device) >= (8, 0)
    return INTERPRETED and tensor.device.type == "cpu"


def switch_off(name: str, reason: str) -> None:
    """Leave the kernel ``name`` out for the rest of the process; ``reason`` is for the user."""
    _off[name] = reason


def switched_off() -> dict[str, str]:
    """The kernels that were switched off, and why."""
    return dict(_off)


def multiprocessors(tensor: Tensor) -> int:
    """How many multiprocessors the GPU of ``tensor`` has; 1 in Triton's interpreter."""
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count if tensor.is_cuda else 1
