"""Negative controls: the pipeline with one known fault at a time. A verdict means something only if verify finds it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from xlt.data.packing import Encoded
from xlt.data.source import Source
from xlt.errors import IncompleteFault, UsageFault
from xlt.model import attention
from xlt.model.encoder import PackedModel
from xlt.pipeline import run, training
from xlt.pipeline.executor import Executor, GridProgress
from xlt.pipeline.grid import Grid
from xlt.pipeline.provenance import environment
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.store import RunStore
from xlt.pipeline.tiers import Tier
from xlt.train.engine import EngineSettings
from xlt.train.loop import Trained
from xlt.verify.checks import Again
from xlt.verify.judge import Verification, verify

FAILED = ("collapsed", "deviates")
FOUND = ("disagreement", "recheck", "spec")


@dataclass(frozen=True, slots=True)
class Control:
    """A fault that is in the pipeline while the runs named ``runs`` are made: ``breaks`` makes the faulty form of the
    ``attribute`` of ``owner`` from the sound one."""

    name: str
    about: str
    runs: tuple[str, ...]
    owner: Any
    attribute: str
    breaks: Callable[[Any], Any]

    @contextmanager
    def fault(self) -> Iterator[None]:
        """The fault is in the pipeline within the block."""
        sound = getattr(self.owner, self.attribute)
        setattr(self.owner, self.attribute, self.breaks(sound))
        try:
            yield
        finally:
            setattr(self.owner, self.attribute, sound)


class ControlResult(BaseModel):
    """What verify said of the faulty runs."""

    name: str
    about: str
    caught: bool
    """Whether verify failed a mean or found stored files at odds."""
    judged: int
    """Number of means that were judged."""
    failed: list[str]
    """The means that failed, with verdict and reason."""
    problems: list[str]
    """What was found at odds in the stored files."""


class ControlReport(BaseModel):
    """All controls of one results folder."""

    format: Literal[1] = 1
    tier: str
    seed: int
    environment: dict[str, Any]
    controls: list[ControlResult]


def run_controls(
    names: Sequence[str],
    grid: Grid,
    tier: Tier,
    source: Source,
    options: SourceOptions,
    finished: RunStore,
    folder: Path,
    progress: GridProgress,
) -> ControlReport:
    """Put in every fault named (all if none), one at a time, make the runs that show it, and verify them without it.

    Phase 1 is taken from the ``finished`` results where the fault is not in it; the faulty results go to
    ``folder/<control>``.

    Raises:
        UsageFault: no control has that name.
        IncompleteFault: phase 1 of the finished results is not whole.
    """
    known = {control.name: control for control in CONTROLS}
    if unknown := [name for name in names if name not in known]:
        raise UsageFault(f"There is no control '{unknown[0]}'.", why=f"Controls: {', '.join(known)}.")
    results = []
    for control in [known[name] for name in names] if names else CONTROLS:
        root = folder / control.name
        part = replace(grid, runs=tuple(run for run in grid.runs if run.name in (*control.runs, "mlm")))
        if "mlm" not in control.runs:
            _take_phase_1(grid, finished, RunStore(root))
        executor = Executor(source, options, RunStore(root), EngineSettings(), progress, tier.threads)
        with control.fault():
            executor.run_grid(part)
        results.append(_result(control, verify(root, source, again=Again(None))))
    return ControlReport(tier=grid.tier, seed=grid.seed, environment=environment(), controls=results)


def _take_phase_1(grid: Grid, finished: RunStore, store: RunStore) -> None:
    spec = grid.runs[0]
    if finished.check(spec).state != "done":
        raise IncompleteFault("The controls start from phase 1 of a finished results folder.", fix="xlt reproduce")
    if store.check(spec).state != "done":
        shutil.copytree(finished.path(spec.folder), store.path(spec.folder), dirs_exist_ok=True)


def _result(control: Control, verification: Verification) -> ControlResult:
    judged = [verdict for verdict in verification.verdicts if verdict.verdict != "not run"]
    failed = [verdict for verdict in judged if verdict.verdict in FAILED]
    problems = [problem.what for problem in verification.problems if problem.kind in FOUND]
    return ControlResult(
        name=control.name,
        about=control.about,
        caught=bool(failed or problems),
        judged=len(judged),
        failed=[f"{each.arm} → {each.task} {each.split}: {each.verdict}, {each.reason}" for each in failed],
        problems=problems,
    )


def _without_phase_1(sound: Any) -> Any:
    def train(model: PackedModel, stream: Any, *arguments: Any, **options: Any) -> Any:
        if stream.task_of(0) != "mlm":
            return sound(model, stream, *arguments, **options)
        return Trained({name: weight.detach().clone() for name, weight in model.named_parameters()}, 0, None)

    return train


def _with_labels_of_others(sound: Any) -> Any:
    def encode(*arguments: Any, **options: Any) -> list[Encoded]:
        sequences = sound(*arguments, **options)
        order = np.random.default_rng(0).permutation(len(sequences))
        return [replace(each, label=sequences[other].label) for each, other in zip(sequences, order, strict=True)]

    return encode


def _of_the_last_block(sound: Any) -> Any:
    def hidden_states(self: PackedModel, batch: Any, layer: int) -> Any:
        return sound(self, batch, self.backbone.config.num_hidden_layers)

    return hidden_states


def _across_sequences(sound: Any) -> Any:
    def packed_attention(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, *_: Any, **options: Any) -> Any:
        whole = torch.tensor([0, len(query)], dtype=torch.int32, device=bounds.device)
        return sound(query, key, value, whole, len(query), **{**options, "plan": None})

    return packed_attention


def _under_the_other_name(sound: Any) -> Any:
    other = {"qaa": "qaf", "qaf": "qaa"}
    return lambda task, split, language: sound(task, split, other.get(language, language))


RETRIEVAL = "baseline.bucc2018+tatoeba"
READING = "baseline.xquad+mlqa"
CONTROLS = (
    Control(
        "phase-1-skipped",
        "phase 1 gives the weights that it began with",
        ("mlm", "baseline.udpos", READING, RETRIEVAL),
        *(training, "train", _without_phase_1),
    ),
    Control(
        "positions-from-0",
        "phases 2 and 3 count positions from 0 instead of 2",
        (READING, RETRIEVAL),
        *(PackedModel, "first_position", lambda sound: 0),
    ),
    Control(
        "shuffled-labels",
        "training examples have the labels of others",
        ("mnli", "baseline.xnli", "baseline.pawsx"),
        *(training, "encode", _with_labels_of_others),
    ),
    Control(
        "wrong-layer",
        "sentence vectors are taken from the last block",
        (RETRIEVAL,),
        *(PackedModel, "hidden_states", _of_the_last_block),
    ),
    Control(
        "attention-across-sequences",
        "every token of a packed batch sees every other one",
        (READING, RETRIEVAL),
        *(attention, "packed_attention", _across_sequences),
    ),
    Control(
        "languages-swapped",
        "the predictions for two languages are stored under each other's name",
        (READING,),
        *(run, "prediction_name", _under_the_other_name),
    ),
)
