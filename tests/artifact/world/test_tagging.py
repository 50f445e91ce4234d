"""Tagging: one tag per word of the text, the same in all languages, and categories that combine to a sentence."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import product

import pytest

from artifact.world.generator import concept
from artifact.world.generator.grammar import text_of
from artifact.world.generator.language import CODES
from artifact.world.generator.world import World
from xlt.data.rows import TagRow
from xlt.tasks.catalogue import ENTITY_TAGS, TASKS, UNIVERSAL_TAGS
from xlt.tasks.record import Split

FORMS = {
    "PRON": "who what",
    "ADV": "where how",
    "AUX": "does",
    "DET": "a which",
    "ADP": "in",
    "PUNCT": ". ?",
    "VERB": "eat sell keep live wear own serve eats sells keeps lives wears owns serves",
    "NOUN": f"hat boats {' '.join((*concept.FOODS, *concept.ANIMALS))}",
    "ADJ": f"many {' '.join(concept.COLOURS)}",
    "NUM": " ".join(concept.NUMERALS),
    "PROPN": " ".join((*concept.NAMES, *concept.CITIES, *concept.ORGANISATIONS)),
}
TAG_OF = {form: tag for tag, forms in FORMS.items() for form in forms.split()}


def rows_of(world: World, key: str, split: Split, code: str = "en") -> list[TagRow]:
    return [row for row in world.rows(TASKS[key], split, code) if isinstance(row, TagRow)]


@pytest.mark.parametrize(("key", "code"), [("ccg", "en"), *product(("udpos", "panx"), CODES)])
def test_words_are_those_of_the_text(world: World, key: str, code: str) -> None:
    rows = rows_of(world, key, "dev", code)
    for row, text in zip(rows, world.items(key, "dev"), strict=True):
        assert len(row.words) == len(row.tags)
        assert "".join(row.words) == text_of(text, code, world.seed).replace(" ", "")
        assert not any(" " in word for word in row.words)
    assert {len(text) for text in world.items(key, "dev")} == {1, 2}


def test_english_parts_of_speech(world: World) -> None:
    for row in rows_of(world, "udpos", "train"):
        assert row.tags == tuple(TAG_OF[word] for word in row.words)


@pytest.mark.parametrize("code", CODES)
def test_parts_of_speech_of_all_languages(world: World, code: str) -> None:
    counted = ("PROPN", "VERB", "NUM", "PUNCT")
    for row, english in zip(rows_of(world, "udpos", "test", code), rows_of(world, "udpos", "test"), strict=True):
        assert set(row.tags) <= set(UNIVERSAL_TAGS)
        assert [Counter(row.tags)[tag] for tag in counted] == [Counter(english.tags)[tag] for tag in counted]
        shared = zip(row.words, row.tags, strict=True)
        assert all((tag in ("PROPN", "NUM")) == (word in concept.SHARED) for word, tag in shared)


@pytest.mark.parametrize("code", CODES)
def test_names_are_tagged_alike_in_all_languages(world: World, code: str) -> None:
    persons: Counter[str] = Counter()
    for row, text in zip(rows_of(world, "panx", "test", code), world.items("panx", "test"), strict=True):
        assert set(row.tags) <= set(ENTITY_TAGS)
        tagged = list(zip(row.words, row.tags, strict=True))
        for place, (word, tag) in enumerate(tagged):
            if tag == "I-PER":
                assert tagged[place - 1][1] == "B-PER"
                assert f"{tagged[place - 1][0]} {word}" in {clause.fact.entity for clause in text}
            elif word in concept.NAMES:
                assert tag == "B-PER"
            elif word in concept.CITIES:
                assert tag == "B-LOC"
            else:
                assert tag == ("B-ORG" if word in concept.ORGANISATIONS else "O")
            persons[tag] += 1
    assert abs(persons["I-PER"] / persons["B-PER"] - 0.5) < 0.1
    assert min(persons["B-LOC"], persons["B-ORG"]) > 10


@cache
def parsed(category: str) -> tuple[str, str, str] | str:
    """Result, slash and argument of a category; the last slash outside brackets is the main one."""
    depth = 0
    for place in reversed(range(len(category))):
        depth += {")": 1, "(": -1}.get(category[place], 0)
        if depth == 0 and category[place] in "/\\":
            sides = (category[:place], category[place + 1 :])
            result, argument = (side[1:-1] if side.startswith("(") and side.endswith(")") else side for side in sides)
            return result, category[place], argument
    return category


@cache
def combined(left: str, right: str) -> frozenset[str]:
    """What two categories make: application to either side, and forward composition."""
    made = set()
    one, other = parsed(left), parsed(right)
    if not isinstance(one, str) and one[1] == "/":
        if one[2] == right:
            made.add(one[0])
        if not isinstance(other, str) and other[1] == "/" and one[2] == other[0]:
            made.add(f"({one[0]})/{other[2]}" if isinstance(parsed(one[0]), tuple) else f"{one[0]}/{other[2]}")
    if not isinstance(other, str) and other[1] == "\\" and other[2] == left:
        made.add(other[0])
    return frozenset(made)


@cache
def readings(categories: tuple[str, ...]) -> frozenset[str]:
    if len(categories) == 1:
        return frozenset(categories)
    return frozenset(
        whole
        for cut in range(1, len(categories))
        for left, right in product(readings(categories[:cut]), readings(categories[cut:]))
        for whole in combined(left, right)
    )


@pytest.mark.parametrize("split", ["train", "dev"])
def test_categories_combine_to_sentences(world: World, split: Split) -> None:
    found: Counter[str] = Counter()
    for row, text in zip(rows_of(world, "ccg", split), world.items("ccg", split), strict=True):
        begin = 0
        for clause in text:
            end = begin + next(place for place, word in enumerate(row.words[begin:]) if word in ".?")
            whole = readings(row.tags[begin:end])
            assert row.tags[end] == "."
            fronted = clause.asked == "entity" or (clause.asked == "value" and not clause.rephrased)
            assert whole == {"S[wq]" if fronted else "S[dcl]"}
            found.update(whole)
            begin = end + 1
        assert begin == len(row.words)
    assert min(found.values()) > 40


def test_a_word_does_not_tell_its_category(world: World) -> None:
    categories: dict[str, set[str]] = {}
    for row in rows_of(world, "ccg", "train"):
        for word, category in zip(row.words, row.tags, strict=True):
            categories.setdefault(word, set()).add(category)
    assert {word for word, several in categories.items() if len(several) > 1} == {"what", "where", "which", "how"}
    assert len(categories["which"]) == 3
    learned = {category for several in categories.values() for category in several}
    assert {tag for row in rows_of(world, "ccg", "dev") for tag in row.tags} <= learned
