"""One run from start to manifest."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from xlt.data.source import Source
from xlt.files import write_text
from xlt.pipeline.provenance import environment, peak_memory
from xlt.pipeline.scoring import Metrics, score_run
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.starting_point import load_model
from xlt.pipeline.store import PROVENANCE, RunStore
from xlt.pipeline.training import train_run
from xlt.runtime import start_process_group, stop_process_group
from xlt.train.engine import EngineSettings
from xlt.train.loop import StepRecord


class Progress(Protocol):
    """What a run tells whoever watches it."""

    def step(self, record: StepRecord, steps: int) -> None:
        """One optimiser step of ``steps`` is done."""

    def cell(self, task: str, split: str, language: str) -> None:
        """One set of predictions is about to be made."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, its metrics and its provenance."""

    folder: Path
    metrics: Metrics
    provenance: dict[str, Any]


def execute_run(
    spec: RunSpec,
    parent_model: Path | None,
    source: Source,
    store: RunStore,
    settings: EngineSettings,
    progress: Progress,
) -> RunResult | None:
    """Train and score as ``spec`` says, into its folder of ``store``.

    In a process group of several only the first process writes and scores; the others return ``None``.
    """
    start_process_group()
    settings = replace(settings, precision=spec.precision, engine=spec.engine)
    if torch.distributed.get_rank() != 0:
        with tempfile.TemporaryDirectory() as tokenizer_folder:
            train_run(spec, parent_model, source, Path(tokenizer_folder), settings, lambda record, steps: None)
        stop_process_group()
        return None
    clock = _Clock()
    world = torch.distributed.get_world_size()
    with store.writing(spec) as folder:
        log = (folder / "log.jsonl").open("w", encoding="utf-8")

        def on_step(record: StepRecord, steps: int) -> None:
            log.write(json.dumps(record.as_json()) + "\n")
            progress.step(record, steps)

        with log:
            result = train_run(spec, parent_model, source, folder / "model", settings, on_step)
        if world > 1:
            # The others have nothing left to do; scoring may take longer than they would wait.
            stop_process_group()
        clock.lap("train")
        model = result.model
        if result.trained is not None:
            model.save(str(folder / "model"), state_dict=result.trained.weights)
            result.tokenizer.save_pretrained(str(folder / "model"))
            # What is scored is what was stored.
            model, _ = load_model(folder / "model")
            clock.lap("save")
        metrics = score_run(spec, model, result.tokenizer, source, folder, progress.cell)
        clock.lap("evaluate")
        provenance = {
            **environment(),
            "world_size": world,
            **asdict(settings),
            "packed": model.packed,
            "steps": result.trained.step if result.trained else 0,
            "seconds": clock.laps,
            "peak_memory": peak_memory(),
        }
        write_text(folder / "metrics.json", json.dumps(metrics, indent=1, sort_keys=True) + "\n")
        if spec.collapse_after and result.trained:
            provenance["collapsed"] = result.trained.collapsed
        write_text(folder / PROVENANCE, json.dumps(provenance, indent=1, sort_keys=True) + "\n")
    return RunResult(folder, metrics, provenance)


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
