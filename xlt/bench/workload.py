"""The harness of all benchmarks: candidates are compared, then timed in turn in one process; a table is the result."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor
from xlt_kernels.case import off_by
from xlt_kernels.switch import serves

from xlt.files import write_text
from xlt.numerics import numerics
from xlt.pipeline.provenance import commit, cpu_name, device_name, versions

WARM_UP = 3
# Seconds until a candidate must be ready, compilation included: one that never is takes no other's time on a GPU.
PATIENCE = {"cpu": 600.0, "cuda": 40.0}
SLOW = 10  # times ours: such a candidate has no turn, if all its rounds would take longer than that
ALONE = "ours did not run: nothing to compare with"
UNREACHED = "the benchmark ended before its turn"
NEEDS_GPU = "needs a GPU"
NOT_COMPILED = "torch.compile is timed on a GPU: for a CPU it compiles for minutes and gains little"
LAST = "torch.compile has its turn after all benchmarks"
BEFORE = "timed before, without the compiled ones"
MATMUL = {"cpu": 2048, "cuda": 8192}  # the side of the square matrices that measure the product ceiling
COPIED = {"cpu": 1 << 26, "cuda": 1 << 30}  # bytes; more than any cache
Ceiling = Literal["matmul", "copy", ""]
# Packages of which only the benchmarks use something, where they are installed.
PEERS = ("sentence-transformers", "liger-kernel", "cut-cross-entropy", "flash-attn")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to do a workload. ``run`` does it once; it need not wait for the device. With ``own_clock`` it returns
    the seconds that count."""

    name: str
    run: Callable[[], Any]
    own_clock: bool = False


@dataclass(frozen=True, slots=True)
class NotRun:
    """A candidate that could not take part, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """A candidate that is made when the others have been timed: torch.compile may take all the time there is."""

    name: str
    make: Callable[[], Candidate | NotRun]


class Timing(BaseModel):
    """How long one candidate takes for a round. Where it did not run, there is the reason and nothing else."""

    name: str
    seconds: float | None = None
    """Median."""
    seconds_p10: float | None = None
    seconds_p90: float | None = None
    ratio: float | None = None
    """Median of its time over ours, paired by round."""
    ratio_p10: float | None = None
    ratio_p90: float | None = None
    peak_bytes: int | None = None
    """The most memory that tensors took on the GPU in a round, what lay there before included; None on a CPU."""
    operations: float | None = None
    """What Python issues to torch in a step, where it was counted; see ``xlt.bench.operations``."""
    reads: float | None = None
    """How often a step makes the host wait for a number of the device."""
    not_run: str = ""


class Workload(BaseModel):
    """One row of a benchmark."""

    name: str
    about: str
    rounds: int
    quantity: dict[str, float]
    """How much of what a round does (real tokens, sentences, bytes, FLOP); per second it is a rate."""
    ceiling: Ceiling = ""
    """The measured ceiling that bounds it."""
    share: float | None = None
    """What ours reaches of the ceiling."""
    timings: list[Timing]
    """The first is ours; the others are baselines, or ours with a part switched off."""


class Ceilings(BaseModel):
    """What this device reached in this process."""

    dtype: str
    matmul_flop_per_s: float
    """Of one large matrix product."""
    copy_bytes_per_s: float
    """Of one large copy, read and write counted."""


class Bench(BaseModel):
    """The result of a benchmark: where it ran, the ceilings, and its workloads."""

    format: Literal[1] = 1
    name: str
    device: str
    cpu: str
    threads: int
    numerics: str = ""
    """How the process computed on its CPU (``xlt.numerics``): every candidate whose name does not say otherwise."""
    load: float | None = None
    """The machine's load average over a minute at the end. Above the number of its cores other work took part of the
    time of all candidates: then ratios mean something, and seconds do not."""
    commit: str
    versions: dict[str, str]
    settings: dict[str, Any]
    ceilings: Ceilings
    workloads: list[Workload]

    @property
    def sound(self) -> bool:
        """Whether ours ran, and computed what it should, in every row that a baseline could do."""
        return not any(timing.not_run == ALONE for row in self.workloads for timing in row.timings)


def bench(name: str, settings: dict[str, Any], workloads: Sequence[Workload]) -> Bench:
    """Put ``workloads`` together with the place they were measured at, and say their share of its ceilings."""
    found = ceilings()
    limits = {"matmul": ("flop", found.matmul_flop_per_s), "copy": ("bytes", found.copy_bytes_per_s)}
    for each in workloads:
        seconds = each.timings[0].seconds
        if each.ceiling and seconds:
            unit, limit = limits[each.ceiling]
            each.share = each.quantity[unit] / seconds / limit
    return Bench(
        name=name,
        device=device_name(),
        cpu=cpu_name(),
        threads=torch.get_num_threads(),
        numerics=numerics(),
        load=round(os.getloadavg()[0], 1),
        commit=commit(),
        versions=versions(*PEERS),
        settings=settings,
        ceilings=found,
        workloads=list(workloads),
    )


def our_name(kernel: str, device: str) -> str:
    """What ours is called where its ``kernel`` serves, and where it does not: on a CPU, or switched off."""
    return "ours" if serves(kernel, torch.empty(0, device=device)) else "ours, in its plain form: no kernel here"


def deferred(name: str, make: Callable[[str], Candidate | NotRun]) -> Deferred | NotRun:
    """A candidate that torch compiles: its turn comes after the others, on a GPU."""
    return Deferred(name, partial(make, name)) if torch.cuda.is_available() else NotRun(name, NOT_COMPILED)


def reason(error: Exception) -> str:
    """Why a candidate did not run, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def check_output(
    name: str,
    run: Callable[[], object],
    results: Callable[[], Sequence[Tensor]],
    wanted: Sequence[Tensor],
    tolerance: float,
) -> Candidate | NotRun:
    """``run`` as a candidate, if its ``results`` are ``wanted``, as ``xlt_kernels.case.off_by`` measures it.

    Where they cannot be computed, or deviate by more than ``tolerance``, it does not run, and that is the reason: what
    does not compute the same cannot be compared. If it is ours, :func:`compare` then times nothing at all.
    """
    try:
        with time_limit():
            got = results()
    except Exception as error:  # another version of a library may fail in any way, or compile for minutes
        return NotRun(name, reason(error))
    for place, (mine, want) in enumerate(zip(got, wanted, strict=True)):
        off = off_by([mine], [want])
        if not off <= tolerance:  # this way round NaN is off, too
            return NotRun(
                name, f"computes something else: result {place} is off by {off:.1e}, of at most {tolerance:.1e}"
            )
    return Candidate(name, run)


