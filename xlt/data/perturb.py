"""Rows whose text is perturbed, while what is right about them stays: ``KINDS`` has a record of each perturbation.

The text, the severity and the number of the draw alone decide what is done to a text: a row is the same whatever else
is evaluated, texts that are equal stay equal, and a higher severity makes the edits of a lower one too, where they do
not overlap. Answers of span QA are never edited, and are given where they have moved to. In tagging a word and its tag
stay together, and word noise leaves the words of entities alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from random import Random
from typing import TypeVar

from xlt.data import noise
from xlt.data.noise import Edit, Lexicon, Move
from xlt.data.rows import Answer, BitextRow, ChoiceRow, MiningRow, PairRow, QueryRow, Row, SpanRow, TagRow
from xlt.errors import DataFault, UsageFault
from xlt.tasks.record import Kind as TaskKind
from xlt.tasks.record import Task

Place = TypeVar("Place", Edit, Move)
Spans = Sequence[tuple[int, int]]
SEARCH = "search"
LEAST = 0.001  # the lowest severity: with less, hardly a row of a test set has an edit
# How two texts relate, and which choice is best, may hang on one word: a negation, a number, who does what to whom.
# Which words these are no list says in all languages. A text keeps its tags, and what it asks or translates, by most.
_BY_WORDS: tuple[TaskKind, ...] = ("pair_classification", "multiple_choice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of perturbation: what it does to letters, or words. Code-mixing and distraction have their own rules."""

    about: str
    """What it does, in words."""
    letters: noise.Letters | None = None
    """The edits of letters that a text has room for."""
    words: noise.Words | None = None
    """The moves of words that a text has room for."""
    severity: float = 0.1
    """The severity where none is given."""
    unfit: tuple[TaskKind, ...] = ()
    """The kinds of tasks whose labels it may change."""


