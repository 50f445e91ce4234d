"""Noise in five scripts and more: which places a text has for it, and what is never torn apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
import regex

from xlt.data import noise
from xlt.data.noise import Edit

TEXTS = {
    "Latin": "Ça va très bien à Łódź, dit Ștefan l'élève.",
    "Cyrillic": "Мой ёжик живёт в Каире, объяснил Тоҷик.",
    "Arabic": "ذَهَبَ أحمد إلى المكتبة الكبيرة، وقرأ كتابًا.",
    "Devanagari": "हिन्दी में क़लम से लिखी किताब दिल्ली में मिली।",
    "Thai": "ผู้หญิงคนนั้นไปที่บ้าน เมื่อวานนี้",
    "Han": "東京は大きい都市です。北京在中国北方。",
}
LETTERS = (noise.letter_swaps, noise.letter_drops, noise.lost_diacritics, noise.homoglyphs, noise.other_cases)


def changed(text: str, edits: Iterable[Edit]) -> list[tuple[str, str]]:
    return [(text[edit.start : edit.end], edit.text) for edit in edits]


def bared(text: str) -> list[tuple[str, str]]:
    return changed(text, noise.lost_diacritics(text))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("letters", LETTERS)
def test_an_edit_keeps_graphemes_whole_and_changes_something(letters: noise.Letters, text: str) -> None:
    borders = {0, *(match.end() for match in regex.finditer(r"\X", text))}
    for edit in letters(text):
        assert 0 <= edit.start < edit.end <= len(text)
        assert edit.text != text[edit.start : edit.end]
        if letters in (noise.letter_swaps, noise.letter_drops, noise.lost_diacritics):
            assert {edit.start, edit.end} <= borders
        # A look-alike or a capital takes the place of the letter below the marks, which stay.
        after = text[: edit.start] + edit.text + text[edit.end :]
        marks = regex.findall(r"\X", after)
        assert len(marks) - len(regex.findall(r"\X", text)) == (-1 if letters is noise.letter_drops else 0)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_letters_trade_places_within_a_word_and_no_word_is_lost(text: str) -> None:
    for edit in noise.letter_swaps(text):
        before = text[edit.start : edit.end]
        assert Counter(regex.findall(r"\X", before)) == Counter(regex.findall(r"\X", edit.text))
        assert not regex.search(r"\s", before)
    dropped = {place for edit in noise.letter_drops(text) for place in range(edit.start, edit.end)}
    left = "".join(letter for place, letter in enumerate(text) if place not in dropped)
    assert len(left.split()) == len(text.split())


def test_a_script_without_something_has_no_place_for_it() -> None:
    for script in ("Arabic", "Devanagari", "Thai", "Han"):
        assert list(noise.other_cases(TEXTS[script])) == []
    for script in ("Devanagari", "Thai", "Han"):
        assert list(noise.homoglyphs(TEXTS[script])) == []
    assert list(noise.other_cases("საქართველო ß ı İ ǅ")) == []
    assert changed("aß", noise.other_cases("aß")) == [("a", "A")]


def test_diacritics_go_by_decomposition_and_vowel_signs_stay() -> None:
    assert bared("Żółć ệ é") == [
        ("Ż", "Z"), ("ó", "o"), ("ć", "c"), ("ệ", "e"), ("é", "e"),
    ]  # fmt: skip
    assert bared("ёй") == [("ё", "е"), ("й", "и")]
    assert bared("ذَهَبَ أ")[-2:] == [("بَ", "ب"), ("أ", "ا")]
    assert bared("\u0958 \u0915\u093c कि क् कु") == [
        ("\u0958", "क"), ("\u0915\u093c", "क"),
    ]  # fmt: skip
    assert bared("ที่ กู") == [("ที่", "ที")]
    assert bared("が 한국어 漢字") == []


def test_look_alikes_have_another_code_and_come_back() -> None:
    for letter in "aoecАОЕСيی":
        ((_, other),) = changed(letter, noise.homoglyphs(letter))
        assert other != letter
        assert changed(other, noise.homoglyphs(other)) == [(other, letter)]


def test_words_end_where_the_script_says() -> None:
    def words(text: str) -> list[str]:
        return [text[start:end] for start, end in noise.words_of(text)]

    assert words("l'élève, dit-il: 12 - !") == ["l'élève", "dit-il", "12"]
    assert words("हिन्दी में।") == ["हिन्दी", "में"]
    assert words("می\u200cروم") == ["می\u200cروم"]
    assert words("東京 は NHK") == ["東", "京", "は", "NHK"]
    assert words(TEXTS["Thai"]) == []


def test_words_are_moved_with_what_is_between_them() -> None:
    text = "one two, three"
    assert changed(text, noise.moved_words(text, noise.word_swaps)) == [("one two", "two one")]
    assert changed(text, noise.moved_words(text, noise.word_drops)) == [("two", ""), ("three", "")]
    assert changed(text, noise.moved_words(text, noise.word_repeats))[0] == ("one", "one one")
    assert changed("北京", noise.moved_words("北京", noise.word_repeats)) == [("北", "北北"), ("京", "京京")]
    assert changed("a b c", noise.moved_words("a b c", noise.word_drops)) == [("b ", ""), ("c", "")]


def test_a_word_is_translated_whatever_its_case() -> None:
    text = "Der Hund, der hundert"
    assert changed(text, noise.translated_words(text, {"hund": "dog", "der": "the"})) == [
        ("Der", "the"), ("Hund", "dog"), ("der", "the"),
    ]  # fmt: skip
