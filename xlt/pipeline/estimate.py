"""What a grid with one seed will cost: every number with what it rests on, and what is not known left unknown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from xlt.artifact import artifact_root
from xlt.data.hub.fetch import wanted_data, wanted_model
from xlt.data.hub.lock import cached, matching, read_lock
from xlt.data.hub.table import read_table
from xlt.data.source import Source
from xlt.errors import EnvironmentFault, XltError
from xlt.pipeline.grid import Grid, training_rows
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.tiers import SourcePlan
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLE = 1000
BYTES_PER_PARAMETER = 4  # Models are stored in fp32.


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """The examples and tokens of a run's training, all epochs together; None where not known.

    ``basis`` is what they rest on; ``at_most`` is whether that makes tokens more than there will be.
    """

    examples: int | None
    tokens: int | None
    at_most: bool = False
    basis: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A grid's cost if nothing of it is done yet.

    ``training_tokens`` leaves out the runs of ``unknown_runs``. ``hours`` has an entry for every device with a
    recorded rate and covers training alone. ``download_bytes`` leaves out the tasks and repositories of
    ``unknown_downloads``.
    """

    runs: list[RunEstimate]
    training_tokens: int
    unknown_runs: list[str]
    hours: dict[str, float]
    models: int
    disk_bytes: int | None
    download_bytes: int
    unknown_downloads: list[str]


class Rate(BaseModel):
    """``artifact/measured/rate-*.json``: real tokens per second that training a backbone reached on one device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    backbone: str
    tokens_per_second: float


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

    def get(self, task: Task, translated: tuple[str, ...]) -> _TrainingSet:
        key = task.key, translated
        if key not in self._known:
            self._known[key] = self._look(task, translated)
        return self._known[key]

    def _look(self, task: Task, translated: tuple[str, ...]) -> _TrainingSet:
        longest = float(task.recipe.max_length * task.choices)
        if task.key == MASKED_LM.key:
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


def estimate(grid: Grid, plan: SourcePlan, source: Source) -> Estimate:
    """The cost of ``grid``, which is of the tier that says ``plan`` for ``source``.

    Where the source's data is present its rows are counted, and where the backbone's tokenizer is in the hub's cache
    too, a sample of them is tokenised. Else tokens are expected rows times the longest sequence of the recipe: more
    than there will be, though a long context or sentence may make several sequences.

    Raises:
        EnvironmentFault: a recorded rate cannot be read.
    """
    sets = _TrainingSets(source, _tokenizer(plan.backbone.name))
    runs = [_training(spec, sets) for spec in grid.runs]
    tokens = sum(run.tokens or 0 for run in runs)
    models = sum(bool(spec.train) for spec in grid.runs)
    downloaded, unknown = _download(grid.runs, plan.backbone.name, source.name)
    return Estimate(
        runs=runs,
        training_tokens=tokens,
        unknown_runs=[spec.name for spec, run in zip(grid.runs, runs, strict=True) if run.tokens is None],
        hours={
            rate.device: tokens / rate.tokens_per_second / 3600
            for rate in _rates()
            if rate.backbone == plan.backbone.name
        },
        models=models,
        disk_bytes=models * plan.parameters * BYTES_PER_PARAMETER if plan.parameters else None,
        download_bytes=downloaded,
        unknown_downloads=unknown,
    )


def _training(spec: RunSpec, sets: _TrainingSets) -> RunEstimate:
    if not spec.train:
        return RunEstimate(0, 0)
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
        return RunEstimate(None, None, at_most, basis)
    steps = recipe.steps or -(-recipe.epochs * sum(known) // recipe.batch_size)
    # Tasks trained together come in proportion to their examples; one alone needs no count.
    weights = known if len(found) > 1 else [1]
    mean = math.fsum(weight * each.tokens for weight, each in zip(weights, found, strict=True)) / sum(weights)
    examples = steps * recipe.batch_size
    return RunEstimate(examples, round(examples * mean), at_most, basis)


def _tokenizer(name: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a fetched backbone; none where it was not fetched."""
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
