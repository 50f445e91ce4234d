"""The best guess that a bag of words of one text allows: what a task without shortcuts leaves at chance."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from xlt.data.rows import ChoiceRow

Sample = tuple[str, str]  # text, label


def words_of(text: str) -> list[str]:
    """The words without the marks of any script."""
    return [word.rstrip(".?;؟।") for word in text.split()]


def _learned(samples: Sequence[Sample]) -> tuple[Counter[str], dict[str, Counter[str]]]:
    labels: Counter[str] = Counter()
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in samples:
        labels[label] += 1
        words[label].update(set(words_of(text)))
    return labels, words


def _scores(text: str, labels: Counter[str], words: dict[str, Counter[str]]) -> dict[str, float]:
    return {
        label: math.log(count) + sum(math.log((words[label][word] + 1) / (count + 2)) for word in set(words_of(text)))
        for label, count in labels.items()
    }


def guessed_labels(samples: Sequence[Sample]) -> float:
    """Accuracy of naive Bayes, learned on the first half of the samples, on the second half."""
    half = len(samples) // 2
    learned = _learned(samples[:half])
    right = 0
    for text, label in samples[half:]:
        scores = _scores(text, *learned)
        right += max(scores, key=scores.__getitem__) == label
    return right / (len(samples) - half)


def guessed_choices(rows: Sequence[ChoiceRow]) -> float:
    """The same for picking a choice without its prompt."""
    half = len(rows) // 2
    learned = _learned([(c, str(p == row.label)) for row in rows[:half] for p, c in enumerate(row.choices)])
    right = 0
    for row in rows[half:]:
        scores = [_scores(choice, *learned) for choice in row.choices]
        odds = [score["True"] - score["False"] for score in scores]
        right += odds.index(max(odds)) == row.label
    return right / (len(rows) - half)
