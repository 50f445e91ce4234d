"""The raw text of phase 1, drawn from the rows of training and development sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xlt.data.files.sentences import split_sentences
from xlt.data.rows import BitextRow, ChoiceRow, MiningRow, PairRow, Row, SpanRow, TagRow, TextRow

# Shorter sentences ("Yes.") teach nothing, longer ones are tables and lists that lost their line ends.
_FEWEST_LETTERS = 4
_MOST_CHARACTERS = 1000


def pretraining_sentences(training: Iterable[tuple[str, Iterable[Row]]], held_out: Iterable[Row]) -> list[TextRow]:
    """The sentences of the training rows, each once, in their order, without any that the held-out rows hold.

    ``training`` gives each group of rows with the prefix of its ids. A sentence is held out when, without white
    space, it equals a whole text or a sentence of a text in ``held_out``: the words of tagging tasks are apart where
    the same sentence elsewhere has no space.
    """
    held: set[str] = _all_texts(held_out)
    taken: set[str] = set()
    rows: list[TextRow] = []
    for prefix, group in training:
        number = 0
        for sentence in _sentences(group):
            if sentence in taken or _without_space(sentence) in held or not _is_useful(sentence):
                continue
            taken.add(sentence)
            number += 1
            rows.append(TextRow(f"{prefix}-{number}", sentence))
    return rows


def _all_texts(rows: Iterable[Row]) -> set[str]:
    texts = {text for row in rows for text in (*_running_text(row), *_questions(row))}
    return {_without_space(sentence) for text in texts for sentence in (text, *split_sentences(text))}


def _without_space(text: str) -> str:
    return "".join(text.split())


def _sentences(rows: Iterable[Row]) -> Iterator[str]:
    texts = dict.fromkeys(text for row in rows for text in _running_text(row))
    for text in texts:
        yield from split_sentences(text)


def _running_text(row: Row) -> tuple[str, ...]:
    match row:
        case PairRow():
            return row.text_a, row.text_b
        case SpanRow():
            return (row.context,)
        case BitextRow():
            return row.foreign, row.english
        case TextRow() | MiningRow():
            return (row.text,)
        case ChoiceRow():
            # The other choices are wrong or make no text.
            return (f"{row.prompt} {row.choices[row.label]}",)
        case TagRow():
            return (" ".join(row.words),)


def _questions(row: Row) -> tuple[str, ...]:
    return (row.question,) if isinstance(row, SpanRow) else ()


def _is_useful(sentence: str) -> bool:
    letters = sum(character.isalpha() for character in sentence)
    return letters >= _FEWEST_LETTERS and len(sentence) <= _MOST_CHARACTERS
