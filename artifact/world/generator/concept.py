"""What the world can talk about: relations, values and names, with the English word of each concept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Frame = Literal["object", "adposition", "adjective", "numeral"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    "Adela Bruno Carla Dario Elisa Fabio Greta Hugo Irina Jonas Karin Lukas Mira Nestor Olga Pavel "
    "Rosa Samir Tilda Vera"
)
CITIES = _words("Lurin Madoc Nerva Orsk Palma Ravel Sintra Tarn Zadar")
ORGANISATIONS = _words("Unilor Brasko Cendrix Delvano Estrion Fontaro Gravex Holmera Juvandor")
FOODS = _words("bread rice honey soup cheese meat butter cake eggs salt")
ANIMALS = _words("cats dogs horses goats ducks bees sheep pigs snakes mice")
COLOURS = _words("red blue green white black brown grey pink purple yellow")
NUMERALS = tuple(str(number) for number in range(2, 12))


@dataclass(frozen=True, slots=True)
class Relation:
    """A verb with the values it takes.

    ``frame`` says where the value stands: as the object itself, behind an adposition, or as the adjective or
    numeral of the fixed noun ``head``.
    """

    key: str
    frame: Frame
    values: tuple[str, ...]
    adposition: str = ""
    head: str = ""


RELATIONS = (
    Relation("eat", "object", FOODS),
    Relation("sell", "object", FOODS),
    Relation("keep", "object", ANIMALS),
    Relation("live", "adposition", CITIES, adposition="in"),
    Relation("wear", "adjective", COLOURS, head="hat"),
    Relation("own", "numeral", NUMERALS, head="boats"),
    Relation("serve", "object", ORGANISATIONS),
)
RELATION: dict[str, Relation] = {relation.key: relation for relation in RELATIONS}

# Names and digits are written alike in every language: they are the anchors that the languages share.
PROPER = frozenset((*NAMES, *CITIES, *ORGANISATIONS))
SHARED = PROPER | frozenset(NUMERALS)
VERBS = tuple(relation.key for relation in RELATIONS)
HEADS = tuple(relation.head for relation in RELATIONS if relation.head)
NOUNS = (*FOODS, *ANIMALS, *HEADS)
ADPOSITIONS = tuple(relation.adposition for relation in RELATIONS if relation.adposition)
QUESTION_WORDS = ("who", "what", "where", "which", "many")
CONNECTIVES = ("indeed", "but", "also")
CONTENT = (*VERBS, *NOUNS, *COLOURS)
WORD_KINDS = (FOODS, ANIMALS, COLOURS, VERBS, (*HEADS, *QUESTION_WORDS, *ADPOSITIONS))
