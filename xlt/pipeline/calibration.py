"""A few steps of every kind of task on this machine, to tell how long a grid takes here."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

import torch

from xlt.artifact import artifact_root
from xlt.data.source import Source, with_labels
from xlt.errors import UsageFault
from xlt.evaluate.predict import RepeatedPrediction
from xlt.files import writable, write_text
from xlt.pipeline.estimate import SAMPLE, Calibration
from xlt.pipeline.grid import Grid
from xlt.pipeline.hours import Rate, weights_of
from xlt.pipeline.memory import peak_memory
from xlt.pipeline.provenance import cpu_name, device_name
from xlt.pipeline.sources import LimitedSource
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.tiers import Tier, use_threads
from xlt.pipeline.training import evaluation_tokens, starting_point, train_run
from xlt.runtime import device, start_process_group
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import ENGLISH, Kind
from xlt.train.engine import EngineSettings
from xlt.train.seeding import deterministic

# Steps that a calibration makes before it looks at the clock, and then again; the graph engine reports 32 at once.
CALIBRATION_STEPS = {"deepspeed": 16, "graph": 32}


def calibrate(tier: Tier, grid: Grid, source: Source, at_once: int = 1) -> Calibration:
    """Train a few steps of every kind of task in ``grid``, with its recipes, engine and data, from the backbone that
    the grid starts from, and predict the English dev rows. ``at_once`` runs are made in parallel where there is no GPU.

    Raises:
        UsageFault: nothing of the grid is trained.
        DataFault: the backbone or data is absent.
    """
    deterministic(True)
    trained: dict[Kind, tuple[RunSpec, str]] = {}
    for spec in grid.runs:
        for key in spec.train:
            trained.setdefault(get_task(key).kind, (spec, key))
    if not trained:
        raise UsageFault("There is nothing to calibrate: no run of the grid trains.")
    start_process_group()
    training: dict[Kind, float] = {}
    encoding: dict[Kind, float] = {}
    tokens = seconds = 0.0
    few = LimitedSource(source, 4 * SAMPLE, 4 * SAMPLE)  # not everything need be tokenised
    with tempfile.TemporaryDirectory(prefix="xlt-plan-") as folder:
        model, tokenizer = starting_point(grid.runs[0], None, source, Path(folder))
        model.save(folder)
        tokenizer.save_pretrained(folder)
        for kind, (spec, key) in trained.items():
            use_threads(tier.threads)
            training[kind], read, encoded, took = _try(spec, key, few, Path(folder), tier.accumulation)
            tokens, seconds = tokens + read, seconds + took
            if read:
                encoding[kind] = read / encoded
    gpu, sizes = spec.precision == "bf16", model.backbone.config
    rate = Rate(
        device=device_name() if gpu else cpu_name() or device_name(),
        threads=0 if gpu else torch.get_num_threads(),
        backbone=grid.runs[0].backbone.name,
        weights=weights_of(sizes.num_hidden_layers, sizes.hidden_size),
        engine=spec.engine,
        training=training,
        inference=tokens / seconds if seconds else None,
        encoding=encoding,
        gpu=gpu,
        side_by_side=1 if gpu else at_once,
    )
    return Calibration(rate, tokenizer, peak_memory().get("device_bytes"))


def place() -> tuple[Path, str, str]:
    """The folder where rates are kept, the option that chooses it (there is none), and what it is called."""
    return artifact_root() / "measured", "", "the folder of measured rates"


def record(rate: Rate) -> Path:
    """Keep a rate in ``artifact/measured``, where ``xlt plan`` finds it, as that of one run alone; the file.

    Raises:
        EnvironmentFault: nothing can be written there.
    """
    measured, option, what = place()
    name = f"{rate.backbone.rpartition('/')[2] or 'fresh'} {rate.device} {rate.engine}"
    path = measured / f"rate-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    with writable(measured, option, what):
        write_text(path, rate.model_copy(update={"side_by_side": 1}).model_dump_json(indent=1) + "\n")
    return path


def _try(
    spec: RunSpec, key: str, source: Source, start_from: Path, micro_batches: int
) -> tuple[float, int, float, float]:
    """Tokens per second in training; the tokens of predictions, and the seconds of making and of reading them."""
    count = CALIBRATION_STEPS[spec.engine]
    # Rates are of standard steps; what adversarial ones take beyond is counted (``Adversarial.cost``).
    recipe = {name: value for name, value in spec.recipe.items() if name != "adversarial"}
    recipe |= {"steps": 2 * count, "epochs": 0, "evaluate_every": 0}
    changes = {"train": (key,), "recipe": recipe, "collapse_after": 0.0, "parent": None}
    whole = spec.precision == "bf16" or spec.engine == "graph"
    laps: list[tuple[float, int]] = []
    result = train_run(
        spec.model_copy(update=changes),
        start_from,
        source,
        start_from,
        EngineSettings(precision=spec.precision, engine=spec.engine, accumulation=1 if whole else micro_batches),
        lambda record, _: laps.append((time.perf_counter(), record.tokens)),
    )
    rate = sum(tokens for _, tokens in laps[count:]) / (laps[-1][0] - laps[count - 1][0])
    task = with_labels(spec.task(key), source)
    if task.kind == "masked_lm" or not source.languages(task, "dev"):
        return rate, 0, 0.0, 0.0
    rows = source.rows(task, "dev", ENGLISH)[:SAMPLE]
    start = time.perf_counter()
    prediction = RepeatedPrediction(rows, task, result.tokenizer, max_tokens=evaluation_tokens())
    encoded = time.perf_counter()
    prediction.predict(result.model, device())
    read = sum(len(each.input_ids) for each in prediction.sequences)
    return rate, read, encoded - start, time.perf_counter() - encoded
