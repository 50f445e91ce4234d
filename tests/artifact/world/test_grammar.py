"""Sentences: order, markers, parts of speech, places, and questions that do not give the answer away."""

from __future__ import annotations

import pytest

from artifact.world.generator.fact import Fact
from artifact.world.generator.grammar import realise
from artifact.world.generator.language import CODES, FOREIGN, LANGUAGES
from artifact.world.generator.lexicon import build_lexicon
from artifact.world.generator.sentence import Clause

EATS = Fact("Mira", "eat", "bread")
LIVES = Fact("Mira", "live", "Tarn")
WEARS = Fact("Mira", "wear", "red")
OWNS = Fact("Mira", "own", "7")
FACTS = (EATS, LIVES, WEARS, OWNS)


def test_english_is_english() -> None:
    texts = [realise(Clause(fact, asked), "en", 0).text for fact in FACTS for asked in ("", "value", "entity")]
    assert texts == [
        "Mira eats bread.",
        "what does Mira eat?",
        "who eats bread?",
        "Mira lives in Tarn.",
        "where does Mira live?",
        "who lives in Tarn?",
        "Mira wears a red hat.",
        "which hat does Mira wear?",
        "who wears a red hat?",
        "Mira owns 7 boats.",
        "how many boats does Mira own?",
        "who owns 7 boats?",
    ]


def test_english_questions_in_their_other_form() -> None:
    texts = [realise(Clause(fact, "value", rephrased=True), "en", 0).text for fact in FACTS]
    assert texts == ["Mira eats what?", "Mira lives where?", "Mira wears which hat?", "Mira owns how many boats?"]
    assert realise(Clause(LIVES, "entity", rephrased=True), "en", 0).text == "which person lives in Tarn?"


@pytest.mark.parametrize("code", FOREIGN)
def test_organisations_are_proper_nouns_without_a_marker(code: str) -> None:
    words = realise(Clause(Fact("Mira", "serve", "Unilor")), code, 0).words
    assert {(word.form, word.tag) for word in words if word.role != "relation"} >= {
        ("Unilor", "PROPN"),
        ("Mira", "PROPN"),
    }


@pytest.mark.parametrize("code", FOREIGN)
def test_the_order_is_that_of_the_language(code: str) -> None:
    letters = {"entity": "S", "relation": "V", "value": "O"}
    words = realise(Clause(EATS), code, 0).words
    assert "".join(letters[word.role] for word in words if word.role in letters) == LANGUAGES[code].order


@pytest.mark.parametrize("code", FOREIGN)
def test_sides_of_adjective_and_adposition(code: str) -> None:
    language = LANGUAGES[code]
    tags = [word.tag for word in realise(Clause(WEARS), code, 0).words]
    assert (tags.index("ADJ") < tags.index("NOUN")) == (language.adjective == "before")
    words = realise(Clause(LIVES), code, 0).words
    place = next(index for index, word in enumerate(words) if word.role == "value")
    adposition = next(index for index, word in enumerate(words) if word.tag == "ADP")
    assert place - adposition == (1 if language.adposition == "before" else -1)


@pytest.mark.parametrize("code", FOREIGN)
def test_markers_are_attached(code: str) -> None:
    language, lexicon = LANGUAGES[code], build_lexicon(LANGUAGES[code], 0)
    noun, _ = realise(Clause(EATS), code, 0).find("value")
    stem, marker = lexicon.words["bread"], lexicon.cases["accusative"]
    assert noun == {"none": stem, "prefix": marker + stem, "suffix": stem + marker}[language.case]
    verb, _ = realise(Clause(EATS, "value"), code, 0).find("relation")
    stem, marker = lexicon.words["eat"], lexicon.interrogative
    assert verb == {"none": stem, "prefix": marker + stem, "suffix": stem + marker}[language.mood]


@pytest.mark.parametrize("code", CODES)
def test_words_stand_where_they_start(code: str) -> None:
    for fact in FACTS:
        sentence = realise(Clause(fact), code, 0)
        for word, start in zip(sentence.words, sentence.starts(), strict=True):
            assert sentence.text[start : start + len(word.form)] == word.form


@pytest.mark.parametrize("code", CODES)
def test_a_question_lacks_what_it_asks_for(code: str) -> None:
    for fact in FACTS:
        roles = {word.role for word in realise(Clause(fact, "value"), code, 0).words}
        assert "value" not in roles
        roles = {word.role for word in realise(Clause(fact, "entity"), code, 0).words}
        assert "entity" not in roles
