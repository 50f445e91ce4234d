"""Rows to token ids: this package's reading, encoding and packing beside ``datasets.map`` with the same tokenizer."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from pydantic import BaseModel
from transformers import PreTrainedTokenizerBase

from xlt.bench.shapes import trained_tokenizer
from xlt.data.features import encode
from xlt.data.hub.table import hub_model
from xlt.data.labels import with_labels
from xlt.data.packing import Encoded, pack
from xlt.data.rows import BitextRow, ChoiceRow, PairRow, Row, SpanRow, TagRow, TextRow
from xlt.data.source import Source
from xlt.data.tokenizer import load_tokenizer
from xlt.errors import EnvironmentFault
from xlt.pipeline.provenance import cpu_name, versions
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Task

Stage = Literal["tokenise", "tokenise + pack", "load + tokenise + pack"]
STAGES: tuple[Stage, ...] = ("tokenise", "tokenise + pack", "load + tokenise + pack")
PACKED_TOGETHER = 32
PEER_BATCHES = (1000, 10_000)
# Where a row does not fit, or has a word without a token, XTREME's rules differ from a plain call of the tokenizer.
MOST_LEFT_OUT = 0.05


class LoadRow(BaseModel):
    """One stage. ``ratio`` is the median over repeats of peer over ours, with its 10 and 90 % quantiles."""

    name: Stage
    ours_s: float
    peer_s: float
    ours_rows_per_s: float
    peer_rows_per_s: float
    ratio: float
    ratio_p10: float
    ratio_p90: float
    repeats: int


class LoadBench(BaseModel):
    """A benchmark of loading. The peer is always ``map`` alone, on rows that are loaded: its seconds hold no label,
    no offset, no reading and no batch, all of which ours hold. ``left_out`` rows give other tokens there."""

    format: Literal[1] = 1
    task: str
    source: str
    cpu: str
    versions: dict[str, str]
    vocabulary: int
    max_length: int
    tokens: int
    timed_rows: int
    left_out: int
    peer_batch_size: int
    rows: list[LoadRow]


def bench_load(
    open_source: Callable[[], Source], task_key: str, tokenizer: str, vocabulary: int, repeats: int
) -> LoadBench:
    """Time the training rows of a task (retrieval: the test rows of its first language), both sides in turn.

    ``open_source`` opens the source anew, so that every repeat reads it again. Without the name or folder of a fast
    ``tokenizer`` one of ``vocabulary`` pieces is trained on the source's text.

    Raises:
        EnvironmentFault: the two sides give other tokens in more than a few rows.
    """
    disable_progress_bar()
    source = open_source()
    task = get_task(task_key)
    task = with_labels(get_task(task.trains_on or task.key), source)
    fast = load_tokenizer(hub_model(tokenizer).repository) if tokenizer else trained_tokenizer(source, vocabulary)
    loaded = _rows(source, task)
    rows = _agreeing(loaded, task, fast)
    table = Dataset.from_dict(_columns(rows))
    batch_size = min(PEER_BATCHES, key=lambda size: _peer(table, task, fast, size))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        _rows(open_source(), task)
        read = time.perf_counter()
        sequences = _encode(rows, task, fast)
        encoded = time.perf_counter()
        for first in range(0, len(sequences), PACKED_TOGETHER):
            pack(sequences[first : first + PACKED_TOGETHER], task=task.key, kind=task.kind, first_position=2)
        done = time.perf_counter()
        laps = encoded - read, done - read, done - start
        seconds.append([*laps, _peer(table, task, fast, batch_size)])
    return LoadBench(
        task=task.key,
        source=source.name,
        cpu=cpu_name(),
        versions=versions(),
        vocabulary=len(fast),
        max_length=task.recipe.max_length,
        tokens=sum(len(sequence.input_ids) for sequence in sequences),
        timed_rows=len(rows),
        left_out=len(loaded) - len(rows),
        peer_batch_size=batch_size,
        rows=[_stage(name, np.array(seconds), index, len(rows)) for index, name in enumerate(STAGES)],
    )


def _stage(name: Stage, seconds: Any, index: int, rows: int) -> LoadRow:
    low, middle, high = np.quantile(seconds[:, -1] / seconds[:, index], [0.1, 0.5, 0.9])
    ours_s, peer_s = np.median(seconds[:, [index, -1]], axis=0)
    return LoadRow(
        name=name,
        ours_s=ours_s,
        peer_s=peer_s,
        ours_rows_per_s=rows / ours_s,
        peer_rows_per_s=rows / peer_s,
        ratio=middle,
        ratio_p10=low,
        ratio_p90=high,
        repeats=len(seconds),
    )


def _rows(source: Source, task: Task) -> Sequence[Row]:
    if task.kind == "masked_lm":
        return source.pretraining_text()
    if task.trains_on is None:
        return source.rows(task, "test", source.languages(task, "test")[0])
    return source.rows(task, "train", "en")


def _encode(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    return encode(rows, task, tokenizer, training=task.trains_on is not None)


def _peer(table: Dataset, task: Task, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> float:
    """Seconds of one ``map`` of the whole table, in memory and without hashing the function: it is fastest so."""
    start = time.perf_counter()
    _map(table, task, tokenizer, batch_size)
    return time.perf_counter() - start


def _map(table: Dataset, task: Task, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> Dataset:
    return table.map(
        lambda batch: _tokens(batch, task, tokenizer),
        batched=True,
        batch_size=batch_size,
        remove_columns=table.column_names,
        keep_in_memory=True,
        load_from_cache_file=False,
        new_fingerprint="peer",
    )


def _agreeing(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """The rows of which both sides make the same token ids."""
    ours, theirs = defaultdict(list), defaultdict(list)
    for sequence in _encode(rows, task, tokenizer):
        ours[sequence.example_id].append(sequence.input_ids.tolist())
    for entry in _map(Dataset.from_dict(_columns(rows)), task, tokenizer, PEER_BATCHES[0]):
        tokens = entry["input_ids"]
        theirs[entry["id"]].append([*chain(*tokens)] if task.kind == "multiple_choice" else tokens)
    same = [row for row in rows if row.id in ours and ours[row.id] == theirs[row.id]]
    if len(same) < (1 - MOST_LEFT_OUT) * len(rows):
        raise EnvironmentFault(
            f"Nothing was timed: the token ids of {len(rows) - len(same)} of {len(rows)} rows differ.",
            why="Sides that do not compute the same cannot be compared.",
            fix="xlt doctor; the tokenizer may not be a fast one of the usual form.",
        )
    return same


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """The rows as a user of ``datasets`` has them."""
    columns: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        for name, value in _fields(row):
            columns[name].append(value)
    return columns


def _fields(row: Row) -> Iterator[tuple[str, Any]]:
    yield "id", row.id
    match row:
        case PairRow():
            yield from (("first", row.text_a), ("second", row.text_b))
        case SpanRow():
            yield from (("first", row.question.strip()), ("second", row.context))
        case ChoiceRow():
            yield from (("first", row.prompt), ("choices", list(row.choices)))
        case TagRow():
            yield "words", list(row.words)
        case TextRow():
            yield "text", row.text
        case BitextRow():
            yield "text", row.foreign


def _tokens(batch: Any, task: Task, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Any]]:
    """What the library's own example scripts ask of the tokenizer for each kind, and only the ids of it."""
    longest = task.recipe.max_length
    options: dict[str, Any] = {"max_length": longest, "return_attention_mask": False, "truncation": True}
    if task.kind == "pair_classification":
        return {"id": batch["id"], "input_ids": tokenizer(batch["first"], batch["second"], **options)["input_ids"]}
    if task.kind == "multiple_choice":
        firsts = [first for first, choices in zip(batch["first"], batch["choices"], strict=True) for _ in choices]
        seconds = [choice for choices in batch["choices"] for choice in choices]
        ids = iter(tokenizer(firsts, seconds, **{**options, "truncation": "only_first"})["input_ids"])
        return {"id": batch["id"], "input_ids": [[next(ids) for _ in choices] for choices in batch["choices"]]}
    if task.kind == "span_qa":
        windows = {"truncation": "only_second", "stride": min(task.recipe.stride, longest // 3)}
        encoded = tokenizer(batch["first"], batch["second"], **{**options, **windows}, return_overflowing_tokens=True)
        ids = [batch["id"][row] for row in encoded["overflow_to_sample_mapping"]]
        return {"id": ids, "input_ids": encoded["input_ids"]}
    if task.kind == "tagging":
        return {
            "id": batch["id"],
            "input_ids": tokenizer(batch["words"], is_split_into_words=True, **options)["input_ids"],
        }
    return {"id": batch["id"], "input_ids": tokenizer(batch["text"], **options)["input_ids"]}
