"""What a grid with one seed will cost: every number with what it rests on, and what is not known left unknown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xlt.artifact import RESTORE, artifact_root
from xlt.data.rows import retrieval_texts
from xlt.data.source import Source, evaluated, training_rows
from xlt.errors import DataFault, EnvironmentFault, XltError
from xlt.pipeline.grid import Grid
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.tiers import SourcePlan
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import ENGLISH, Kind, Split, Task
from xlt.train.batches import scored_steps

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


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """The examples and tokens of a run's training, all epochs together, and the tokens that it is scored on; None
    where not known.

    ``basis`` is what those of training rest on; ``at_most`` is whether that makes tokens more than there will be.
    ``kinds`` are the tokens by kind of task. ``dev_tokens`` are the English dev sets as often as they are scored on the
    way, if the training does not stop early.
    """

    examples: int | None
    tokens: int | None
    at_most: bool = False
    basis: tuple[str, ...] = ()
    kinds: Mapping[Kind, int] = field(default_factory=dict)
    evaluation_tokens: int | None = 0
    dev_tokens: int | None = 0


@dataclass(frozen=True, slots=True)
class Hours:
    """How long a grid takes on one device: training, the scores on dev data on the way, which early stopping makes
    fewer, and the evaluation after it (None where their tokens or their rate are not known)."""

    training: float
    dev: float | None
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
        training = dev = evaluation = 0.0
        for spec, run in zip(grid.runs, runs, strict=True):
            seconds = sum(tokens / self.training.get(kind, lowest) for kind, tokens in run.kinds.items())
            training += seconds / (1 if spec.phase == "pretrain" else self.side_by_side)
            dev += (run.dev_tokens or 0) / (self.inference or 1) / self.side_by_side
            evaluation += (run.evaluation_tokens or 0) / (self.inference or 1) / self.side_by_side
        unknown = [self.inference, *(run.dev_tokens for run in runs)].count(None)
        unscored = [self.inference, *(run.evaluation_tokens for run in runs)].count(None)
        return Hours(
            training / 3600, None if unknown else dev / 3600, None if unscored else evaluation / 3600, calibrated
        )


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
        self._scored: dict[tuple[str, bool], int | None] = {}

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

    def scored(self, task: Task, *, dev: bool = False) -> int | None:
        """The tokens of all that ``task`` is scored on, or of its English ``dev`` set alone, from a sample of each
        split and language; None if unknown."""
        key = task.key, dev
        if key not in self._scored:
            chosen: tuple[tuple[str, ...], tuple[str, ...]] = ((ENGLISH,), ("dev",)) if dev else ((), ())
            try:
                cells = evaluated(task, self._source, *chosen) if self._tokenizer else []
                self._scored[key] = sum(self._cell(task, *cell) for cell in cells) if cells else None
            except XltError:
                self._scored[key] = None
        return self._scored[key]

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
        return RunEstimate(None, None, at_most, basis, evaluation_tokens=scored, dev_tokens=None)
    steps = recipe.steps or -(-recipe.epochs * sum(known) // recipe.batch_size)
    # Tasks trained together come in proportion to their examples; one alone needs no count.
    weights = known if len(found) > 1 else [1]
    means = [weight * each.tokens / sum(weights) for weight, each in zip(weights, found, strict=True)]
    examples = steps * recipe.batch_size
    kinds: dict[Kind, float] = {}
    for key, mean in zip(spec.train, means, strict=True):
        kinds[get_task(key).kind] = kinds.get(get_task(key).kind, 0.0) + examples * mean
    rounded: dict[Kind, int] = {kind: round(tokens) for kind, tokens in kinds.items()}
    dev = _dev_tokens(spec, sets, sum(known) if len(known) == len(counts) else None, steps)
    return RunEstimate(examples, round(examples * math.fsum(means)), at_most, basis, rounded, scored, dev)


def _dev_tokens(spec: RunSpec, sets: _TrainingSets, examples: int | None, steps: int) -> int | None:
    recipe = spec.training_recipe()
    if not recipe.evaluate_every and not spec.collapse_after:
        return 0
    parts = [sets.scored(spec.task(key), dev=True) for key in spec.train if key != MASKED_LM.key]
    if examples is None or None in parts:
        return None
    times = len(scored_steps(recipe, examples, steps, spec.collapse_after))
    return times * sum(part or 0 for part in parts)


def _tokenizer(name: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a fetched backbone; none where it was not fetched."""
    if not name:
        return None
    from xlt.data.tokenizer import load_tokenizer
    from xlt.pipeline.checkpoint import checkpoint_folder

    try:
        return load_tokenizer(str(checkpoint_folder(name)))
    except DataFault:
        return None


def _download(runs: Iterable[RunSpec], backbone: str, source: str) -> tuple[int, list[str]]:
    """The bytes to fetch by the lock, the tasks that the hub lacks, and the repositories whose sizes it lacks."""
    if source != "hub" and not backbone:
        return 0, []
    from xlt.data.hub.fetch import wanted_data, wanted_model
    from xlt.data.hub.lock import matching, read_lock
    from xlt.data.hub.table import read_table

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
                fix=RESTORE,
            ) from error
    return rates
