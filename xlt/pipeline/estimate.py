"""What a grid with one seed will cost. A number is counted, measured, or said to be an estimate; else it is None."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from xlt.artifact import artifact_root, read_record
from xlt.data.rows import Row
from xlt.data.source import Source, evaluated, training_rows
from xlt.errors import DataFault, XltError
from xlt.frozen import Frozen
from xlt.pipeline.grid import Grid
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.tiers import SourcePlan
from xlt.pipeline.tokens import TokenTable, read_tokens
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import ENGLISH, Kind, Split, Task
from xlt.train.batches import scored_steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLE = 1000  # rows of a training set whose tokens are counted
CELL_SAMPLE = 100  # rows of one split and language that is scored
BYTES_PER_PARAMETER = 4  # Models are stored in fp32.


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """The size of a run, with None for what is not known."""

    examples: int | None
    """The examples that it trains on, all epochs together."""
    tokens: int | None
    """Their tokens."""
    kinds: Mapping[Kind, int] = field(default_factory=dict)
    """The same tokens by kind of task."""
    evaluation_tokens: int | None = 0
    """The tokens that it is scored on after the training."""
    dev_tokens: int | None = 0
    """The tokens of the English dev sets, as often as they are scored during the training if it does not stop early."""


@dataclass(frozen=True, slots=True)
class Hours:
    """How long a grid takes on one device; None where its tokens or their rate are not known."""

    training: float | None
    """Hours of training."""
    dev: float | None
    """Hours of scoring dev sets during the training; early stopping makes them fewer."""
    evaluation: float | None
    """Hours of evaluation after the training."""
    calibrated: bool = False
    """Whether the rates were measured now, on this machine."""
    gpu: bool = False
    """Whether the device is a GPU."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A grid's cost if nothing of it is done yet."""

    runs: list[RunEstimate]
    """The size of each run, in the order of the grid."""
    training_tokens: int
    """The training tokens of all runs but the ``unknown_runs``."""
    unknown_runs: list[str]
    """The names of the runs whose training tokens are not known."""
    by_table: dict[str, str]
    """The tasks whose rows are as long as those of ``artifact/measured/tokens.json``, each ``measured`` or
    ``estimate``: their data or the backbone's tokenizer is not here."""
    hours: dict[str, Hours]
    """The time, by each device and engine with a measured rate."""
    models: int
    """How many models are stored."""
    disk_bytes: int | None
    """Their size."""
    gpu_bytes: dict[str, int]
    """The GPU memory that a calibration took, by ZeRO stage; empty without one."""
    download_bytes: int
    """The bytes to fetch, without the ``unknown_downloads``."""
    unknown_downloads: list[str]
    """The tasks that the hub lacks, and the repositories whose sizes are not known before they are fetched."""


