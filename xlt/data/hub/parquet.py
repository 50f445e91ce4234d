"""Rows from the parquet files of the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from xlt.data.files.bitext import mining_rows
from xlt.data.files.choices import asked
from xlt.data.files.spans import align
from xlt.data.hub.table import HubFiles, HubTask
from xlt.data.rows import Answer, BitextRow, ChoiceRow, PairRow, Row, SpanRow, TagRow, TextRow
from xlt.errors import DataFault
from xlt.tasks.record import ENGLISH, Kind

Record = dict[str, Any]
NO_LABEL = (None, "", "-", -1)
_ROWS_AT_A_TIME = 1000  # of a large file the first rows may be all that are wanted


def row_count(path: Path) -> int:
    """How many rows the file says that it has."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def read_rows(paths: list[Path], kind: Kind, entry: HubTask, part: HubFiles, prefix: str) -> Iterator[Row]:
    """The rows of the part from its files, in their order, without those that have no gold label.

    The id of a row is that of the id column or, if there is none or an earlier row has it, ``prefix`` and the number
    of the row in the files, from 1.
    """
    number, seen = 0, set[str]()
    for path in paths:
        for record in islice(_records(path, entry, part.id), part.first - number if part.first else None):
            number += 1
            name = str(record[part.id]) if part.id else ""
            if not name.startswith(part.only):
                continue
            if not name or name in seen:
                name = f"{prefix}-{number}"
            seen.add(name)
            try:
                if "gold" in entry.columns:
                    yield from _pools(part.language, record, entry)
                elif row := _FORMS[kind](name, record, entry):
                    yield row
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
                raise DataFault(
                    f"Row {number} of '{path.name}' is not what artifact/hub.toml says.",
                    why=f"{type(error).__name__}: {error}",
                    fix="Compare the columns and labels there with the repository's page.",
                ) from error


def _records(path: Path, entry: HubTask, id_column: str) -> Iterator[Record]:
    used = {name.partition(".")[0] for names in entry.columns.values() for name in names}
    wanted = used | {id_column} - {""}
    try:
        schema = pq.read_schema(path)
        absent = sorted(wanted - set(schema.names))
        if absent:
            raise DataFault(
                f"'{path.name}' has no column {', '.join(absent)}.",
                why=f"Its columns: {', '.join(schema.names)}.",
                fix="Correct the columns of the task in artifact/hub.toml.",
            )
        _check_label_order(path, schema.metadata or {}, entry)
        for batch in pq.ParquetFile(path).iter_batches(_ROWS_AT_A_TIME, columns=sorted(wanted)):
            yield from batch.to_pylist()
    # What pyarrow cannot make Python's has no error of its own, and the metadata of a file may be anything.
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise _damaged(path, error) from error


def _check_label_order(path: Path, metadata: dict[bytes, bytes], entry: HubTask) -> None:
    """If the file itself names its classes as we do, they must be in the order of the table."""
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    feature = features.get(entry.column("label") or entry.column("tags"), {})
    inner = feature[0] if isinstance(feature, list) else feature.get("feature") or feature
    names = inner.get("names") or []
    if sorted(names) == sorted(entry.labels) and list(names) != list(entry.labels):
        raise DataFault(
            f"The labels of '{path.name}' have another order than artifact/hub.toml says.",
            why=f"There: {' '.join(names)}.",
            fix="Correct the labels of the task in artifact/hub.toml.",
        )


def _damaged(path: Path, error: Exception) -> DataFault:
    return DataFault(f"'{path.name}' is not a sound parquet file.", why=str(error), fix="xlt fetch")


def _pair(name: str, record: Record, entry: HubTask) -> Row | None:
    # Where a translation is missing, the official files have an empty text.
    text_a, text_b = ("" if record[column] is None else _text(record, column) for column in entry.columns["texts"])
    label = record[entry.column("label")]
    return None if label in NO_LABEL else PairRow(name, text_a, text_b, _label(label, entry))


