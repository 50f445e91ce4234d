# ruff: noqa: N803 - constants of a kernel are arguments in capitals
# mypy: allow-untyped-defs, allow-incomplete-defs
"""Triton kernels of :class:`xlt_kernels.adamw.AdamW`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from xlt_kernels.adamw import Entry

# A program moves 28 KB, 8 elements a thread in 16-byte accesses. Every matrix of XLM-R Large is whole blocks.
_BLOCK, _WARPS = 1024, 4
# All tensors are updated by one launch, whatever their sizes: each program looks its own up in a table [tensors, 6] of
# int64 on the device. Its columns: addresses of the tensors of an Entry (0: none), number of elements, first block.
_WEIGHT, _FIRST, _SECOND, _ROUNDED, _SIZE, _START, _COLUMNS = (tl.constexpr(i) for i in range(7))
_SCALARS = tl.constexpr(7)
# Graphs whose gradients' addresses are kept, one graph a bucket of tokens.
_GRAPHS = 256
_TYPES = {None: 0, torch.bfloat16: 1, torch.float16: 2}


@triton.jit
def _block_of(table, owners, BLOCK: tl.constexpr):
    """The tensor of this program, its row of the table, where its block starts, and its length."""
    block = tl.program_id(0)
    tensor = tl.load(owners + block)
    entry = table + tensor * _COLUMNS
    start = (block - tl.load(entry + _START)) * BLOCK
    return tensor, entry, start, tl.minimum(tl.load(entry + _SIZE) - start, BLOCK)


@triton.jit
def _pointers(address, offset, KIND: tl.constexpr, WHOLE: tl.constexpr):
    """Of the elements at ``offset`` of a tensor.

    An address from memory says nothing of its alignment: of ``WHOLE`` blocks the compiler is told, which then moves 16
    bytes an access instead of 4.
    """
    if KIND == 0:
        pointers = address.to(tl.pointer_type(tl.float32)) + offset
    elif KIND == 1:
        pointers = address.to(tl.pointer_type(tl.bfloat16)) + offset
    else:
        pointers = address.to(tl.pointer_type(tl.float16)) + offset
    if WHOLE:
        pointers = tl.multiple_of(pointers, 16)
    return pointers


@triton.jit
def _update_block(entry, address, scalars, factor, start, count, KIND: tl.constexpr, WHOLE: tl.constexpr,
                  BLOCK: tl.constexpr):  # fmt: skip
    offset = start + tl.arange(0, BLOCK)
    mask = tl.arange(0, BLOCK) < count
    weights = _pointers(tl.load(entry + _WEIGHT), offset, 0, WHOLE)
    firsts = _pointers(tl.load(entry + _FIRST), offset, 0, WHOLE)
    seconds = _pointers(tl.load(entry + _SECOND), offset, 0, WHOLE)
    gradient = tl.load(_pointers(address, offset, KIND, WHOLE), mask=mask).to(tl.float32) * tl.load(factor)
    first = tl.load(firsts, mask=mask)
    second = tl.load(seconds, mask=mask)
    weight = tl.load(weights, mask=mask) * tl.load(scalars)
    first += tl.load(scalars + 3) * (gradient - first)
    second = second * tl.load(scalars + 4) + tl.load(scalars + 5) * gradient * gradient
    # Rounded as torch does it: Triton's own division and root are approximations, and the masters keep the difference.
    scale = tl.div_rn(tl.sqrt_rn(second), tl.load(scalars + 2)) + tl.load(scalars + 6)
    weight -= tl.div_rn(tl.load(scalars + 1) * first, scale)
    tl.store(weights, weight, mask=mask)
    tl.store(firsts, first, mask=mask)
    tl.store(seconds, second, mask=mask)
    if KIND:
        rounded = _pointers(tl.load(entry + _ROUNDED), offset, KIND, WHOLE)
        tl.store(rounded, weight.to(rounded.dtype.element_ty), mask=mask)


@triton.jit
def update_kernel(
    table,  # [tensors, 6] int64, see _WEIGHT
    addresses,  # [tensors] int64: of the gradients, 0 for none
    owners,  # [programs] int32: the tensor of each block
    scalars,  # [tensors, 7] fp32, as AdamW._advance orders them
    factor,  # one fp32: what clipping multiplies gradients by
    KIND: tl.constexpr,  # the type of gradients: 0 fp32, 1 bf16, 2 fp16
    BLOCK: tl.constexpr,
):
    """AdamW on one block, unless its tensor has no gradient."""
    tensor, entry, start, count = _block_of(table, owners, BLOCK)
    address = tl.load(addresses + tensor)
    scalars += tensor * _SCALARS
    if address != 0:
        if count == BLOCK:
            # With BLOCK for count the mask is known to be true, and no access waits for it.
            _update_block(entry, address, scalars, factor, start, BLOCK, KIND, True, BLOCK)
        else:
            _update_block(entry, address, scalars, factor, start, count, KIND, False, BLOCK)


@triton.jit
def square_sums_kernel(
    table,  # [tensors, 6] int64, see _WEIGHT
    addresses,  # [tensors] int64: of the gradients, 0 for none
    owners,  # [programs] int32: the tensor of each block
    sums,  # [programs] fp32
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The sum of squares of one block's gradient; torch adds the blocks up, in a fixed order."""
    tensor, _, start, count = _block_of(table, owners, BLOCK)
    address = tl.load(addresses + tensor)
    total = 0.0
    if address != 0:
        offset = tl.arange(0, BLOCK)
        if count == BLOCK:
            gradient = tl.load(_pointers(address, start + offset, KIND, True)).to(tl.float32)
        else:
            at = _pointers(address, start + offset, KIND, False)
            gradient = tl.load(at, mask=offset < count, other=0.0).to(tl.float32)
        total = tl.sum(gradient * gradient, axis=0)
    tl.store(sums + tl.program_id(0), total)


