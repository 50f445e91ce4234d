"""What a grid with one seed will cost: every number with what it rests on, and what is not known left unknown."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xlt.artifact import artifact_root
from xlt.data.hub.fetch import wanted_data, wanted_model
from xlt.data.hub.lock import cached, matching, read_lock
from xlt.data.hub.table import hub_model, read_table
from xlt.data.rows import Row, TextRow, retrieval_texts
from xlt.data.source import Source
from xlt.errors import EnvironmentFault, UsageFault, XltError
from xlt.pipeline.grid import ENGLISH, Grid, evaluated, training_rows
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.tiers import SourcePlan, Tier, use_threads
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import Kind, Split, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLE = 1000
CELL_SAMPLE = 100  # rows of one split and language that is scored
BYTES_PER_PARAMETER = 4  # Models are stored in fp32.
# On a GPU: fp32 weights, gradients and two moments, and bf16 copies of the weights; with everything offloaded that can
# be, bf16 weights and gradients.
GPU_BYTES = {"0": 4 + 4 + 8 + 2, "3_offload": 2 + 2}
ACTIVATION_BYTES = 34  # of a token, for each layer and its width: what the backward pass needs, kernels fused
# (layers, width) of public backbones, as their published configurations say.
BLOCKS = {"xlm-roberta-large": (24, 1024), "xlm-roberta-base": (12, 768)}
# Steps that a calibration makes before it looks at the clock, and then again; the graph engine reports 32 at once.
CALIBRATION_STEPS = {"deepspeed": 16, "graph": 32}


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """The examples and tokens of a run's training, all epochs together, and the tokens that it is scored on; None
    where not known.

    ``basis`` is what those of training rest on; ``at_most`` is whether that makes tokens more than there will be.
    ``kinds`` are the tokens by kind of task.
    """

    examples: int | None
    tokens: int | None
    at_most: bool = False
    basis: tuple[str, ...] = ()
    kinds: Mapping[Kind, int] = field(default_factory=dict)
    evaluation_tokens: int | None = 0


@dataclass(frozen=True, slots=True)
class Hours:
    """How long a grid takes on one device: training, without scores on dev data on the way, and the evaluation after
    it (None where its tokens or its rate are not known)."""

    training: float
    evaluation: float | None
    calibrated: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """A grid's cost if nothing of it is done yet.

    ``training_tokens`` leaves out the runs of ``unknown_runs``, and so do ``hours``, which have an entry for every
    device and engine with a rate. ``gpu_bytes`` is the GPU memory of the largest run, alone on one GPU, by ZeRO stage;
    empty where the backbone's sizes are not known. ``download_bytes`` leaves out the tasks and repositories of
    ``unknown_downloads``.
    """

    runs: list[RunEstimate]
    training_tokens: int
    unknown_runs: list[str]
    hours: dict[str, Hours]
    models: int
    disk_bytes: int | None
    gpu_bytes: dict[str, int]
    download_bytes: int
    unknown_downloads: list[str]


class Rate(BaseModel):
    """``artifact/measured/rate-*.json``: real tokens per second that a backbone reached on one device.

    ``training`` has rates by kind of task; the lowest of them stands for kinds that are not there. ``side_by_side`` is
    how many runs have these rates at once, phase 1 aside, which is alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    backbone: str
    engine: Literal["deepspeed", "graph"]
    training: dict[Kind, float] = Field(min_length=1)
    inference: float | None = None
    side_by_side: int = 1

    def hours(self, grid: Grid, runs: Sequence[RunEstimate], *, calibrated: bool) -> Hours:
        """The time of ``runs``, which are those of ``grid``."""
        lowest = min(self.training.values())
        training = evaluation = 0.0
        for spec, run in zip(grid.runs, runs, strict=True):
            seconds = sum(tokens / self.training.get(kind, lowest) for kind, tokens in run.kinds.items())
            training += seconds / (1 if spec.phase == "pretrain" else self.side_by_side)
            evaluation += (run.evaluation_tokens or 0) / (self.inference or 1) / self.side_by_side
        known = self.inference is not None and all(run.evaluation_tokens is not None for run in runs)
        return Hours(training / 3600, evaluation / 3600 if known else None, calibrated)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What this machine reaches, and the tokenizer with which that was measured."""

    rate: Rate
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class _TrainingSet:
    """How many sequences it has, and the mean tokens of one (of all choices of a multiple-choice question)."""

    sequences: int | None
    tokens: float
    rows: str
    sampled: bool = False


class _TrainingSets:
    def __init__(self, source: Source, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._source = source
        self._tokenizer = tokenizer
        self._known: dict[tuple[str, tuple[str, ...]], _TrainingSet] = {}
        self._scored: dict[str, int | None] = {}

    def get(self, task: Task, translated: tuple[str, ...]) -> _TrainingSet:
        key = task.key, translated
        if key not in self._known:
            self._known[key] = self._look(task, translated)
        return self._known[key]

    def _look(self, task: Task, translated: tuple[str, ...]) -> _TrainingSet:
        longest = float(task.recipe.max_length * task.choices)
        if task.key == MASKED_LM.key and self._tokenizer is None:
            return _TrainingSet(None, longest, "text not counted")
        try:
            rows = training_rows(self._source, task, translated)
        except XltError:
            published = task.train_rows or None
            return _TrainingSet(published, longest, "rows as published" if published else "rows unknown")
        if self._tokenizer is None or not rows:
            return _TrainingSet(len(rows), longest, "rows counted")
        from xlt.data.features import encode

        sample = rows[:: -(-len(rows) // SAMPLE)]
        sequences = encode(sample, task, self._tokenizer, training=False)
        tokens = sum(len(sequence.input_ids) for sequence in sequences) / len(sequences)
        return _TrainingSet(round(len(rows) * len(sequences) / len(sample)), tokens, "rows counted", sampled=True)

    def scored(self, task: Task) -> int | None:
        """The tokens of all that ``task`` is scored on, from a sample of each split and language; None if unknown."""
        if task.key not in self._scored:
            try:
                cells = evaluated(task, self._source) if self._tokenizer else []
                self._scored[task.key] = sum(self._cell(task, *cell) for cell in cells) if cells else None
            except XltError:
                self._scored[task.key] = None
        return self._scored[task.key]

    def _cell(self, task: Task, split: Split, language: str) -> int:
        from xlt.data.features import encode, encode_texts

        assert self._tokenizer is not None
        rows = self._source.rows(task, split, language)
        sample = rows[:: -(-len(rows) // CELL_SAMPLE) or 1]
        if task.kind == "retrieval":
            texts = [text for row in sample for text in retrieval_texts(row)]
            sequences = encode_texts([""] * len(texts), texts, self._tokenizer, task.recipe.max_length)
        else:
            sequences = encode(sample, task, self._tokenizer, training=False)
        return round(sum(len(each.input_ids) for each in sequences) * len(rows) / max(1, len(sample)))


def estimate(grid: Grid, plan: SourcePlan, source: Source, calibration: Calibration | None = None) -> Estimate:
    """The cost of ``grid``, which is of the tier that says ``plan`` for ``source``.

    Where the source's data is present its rows are counted, and where the backbone's tokenizer is in the hub's cache
    too, a sample of them is tokenised. Else tokens are expected rows times the longest sequence of the recipe: more
    than there will be, though a long context or sentence may make several sequences. A ``calibration`` brings its
    tokenizer, and hours on this machine beside those of recorded rates.

    Raises:
        EnvironmentFault: a recorded rate cannot be read.
    """
    sets = _TrainingSets(source, calibration.tokenizer if calibration else _tokenizer(plan.backbone.name))
    runs = [_training(spec, sets) for spec in grid.runs]
    rates = [(rate, False) for rate in _rates() if rate.backbone == plan.backbone.name]
    if calibration:
        rates.append((calibration.rate, True))
    tokens = sum(run.tokens or 0 for run in runs)
    models = sum(bool(spec.train) for spec in grid.runs)
    downloaded, unknown = _download(grid.runs, plan.backbone.name, source.name)
    return Estimate(
        runs=runs,
        training_tokens=tokens,
        unknown_runs=[spec.name for spec, run in zip(grid.runs, runs, strict=True) if run.tokens is None],
        hours={
            f"{rate.device}, {rate.engine} engine{', calibrated now' if now else ''}": rate.hours(
                grid, runs, calibrated=now
            )
            for rate, now in rates
        },
        models=models,
        disk_bytes=models * plan.parameters * BYTES_PER_PARAMETER if plan.parameters else None,
        gpu_bytes=_gpu_bytes(plan, grid, runs),
        download_bytes=downloaded,
        unknown_downloads=unknown,
    )


def calibrate(tier: Tier, grid: Grid, source: Source) -> Calibration:
    """Train a few steps of every kind of task in ``grid``, with its recipes, engine and data, from the backbone that
    the grid starts from, and predict the English dev rows.

    Raises:
        UsageFault: nothing of the grid is trained.
        DataFault: the backbone or data is absent.
    """
    from xlt.pipeline.provenance import device_name
    from xlt.pipeline.starting_point import starting_point
    from xlt.train.engine import start_process_group
    from xlt.train.seeding import deterministic

    deterministic(True)
    trained: dict[Kind, tuple[RunSpec, str]] = {}
    for spec in grid.runs:
        for key in spec.train:
            trained.setdefault(get_task(key).kind, (spec, key))
    if not trained:
        raise UsageFault("There is nothing to calibrate: no run of the grid trains.")
    start_process_group()
    training: dict[Kind, float] = {}
    tokens = seconds = 0.0
    with tempfile.TemporaryDirectory(prefix="xlt-plan-") as folder:
        model, tokenizer = starting_point(grid.runs[0], None, source, Path(folder))
        model.save(folder)
        tokenizer.save_pretrained(folder)
        for kind, (spec, key) in trained.items():
            use_threads(tier.run_threads(spec.phase))
            training[kind], read, took = _try(spec, key, _FewRows(source), Path(folder))
            tokens, seconds = tokens + read, seconds + took
    gpu = spec.precision == "bf16"
    rate = Rate(
        device=device_name(),
        backbone=spec.backbone.name,
        engine=spec.engine,
        training=training,
        inference=tokens / seconds if seconds else None,
        side_by_side=1 if gpu else tier.processes,
    )
    return Calibration(rate, tokenizer)


def _try(spec: RunSpec, key: str, source: Source, start_from: Path) -> tuple[float, int, float]:
    """Tokens per second in training, and the tokens and seconds of predictions."""
    from xlt.data.features import encode
    from xlt.data.labels import with_labels
    from xlt.evaluate.predict import predict
    from xlt.pipeline.training import evaluation_tokens, train_run
    from xlt.train.engine import EngineSettings, device

    count = CALIBRATION_STEPS[spec.engine]
    recipe = {**spec.recipe, "steps": 2 * count, "epochs": 0, "evaluate_every": 0}
    changes = {"train": (key,), "recipe": recipe, "collapse_after": 0.0, "parent": None}
    laps: list[tuple[float, int]] = []
    result = train_run(
        spec.model_copy(update=changes),
        start_from,
        source,
        start_from,
        EngineSettings(precision=spec.precision, engine=spec.engine),
        lambda record, _: laps.append((time.perf_counter(), record.tokens)),
    )
    rate = sum(tokens for _, tokens in laps[count:]) / (laps[-1][0] - laps[count - 1][0])
    task = with_labels(spec.task(key), source)
    if task.kind == "masked_lm" or not source.languages(task, "dev"):
        return rate, 0, 0.0
    rows = source.rows(task, "dev", ENGLISH)[:SAMPLE]
    start = time.perf_counter()
    predict(result.model, rows, task, result.tokenizer, max_tokens=evaluation_tokens(), device=device())
    took = time.perf_counter() - start
    read = sum(len(each.input_ids) for each in encode(rows, task, result.tokenizer, training=False))
    return rate, read, took


class _FewRows:
    """A source of which a calibration need not tokenise everything."""

    def __init__(self, source: Source) -> None:
        self.name, self.settings = source.name, source.settings
        self.languages = source.languages
        self._source = source

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        return self._source.rows(task, split, language)[: 4 * SAMPLE]

    def pretraining_text(self) -> list[TextRow]:
        return self._source.pretraining_text()[: 4 * SAMPLE]


def _gpu_bytes(plan: SourcePlan, grid: Grid, runs: Sequence[RunEstimate]) -> dict[str, int]:
    config = plan.backbone.config
    layers, width = BLOCKS.get(plan.backbone.name, (config.get("num_hidden_layers", 0), config.get("hidden_size", 0)))
    if not plan.parameters or not layers:
        return {}
    # The mean of the largest batches, of which single ones are larger.
    tokens = max(
        (
            spec.training_recipe().batch_size * run.tokens / run.examples
            for spec, run in zip(grid.runs, runs, strict=True)
            if run.tokens and run.examples
        ),
        default=0.0,
    )
    activations = ACTIVATION_BYTES * width * layers * tokens
    return {stage: round(each * plan.parameters + activations) for stage, each in GPU_BYTES.items()}


def _training(spec: RunSpec, sets: _TrainingSets) -> RunEstimate:
    parts = [sets.scored(spec.task(key)) for key in spec.evaluate]
    scored = None if None in parts else sum(part or 0 for part in parts)
    if not spec.train:
        return RunEstimate(0, 0, evaluation_tokens=scored)
    recipe = spec.training_recipe()
    found = [sets.get(spec.task(key), spec.translated) for key in spec.train]
    lengths = {True: "lengths of a sample", False: "all as long as the recipe allows"}
    basis = tuple(sorted({f"{each.rows}, {lengths[each.sampled]}" for each in found}))
    at_most = not all(each.sampled for each in found)
    counts = [each.sequences for each in found]
    if len(found) > 1:  # Of an unknown one no more count than the cap.
        counts = [min(count or recipe.examples_cap, recipe.examples_cap) for count in counts]
    known = [count for count in counts if count is not None]
    if not recipe.steps and len(known) < len(counts):
        return RunEstimate(None, None, at_most, basis, evaluation_tokens=scored)
    steps = recipe.steps or -(-recipe.epochs * sum(known) // recipe.batch_size)
    # Tasks trained together come in proportion to their examples; one alone needs no count.
    weights = known if len(found) > 1 else [1]
    means = [weight * each.tokens / sum(weights) for weight, each in zip(weights, found, strict=True)]
    examples = steps * recipe.batch_size
    kinds: dict[Kind, float] = {}
    for key, mean in zip(spec.train, means, strict=True):
        kinds[get_task(key).kind] = kinds.get(get_task(key).kind, 0.0) + examples * mean
    rounded: dict[Kind, int] = {kind: round(tokens) for kind, tokens in kinds.items()}
    return RunEstimate(examples, round(examples * math.fsum(means)), at_most, basis, rounded, scored)


def _tokenizer(name: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a fetched backbone; none where it was not fetched."""
    name = hub_model(name).repository
    locked = read_lock().models.get(name)
    folder = cached("model", name, locked.revision, "") if locked else None
    if folder is None or not folder.is_dir():
        return None
    from xlt.data.tokenizer import load_tokenizer

    return load_tokenizer(str(folder))


