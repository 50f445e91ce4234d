"""Bitext: sentences and their English translations, given as pairs or to be found."""

from __future__ import annotations

from dataclasses import dataclass

from artifact.world.generator.fact import Fact
from artifact.world.generator.grammar import text_of
from artifact.world.generator.sampler import FactSampler
from artifact.world.generator.sentence import Clause
from xlt.data.rows import BitextRow, MiningRow


@dataclass(frozen=True, slots=True)
class Mined:
    """A fact stated on one of two sides. ``number`` counts within its side; ``match`` is the number of its translation
    on the English side."""

    fact: Fact
    english: bool
    number: int
    match: int | None = None


def sample_facts(sampler: FactSampler, size: int) -> list[Fact]:
    """``size`` different facts."""
    return sampler.sample(size)


def render_translation(name: str, fact: Fact, code: str, seed: int) -> BitextRow:
    """The row that states ``fact`` in one language and in English."""
    foreign, english = (text_of([Clause(fact)], each, seed) for each in (code, "en"))
    return BitextRow(name, foreign, english)


def sample_sides(sampler: FactSampler, size: int) -> list[Mined]:
    """Two sides of ``size`` facts each; two thirds of the facts are on both sides."""
    shared, lone = size * 2 // 3, size - size * 2 // 3
    facts = sampler.sample(shared + 2 * lone)
    foreign, english = facts[: shared + lone], facts[:shared] + facts[shared + lone :]
    sampler.random.shuffle(foreign)
    sampler.random.shuffle(english)
    place = {fact: number for number, fact in enumerate(english)}
    return [
        *(Mined(fact, False, number, place.get(fact)) for number, fact in enumerate(foreign)),
        *(Mined(fact, True, number) for number, fact in enumerate(english)),
    ]


def render_mined(name: str, item: Mined, code: str, seed: int) -> MiningRow:
    """The row of a sentence in the language of its side. Its id counts within the side; ``name`` is not used."""
    side = "en" if item.english else code
    matches = () if item.match is None else (f"en-{item.match}",)
    return MiningRow(f"{side}-{item.number}", text_of([Clause(item.fact)], side, seed), item.english, matches)
