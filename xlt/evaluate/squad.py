"""The SQuAD evaluation rules, which XTREME applies to XQuAD and TyDiQA in every language, and those of MLQA.

Source: evaluate-v1.1.py and evaluate-v2.0.py of SQuAD (https://rajpurkar.github.io/SQuAD-explorer/) and
mlqa_evaluation_v1.py of MLQA (https://github.com/facebookresearch/MLQA); written anew after their rules.
Wherever a function takes ``mlqa``, it is the language of the answers under MLQA's rules, and empty under SQuAD's.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable

_ENGLISH = r"\b(?:a|an|the)\b"
_ARTICLES = {
    "": re.compile(_ENGLISH),
    "en": re.compile(_ENGLISH),
    "es": re.compile(r"\b(?:un|una|unos|unas|el|la|los|las)\b"),
    "vi": re.compile(r"\b(?:của|là|cái|chiếc|những)\b"),
    "de": re.compile(r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    # Within words as well: the official pattern means the beginning of a word, but is not tied to it.
    "ar": re.compile("ال"),
}
_HAN = re.compile("([\u4e00-\u9fa5])")
_ASCII = str.maketrans("", "", string.punctuation)


class _EveryPunctuation(dict[int, str]):
    """A table for ``str.translate`` that drops ASCII punctuation and all of Unicode's category P."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        gone = letter in string.punctuation or unicodedata.category(letter).startswith("P")
        return self.setdefault(code, "" if gone else letter)


_EVERY = _EveryPunctuation()


def bare(text: str, mlqa: str = "") -> str:
    """``text`` in lower case without punctuation: without ASCII's, or for MLQA without any script's."""
    return text.lower().translate(_EVERY if mlqa else _ASCII)


def normalise(text: str, mlqa: str = "") -> list[str]:
    """The tokens of ``text`` that count: lower case, no punctuation, no article; split at white space.

    Punctuation is dropped first and leaves no space ("the-end" is one token). SQuAD drops English articles in every
    language. MLQA drops the articles of the language, none in a language that its script does not know; in Chinese
    every Han character is a token.
    """
    text = bare(text, mlqa)
    if mlqa in _ARTICLES:
        text = _ARTICLES[mlqa].sub(" ", text)
    return (_HAN.sub(r" \1 ", text) if mlqa == "zh" else text).split()


def exact_and_f1(predicted: list[str], gold: list[str]) -> tuple[float, float]:
    """Exact match and token F1, between 0 and 1, of two normalised texts.

    Two empty texts match exactly and have F1 0, as in the official script.
    """
    if predicted == gold:
        return 1.0, 1.0 if gold else 0.0
    shared = sum((Counter(predicted) & Counter(gold)).values())
    return 0.0, 2 * shared / (len(predicted) + len(gold)) if shared else 0.0


def best_over_golds(text: str, golds: Iterable[str], mlqa: str = "") -> tuple[float, float]:
    """Exact match and F1 of ``text``, each the best over ``golds`` (at least one)."""
    predicted = normalise(text, mlqa)
    pairs = [exact_and_f1(predicted, normalise(gold, mlqa)) for gold in golds]
    return max(exact for exact, _ in pairs), max(f1 for _, f1 in pairs)


def best_or_no_answer(text: str, golds: Iterable[str]) -> tuple[float, float]:
    """Exact match and F1 of ``text`` by the rules of v2.0.

    A gold answer without a token that counts is no answer. If a question has no other, a text without such a token is
    right, by both metrics. If it has one, such a text scores 0.
    """
    counted = [gold for gold in golds if normalise(gold)]
    if counted:
        return best_over_golds(text, counted)
    right = float(not normalise(text))
    return right, right