def compare(
    name: str,
    about: str,
    candidates: Sequence[Candidate | NotRun | Deferred],
    *,
    rounds: int,
    quantity: dict[str, float],
    ceiling: Ceiling = "",
    warm_up: int = WARM_UP,
) -> Workload:
    """Time all candidates, A-B-A-B, the first of them ours; the deferred ones then, one by one, in turn with ours.

    That all compute the same is the caller's to check before. A candidate that fails in its warm-up does not run, with
    its error as the reason. Where ours does not run none does: the other rows of a benchmark are not lost with it.
    """
    candidates = [candidates[0], *map(_in_this_process, candidates[1:])]
    row = Workload(
        name=name,
        about=about,
        rounds=rounds,
        quantity=quantity,
        ceiling=ceiling,
        timings=[Timing(name=each.name, not_run=UNREACHED) for each in candidates],
    )
    ready = _ready([each for each in candidates if not isinstance(each, Deferred)], warm_up, row)
    if row.timings[0].name not in {each.name for each in ready}:
        for timing in row.timings:
            timing.not_run = ALONE if timing.not_run == UNREACHED else timing.not_run
        return row
    _take_turns(ready, row)
    _keep(row)
    for each in candidates:
        if isinstance(each, Deferred):
            _take_late_turn(ready[0], each, warm_up, row)
            _keep(row)
    return row


def _take_late_turn(ours: Candidate, each: Deferred, warm_up: int, row: Workload) -> None:
    mine = row.timings[0]
    try:
        with time_limit():
            late = _ready([each.make()], warm_up, row)
    except TimeoutError as error:
        late = _ready([NotRun(each.name, str(error))], warm_up, row)
    if late:
        _take_turns([ours, *late], row)
        row.timings[0] = mine


def compiled_peers(which: Literal["with", "without", "only"]) -> None:
    """Which candidates this process times beside ours: by default those that torch compiles with the others."""
    global _compiled
    _compiled = which


_compiled: Literal["with", "without", "only"] = "with"


def _in_this_process(each: Candidate | NotRun | Deferred) -> Candidate | NotRun | Deferred:
    if isinstance(each, Candidate) and _compiled == "only":
        return NotRun(each.name, BEFORE)
    if isinstance(each, Deferred) and _compiled == "without":
        return NotRun(each.name, LAST)
    return each


