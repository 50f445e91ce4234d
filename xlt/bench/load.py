"""Rows to token ids: this package's reading, encoding and packing beside ``datasets.map`` with the same tokenizer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from transformers import PreTrainedTokenizerBase

from xlt.bench.shapes import trained_tokenizer
from xlt.bench.workload import Bench, Candidate, bench, compare
from xlt.data.encodings import FEWEST_ROWS, keeping
from xlt.data.features import encode
from xlt.data.hub.table import hub_model
from xlt.data.packing import Encoded, pack
from xlt.data.rows import ChoiceRow, PairRow, Row, SpanRow, TagRow, texts
from xlt.data.source import Source, with_labels
from xlt.data.tokenizer import load_tokenizer
from xlt.errors import EnvironmentFault
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import ENGLISH, Task

PACKED_TOGETHER = 32
MAP_BATCHES = (1000, 10_000)
# Where a row does not fit, or has a word without a token, XTREME's rules differ from a plain call of the tokenizer.
MOST_LEFT_OUT = 0.05


def bench_load(
    open_source: Callable[[], Source], task_key: str, tokenizer: str, vocabulary: int, repeats: int
) -> Bench:
    """Time the training rows of a task (retrieval: the test rows of its first language), all candidates in turn.

    ``datasets.map`` gets rows that are loaded and makes token ids alone: its seconds hold no label, no offset, no
    reading and no batch, which ours hold. ``open_source`` opens the source anew, so that every round reads it again.
    Without the name or folder of a fast ``tokenizer`` one of ``vocabulary`` pieces is trained on the source's text.

    Raises:
        EnvironmentFault: ``datasets.map`` makes other tokens in more than a few rows.
    """
    disable_progress_bar()
    source = open_source()
    task = get_task(task_key)
    task = with_labels(get_task(task.trains_on or task.key), source)
    fast = load_tokenizer(hub_model(tokenizer).repository) if tokenizer else trained_tokenizer(source, vocabulary)
    loaded = _rows(source, task)
    rows = _agreeing(loaded, task, fast)
    table = _table(rows)

    def tokenise_and_pack() -> None:
        sequences = _encode(rows, task, fast)
        for first in range(0, len(sequences), PACKED_TOGETHER):
            pack(sequences[first : first + PACKED_TOGETHER], task=task.key, kind=task.kind, first_position=2)

    def load_tokenise_and_pack() -> None:
        _rows(open_source(), task)
        tokenise_and_pack()

    tokens = sum(len(sequence.input_ids) for sequence in _encode(rows, task, fast))
    with TemporaryDirectory() as folder:

        def read() -> list[Encoded]:
            with keeping(Path(folder)):
                return _encode(rows, task, fast)

        row = compare(
            task.key,
            f"{len(loaded) - len(rows)} rows for which datasets.map makes other tokens are left out",
            [
                Candidate("load + tokenise + pack", load_tokenise_and_pack),
                Candidate("tokenise + pack", tokenise_and_pack),
                Candidate("tokenise", partial(_encode, rows, task, fast)),
                # The warm-up writes the file, as the first of several runs does.
                *([Candidate("read what the disk keeps", read)] if len(rows) >= FEWEST_ROWS else []),
                *(
                    Candidate(f"datasets.map alone, batches of {size}", partial(_map, table, task, fast, size))
                    for size in MAP_BATCHES
                ),
            ],
            rounds=repeats,
            quantity={"rows": len(rows), "tokens": tokens},
            warm_up=1,
        )
    settings = {"task": task.key, "source": source.name, "vocabulary": len(fast), "max_length": task.recipe.max_length}
    return bench("load", {**settings, "left_out": len(loaded) - len(rows)}, [row])


def _rows(source: Source, task: Task) -> Sequence[Row]:
    if task.kind == "masked_lm":
        return source.pretraining_text()
    if task.trains_on is None:
        return source.rows(task, "test", source.languages(task, "test")[0])
    return source.rows(task, "train", ENGLISH)


def _encode(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    return encode(rows, task, tokenizer, training=task.trains_on is not None)


def _map(table: Dataset, task: Task, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> Dataset:
    """In memory and without hashing the function: it is fastest so."""
    return table.map(
        lambda batch: _tokens(batch, task, tokenizer),
        batched=True,
        batch_size=batch_size,
        remove_columns=table.column_names,
        keep_in_memory=True,
        load_from_cache_file=False,
        new_fingerprint="baseline",
    )


def _agreeing(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """The rows for which both make the same token ids."""
    ours, theirs = defaultdict(list), defaultdict(list)
    for sequence in _encode(rows, task, tokenizer):
        ours[sequence.example_id].append(sequence.input_ids.tolist())
    for entry in _map(_table(rows), task, tokenizer, MAP_BATCHES[0]):
        tokens = entry["input_ids"]
        theirs[entry["id"]].append([*chain(*tokens)] if task.kind == "multiple_choice" else tokens)
    same = [row for row in rows if row.id in ours and ours[row.id] == theirs[row.id]]
    if len(same) < (1 - MOST_LEFT_OUT) * len(rows):
        raise EnvironmentFault(
            f"Nothing was timed: the token ids of {len(rows) - len(same)} of {len(rows)} rows differ.",
            why="Candidates that do not compute the same cannot be compared.",
            fix="xlt doctor; the tokenizer may not be a fast one of the usual form.",
        )
    return same


def _table(rows: Sequence[Row]) -> Dataset:
    """The rows as a user of ``datasets`` has them."""
    return Dataset.from_list([{"id": row.id, **fields} for row in rows for fields in _entries(row)])


def _entries(row: Row) -> list[dict[str, Any]]:
    match row:
        case PairRow():
            return [{"first": row.text_a, "second": row.text_b}]
        case SpanRow():
            return [{"first": row.question.strip(), "second": row.context}]
        case ChoiceRow():
            return [{"first": row.prompt, "choices": list(row.choices)}]
        case TagRow():
            return [{"words": list(row.words)}]
    return [{"text": text} for text in texts(row)]


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
