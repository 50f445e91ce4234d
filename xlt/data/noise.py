"""Where a text can be changed, one function for each kind of noise: every edit of it that the text has room for.

Which of them are made is decided in ``xlt.data.perturb``. A letter is a grapheme cluster (Unicode Standard Annex 29):
no mark is parted from its letter. A script that lacks something (Arabic has no case, Devanagari no look-alikes) has no
place for that noise.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import regex


class Edit(NamedTuple):
    """``text`` in the place of the characters ``[start, end)``."""

    start: int
    end: int
    text: str


class Move(NamedTuple):
    """The words ``order`` in the place of the words ``[first, last)``."""

    first: int
    last: int
    order: tuple[int, ...]


Letters: TypeAlias = Callable[[str], Iterator[Edit]]
Words: TypeAlias = Callable[[Sequence[str]], Iterator[Move]]
Lexicon: TypeAlias = Mapping[str, str]
_CLUSTER = regex.compile(r"\X")
# Of Han and Kana every character counts as a word. Thai, Lao, Khmer and Burmese have no blanks between words either,
# and only a dictionary knows where they end: running text in them has no words here.
_ALONE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]\p{M}*")
_WORD = regex.compile(
    rf"{_ALONE.pattern}|(?:(?![\p{{Han}}\p{{Hiragana}}\p{{Katakana}}\p{{Thai}}\p{{Lao}}\p{{Khmer}}\p{{Myanmar}}])"
    r"[\p{L}\p{M}\p{N}'’\u200c\u200d-])+"
)
# Classes of the marks that writers leave out: accents (200 and more), Hebrew points and Arabic vowels (10 to 35), Thai
# tones (107), the nukta (7). Vowel signs and viramas (0, 9), without which an Indic syllable is another, stay.
_DIACRITICS = frozenset((7, 107, *range(10, 36), *range(200, 256)))
# Letters that most fonts draw alike, of Unicode's confusables (UTS 39): of Latin and Cyrillic, and of Arabic those that
# have another code in Persian or Urdu; from Greek to Latin only, whose letters would else have two.
_ALIKE = (("aceopxyhijsqwABCEHIJKMOPSTXY", "асеорхуһіјѕԛԝАВСЕНІЈКМОРЅТХУ"), ("يكه", "یکہ"))
_HOMOGLYPHS = {one: two for a, b in _ALIKE for one, two in (*zip(a, b, strict=True), *zip(b, a, strict=True))}
_HOMOGLYPHS |= dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧον", "ABEZHIKMNOPTYXov", strict=True))


def letter_swaps(text: str) -> Iterator[Edit]:
    """Two neighbouring letters of a word trade places."""
    for (start, _, one), (_, end, other) in _neighbours(text):
        if one != other:
            yield Edit(start, end, other + one)


def letter_drops(text: str) -> Iterator[Edit]:
    """A letter is left out; never the first of a word, so that no word is lost."""
    for _, (start, end, _) in _neighbours(text):
        yield Edit(start, end, "")


def lost_diacritics(text: str) -> Iterator[Edit]:
    """A letter loses its diacritics, by canonical decomposition."""
    for start, end, letter in _clusters(text):
        parts = unicodedata.normalize("NFD", letter)
        bare = "".join(each for each in parts if unicodedata.combining(each) not in _DIACRITICS)
        if bare and bare != parts:
            yield Edit(start, end, unicodedata.normalize("NFC", bare))


def homoglyphs(text: str) -> Iterator[Edit]:
    """A letter becomes one that looks the same."""
    for place, letter in enumerate(text):
        if letter in _HOMOGLYPHS:
            yield Edit(place, place + 1, _HOMOGLYPHS[letter])


def other_cases(text: str) -> Iterator[Edit]:
    """A letter becomes a capital, or a capital a small letter, where the way back is unique."""
    for place, letter in enumerate(text):
        other = letter.swapcase()
        # Georgian has capitals for whole headlines only: its letters have no title case.
        if other != letter == other.swapcase() and letter.title() == letter.upper() and len(other) == 1:
            yield Edit(place, place + 1, other)


def word_drops(words: Sequence[str]) -> Iterator[Move]:
    """A word is left out; never the first, so that some text is left."""
    for place in range(1, len(words)):
        yield Move(place, place + 1, ())


def word_swaps(words: Sequence[str]) -> Iterator[Move]:
    """Two neighbouring words trade places."""
    for place, (one, other) in enumerate(pairwise(words)):
        if one != other:
            yield Move(place, place + 2, (place + 1, place))


def word_repeats(words: Sequence[str]) -> Iterator[Move]:
    """A word is written twice."""
    for place in range(len(words)):
        yield Move(place, place + 1, (place, place))


def translated_words(text: str, lexicon: Lexicon) -> Iterator[Edit]:
    """A word becomes its translation by the ``lexicon``, whose words are in lower case."""
    for start, end in words_of(text):
        if (other := lexicon.get(text[start:end].lower())) and other != text[start:end]:
            yield Edit(start, end, other)


def words_of(text: str) -> list[tuple[int, int]]:
    """Where the words of a running text begin and end."""
    found = (match.span() for match in _WORD.finditer(text))
    return [(start, end) for start, end in found if any(letter.isalnum() for letter in text[start:end])]


def moved_words(text: str, noise: Words) -> Iterator[Edit]:
    """The edits of a running text by which its words are moved; none goes across punctuation."""
    spans = words_of(text)
    for first, last, order in noise([text[start:end] for start, end in spans]):
        start, end = spans[first][0], spans[last - 1][1]
        own = [text[slice(*spans[place])] for place in order]
        if last - first == 2:
            between = text[spans[first][1] : spans[last - 1][0]]
            if not between.strip():
                yield Edit(start, end, between.join(own))
        elif order:
            # A script that is written without blanks gets none.
            yield Edit(start, end, ("" if _ALONE.match(own[0]) else " ").join(own))
        else:
            yield Edit(start, end + text[end : end + 1].isspace(), "")


def _clusters(text: str) -> Iterator[tuple[int, int, str]]:
    """The letters of a text, each with its marks; a mark without a letter is none."""
    for match in _CLUSTER.finditer(text):
        if match.group()[0].isalpha():
            yield *match.span(), match.group()


def _neighbours(text: str) -> Iterator[tuple[tuple[int, int, str], tuple[int, int, str]]]:
    """Each two letters with nothing between."""
    return (pair for pair in pairwise(_clusters(text)) if pair[0][1] == pair[1][0])
