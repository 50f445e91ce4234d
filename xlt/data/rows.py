"""The typed rows that every source yields, the same whatever the source, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

# Fewer rows (--limit) may have one label by chance.
_LEAST_ROWS = 20


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two texts and the label that relates them."""

    id: str
    text_a: str
    text_b: str
    label: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One accepted answer: ``context[start : start + len(text)] == text``, in characters.

    ``start`` is -1 where the context does not hold the text: such an answer is scored but not trained on.
    """

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A question, the context that may hold its answer, and every accepted answer; none if it cannot be answered."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """A prompt, the texts that could follow or answer it, and the index of the right one."""

    id: str
    prompt: str
    choices: tuple[str, ...]
    label: int


@dataclass(frozen=True, slots=True)
class TagRow:
    """The words of a sentence and one tag for each."""

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BitextRow:
    """A sentence of a language and its English translation."""

    id: str
    foreign: str
    english: str


@dataclass(frozen=True, slots=True)
class MiningRow:
    """A sentence of one of the two sides that are searched for translations of each other."""

    id: str
    text: str
    english: bool
    """Whether it is of the English side."""
    matches: tuple[str, ...] = ()
    """The ids of its translations on the other side, on foreign rows only."""


@dataclass(frozen=True, slots=True)
class QueryRow:
    """A text, and what is to be found for it among the candidates."""

    id: str
    text: str
    answers: tuple[str, ...]
    """The ids of the right candidates, at least one."""


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A text of the pool that is searched, which all languages of a task share. Its id has no white space."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class TextRow:
    """A line of raw text for masked-LM training."""

    id: str
    text: str


Row: TypeAlias = PairRow | ChoiceRow | SpanRow | TagRow | BitextRow | MiningRow | QueryRow | CandidateRow | TextRow


def texts(row: Row) -> tuple[str, ...]:
    """The texts that the label of the row is about; the words of a sentence are one text."""
    match row:
        case PairRow():
            return row.text_a, row.text_b
        case SpanRow():
            return row.question, row.context
        case ChoiceRow():
            return row.prompt, *row.choices
        case TagRow():
            return (" ".join(row.words),)
        case BitextRow():
            return row.foreign, row.english
        case MiningRow() | QueryRow() | CandidateRow() | TextRow():
            return (row.text,)


def scored_rows(rows: Iterable[Row]) -> list[Row]:
    """All but the candidates of a pool, which are found and not scored."""
    return [row for row in rows if not isinstance(row, CandidateRow)]


def running_texts(row: Row) -> tuple[str, ...]:
    """The texts of the row that masked-LM training can use."""
    match row:
        case SpanRow():
            return (row.context,)
        case ChoiceRow():
            # The other choices are wrong or make no text.
            return (f"{row.prompt} {row.choices[row.label]}",)
        case QueryRow() | CandidateRow():
            # Their texts are put together, and each would be there in every language.
            return ()
    return texts(row)


def only_label(rows: Sequence[Row]) -> str | None:
    """The label, tag or number of the right choice if 20 or more rows all have the same: a placeholder, not a label."""
    labels = {label for row in rows for label in labels_of(row)} if len(rows) >= _LEAST_ROWS else set()
    return labels.pop() if len(labels) == 1 else None


def labels_of(row: Row) -> Iterator[str]:
    """The label of a pair, the number of the right choice, the tags of a sentence; other rows have none."""
    match row:
        case PairRow():
            yield row.label
        case ChoiceRow():
            yield str(row.label)
        case TagRow():
            yield from row.tags


def is_blank(row: Row) -> bool:
    """Whether one of its texts has no visible character."""
    return not all(any(map(_is_visible, text)) for text in texts(row))


def is_trainable(row: Row) -> bool:
    """Whether a model can learn something from the row: no text is blank and the place of its answer, if any, known."""
    return not is_blank(row) and not (isinstance(row, SpanRow) and row.answers and row.answers[0].start < 0)


def _is_visible(character: str) -> bool:
    # Controls (Cc) and formats (Cf), such as zero-width spaces, are no white space and not visible either.
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf")


def _fields(row: object) -> dict[str, object]:
    return {name: getattr(row, name) for name in getattr(row, "__dataclass_fields__", ())}


# Not by dataclasses.asdict, which copies every value: that takes three times as long, and a grid hashes every row.
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, default=_fields)


def fingerprint(rows: Iterable[Row | str]) -> str:
    """SHA-256 of the rows or texts in order: equal for equal rows, whichever source they came from."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(_JSON.encode(row).encode())
        digest.update(b"\n")
    return digest.hexdigest()
