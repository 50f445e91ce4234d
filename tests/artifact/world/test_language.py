"""The languages differ, write in their scripts, and lie at different distances from English."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import astuple
from itertools import combinations

import pytest

from artifact.world.generator.concept import CONTENT, SHARED
from artifact.world.generator.fact import FactPools
from artifact.world.generator.grammar import realise
from artifact.world.generator.language import CODES, FOREIGN, LANGUAGES
from artifact.world.generator.lexicon import build_lexicon
from artifact.world.generator.sentence import Clause
from artifact.world.generator.world import World
from xlt.tasks.catalogue import NLI_LABELS, TASKS


def test_there_are_enough_languages_and_scripts() -> None:
    assert len(FOREIGN) >= 8
    assert len({LANGUAGES[code].script for code in FOREIGN}) >= 4
    assert all("qaa" <= code <= "qtz" for code in FOREIGN)


@pytest.mark.parametrize("code", FOREIGN)
def test_words_are_written_in_the_script_of_the_language(code: str) -> None:
    language = LANGUAGES[code]
    lexicon = build_lexicon(language, seed=0)
    for word in (*lexicon.words.values(), *lexicon.cases.values(), lexicon.interrogative):
        assert all(unicodedata.name(letter).startswith(language.script) for letter in word)


@pytest.mark.parametrize("code", FOREIGN)
def test_no_two_concepts_share_a_word(code: str) -> None:
    words = build_lexicon(LANGUAGES[code], seed=0).words
    assert len(set(words.values())) == len(words)


def test_words_of_different_languages_differ() -> None:
    lexicons = {code: build_lexicon(LANGUAGES[code], seed=0).words for code in FOREIGN}
    for one, other in combinations(FOREIGN, 2):
        alike = sum(lexicons[one][key] == lexicons[other][key] for key in CONTENT)
        assert alike < 0.2 * len(CONTENT)


def test_grammars_differ() -> None:
    shapes = {(one.order, one.adjective, one.adposition, one.case, one.mood) for one in LANGUAGES.values()}
    assert len(shapes) >= len(CODES) - 2
    fact = FactPools(0).facts("known")[0]
    assert len({realise(Clause(fact), code, 0).text for code in CODES}) == len(CODES)


def test_names_and_numerals_are_written_alike_everywhere() -> None:
    for fact in FactPools(0).facts("known"):
        shared = {fact.entity, fact.value} & SHARED
        for code in CODES:
            assert shared <= {word.form for word in realise(Clause(fact), code, 0).words}


def test_distance_starts_at_english_and_spreads() -> None:
    distances = {code: language.distance() for code, language in LANGUAGES.items()}
    assert distances["en"] == 0
    assert all(0 < distances[code] <= 1 for code in FOREIGN)
    assert max(distances.values()) - min(distances[code] for code in FOREIGN) > 0.5


@pytest.mark.parametrize("code", FOREIGN)
def test_cognates_have_their_share(code: str) -> None:
    language = LANGUAGES[code]
    lexicon = build_lexicon(language, seed=0)
    assert abs(len(lexicon.cognates) / len(CONTENT) - language.cognates) < 0.02


@pytest.mark.parametrize("code", FOREIGN)
def test_words_are_borrowed_from_english_in_the_text_of_phase_1_only(world: World, code: str) -> None:
    own = set(build_lexicon(LANGUAGES[code], 0).words.values())
    english = set(CONTENT) - own
    lines = {word for line in world.lines(code) for word in words_of(line.text)}
    asked = {
        word
        for key in ("xnli", "xquad")
        for row in world.rows(TASKS[key], "test", code)
        for text in astuple(row)
        if isinstance(text, str)
        for word in words_of(text)
    }
    assert len(lines & english) > 0.9 * len(english)
    assert asked & english <= set(NLI_LABELS)


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text)