def _choice(name: str, record: Record, entry: HubTask) -> Row | None:
    label = record[entry.column("label")]
    if label in NO_LABEL:
        return None
    found = [_get(record, column) for column in entry.columns["choices"]]
    choices = found[0] if isinstance(found[0], list) else found
    if "lead" in entry.columns:
        lead = _text(record, entry.column("lead"))
        choices = [f"{lead} {choice}".strip() for choice in choices]
    letters = _get(record, entry.column("letters")) if "letters" in entry.columns else list(entry.labels) or None
    index = int(label) if letters is None else letters.index(label)
    if not 0 <= index < len(choices):
        raise ValueError(f"label {label} of {len(choices)} choices")
    prompt = _text(record, entry.column("prompt"))
    if "question" in entry.columns:
        prompt = f"{prompt} {_text(record, entry.column('question'))}"
    if "relation" in entry.columns:
        prompt = asked(prompt, _text(record, entry.column("relation")))
    return ChoiceRow(name, prompt, _texts(choices), index)


def _span(name: str, record: Record, entry: HubTask) -> Row:
    # Several builders stripped the context and kept the offsets.
    context = _text(record, entry.column("context"))
    found = record[entry.column("answers")]
    pairs = zip(found["text"], found["answer_start"], strict=True)
    answers = tuple(Answer(text, align(context, text, start)) for text, start in pairs)
    return SpanRow(name, _text(record, entry.column("question")), context, answers)


def _tagged(name: str, record: Record, entry: HubTask) -> Row | None:
    words, tags = record[entry.column("words")], record[entry.column("tags")]
    if len(words) != len(tags):
        raise ValueError(f"{len(words)} words with {len(tags)} tags")
    return TagRow(name, _texts(words), tuple(_label(tag, entry) for tag in tags)) if words else None


def _bitext(name: str, record: Record, entry: HubTask) -> Row | None:
    # The builder kept the line ends of the raw files.
    foreign, english = (_text(record, entry.column(side)).rstrip("\r\n") for side in ("foreign", "english"))
    return BitextRow(name, foreign, english) if foreign.strip() or english.strip() else None


def _pools(language: str, record: Record, entry: HubTask) -> list[Row]:
    """The sentences of both sides, named by their places in the lists, as the official files name them."""
    foreign, english = (
        {f"{code}-{number:09}": text.strip() for number, text in enumerate(_texts(record[entry.column(side)]), start=1)}
        for code, side in ((language, "foreign"), (ENGLISH, "english"))
    )
    pairs = [(f"{language}-{one:09}", f"{ENGLISH}-{other:09}") for one, other in record[entry.column("gold")]]
    for names in pairs:
        if names[0] not in foreign or names[1] not in english:
            raise ValueError(f"no sentences {' and '.join(names)}")
    return list(mining_rows(foreign, english, pairs))


def _plain(name: str, record: Record, entry: HubTask) -> Row:
    return TextRow(name, _text(record, entry.column("text")))


_FORMS: dict[str, Callable[[str, Record, HubTask], Row | None]] = {
    "pair_classification": _pair,
    "multiple_choice": _choice,
    "span_qa": _span,
    "tagging": _tagged,
    "retrieval": _bitext,
    "masked_lm": _plain,
}


def _label(value: str | int, entry: HubTask) -> str:
    """Our label for a class number, its digits, or a label's own name."""
    if value in entry.labels:
        return str(value)
    index = int(value)
    if index < 0:
        raise ValueError(f"label {value}")
    return entry.labels[index]


def _get(record: Record, column: str) -> Any:
    outer, _, inner = column.partition(".")
    return record[outer][inner] if inner else record[outer]


def _text(record: Record, column: str) -> str:
    text = _get(record, column)
    if not isinstance(text, str):
        raise TypeError(f"column '{column}' holds {text!r:.40}")
    return text


def _texts(values: list[Any]) -> tuple[str, ...]:
    if odd := [value for value in values if not isinstance(value, str)]:
        raise TypeError(f"{odd[0]!r:.40} stands in the place of a text")
    return tuple(values)
