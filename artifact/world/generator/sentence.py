"""Clauses (meaning) and sentences (words with part of speech, role and place in the string)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from artifact.world.generator.concept import PROPER
from artifact.world.generator.fact import Fact

Asked = Literal["", "entity", "value"]
Tag = Literal["PROPN", "NOUN", "VERB", "ADJ", "NUM", "ADP", "DET", "AUX", "PRON", "ADV", "PUNCT"]
Role = Literal["entity", "relation", "value", "other"]


@dataclass(frozen=True, slots=True)
class Clause:
    """A fact to be stated, or with ``asked`` the question after its entity or its value.

    ``rephrased`` asks the same in another form, which only English has. ``connective`` opens the sentence and says how
    it relates to what was said before.
    """

    fact: Fact
    asked: Asked = ""
    rephrased: bool = False
    connective: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """A word form, its universal part of speech, which part of the fact it expresses, and its category.

    The category is that of combinatory categorial grammar as CCGbank writes it; only English words have one.
    """

    form: str
    tag: Tag
    role: Role = "other"
    category: str = ""


def noun_tag(key: str) -> Tag:
    """The part of speech of the noun ``key``."""
    return "PROPN" if key in PROPER else "NOUN"


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words in order; a blank stands before each but the first and punctuation."""

    words: tuple[Word, ...]

    def starts(self) -> tuple[int, ...]:
        """The character at which each word starts in ``text``."""
        places, here = [], 0
        for index, word in enumerate(self.words):
            here += int(index > 0 and word.tag != "PUNCT")
            places.append(here)
            here += len(word.form)
        return tuple(places)

    @property
    def text(self) -> str:
        """The sentence as it is written."""
        return "".join(word.form if word.tag == "PUNCT" else f" {word.form}" for word in self.words).lstrip()

    def find(self, role: Role) -> tuple[str, int]:
        """The form and the start of the first word with ``role``."""
        index = next(i for i, word in enumerate(self.words) if word.role == role)
        return self.words[index].form, self.starts()[index]
