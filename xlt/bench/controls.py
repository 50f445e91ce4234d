"""Negative controls: the pipeline with one known fault at a time. A verdict means something only if verify finds it.

The fault stays in while everything is made and verified, as on a machine that really has it: only what compares with
something from outside, golden evidence or recorded runs, can then find it. What a fault leaves behind in files because
of the way it is put in here counts for nothing.
"""

from __future__ import annotations

import shlex
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

from xlt.data import features
from xlt.data.packing import Encoded
from xlt.data.rows import PairRow
from xlt.data.source import Source
from xlt.data.world import WorldSource
from xlt.errors import IncompleteFault, UsageFault
from xlt.evaluate import predict
from xlt.model import attention
from xlt.model.encoder import PackedModel
from xlt.pipeline import training
from xlt.pipeline.executor import Executor, GridProgress
from xlt.pipeline.grid import Grid
from xlt.pipeline.provenance import environment
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.store import RunStore
from xlt.pipeline.tiers import Tier
from xlt.retrieval import embed
from xlt.tasks.record import Recipe
from xlt.train.engine import EngineSettings
from xlt.verify.golden import check_golden
from xlt.verify.judge import Verification, verify

FAILED = ("collapsed", "deviates")


@dataclass(frozen=True, slots=True)
class Control:
    """A fault that is in the pipeline while the runs named ``runs`` are made and verified: ``breaks`` makes the faulty
    form of the ``attribute`` of ``owner`` from the sound one. ``shipped`` is where widely used software had it."""

    name: str
    about: str
    runs: tuple[str, ...]
    owner: Any
    attribute: str
    breaks: Callable[[Any], Any]
    shipped: str = ""

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
    """What verify said of the faulty runs, with the fault still in."""

    name: str
    about: str
    shipped: str = ""
    """Where widely used software had this fault; empty for those that are only imagined."""
    caught_by: list[Literal["golden", "mean"]]
    """What found it: golden evidence, a mean over languages that failed, both, or nothing."""
    checks: int
    """Number of golden checks."""
    golden: list[str]
    """The golden checks that fail, with what differs."""
    judged: int
    """Number of means that were judged."""
    failed: list[str]
    """The means that failed, with verdict and reason."""
    problems: list[str]
    """What was found at odds in the stored files. It counts for nothing: it may come from how the fault was put in."""


class ControlReport(BaseModel):
    """All controls of one results folder."""

    format: Literal[2] = 2
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
    """Put in every fault named (all if none), one at a time, make the runs that show it, and verify them with it.

    Phase 1 is taken from the ``finished`` results where the fault is not in it; the faulty results go to
    ``folder/<control>``.

    Raises:
        UsageFault: no control has that name.
        IncompleteFault: phase 1 of the finished results is not whole.
    """
    known = {control.name: control for control in CONTROLS}
    if unknown := [name for name in names if name not in known]:
        raise UsageFault(f"There is no control '{unknown[0]}'.", why=f"Controls: {', '.join(known)}.")
    chosen = [known[name] for name in names] if names else CONTROLS
    if any("mlm" not in control.runs for control in chosen):
        _refuse_without_phase_1(grid, finished)
    results = []
    for control in chosen:
        root = folder / control.name
        part = replace(grid, runs=tuple(run for run in grid.runs if run.name in (*control.runs, "mlm")))
        if "mlm" not in control.runs:
            _take_phase_1(grid, finished, RunStore(root))
        executor = Executor(source, options, RunStore(root), EngineSettings(), progress, tier.threads)
        with control.fault():
            executor.run_grid(part)
            results.append(_result(control, verify(root, source, golden=check_golden())))
    return ControlReport(tier=grid.tier, seed=grid.seed, environment=environment(), controls=results)


def _refuse_without_phase_1(grid: Grid, finished: RunStore) -> None:
    """Raise ``IncompleteFault`` where the results have no phase 1 of this seed, or lack its model."""
    spec = grid.runs[0]
    if finished.check(spec).state != "done" or not (finished.path(spec.folder) / "model").is_dir():
        raise IncompleteFault(
            f"'{finished.root}' has no phase 1 of the smoke tier's seed {grid.seed} with its model.",
            why="The controls start from it.",
            fix=f"xlt reproduce --seed {grid.seed} --results {shlex.quote(str(finished.root))}",
        )


def _take_phase_1(grid: Grid, finished: RunStore, store: RunStore) -> None:
    spec = grid.runs[0]
    if store.check(spec).state != "done":
        shutil.copytree(finished.path(spec.folder), store.path(spec.folder), dirs_exist_ok=True)


def _result(control: Control, verification: Verification) -> ControlResult:
    judged = [verdict for verdict in verification.verdicts if verdict.verdict != "not run"]
    failed = [verdict for verdict in judged if verdict.verdict in FAILED]
    golden = [check for check in verification.golden if not check.holds]
    found: dict[Literal["golden", "mean"], bool] = {"golden": bool(golden), "mean": bool(failed)}
    return ControlResult(
        name=control.name,
        about=control.about,
        shipped=control.shipped,
        caught_by=[name for name, caught in found.items() if caught],
        checks=len(verification.golden),
        golden=[f"{check.name}: {check.what}" for check in golden],
        judged=len(judged),
        failed=[f"{each.arm} → {each.task} {each.split}: {each.verdict}, {each.reason}" for each in failed],
        problems=[problem.what for problem in verification.problems],
    )


