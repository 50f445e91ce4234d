"""The SQuAD evaluation rules; XTREME's evaluator applies those of v1.1 to XQuAD and TyDiQA in every language.

Source: evaluate-v1.1.py and evaluate-v2.0.py of SQuAD (https://rajpurkar.github.io/SQuAD-explorer/); written anew
after their rules.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise(text: str) -> list[str]:
    """The tokens of ``text`` that count: lower case, no ASCII punctuation, no English article.

    Punctuation goes first and without a trace ("the-end" is one token); that of other scripts stays.
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_and_f1(predicted: list[str], gold: list[str]) -> tuple[float, float]:
    """Exact match and token F1, between 0 and 1, of two normalised texts.

    Two empty texts match exactly and have F1 0, as in the official script.
    """
    if predicted == gold:
        return 1.0, 1.0 if gold else 0.0
    shared = sum((Counter(predicted) & Counter(gold)).values())
    return 0.0, 2 * shared / (len(predicted) + len(gold)) if shared else 0.0


def best_over_golds(text: str, golds: Iterable[str]) -> tuple[float, float]:
    """Exact match and F1 of ``text``, each the best over ``golds`` (at least one)."""
    predicted = normalise(text)
    pairs = [exact_and_f1(predicted, normalise(gold)) for gold in golds]
    return max(exact for exact, _ in pairs), max(f1 for _, f1 in pairs)


def best_or_no_answer(text: str, golds: Iterable[str]) -> tuple[float, float]:
    """Exact match and F1 of ``text`` by the rules of v2.0.

    A gold answer of which nothing counts is none; where there is no other, a text is right, in both, if nothing of
    it counts. A question with an answer gives an empty text 0.
    """
    counted = [gold for gold in golds if normalise(gold)]
    if counted:
        return best_over_golds(text, counted)
    right = float(not normalise(text))
    return right, right