def keep_rows(path: Path) -> None:
    """From now on ``path`` holds the rows of this process, as much of a ``Bench`` as there is: it is written anew with
    every candidate that is timed, so that a benchmark that is stopped leaves what it has found."""
    global _kept
    _kept = path, {"device": device_name(), "commit": commit()}, {}


_kept: tuple[Path, dict[str, str], dict[str, Any]] | None = None


def _keep(row: Workload) -> None:
    if _kept is not None:
        path, place, rows = _kept
        rows[row.name] = row.model_dump(mode="json")
        write_text(path, json.dumps({**place, "workloads": list(rows.values())}))


@contextmanager
def time_limit() -> Iterator[None]:
    """``TimeoutError`` within the block after ``PATIENCE``, that of a block around it counted; for the main thread."""
    seconds = PATIENCE["cuda" if torch.cuda.is_available() else "cpu"]

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not ready within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, min(left, seconds) or seconds)
    start = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - start), 1e-3) if left else 0)
        signal.signal(signal.SIGALRM, before)


def _ready(candidates: Sequence[Candidate | NotRun], warm_up: int, row: Workload) -> list[Candidate]:
    """Those that can take part; the others get their reason in ``row``."""
    places = {timing.name: timing for timing in row.timings}
    ready: list[Candidate] = []
    ours = row.timings[0].seconds
    for each in candidates:
        if isinstance(each, NotRun):
            places[each.name].not_run = each.why
            continue
        try:
            with time_limit():
                seconds = [_lap(each)[0] for _ in range(warm_up)][-1]
            ours = ours or seconds
            if seconds > SLOW * ours and seconds * row.rounds > PATIENCE["cuda"]:
                raise TimeoutError(f"too slow: a round took {seconds:.2g} s, {seconds / ours:.0f} times ours")
            ready.append(each)
        except (RuntimeError, ImportError, NotImplementedError, TimeoutError) as error:
            places[each.name].not_run = reason(error)
    return ready


def _take_turns(ready: Sequence[Candidate], row: Workload) -> None:
    """Time ``ready``, of which the first is ours, and put what was found in its places in ``row``."""
    # In turn, and ratios by round: what else the machine does slows all of a round down, not one candidate.
    laps = np.array([[_lap(each) for each in ready] for _ in range(row.rounds)])
    found = {each.name: _timing(each.name, laps[:, i, 0], laps[:, 0, 0], laps[:, i, 1]) for i, each in enumerate(ready)}
    row.timings = [found.get(timing.name, timing) for timing in row.timings]


def ceilings() -> Ceilings:
    """Measure both ceilings: the best of ten, after a warm-up; random data, since zeros are cheaper."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if kind == "cuda" else torch.float32
    side = MATMUL[kind]
    left, right = (torch.randn(side, side, device=kind).to(dtype) for _ in range(2))
    source = torch.randn(COPIED[kind] // 4, device=kind)
    target = torch.empty_like(source)
    product = min(_lap(Candidate("", lambda: torch.mm(left, right)))[0] for _ in range(12))
    copied = min(_lap(Candidate("", lambda: target.copy_(source)))[0] for _ in range(12))
    return Ceilings(
        dtype=str(dtype).removeprefix("torch."),
        matmul_flop_per_s=2 * side**3 / product,
        copy_bytes_per_s=2 * COPIED[kind] / copied,
    )


def synchronize() -> None:
    """Wait until the GPU, where there is one, has done all it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _lap(candidate: Candidate) -> tuple[float, int]:
    """Seconds from the call until the device is done, and the peak of its memory in bytes (0 on a CPU)."""
    gpu = torch.cuda.is_available()
    synchronize()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    found = candidate.run()
    synchronize()
    seconds = found if candidate.own_clock else time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated() if gpu else 0


def _timing(name: str, seconds: Any, ours: Any, peaks: Any) -> Timing:
    low, middle, high = np.quantile(seconds, [0.1, 0.5, 0.9])
    ratios = np.quantile(seconds / ours, [0.1, 0.5, 0.9])
    return Timing(
        name=name,
        seconds=middle,
        seconds_p10=low,
        seconds_p90=high,
        ratio=ratios[1],
        ratio_p10=ratios[0],
        ratio_p90=ratios[2],
        peak_bytes=int(peaks.max()) or None,
    )
