"""What benchmarks of parts with peers share: batches of real lengths, their padded form, parity before the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from xlt_kernels.switch import serves

from xlt.bench.shapes import draw_lengths
from xlt.bench.workload import Contestant, Later, NotRun

NEEDS_GPU = "needs a GPU"
NOT_ASKED = "torch.compile was not asked for"


def lengths_of(task: str, tokens: int) -> list[int]:
    """Lengths of the first sequences that ``draw_lengths`` draws, as many as fit in ``tokens``."""
    lengths = torch.tensor(draw_lengths(task, tokens))
    return lengths[lengths.cumsum(0) <= tokens].tolist()


def padded(tokens: Tensor, lengths: Sequence[int], filler: float = 0) -> Tensor:
    """``tokens [T, ...]`` of sequences of ``lengths`` as ``[B, L, ...]``, ``filler`` after the end of each."""
    return pad_sequence(list(tokens.split(list(lengths))), batch_first=True, padding_value=filler)


def real_slots(lengths: Sequence[int], device: str) -> Tensor:
    """``[B, L]`` bool: what of a padded batch is not padding. ``padded(x, lengths)[real_slots(...)]`` is ``x``."""
    return padded(torch.ones(sum(lengths), dtype=torch.bool, device=device), lengths)


def our_name(kernel: str, device: str) -> str:
    """What ours is called where its ``kernel`` serves, and where it does not: on a CPU, or switched off."""
    return "ours" if serves(kernel, torch.empty(0, device=device)) else "ours, in its plain form: no kernel here"


def later(name: str, asked: bool, make: Callable[[str], Contestant | NotRun]) -> Later | NotRun:
    """A contestant that torch compiles: its turn comes after the others, and only where it is ``asked`` for."""
    return Later(name, partial(make, name)) if asked else NotRun(name, NOT_ASKED)


def admit(
    name: str,
    run: Callable[[], object],
    results: Callable[[], Sequence[Tensor]],
    wanted: Sequence[Tensor],
    tolerance: float,
) -> Contestant | NotRun:
    """``run`` as a contestant, if its ``results`` are ``wanted``: the largest deviation over the largest value.

    Where they cannot be computed, or deviate by more than ``tolerance``, it does not run, and that is the reason: what
    does not compute the same cannot be compared. If it is ours, ``compete`` then times nothing at all.
    """
    try:
        got = results()
    except Exception as error:  # another version of a peer may fail in any way
        return NotRun(name, " ".join(str(error).split())[:200] or type(error).__name__)
    for place, (mine, want) in enumerate(zip(got, wanted, strict=True)):
        off = float((mine.double() - want.double()).abs().max() / want.double().abs().max())
        if not off <= tolerance:
            return NotRun(
                name, f"computes something else: result {place} is off by {off:.1e}, of at most {tolerance:.1e}"
            )
    return Contestant(name, run)
