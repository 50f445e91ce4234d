"""Contestants on one workload, timed in turn in one process, and the table that all such benchmarks return."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel

from xlt.pipeline.provenance import commit, cpu_name, device_name, versions

WARM_UP = 3
ALONE = "ours did not run: nothing to compare with"
MATMUL = {"cpu": 2048, "cuda": 8192}  # the side of the square matrices that measure the product ceiling
COPIED = {"cpu": 1 << 26, "cuda": 1 << 30}  # bytes; more than any cache


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to do a workload. ``run`` does it once; it need not wait for the device."""

    name: str
    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class NotRun:
    """A contestant that could not take part, and why."""

    name: str
    why: str


class Timing(BaseModel):
    """Seconds per round: median, 10 and 90 % quantiles. ``ratio`` is its median time over ours, paired by round.

    ``peak_bytes`` is the most memory that tensors took on the GPU in a round, what lay there before included; None
    on a CPU. Where it did ``not_run``, the reason is there and nothing else.
    """

    name: str
    seconds: float | None = None
    seconds_p10: float | None = None
    seconds_p90: float | None = None
    ratio: float | None = None
    ratio_p10: float | None = None
    ratio_p90: float | None = None
    peak_bytes: int | None = None
    not_run: str = ""


class Workload(BaseModel):
    """One row of a benchmark. The first of ``timings`` is ours; the others are peers, or parts of ours switched off.

    ``quantity`` says how much of what a round does, per second it is a rate: real tokens, sentences, bytes, FLOP.
    ``ceiling`` is the measured one that bounds it, and ``share`` what ours reaches of it.
    """

    name: str
    about: str
    rounds: int
    quantity: dict[str, float]
    ceiling: Literal["matmul", "copy", ""] = ""
    share: float | None = None
    timings: list[Timing]

    def fastest_peer(self) -> Timing | None:
        """The peer with the lowest median; None where none ran."""
        ran = [each for each in self.timings[1:] if each.seconds is not None]
        return min(ran, key=lambda each: each.seconds or 0.0, default=None)


class Ceilings(BaseModel):
    """What this device reached in this process: FLOP/s of one large matrix product, bytes/s of one large copy, read
    and write counted."""

    dtype: str
    matmul_flop_per_s: float
    copy_bytes_per_s: float


class Bench(BaseModel):
    """The result of a benchmark: where it ran, the ceilings, and its workloads."""

    format: Literal[1] = 1
    name: str
    device: str
    cpu: str
    threads: int
    commit: str
    versions: dict[str, str]
    settings: dict[str, Any]
    ceilings: Ceilings
    workloads: list[Workload]

    @property
    def sound(self) -> bool:
        """Whether ours ran, and computed what it should, in every row that a peer could do."""
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
        commit=commit(),
        versions=versions(),
        settings=settings,
        ceilings=found,
        workloads=list(workloads),
    )


def compete(
    name: str,
    about: str,
    contestants: Sequence[Contestant | NotRun],
    *,
    rounds: int,
    quantity: dict[str, float],
    ceiling: Literal["matmul", "copy", ""] = "",
    warm_up: int = WARM_UP,
) -> Workload:
    """Time all contestants, A-B-A-B, the first of them ours. Parity is the caller's to check before.

    A contestant that fails in its warm-up does not run, with its error as the reason. Where ours does not run nobody
    does: the other rows of a benchmark are not lost with it.
    """
    ready: list[Contestant] = []
    absent: dict[str, str] = {}
    for each in contestants:
        if isinstance(each, NotRun):
            absent[each.name] = each.why
            continue
        try:
            for _ in range(warm_up):
                each.run()
            synchronize()
            ready.append(each)
        except (RuntimeError, ImportError, NotImplementedError) as error:
            absent[each.name] = " ".join(str(error).split())[:200] or type(error).__name__
    if contestants[0].name in absent:
        absent |= dict.fromkeys((each.name for each in ready), ALONE)
        ready = []
    laps = np.array([[_lap(each.run) for each in ready] for _ in range(rounds)])
    timings = {
        each.name: _timing(each.name, laps[:, i, 0], laps[:, 0, 0], laps[:, i, 1]) for i, each in enumerate(ready)
    }
    for missing, why in absent.items():
        timings[missing] = Timing(name=missing, not_run=why)
    return Workload(
        name=name,
        about=about,
        rounds=rounds,
        quantity=quantity,
        ceiling=ceiling,
        timings=[timings[each.name] for each in contestants],
    )


def ceilings() -> Ceilings:
    """Measure both ceilings: the best of ten, after a warm-up; random data, since zeros are cheaper."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if kind == "cuda" else torch.float32
    side = MATMUL[kind]
    left, right = (torch.randn(side, side, device=kind).to(dtype) for _ in range(2))
    source = torch.randn(COPIED[kind] // 4, device=kind)
    target = torch.empty_like(source)
    product = min(_lap(lambda: torch.mm(left, right))[0] for _ in range(12))
    copied = min(_lap(lambda: target.copy_(source))[0] for _ in range(12))
    return Ceilings(
        dtype=str(dtype).removeprefix("torch."),
        matmul_flop_per_s=2 * side**3 / product,
        copy_bytes_per_s=2 * COPIED[kind] / copied,
    )


def synchronize() -> None:
    """Wait until the GPU, where there is one, has done all it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _lap(run: Callable[[], object]) -> tuple[float, int]:
    """Seconds from the call until the device is done, and the peak of its memory in bytes (0 on a CPU)."""
    gpu = torch.cuda.is_available()
    synchronize()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() if gpu else 0


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