KINDS: Mapping[str, Kind] = {
    "letter-swap": Kind(about="neighbouring letters of a word trade places", letters=noise.letter_swaps),
    "letter-drop": Kind(about="letters are left out", letters=noise.letter_drops),
    "diacritics": Kind(about="letters lose their diacritics", letters=noise.lost_diacritics),
    "homoglyphs": Kind(about="letters become others that look the same", letters=noise.homoglyphs),
    "case": Kind(about="small letters become capitals, and capitals small", letters=noise.other_cases),
    "word-drop": Kind(about="words are left out", words=noise.word_drops, unfit=_BY_WORDS),
    "word-swap": Kind(about="neighbouring words trade places", words=noise.word_swaps, unfit=_BY_WORDS),
    "word-repeat": Kind(about="words are written twice", words=noise.word_repeats),
    "code-mixing": Kind(about="words become their English translations"),
    "distraction": Kind(about="a sentence of another row follows the context (span QA)", severity=1.0),
}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A kind of perturbation, the share of the possible edits that are made (of distraction: of the rows that get a
    sentence), and in how many ways each row is perturbed: at random, or by a ``search`` for the worst of them, which
    asks the model about one way after another."""

    kind: str
    severity: float
    draws: int = 1
    search: bool = False

    @classmethod
    def parse(cls, text: str) -> Perturbation:
        """The perturbation that ``KIND[:SEVERITY[:DRAWS[:search]]]`` names.

        Raises:
            UsageFault: it names none.
        """
        kind, *numbers = text.split(":")
        search = numbers[2:] == [SEARCH]
        if kind not in KINDS:
            close = get_close_matches(kind, KINDS, n=1)
            why, kind = f"Kinds: {', '.join(KINDS)}.", close[0] if close else "letter-swap"
        elif numbers and not LEAST <= _number(numbers[0]) <= 1:
            why = f"The severity '{numbers[0]}' is not a number from {LEAST:g} to 1."
        elif numbers[1:] and not (numbers[1].isdecimal() and 1 + search <= int(numbers[1]) <= 1000):
            what, least = ("queries of the model for each row", 2) if search else ("draws of each row", 1)
            why = f"'{numbers[1]}' is not a number of {what}, {least} to 1000."
        elif numbers[2:] and not search:
            why = f"After the draws comes nothing but '{SEARCH}': KIND:SEVERITY:QUERIES:{SEARCH}."
        else:
            severity = float(numbers[0]) if numbers else KINDS[kind].severity
            return cls(kind, severity, int(numbers[1]) if numbers[1:] else 1, search)
        raise UsageFault(f"'{text}' is no perturbation.", why=why, fix=f"--perturb {kind}:{KINDS[kind].severity:g}")

    def __str__(self) -> str:
        draws = f":{self.draws}" if self.draws > 1 else ""
        return f"{self.kind}:{self.severity:g}{draws}{f':{SEARCH}' if self.search else ''}"

    @property
    def copies(self) -> int:
        """How many rows are made of one: of a search the worst that it found."""
        return 1 if self.search else self.draws

    def check(self, task: Task) -> None:
        """Raise ``UsageFault`` if rows of the task cannot be perturbed so, or would have another label then."""
        why = ""
        if task.kind in KINDS[self.kind].unfit:
            why = "The label of a row may hang on one word (a negation, a number) or on the order of two."
        elif self.kind == "distraction" and task.kind != "span_qa":
            why = "Only span QA has a context."
        elif self.draws > 1 and task.kind == "retrieval":
            why = "A sentence is searched for among all others, so that a row has no perturbed copies of its own."
        elif self.search and self.kind == "distraction":
            why = f"A row gets one sentence, so that there is nothing to combine: leave :{SEARCH} out."
        if why:
            raise UsageFault(
                f"'{task.key}' is not perturbed by {self}.", why=why, fix="--perturb letter-swap:0.1, or another kind."
            )


@dataclass(slots=True)
class _Chosen:
    """Which edits of a row are made, by their numbers, and how many it has room for, counted as they come by."""

    numbers: Collection[int]
    count: int = 0

    def takes_next(self) -> bool:
        """Whether the next edit is among those that are made."""
        self.count += 1
        return self.count - 1 in self.numbers


@dataclass(frozen=True, slots=True)
class Perturber:
    """Perturbs rows of one language: with the translations of its words, and with sentences of other rows."""

    perturbation: Perturbation
    lexicon: Lexicon
    sentences: Sequence[str] = ()
    _chosen: _Chosen | None = field(default=None, repr=False)

    def rows(self, rows: Iterable[Row]) -> list[Row]:
        """Every row, perturbed; with several draws in so many ways, one after the other, and with numbered ids. For a
        search they are as they are: it begins with them."""
        if self.perturbation.search:
            return list(rows)
        draws = range(self.perturbation.draws)
        if len(draws) == 1:
            return [self._row(row, 0) for row in rows]
        return [replace(self._row(row, draw), id=f"{row.id}~{draw}") for row in rows for draw in draws]

    def room(self, row: Row) -> int:
        """How many edits the row has room for."""
        none = _Chosen(())
        replace(self, _chosen=none)._row(row, 0)
        return none.count

    def edited(self, row: Row, numbers: Collection[int]) -> Row:
        """The row with those of its edits made that have these numbers, which its id then says: ``7~0.12``. Of two that
        overlap the first is made."""
        edited = replace(self, _chosen=_Chosen(frozenset(numbers)))._row(row, 0)
        return replace(edited, id=f"{row.id}~{'.'.join(map(str, sorted(numbers)))}")

    def found(self, rows: Iterable[Row], ids: Iterable[str]) -> list[Row]:
        """The rows that a search ended with, which the ``ids`` of its predictions name.

        Raises:
            DataFault: they name other rows, or edits that a search with this severity cannot make.
        """
        named = dict(id_.rpartition("~")[::2] for id_ in ids)
        found = list[Row]()
        for row in rows:
            text = named.pop(row.id, "none")
            numbers = [int(each) for each in text.split(".") if each.isdecimal() and len(each) < 9]
            room = self.room(row) if numbers else 0
            found.append(self.edited(row, numbers))
            wrong = found[-1].id != f"{row.id}~{text}" or len({*numbers}) != len(numbers)
            if wrong or max(numbers, default=-1) >= room or len(numbers) > self.most(room):
                raise DataFault(f"No search by {self.perturbation} ends with the edits '{text}' of the row '{row.id}'.")
        if named:
            raise DataFault(f"There is no row '{next(iter(named))}' to search the worst case of.")
        return found

    def most(self, room: int) -> int:
        """How many edits a search makes at most in a row with so much ``room``: what 98 of 100 draws stay within."""
        mean = self.perturbation.severity * room
        return min(room, math.ceil(mean + 2 * math.sqrt(mean * (1 - self.perturbation.severity))))

    def _row(self, row: Row, draw: int) -> Row:
        match row:
            case PairRow():
                return replace(row, text_a=self._text(row.text_a, draw), text_b=self._text(row.text_b, draw))
            case ChoiceRow():
                choices = tuple(self._text(choice, draw) for choice in row.choices)
                return replace(row, prompt=self._text(row.prompt, draw), choices=choices)
            case SpanRow() if self.perturbation.kind == "distraction":
                return self._distracted(row, draw)
            case SpanRow():
                return self._question(row, draw)
            case TagRow():
                return self._sentence(row, draw)
            case BitextRow():
                return replace(row, foreign=self._text(row.foreign, draw))
            case QueryRow():
                return replace(row, text=self._text(row.text, draw))
            case MiningRow() if not row.english:
                return replace(row, text=self._text(row.text, draw))
        return row

    def _text(self, text: str, draw: int) -> str:
        return _edited(text, self._edits(text, f"{draw} {text}"))

    def _edits(self, text: str, key: str, kept: Spans = ()) -> list[Edit]:
        """The edits of a text that are made; none in the characters ``kept``."""
        kind = KINDS[self.perturbation.kind]
        if kind.letters:
            places = kind.letters(text)
        elif kind.words:
            places = noise.moved_words(text, kind.words)
        else:
            places = noise.translated_words(text, self.lexicon)
        return list(self._drawn(places, key, kept))

    def _drawn(self, places: Iterable[Place], key: str, kept: Spans) -> Iterator[Place]:
        """Each of the places with the probability of the severity, unless it overlaps another or what is kept."""
        random, done = Random(f"{self.perturbation.kind} {key}"), 0
        if self._chosen:
            places = [place for place in places if not _touches(place, kept) and self._chosen.takes_next()]
        for place in places:
            # A number is drawn for every place: an answer in a context changes nothing far from it.
            drawn = self._chosen or random.random() < self.perturbation.severity
            if drawn and place[0] >= done and not _touches(place, kept):
                yield place
                done = place[1]

    def _question(self, row: SpanRow, draw: int) -> SpanRow:
        kept = [(each.start, each.start + len(each.text)) for each in row.answers if each.start >= 0]
        edits = self._edits(row.context, f"{draw} {row.context}", kept)

        def moved(answer: Answer) -> Answer:
            before = sum(len(edit.text) - (edit.end - edit.start) for edit in edits if edit.end <= answer.start)
            return replace(answer, start=answer.start + before) if answer.start >= 0 else answer

        return replace(
            row,
            question=self._text(row.question, draw),
            context=_edited(row.context, edits),
            answers=tuple(map(moved, row.answers)),
        )

    def _distracted(self, row: SpanRow, draw: int) -> SpanRow:
        """The row with a sentence of another context at the end of its own, where no offset moves; none that says an
        answer, which would then be right in two places."""
        random = Random(f"{draw} {row.question} {row.context}")
        if random.random() >= self.perturbation.severity or not self.sentences:
            return row
        first = int(random.random() * len(self.sentences))
        said = [answer.text.casefold() for answer in row.answers]
        for sentence in (*self.sentences[first:], *self.sentences[:first]):
            if sentence not in row.context and not any(text in sentence.casefold() for text in said):
                return replace(row, context=f"{row.context} {sentence}")
        return row

    def _sentence(self, row: TagRow, draw: int) -> TagRow:
        key = f"{draw} {' '.join(row.words)}"
        if move := KINDS[self.perturbation.kind].words:
            entities = [(place, place + 1) for place, tag in enumerate(row.tags) if tag.startswith(("B-", "I-"))]
            order, done = list[int](), 0
            for first, last, places in self._drawn(move(row.words), key, entities):
                order += [*range(done, first), *places]
                done = last
            order += range(done, len(row.words))
            words, tags = (tuple(each[place] for place in order) for each in (row.words, row.tags))
            return replace(row, words=words, tags=tags)
        edits = ((word, self._edits(word, f"{place} {key}")) for place, word in enumerate(row.words))
        # A translation of two words would need two tags.
        words = tuple(_edited(word, [edit for edit in its if not edit.text.split()[1:]]) for word, its in edits)
        return replace(row, words=words)


def _touches(place: Edit | Move, kept: Spans) -> bool:
    return any(place[0] < end and start < place[1] for start, end in kept)


def _edited(text: str, edits: Sequence[Edit]) -> str:
    """The text with non-overlapping edits made, which are in its order."""
    parts, done = list[str](), 0
    for edit in edits:
        parts += [text[done : edit.start], edit.text]
        done = edit.end
    return "".join([*parts, text[done:]])