class Rate(Frozen):
    """``artifact/measured/rate-*.json``: real tokens per second that a backbone reached on one device."""

    device: str
    """The device's model name."""
    backbone: str
    """The name of the backbone; empty for the one that phase 1 trains."""
    engine: Literal["deepspeed", "graph"]
    """What computed the optimiser steps."""
    training: dict[Kind, float] = Field(min_length=1)
    """Tokens per second in training, by kind of task."""
    inference: float | None = None
    """Tokens per second of predictions."""
    gpu: bool = False
    """Whether the device is a GPU."""
    side_by_side: int = 1
    """How many runs reach these rates at once; phase 1 is always alone."""

    def hours(self, grid: Grid, runs: Sequence[RunEstimate], *, calibrated: bool) -> Hours:
        """How long the ``runs`` of ``grid`` take."""
        at_once = [1 if spec.phase == "pretrain" else self.side_by_side for spec in grid.runs]
        training: list[float | None] = []
        for run in runs:
            known = run.tokens is not None and all(kind in self.training for kind in run.kinds)
            training.append(sum(tokens / self.training[kind] for kind, tokens in run.kinds.items()) if known else None)

        def predicted(tokens: int | None) -> float | None:
            return None if tokens is None or self.inference is None else tokens / self.inference

        def total(seconds: Iterable[float | None]) -> float | None:
            parts = [None if each is None else each / n for each, n in zip(seconds, at_once, strict=True)]
            return None if None in parts else sum(each or 0.0 for each in parts) / 3600

        return Hours(
            training=total(training),
            dev=total(predicted(run.dev_tokens) for run in runs),
            evaluation=total(predicted(run.evaluation_tokens) for run in runs),
            calibrated=calibrated,
            gpu=self.gpu,
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """What this machine reaches: rates, the tokenizer that they were measured with, and the GPU memory taken."""

    rate: Rate
    tokenizer: PreTrainedTokenizerBase
    gpu_bytes: int | None


def estimate(
    grid: Grid,
    plan: SourcePlan,
    source: Source,
    calibration: Calibration | None = None,
    *,
    by_size: bool = False,
) -> Estimate:
    """The cost of ``grid``, which is of the tier that says ``plan`` for ``source``.

    Where the data is present and the backbone's tokenizer was fetched or comes with a ``calibration``, the tokens of a
    sample are counted. Else those of a backbone with XLM-R's vocabulary follow from the recorded lengths of rows. Hours
    follow from measured rates: recorded ones, and the calibration's. With ``by_size`` those of a model without a rate
    follow from another model's, in proportion to the weights of their blocks: of the order of what it takes, no more.

    Raises:
        EnvironmentFault: a recorded rate or length cannot be read.
    """
    name = plan.backbone.name
    sizes = _Sizes(source, calibration.tokenizer if calibration else _tokenizer(name), _table(name))
    runs = [_size(spec, sizes) for spec in grid.runs]
    recorded = (artifact_root() / "measured").glob("rate-*.json")
    known = [read_record(Rate, "measured", path.name) for path in sorted(recorded)]
    rates = [(rate, False) for rate in known] + ([(calibration.rate, True)] if calibration else [])
    rates = [*_rates_of(plan.backbone.name, rates, by_size=by_size)]
    models = sum(bool(spec.train) for spec in grid.runs)
    # Of an arm's own model the size is not known here.
    parameters = plan.parameters if {spec.backbone.name for spec in grid.runs} <= {plan.backbone.name} else 0
    downloaded, unknown = _download(grid.runs, source.name)
    return Estimate(
        runs=runs,
        training_tokens=sum(run.tokens or 0 for run in runs),
        unknown_runs=[spec.name for spec, run in zip(grid.runs, runs, strict=True) if run.tokens is None],
        by_table=sizes.by_table,
        hours={
            f"{rate.device}, {rate.engine} engine{', calibrated now' if now else ''}": rate.hours(
                grid, runs, calibrated=now
            )
            for rate, now in rates
        },
        models=models,
        disk_bytes=models * parameters * BYTES_PER_PARAMETER if parameters else None,
        gpu_bytes={"0": calibration.gpu_bytes} if calibration and calibration.gpu_bytes else {},
        download_bytes=downloaded,
        unknown_downloads=unknown,
    )


def _rates_of(name: str, rates: Sequence[tuple[Rate, bool]], *, by_size: bool) -> Iterator[tuple[Rate, bool]]:
    """The rates of that model; with ``by_size`` those of others in proportion, where it has none."""
    own = [(rate, now) for rate, now in rates if _repository(rate.backbone) == _repository(name)]
    yield from own
    for rate, now in rates if by_size and not own else ():
        if (size := _block_weights(name)) and (other := _block_weights(rate.backbone)):
            changes = {
                "device": f"{rate.device} (by size, from {rate.backbone})",
                "training": {kind: value * other / size for kind, value in rate.training.items()},
                "inference": rate.inference and rate.inference * other / size,
            }
            yield rate.model_copy(update=changes), now


def _repository(name: str) -> str:
    from xlt.data.hub.table import hub_model

    return hub_model(name).repository


def _block_weights(name: str) -> int:
    """How many weights the matrices of a model's blocks have, which nearly all computing is; 0 if it is not known."""
    from xlt.data.hub.table import hub_model

    sizes = hub_model(name).config
    # Of a block 4 matrices of attention, and 2 that widen four times and narrow again.
    return 12 * sizes.get("num_hidden_layers", 0) * sizes.get("hidden_size", 0) ** 2


class _Sizes:
    """The sizes of the sets of rows that runs read. Many runs read the same ones, so they are kept."""

    def __init__(self, source: Source, tokenizer: PreTrainedTokenizerBase | None, table: TokenTable | None) -> None:
        self._source = source
        self._tokenizer = tokenizer
        self._table = table
        self.by_table: dict[str, str] = {}
        self._trained: dict[tuple[str, tuple[str, ...], int], tuple[int | None, int | None]] = {}
        self._scored: dict[tuple[str, bool, int, int], int | None] = {}

    def training(self, task: Task, translated: tuple[str, ...]) -> tuple[int | None, int | None]:
        """The sequences of a training set and their tokens."""
        key = task.key, translated, task.recipe.train_examples
        if key not in self._trained:
            # A row of these is one sequence. How many a long context, a sentence or a text makes, the tokenizer says.
            one_by_one = task.kind in ("pair_classification", "multiple_choice")
            rows: Sequence[Row] = ()
            published = 0 if translated or "limit" in self._source.settings else task.train_rows
            published = min(published, task.recipe.train_examples or published)
            with suppress(XltError):
                known = self._tokenizer or self._table or one_by_one
                rows = training_rows(self._source, task, translated) if known else ()
            unmeasured = (len(rows) or published or None) if one_by_one else None, None
            counted = self._count(task, rows, SAMPLE)
            if not counted and not translated:
                counted = self._look_up(task, "train", ENGLISH, len(rows) or published)
            self._trained[key] = counted or unmeasured
        return self._trained[key]

    def scored(self, task: Task, *, dev: bool = False) -> int | None:
        """The tokens of all that ``task`` is scored on, or of the English ``dev`` rows that choose its checkpoint."""
        most = task.recipe.dev_examples if dev else 0
        key = task.key, dev, task.recipe.test_examples, most
        if (self._tokenizer or self._table) and key not in self._scored:
            chosen: tuple[tuple[str, ...], tuple[str, ...]] = ((ENGLISH,), ("dev",)) if dev else ((), ())
            with suppress(XltError):
                cells = evaluated(task, self._source, *chosen)
                counts = [self._cell(task, *cell, most) for cell in cells]
                self._scored[key] = _sum(count and count[1] for count in counts)
        return self._scored.setdefault(key, None)

    def _cell(self, task: Task, split: Split, language: str, most: int) -> tuple[int, int] | None:
        rows = self._source.rows(task, split, language)[: most or None]
        return self._count(task, rows, CELL_SAMPLE) or self._look_up(task, split, language, len(rows))

    def _look_up(self, task: Task, split: Split, language: str, rows: int) -> tuple[int, int] | None:
        """The same of so many rows by the recorded lengths."""
        found = self._table.size(task, split, language, rows) if self._table and rows else None
        if found and self._table:
            self.by_table[task.key] = self._table.basis(task)
        return found

    def _count(self, task: Task, rows: Sequence[Row], most: int) -> tuple[int, int] | None:
        """The sequences of the rows and their tokens, from a sample of at most so many; None without a tokenizer."""
        from xlt.data.features import encode

        if self._tokenizer is None or not rows:
            return None
        sample = rows[:: -(-len(rows) // most)]
        sequences = encode(sample, task, self._tokenizer, training=False)
        tokens = sum(len(each.input_ids) for each in sequences)
        return round(len(sequences) * len(rows) / len(sample)), round(tokens * len(rows) / len(sample))


def _size(spec: RunSpec, sizes: _Sizes) -> RunEstimate:
    scored = _sum(sizes.scored(spec.task(key)) for key in spec.evaluate)
    if not spec.train:
        return RunEstimate(0, 0, evaluation_tokens=scored)
    recipe = spec.training_recipe()
    sets = [sizes.training(spec.task(key), spec.translated) for key in spec.train]
    counts = [count for count, _ in sets]
    if len(sets) > 1:
        # Tasks that are trained together come in proportion to their examples, of which so many count.
        counts = [count and min(count, recipe.examples_cap) for count in counts]
    total = _sum(counts)
    if not recipe.steps and total is None:
        return RunEstimate(None, None, evaluation_tokens=scored, dev_tokens=None)
    steps = recipe.steps or -(-recipe.epochs * (total or 0) // recipe.batch_size)
    examples = steps * recipe.batch_size
    kinds: dict[Kind, float] = {}
    for key, share, (sequences, tokens) in zip(spec.train, counts, sets, strict=True):
        if not sequences or not tokens or not share or not total:
            return RunEstimate(examples, None, evaluation_tokens=scored, dev_tokens=None)
        kind = get_task(key).kind
        kinds[kind] = kinds.get(kind, 0.0) + examples * share / total * tokens / sequences
    return RunEstimate(
        examples=examples,
        tokens=round(sum(kinds.values())),
        kinds={kind: round(tokens) for kind, tokens in kinds.items()},
        evaluation_tokens=scored,
        dev_tokens=_dev_tokens(spec, sizes, total, steps),
    )


def _dev_tokens(spec: RunSpec, sizes: _Sizes, examples: int | None, steps: int) -> int | None:
    recipe = spec.training_recipe()
    if not recipe.evaluate_every and not spec.collapse_after:
        return 0
    once = _sum(sizes.scored(spec.task(key), dev=True) for key in spec.train if key != MASKED_LM.key)
    if examples is None or once is None:
        return None
    return once * len(scored_steps(recipe, examples, steps, spec.collapse_after))


def _sum(parts: Iterable[int | None]) -> int | None:
    known = list(parts)
    return None if None in known else sum(part or 0 for part in known)


def _tokenizer(name: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a fetched backbone; none where it was not fetched."""
    from xlt.data.tokenizer import load_tokenizer
    from xlt.pipeline.checkpoint import checkpoint_folder

    with suppress(DataFault):
        return load_tokenizer(str(checkpoint_folder(name))) if name else None
    return None


def _table(name: str) -> TokenTable | None:
    """The recorded lengths of rows, if a public backbone is known to have the vocabulary in which they were counted."""
    from xlt.data.hub.table import hub_model

    model = hub_model(name)
    size = (model.config.get("vocab_size") or model.pieces) if name else None
    table = read_tokens() if size else None
    return table if table and size in table.vocab_sizes else None


def _download(runs: Sequence[RunSpec], source: str) -> tuple[int, list[str]]:
    """The bytes to fetch by the lock, and the tasks and repositories whose bytes are not known."""
    names = dict.fromkeys(spec.backbone.name for spec in runs)
    models = [name for name in names if name and not name.startswith("folder:")]
    if source != "hub" and not models:
        return 0, []
    from xlt.data.hub.fetch import wanted_data, wanted_model
    from xlt.data.hub.lock import matching, read_lock
    from xlt.data.hub.table import read_table

    lock, table = read_lock(), read_table()
    keys = dict.fromkeys(key for spec in runs for key in (*spec.train, *spec.evaluate)) if source == "hub" else ()
    unknown = [key for key in keys if key not in table or table[key].absent]
    tasks = [get_task(key) for key in keys if key not in unknown]
    total = 0
    for want in [*wanted_data(tasks), *map(wanted_model, models)]:
        locked = lock.of(want.kind).get(want.repository)
        files = [matching(locked.files, pattern) for pattern in want.patterns] if locked else []
        if locked is None or not all(files):
            unknown.append(want.repository)
        else:
            total += sum(locked.files[path].size for path in {path for paths in files for path in paths})
    return total, unknown
