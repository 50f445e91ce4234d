"""``xlt bench adversarial``: what each method of adversarial training costs over standard training."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import accumulate
from operator import itemgetter

import torch

from xlt.bench.shapes import Size, fresh_model, random_sequences
from xlt.bench.workload import Bench, Candidate, bench, compare
from xlt.data.packing import PackedBatch
from xlt.runtime import start_process_group
from xlt.tasks.adversarial import DEFAULTS, Adversarial
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Recipe
from xlt.train.batches import BatchStream, StepShard
from xlt.train.engine import DeepSpeedEngine, Engine, EngineSettings
from xlt.train.graph import GraphEngine

BATCH, STEPS = 16, 4
STANDARD = "standard"
ABOUT = (
    "the engine of a run; peaks are weights, moments and averages, and what a step takes beside them; "
    "passes are forward passes, and backward ones to the weights, of a step"
)


def bench_adversarial(size: Size, rounds: int) -> Bench:
    """Time steps of a random XLM-R on pairs of MNLI's lengths: every method with its defaults, after standard training.

    They learn different things, by design: that each computes what it should is what the tests compare.
    """
    start_process_group()
    methods: dict[str, Adversarial | None] = {STANDARD: None}
    methods |= {name: Adversarial.of({"method": name}) for name in DEFAULTS}
    methods["smart, with the proximal point"] = Adversarial.of({"method": "smart", "proximal": 1.0})
    candidates, peaks, tokens = [], [], 0
    for name, how in methods.items():
        recipe = Recipe(batch_size=BATCH, steps=100_000, adversarial=how)
        stream = BatchStream(
            random_sequences("mnli", STEPS * BATCH, size), get_task("mnli"), recipe, seed=0, first_position=2
        )
        batches = [stream.micro_batches(step, StepShard()) for step in range(STEPS)]
        tokens = sum(batch.tokens for step in batches for batch in step)
        engine = _engine(size, recipe)

        def steps(engine: Engine = engine, batches: list[list[PackedBatch]] = batches) -> None:
            for each in batches:
                engine.step(each)

        steps()  # makes the moments
        passes, peak = _cost(engine, steps)
        weights = sum(each.nbytes for each in engine.synced_model().parameters())
        peaks.append(peak + weights * (5 if how and how.proximal else 3))
        candidates.append(Candidate(f"{name}: {passes / STEPS:g} + {recipe.passes} passes", steps))
    row = compare("mnli", ABOUT, candidates, rounds=rounds, quantity={"tokens": tokens}, warm_up=1)
    for timing, peak in zip(row.timings, peaks, strict=True):
        timing.peak_bytes = peak
    memory = {timing.name: round(peak / peaks[0], 3) for timing, peak in zip(row.timings, peaks, strict=True)}
    return bench("adversarial", {"size": size, "batch": BATCH, "steps": STEPS, "memory": memory}, [row])


def _engine(size: Size, recipe: Recipe) -> Engine:
    model = fresh_model(size)
    model.drop_masked_lm_head()
    model.add_head("mnli", "pair_classification", 3)
    if model.device.type == "cuda":
        return GraphEngine(model, recipe, recipe.steps, EngineSettings(engine="graph", precision="bf16"))
    return DeepSpeedEngine(model, recipe, recipe.steps, EngineSettings())


def _cost(engine: Engine, steps: Callable[[], None]) -> tuple[int, int]:
    """How many forward passes of the model the ``steps`` make, and how many bytes they take beyond what lay there."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports its own start and stop on standard error
    passes: list[None] = []
    hook = engine.synced_model().register_forward_hook(lambda *_: passes.append(None))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as found:
        steps()
    hook.remove()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        steps()
        return len(passes), torch.cuda.max_memory_allocated() - before
    events = (each for each in found.profiler.kineto_results.events() if each.name() == "[memory]")
    changes = sorted((each.start_ns(), place, each.nbytes()) for place, each in enumerate(events))
    return len(passes), max(accumulate(map(itemgetter(2), changes)), default=0)
