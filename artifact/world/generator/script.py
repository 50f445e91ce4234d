"""Scripts: how the sounds of a constructed language are spelled, and its punctuation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CONSONANTS = "pbtdkgmnszlrvfh"
VOWELS = "aeiou"
SOUNDS = CONSONANTS + VOWELS


@dataclass(frozen=True, slots=True)
class Script:
    """A script: its Unicode name prefix, the speller of sound sequences, and its sentence marks."""

    name: str
    spell: Callable[[str], str]
    stop: str
    question: str


def _alphabet(letters: str) -> Callable[[str], str]:
    table = str.maketrans(SOUNDS, letters)
    return lambda sounds: sounds.translate(table)


def _devanagari(sounds: str) -> str:
    # An abugida: a consonant carries the vowel "a", other vowels are signs on it, a bare one needs a virama.
    letters = dict(zip(CONSONANTS, "पबतदकगमनसजलरवफह", strict=True))
    signs = dict(zip(VOWELS, ("", "े", "ि", "ो", "ु"), strict=True))
    initials = dict(zip(VOWELS, "अएइओउ", strict=True))
    spelled = []
    for index, sound in enumerate(sounds):
        follower = sounds[index + 1 : index + 2]
        if sound in letters:
            bare = "" if not follower or follower in signs else "्"
            spelled.append(letters[sound] + bare)
        else:
            after_consonant = index > 0 and sounds[index - 1] in letters
            spelled.append(signs[sound] if after_consonant else initials[sound])
    return "".join(spelled)


SCRIPTS: dict[str, Script] = {
    script.name: script
    for script in (
        Script("LATIN", _alphabet(SOUNDS), ".", "?"),
        Script("CYRILLIC", _alphabet("пбтдкгмнсзлрвфхаеиоу"), ".", "?"),
        Script("GREEK", _alphabet("πβτδκγμνσζλρωφχαειου"), ".", ";"),
        Script("ARABIC", _alphabet("پبتدكگمنسزلرڤفهاېيوۇ"), ".", "؟"),
        Script("DEVANAGARI", _devanagari, "।", "?"),
        Script("GEORGIAN", _alphabet("პბტდკგმნსზლრვფჰაეიოუ"), ".", "?"),
    )
}