def _download(runs: Iterable[RunSpec], backbone: str, source: str) -> tuple[int, list[str]]:
    """The bytes to fetch by the lock, the tasks that the hub lacks, and the repositories whose sizes it lacks."""
    lock, table = read_lock(), read_table()
    keys = dict.fromkeys(key for spec in runs for key in (*spec.train, *spec.evaluate)) if source == "hub" else ()
    unknown = [key for key in keys if table[key].absent]
    tasks = [get_task(key) for key in keys if key not in unknown]
    total = 0
    for want in [*wanted_data(tasks), *([wanted_model(backbone)] if backbone else [])]:
        locked = lock.of(want.kind).get(want.repository)
        files = [matching(locked.files, pattern) for pattern in want.patterns] if locked else []
        if locked is None or not all(files):
            unknown.append(want.repository)
        else:
            total += sum(locked.files[path].size for path in {path for paths in files for path in paths})
    return total, unknown


def _rates() -> Sequence[Rate]:
    rates = []
    for path in sorted((artifact_root() / "measured").glob("rate-*.json")):
        try:
            rates.append(Rate.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise EnvironmentFault(
                f"'artifact/measured/{path.name}' is no recorded rate.",
                why=str(error),
                mend="Restore it from the repository: git checkout -- artifact",
            ) from error
    return rates
