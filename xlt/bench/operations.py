"""What Python issues: operations, and reads of the device, which wait for all that it computes."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# They give the host a number or a shape that depends on numbers.
_READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::_unique2", "aten::equal", "aten::masked_select"}
# Nothing is computed: memory is taken, or a tensor handed on.
_IDLE = ("empty", "new_empty", "lift_fresh", "_unsafe_view", "detach", "promote_types")
_IDLE_NAMES = ("profiler::", *(f"aten::{name}" for name in _IDLE))


class Operations(TorchDispatchMode):
    """Counts the ``operations`` that torch issues within the block, views and empties left out, and the ``reads``.

    Kernels of Triton are not among them, nor what a CUDA graph replays.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        if name in _READS:
            self.reads += 1
        elif not (name.startswith(_IDLE_NAMES) or (isinstance(func, torch._ops.OpOverload) and func.is_view)):
            self.operations += 1
        return func(*args, **(kwargs or {}))
