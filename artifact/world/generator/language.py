"""The languages of the world, each a record, and how far each lies from English."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Order = Literal["SVO", "SOV", "VSO", "VOS", "OVS", "OSV"]
Side = Literal["before", "after"]
Affix = Literal["none", "prefix", "suffix"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How a language writes, builds words and orders them.

    ``adjective`` and ``adposition`` say on which side of the noun these stand, ``case`` and ``mood`` where
    the markers of a noun's role and of a question are attached to noun and verb. ``fronts`` tells that
    question words move to the front, ``cognates`` which share of the words is a respelled English one,
    ``loans`` which share of the words of a line its writer takes from English as they are, in the text of phase 1.
    """

    code: str
    name: str
    script: str
    order: Order
    adjective: Side
    adposition: Side
    case: Affix
    mood: Affix
    fronts: bool
    cognates: float
    loans: float

    def distance(self) -> float:
        """Distance from English, 0 (English itself) to 1: the mean of syntax, script, lexicon, morphology."""
        english = LANGUAGES["en"]
        order = sum(here != there for here, there in zip(self.order, english.order, strict=True)) / 3
        sides = (self.adjective != english.adjective) + (self.adposition != english.adposition)
        syntax = (3 * order + sides + (self.fronts != english.fronts)) / 6
        script = float(self.script != english.script)
        morphology = ((self.case != "none") + (self.mood != "none")) / 2
        return (syntax + script + (1 - self.cognates) + morphology) / 4


def _language(
    code: str,
    name: str,
    script: str,
    order: Order,
    sides: str,
    affixes: tuple[Affix, Affix],
    cognates: float,
    loans: float,
) -> Language:
    # ``sides``: A or a for adjectives before or after the noun, P or p for adpositions, F or f for question
    # words that move to the front or stay.
    return Language(
        code=code,
        name=name,
        script=script,
        order=order,
        adjective="before" if "A" in sides else "after",
        adposition="before" if "P" in sides else "after",
        case=affixes[0],
        mood=affixes[1],
        fronts="F" in sides,
        cognates=cognates,
        loans=loans,
    )


LANGUAGES: dict[str, Language] = {
    language.code: language
    for language in (
        _language("en", "English", "LATIN", "SVO", "APF", ("none", "none"), 1.0, 0.0),
        _language("qaa", "Arlan", "LATIN", "SVO", "APF", ("none", "none"), 0.6, 0.25),
        _language("qab", "Belic", "LATIN", "SVO", "aPF", ("suffix", "none"), 0.4, 0.2),
        _language("qac", "Corvan", "CYRILLIC", "SVO", "APF", ("suffix", "none"), 0.4, 0.2),
        _language("qad", "Dorean", "GREEK", "VSO", "APF", ("none", "suffix"), 0.3, 0.2),
        _language("qae", "Ebran", "ARABIC", "VSO", "aPF", ("prefix", "none"), 0.2, 0.15),
        _language("qaf", "Fendi", "CYRILLIC", "SOV", "Apf", ("suffix", "suffix"), 0.2, 0.15),
        _language("qag", "Gurani", "DEVANAGARI", "SOV", "Apf", ("suffix", "suffix"), 0.2, 0.15),
        _language("qah", "Harti", "GEORGIAN", "OVS", "apf", ("suffix", "prefix"), 0.1, 0.15),
    )
}
CODES = tuple(LANGUAGES)
FOREIGN = tuple(code for code in CODES if code != "en")
