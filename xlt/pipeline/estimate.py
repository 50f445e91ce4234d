"""What a grid with one seed will cost. A number is counted, measured, or said to be an estimate; else it is None."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, cast

from xlt.artifact import artifact_root, read_record
from xlt.data.rows import MiningRow, QueryRow, Row
from xlt.data.source import EVALUATED_SPLITS, Source, evaluated, training_rows
from xlt.errors import DataFault, XltError
from xlt.pipeline.grid import Grid
from xlt.pipeline.hours import BYTES_PER_PARAMETER, STATE_TENSORS, Hours, Rate, all_hours, read_assumptions
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.tiers import SourcePlan
from xlt.pipeline.tokens import TokenTable, read_tokens
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import ENGLISH, Kind, Recipe, Split, Task
from xlt.train.batches import scored_steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from xlt.data.hub.table import HubTask

SAMPLE = 1000  # rows of a training set whose tokens are counted
CELL_SAMPLE = 100  # rows of one split and language that is scored
# Tokens of a forward pass without gradients on a card with much memory, which more of them keep busy while the host
# packs. The widest of XLM-R Large's values, its 4,096 of a token in bf16, then take 0.5 GB.
LARGE_CARD_TOKENS = 65536


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Rows that are predicted."""

    rows: int
    """How many."""
    tokens: int
    """The tokens of their sequences."""
    passes: int
    """The forward passes that these take on a large GPU: one at least for each task, split and language."""
    pairs: int = 0
    """Of mining: how many pairs of a foreign and an English sentence are compared."""

    def __add__(self, other: ScoredRows) -> ScoredRows:
        return ScoredRows(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """The size of a run, with None for what is not known."""

    examples: int | None
    """The examples that it trains on, all epochs together."""
    tokens: int | None
    """Their tokens, as often as the steps compute with them: see ``work``."""
    kinds: Mapping[Kind, int] = field(default_factory=dict)
    """The tokens by kind of task, each example's counted once."""
    work: float = 1.0
    """What a step computes, in standard steps: more than 1 in adversarial training, by its matrix products."""
    evaluation_tokens: int | None = 0
    """The tokens that it is scored on after the training."""
    dev_tokens: int | None = 0
    """The tokens of the English dev rows, as often as they are scored during the training if it does not stop early."""
    steps: Mapping[Kind, float] = field(default_factory=dict)
    """The optimiser steps by kind of task; empty where the tokens are not known."""
    scored: Mapping[Kind, ScoredRows] = field(default_factory=dict)
    """What it is scored on after the training, by kind of task; empty where that is not known."""
    dev: Mapping[Kind, ScoredRows] = field(default_factory=dict)
    """The English dev rows of one score during the training, by kind of task."""
    dev_scores: int = 0
    """How many such scores there are."""
    encoded: Mapping[Kind, int] = field(default_factory=dict)
    """The tokens that it makes of text, by kind of task: training sets and what it is scored on, if no earlier run of
    the grid has made them."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A grid's cost if nothing of it is done yet."""

    runs: list[RunEstimate]
    """The size of each run, in the order of the grid."""
    training_tokens: int
    """The training tokens of all runs but the ``unknown_runs``."""
    unknown_runs: list[str]
    """The names of the runs whose training tokens are not known."""
    unscored_runs: list[str]
    """The names of the runs of which it is not known how much they are scored on; hours are without it."""
    by_table: dict[str, str]
    """The tasks whose rows are as long as those of ``artifact/measured/tokens.json``, each ``measured`` or
    ``estimate``: their data or the backbone's tokenizer is not here."""
    hours: dict[str, Hours]
    """The time, by each device and engine with a measured rate, or with assumptions to predict it from."""
    models: int
    """How many models are stored."""
    disk_bytes: int | None
    """Their size."""
    state_bytes: int | None
    """The most that the state of a training takes: weights, two moments, and the best weights so far. Two of them are
    there while it runs, beside those that are kept."""
    gpu_bytes: dict[str, int]
    """The GPU memory that a calibration took, by ZeRO stage; empty without one."""
    download_bytes: int
    """The bytes to fetch, without the ``unknown_downloads``."""
    unknown_downloads: list[str]
    """The tasks that the hub lacks, and the repositories whose sizes are not known before they are fetched."""


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
    gpus: int = 0,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Estimate:
    """The cost of ``grid``, which is of the tier that says ``plan`` for ``source``.

    Where the data is present and the backbone's tokenizer is given, was fetched or comes with a ``calibration``, the
    tokens of a sample are counted; else those of XLM-R's vocabulary follow from the recorded lengths of rows. Hours
    follow from measured rates, also on so many ``gpus``; ``by_size`` those of a model without one from another's, by
    the weights of their blocks.

    Raises:
        EnvironmentFault: a recorded rate or length cannot be read.
    """
    name = plan.backbone.name
    sizes = _Sizes(source, calibration.tokenizer if calibration else tokenizer or _tokenizer(name), _table(name))
    runs = [_size(spec, sizes) for spec in grid.runs]
    recorded = sorted((artifact_root() / "measured").glob("rate-*.json"))
    rates = [(read_record(Rate, "measured", path.name), False) for path in recorded]
    rates += [(calibration.rate, True)] if calibration else []
    models = sum(bool(spec.train) for spec in grid.runs)
    # Of an arm's own model the size is not known here.
    parameters = plan.parameters if {spec.backbone.name for spec in grid.runs} <= {plan.backbone.name} else 0
    downloaded, unknown = _download(grid.runs, source.name)
    named = [*zip((spec.name for spec in grid.runs), runs, strict=True)]
    return Estimate(
        runs=runs,
        training_tokens=sum(run.tokens or 0 for run in runs),
        unknown_runs=[name for name, run in named if run.tokens is None],
        unscored_runs=[name for name, run in named if None in (run.evaluation_tokens, run.dev_tokens)],
        by_table=sizes.by_table,
        hours=all_hours(plan.backbone, rates, grid, runs, by_size=by_size, gpus=gpus),
        models=models,
        disk_bytes=models * parameters * BYTES_PER_PARAMETER if parameters else None,
        state_bytes=STATE_TENSORS * parameters * BYTES_PER_PARAMETER if parameters else None,
        gpu_bytes={"0": calibration.gpu_bytes} if calibration and calibration.gpu_bytes else {},
        download_bytes=downloaded,
        unknown_downloads=unknown,
    )


class _Sizes:
    """The sizes of the sets of rows that runs read. Many runs read the same ones, so they are kept."""

    def __init__(self, source: Source, tokenizer: PreTrainedTokenizerBase | None, table: TokenTable | None) -> None:
        self._source = source
        self._tokenizer = tokenizer
        self._table = table
        self._limited = "limit" in source.settings
        self._table_of_hub: dict[str, HubTask] = {}
        assumed = read_assumptions()
        self._mined = assumed[0].mined if assumed else None
        self.by_table: dict[str, str] = {}
        self.encoded: set[tuple[object, ...]] = set()
        self._trained: dict[tuple[str, tuple[str, ...], tuple[int, int]], tuple[int | None, int | None]] = {}
        self._scored: dict[tuple[object, ...], ScoredRows | None] = {}

    def training(self, task: Task, translated: tuple[str, ...]) -> tuple[int | None, int | None]:
        """The sequences of a training set and their tokens."""
        key = task.key, translated, task.recipe.rows
        if key not in self._trained:
            # A row of these is one sequence. How many a long context, a sentence or a text makes, the tokenizer says.
            one_by_one = task.kind in ("pair_classification", "multiple_choice")
            rows: Sequence[Row] = ()
            published = 0 if translated or self._limited else task.train_rows or self._published(task, "train", ENGLISH)
            published = min(published, task.recipe.train_examples or published) * max(1, task.recipe.synonyms)
            with suppress(XltError):
                known = self._tokenizer or self._table or one_by_one
                rows = training_rows(self._source, task, translated) if known else ()
            unmeasured = (len(rows) or published or None) if one_by_one else None, None
            counted = self._count(task, rows, SAMPLE)
            if not counted and not translated:
                counted = self._look_up(task, "train", ENGLISH, len(rows) or published)
            self._trained[key] = counted or unmeasured
        return self._trained[key]

    def scored(self, task: Task, *, dev: bool = False, data: Iterable[str] = ()) -> ScoredRows | None:
        """All that ``task`` is scored on, or its part of ``data`` alone, or the ``dev`` rows that choose a model."""
        most, named = task.recipe.dev_examples if dev else 0, [each for each in data if each.startswith(f"{task.key}/")]
        key = task.key, dev, task.recipe.test_examples, most, *named
        if (self._tokenizer or self._table) and key not in self._scored:
            cells: list[tuple[Split, str]] = [("dev", ENGLISH)]
            if named:
                cells = [cast("tuple[Split, str]", tuple(name.split("/")[1:])) for name in named]
            elif not dev:
                # No source says how much there is of all languages that XTREME-R adds.
                its = task.benchmarks["xtreme"].split() if "xtreme" in task.benchmarks else task.languages
                cells = [(split, each) for split in EVALUATED_SPLITS if split in task.files for each in its]
                with suppress(XltError):  # what is not here is counted as published
                    cells = evaluated(task, self._source)
            found = [self._cell(task, *cell, most) for cell in cells]
            known = [each for each in found if each]
            self._scored[key] = reduce(add, known) if known and len(known) == len(found) else None
        return self._scored.setdefault(key, None)

    def _cell(self, task: Task, split: Split, language: str, most: int) -> ScoredRows | None:
        rows: Sequence[Row] = ()
        with suppress(XltError):
            rows = self._source.rows(task, split, language)[: most or None]
        limits = [limit for limit in (most, task.recipe.test_examples) if limit]
        count = min([len(rows) or self._published(task, split, language), *limits])
        pairs = count**2 if task.kind == "retrieval" else 0
        if task.metric in ("mining_f1", "map20"):
            asked = sum(isinstance(row, QueryRow) or (isinstance(row, MiningRow) and not row.english) for row in rows)
            known = rows or not self._mined or task.metric == "map20"
            found = (asked, len(rows) - asked) if known or not self._mined else self._mined.of(split, language)
            sides = [min([side, *limits]) for side in found]
            count, pairs = sum(sides), math.prod(sides)
        counted = self._count(task, rows, CELL_SAMPLE) or self._look_up(task, split, language, count)
        return ScoredRows(count, counted[1], -(-counted[1] // LARGE_CARD_TOKENS), pairs) if counted else None

    def _published(self, task: Task, split: Split, language: str) -> int:
        """How many rows a set is published to have where nothing limits them; 0 if no source says so."""
        if self._limited or self._source.name == "world":
            return 0
        from xlt.data.hub.table import on_hub, parts, read_table

        self._table_of_hub = self._table_of_hub or read_table()
        with suppress(XltError):
            found = parts(on_hub(self._table_of_hub, task), task, split, language)
            # One table of all languages.
            shared = len(task.languages) if any(each.only for each in found) else 1
            return sum(each.rows for each in found) // shared
        return 0

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
    data = () if spec.train else spec.data  # what a training reads is also for its steps
    tested = _by_kind(sizes, [spec.task(key) for key in spec.evaluate], dev=False, data=data)
    plain = RunEstimate(0, 0, evaluation_tokens=_tokens(tested), scored=tested or {}, encoded=_encoded(spec, sizes))
    if not spec.train:
        return plain
    recipe = spec.training_recipe()
    sets = [sizes.training(spec.task(key), spec.translated) for key in spec.train]
    counts = [count for count, _ in sets]
    if len(sets) > 1:
        # Tasks that are trained together come in proportion to their examples, of which so many count.
        counts = [count and min(count, recipe.examples_cap) for count in counts]
    if share := recipe.easiest or recipe.hardest:
        counts = [count and round(share * count) for count in counts]
    total = None if None in counts else sum(count or 0 for count in counts)
    unknown = replace(plain, examples=None, tokens=None, dev_tokens=None, work=_work(recipe, recipe.steps or 1))
    if not recipe.steps and total is None:
        return unknown
    steps = recipe.steps or -(-recipe.epochs * (total or 0) // recipe.batch_size)
    work, steps = _work(recipe, steps), steps + recipe.first_pass
    unknown = replace(unknown, examples=steps * recipe.batch_size, work=work)
    shares: dict[Kind, float] = {}
    kinds: dict[Kind, float] = {}
    for key, count, (sequences, tokens) in zip(spec.train, counts, sets, strict=True):
        if not sequences or not tokens or not count or not total:
            return unknown
        kind = get_task(key).kind
        shares[kind] = shares.get(kind, 0.0) + count / total
        kinds[kind] = kinds.get(kind, 0.0) + steps * recipe.batch_size * count / total * tokens / sequences
    watched = recipe.evaluate_every or spec.collapse_after
    own = [spec.task(key) for key in spec.train if key != MASKED_LM.key]
    dev = _by_kind(sizes, own if watched else [], dev=True)
    scores = len(scored_steps(recipe, total or 0, steps, spec.collapse_after)) if watched else 0
    once = _tokens(dev)
    return replace(
        unknown,
        tokens=round(work * sum(kinds.values())),
        kinds={kind: round(tokens) for kind, tokens in kinds.items()},
        steps={kind: steps * share for kind, share in shares.items()},
        dev=dev or {},
        dev_scores=scores,
        dev_tokens=None if once is None else scores * once,
    )


def _work(recipe: Recipe, steps: int) -> float:
    """What a step computes on average, in standard steps; the first pass that tells easy rows makes such ones."""
    cost = recipe.adversarial.cost if recipe.adversarial else 1.0
    return (cost * steps + recipe.first_pass) / max(1, steps + recipe.first_pass)


def _by_kind(
    sizes: _Sizes, tasks: Sequence[Task], *, dev: bool, data: Iterable[str] = ()
) -> dict[Kind, ScoredRows] | None:
    """What is scored of ``tasks``, or of the rows that choose their checkpoints; None if one size is not known."""
    found: dict[Kind, ScoredRows] = {}
    for task in tasks:
        if (its := sizes.scored(task, dev=dev, data=data)) is None:
            return None
        found[task.kind] = found[task.kind] + its if task.kind in found else its
    return found


def _tokens(found: Mapping[Kind, ScoredRows] | None) -> int | None:
    return None if found is None else sum(each.tokens for each in found.values())


def _encoded(spec: RunSpec, sizes: _Sizes) -> dict[Kind, int]:
    """The tokens that a run makes of text: of a public model's rows those that no earlier run of the grid has made."""
    found: dict[Kind, int] = {}
    for key, use in (*((key, "train") for key in spec.train), *((key, "scored") for key in spec.evaluate)):
        task, translated = spec.task(key), spec.translated if use == "train" else ()
        name = key, use, translated, task.recipe.rows, task.recipe.test_examples, task.recipe.max_length
        if spec.backbone.name and name in sizes.encoded:
            continue
        sizes.encoded.add(name)
        scored = None if use == "train" else sizes.scored(task, data=() if spec.train else spec.data)
        tokens = sizes.training(task, translated)[1] if use == "train" else scored and scored.tokens
        found[task.kind] = found.get(task.kind, 0) + (tokens or 0)
    return found


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