def _without_phase_1(sound: Any) -> Any:
    def train(model: PackedModel, stream: Any, *arguments: Any, **options: Any) -> Any:
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        trained = sound(model, stream, *arguments, **options)
        return replace(trained, weights=before) if stream.task_of(0) == "mlm" else trained

    return train


def _with_labels_of_others(sound: Any) -> Any:
    def encode(*arguments: Any, **options: Any) -> list[Encoded]:
        sequences: list[Encoded] = sound(*arguments, **options)
        found = list(sequences)
        # Among sequences of as many labels: the tags of a sentence fit no other. Spans stay, for the same reason.
        for count in {len(each.label) for each in sequences if each.offsets is None}:
            places = [place for place, each in enumerate(sequences) if len(each.label) == count]
            for place, other in zip(places, np.random.default_rng(0).permutation(places), strict=True):
                found[place] = replace(sequences[place], label=sequences[other].label)
        return found

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


def _of_the_other_language(sound: Any) -> Any:
    other = {"qaa": "qaf", "qaf": "qaa"}
    return lambda self, task, split, language: sound(self, task, split, other.get(language, language))


def _without_the_first(sound: Any) -> Any:
    return lambda self, task, split, language: sound(self, task, split, language)[1:]


def _with_the_header(sound: Any) -> Any:
    def rows(self: WorldSource, task: Any, split: Any, language: str) -> Any:
        found = sound(self, task, split, language)
        header = replace(found[0], id=f"{found[0].id}-header")
        if isinstance(header, PairRow):
            header = replace(header, text_a="sentence1", text_b="sentence2")
        return [header, *found]

    return rows


def _of_the_first_token(sound: Any) -> Any:
    def unit_means(hidden: Tensor, bounds: Tensor, *rest: Any) -> Any:
        firsts = hidden.index_select(0, bounds[:-1])
        return sound(firsts, torch.arange(len(bounds), dtype=bounds.dtype, device=bounds.device), *rest)

    return unit_means


def _in_another_order(sound: Any) -> Any:
    return lambda *arguments: sound(*arguments)[::-1]


def _cut_short(sound: Any) -> Any:
    def pairs(rows: Any, task: Any, *rest: Any) -> Any:
        return sound["pair_classification"](rows, replace(task, recipe=replace(task.recipe, max_length=16)), *rest)

    return {**sound, "pair_classification": pairs}


def _never_lower(sound: Any) -> Any:
    return lambda self, step, steps: 1.0


def _of_the_next_seed(sound: Any) -> Any:
    return lambda seed, *names: sound(seed + 1, *names)


RETRIEVAL = "baseline.bucc2018+tatoeba"
READING = "baseline.xquad+mlqa"
PAIRS = ("mnli", "baseline.xnli", "baseline.pawsx")
CONTROLS = (
    Control(
        "phase-1-lost",
        "phase 1 is trained, and the weights that it began with are kept",
        ("mlm", "baseline.udpos", READING, RETRIEVAL),
        *(training, "train", _without_phase_1),
    ),
    Control(
        "positions-from-0",
        "phases 2 and 3 count positions from 0 instead of 2",
        (READING, RETRIEVAL),
        *(PackedModel, "first_position", lambda sound: 0),
        shipped="https://github.com/huggingface/sentence-transformers/pull/3879",
    ),
    Control(
        "shuffled-labels",
        "training examples have the labels of others",
        PAIRS,
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
        shipped="https://github.com/huggingface/trl/issues/1230",
    ),
    Control(
        "languages-swapped",
        "the files of two languages are read under each other's name",
        (READING, RETRIEVAL),
        *(WorldSource, "rows", _of_the_other_language),
        shipped="https://github.com/thammegowda/mtdata/issues/20",
    ),
    Control(
        "pooling-ignored",
        "a sentence vector is that of the first token, not the mean of all",
        (RETRIEVAL,),
        *(embed, "unit_means", _of_the_first_token),
        shipped="https://github.com/lm-sys/FastChat/pull/2926",
    ),
    Control(
        "first-row-dropped",
        "the first row of every file is taken for a header",
        PAIRS,
        *(WorldSource, "rows", _without_the_first),
        shipped="https://github.com/NVIDIA-Merlin/NVTabular/pull/106",
    ),
    Control(
        "header-as-data",
        "the header of every file is read as its first row",
        PAIRS,
        *(WorldSource, "rows", _with_the_header),
        shipped="https://github.com/igvteam/igv-reports/pull/89",
    ),
    Control(
        "labels-in-another-order",
        "predictions are named by the labels in reverse order",
        PAIRS,
        *(predict, "_labels", _in_another_order),
        shipped="https://github.com/jiant-dev/jiant-dev/pull/127",
    ),
    Control(
        "pairs-cut-short",
        "a pair of texts is cut at 16 tokens, most of the second text with it",
        PAIRS,
        *(features, "_ENCODERS", _cut_short),
        shipped="https://github.com/huggingface/transformers/pull/5472",
    ),
    Control(
        "no-schedule",
        "the learning rate neither warms up nor decays",
        (READING,),
        *(Recipe, "learning_rate_factor", _never_lower),
        shipped="https://github.com/huggingface/transformers/pull/27667",
    ),
    Control(
        "another-seed",
        "every random stream is that of the next seed",
        (READING,),
        *(training, "derive_seed", _of_the_next_seed),
    ),
)
