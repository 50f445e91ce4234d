"""The words of a language: made up from its own seed, or respelled from English for cognates."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from artifact.world.generator import concept
from artifact.world.generator.language import Language
from artifact.world.generator.script import CONSONANTS, SCRIPTS, VOWELS

CASES = ("accusative", "oblique")
# Letters of English that are no sound of the constructed languages, spelled as the nearest one.
RESPELLED = str.maketrans({"c": "k", "w": "v", "y": "i", "j": "z", "q": "k", "x": "ks"})


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The word of each concept and the affix of each marker, spelled in the language's script."""

    words: dict[str, str]
    cases: dict[str, str]
    interrogative: str
    cognates: frozenset[str]


def _syllable(random: Random, vowels: str) -> str:
    return random.choice(CONSONANTS) + random.choice(vowels)


def _shift(random: Random) -> dict[int, int]:
    """Regular sound changes from English: two vowels and two consonants trade places."""
    pairs = (random.sample(VOWELS, 2), random.sample(CONSONANTS, 2))
    return {ord(a): ord(b) for pair in pairs for a, b in (pair, pair[::-1])}


def build_lexicon(language: Language, seed: int) -> Lexicon:
    """The lexicon of ``language`` in the world of ``seed``: no two concepts share a word."""
    random = Random(f"{seed} lexicon {language.code}")
    spell = SCRIPTS[language.script].spell
    # Not every language has every vowel sound in its roots, so that words of one script still look different.
    vowels = "".join(random.sample(VOWELS, 4))
    shift = _shift(random)
    cognates = frozenset(random.sample(concept.CONTENT, round(language.cognates * len(concept.CONTENT))))
    words: dict[str, str] = {}
    taken: set[str] = set()
    for key in (*concept.CONTENT, *concept.ADPOSITIONS, *concept.QUESTION_WORDS, *concept.CONNECTIVES):
        syllables = 2 if key in concept.CONTENT else 1
        candidate = spell(key.translate(RESPELLED).translate(shift)) if key in cognates else ""
        while not candidate or candidate in taken:
            root = "".join(_syllable(random, vowels) for _ in range(syllables))
            candidate = spell(root + random.choice(CONSONANTS + VOWELS[:0]))
        words[key] = candidate
        taken.add(candidate)
    endings = random.sample([c + v for c in CONSONANTS for v in vowels], len(CASES) + 1)
    cases = {case: spell(ending) for case, ending in zip(CASES, endings, strict=False)}
    return Lexicon(words=words, cases=cases, interrogative=spell(endings[-1]), cognates=cognates)
