"""Bitext: sentences and their English translations, given as pairs or to be found."""

from __future__ import annotations

from dataclasses import dataclass

from xlt.data.rows import BitextRow, MiningRow
from xlt.data.world.fact import Fact
from xlt.data.world.grammar import text_of
from xlt.data.world.sentence import Clause
from xlt.data.world.story import StoryTeller


@dataclass(frozen=True, slots=True)
class Mined:
    """A fact stated on one of two sides, its number there, and that of its translation on the English side."""

    fact: Fact
    english: bool
    number: int
    match: int | None = None


def draw_facts(teller: StoryTeller, size: int) -> list[Fact]:
    """Facts to be stated, no two alike."""
    return teller.draw(size)


def tell_translation(name: str, fact: Fact, code: str, seed: int) -> BitextRow:
    """The row of ``fact`` stated in one language and in English."""
    foreign, english = (text_of([Clause(fact)], each, seed) for each in (code, "en"))
    return BitextRow(name, foreign, english)


def draw_sides(teller: StoryTeller, size: int) -> list[Mined]:
    """Two sides of ``size`` facts, of which two thirds are on both."""
    shared, lone = size * 2 // 3, size - size * 2 // 3
    facts = teller.draw(shared + 2 * lone)
    foreign, english = facts[: shared + lone], facts[:shared] + facts[shared + lone :]
    teller.random.shuffle(foreign)
    teller.random.shuffle(english)
    place = {fact: number for number, fact in enumerate(english)}
    return [
        *(Mined(fact, False, number, place.get(fact)) for number, fact in enumerate(foreign)),
        *(Mined(fact, True, number) for number, fact in enumerate(english)),
    ]


def tell_mined(name: str, item: Mined, code: str, seed: int) -> MiningRow:
    """The row of a sentence in the language of its side; its id is that of the side, whatever ``name``."""
    side = "en" if item.english else code
    matches = () if item.match is None else (f"en-{item.match}",)
    return MiningRow(f"{side}-{item.number}", text_of([Clause(item.fact)], side, seed), item.english, matches)