class Launcher:
    """The addresses of all tensors on the device, and the launches over all their blocks, one for each type.

    Made by the first step, which has to come before a CUDA graph is captured.
    """

    def __init__(self, entries: list[Entry]) -> None:
        device = entries[0].weight.device
        rows = []
        owners: dict[int, list[Tensor]] = {}
        for index, entry in enumerate(entries):
            mine = owners.setdefault(_TYPES[None if entry.rounded is None else entry.rounded.dtype], [])
            size, start = entry.weight.numel(), sum(len(part) for part in mine)
            mine.append(torch.full((triton.cdiv(size, _BLOCK),), index, dtype=torch.int32))
            rows.append([*(0 if tensor is None else tensor.data_ptr() for tensor in entry), size, start])
            if any(address % 16 for address in rows[-1][:4]):
                raise ValueError("A parameter's memory does not start at a multiple of 16 bytes.")
        self._table = torch.tensor(rows, dtype=torch.int64, device=device)
        self._owners = {kind: torch.cat(parts).to(device) for kind, parts in owners.items()}
        self._sums = torch.empty(sum(len(part) for part in self._owners.values()), device=device)
        self._addresses = torch.zeros(len(entries), dtype=torch.int64, device=device)
        self._pinned = torch.zeros((_GRAPHS, len(entries)), dtype=torch.int64, pin_memory=device.type == "cuda")
        self._captured = 0

    def bind(self, parameters: list[Tensor]) -> Tensor:
        """Take up where the gradients lie now: int64 ``[n]`` on the device, 0 where there is none."""
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is not None and (gradient.data_ptr() % 16 or not gradient.is_contiguous()):
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
        pointers = [0 if p.grad is None else p.grad.data_ptr() for p in parameters]
        on_gpu = self._table.is_cuda
        if on_gpu and torch.cuda.is_current_stream_capturing():
            # The graph copies the addresses of its own gradients from here at every replay.
            addresses = self._pinned[self._captured].copy_(torch.tensor(pointers))
            self._captured += 1
        else:
            # From pinned memory, which torch keeps until the copy is made: the host does not wait for the device.
            addresses = torch.tensor(pointers, pin_memory=on_gpu)
        self._addresses.copy_(addresses, non_blocking=on_gpu)
        return self._addresses

    def square_sums(self) -> Tensor:
        """The sum of squares of each block of all gradients: fp32."""
        begin = 0
        for kind, owners in self._owners.items():
            part = self._sums[begin : begin + len(owners)]
            square_sums_kernel[(len(owners),)](
                self._table, self._addresses, owners, part, KIND=kind, BLOCK=_BLOCK, num_warps=_WARPS
            )
            begin += len(owners)
        return self._sums

    def update(self, scalars: Tensor, factor: Tensor) -> None:
        """One AdamW step; ``scalars [n, 7]`` fp32 as ``AdamW._advance`` orders them, ``factor`` for the gradients."""
        for kind, owners in self._owners.items():
            update_kernel[(len(owners),)](
                self._table, self._addresses, owners, scalars, factor, KIND=kind, BLOCK=_BLOCK, num_warps=_WARPS
            )
