"""What guessing would score, exactly, so that "above chance" is a statement and not an impression."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from xlt.data.rows import PairRow, Row, SpanRow
from xlt.errors import DataFault
from xlt.evaluate.metrics import Metrics
from xlt.evaluate.squad import exact_and_f1, normalise
from xlt.tasks.record import Task

# Han, Kana, Thai, Lao, Myanmar, Khmer: scripts that put no space between words.
_UNSPACED = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
    "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff]"
)

Outcome = tuple[float, float]


def chance(task: Task, rows: Sequence[Row]) -> Metrics:
    """The expected metrics, in percent, of a guess that is uniform over what is possible.

    Pair classification: one label of the task's. Retrieval: one row of ``rows``. Span QA: one of the spans of
    the context that have as many units as the first gold answer, scored by the SQuAD rules against all gold
    answers; a unit is a white-space word, or a character where most letters of the context are of a script
    written without spaces. Nothing is sampled.

    Raises:
        DataFault: there are no rows, or a question has no gold answer.
    """
    if not rows:
        raise DataFault(f"'{task.key}' has no rows: chance is not defined.")
    if task.kind == "pair_classification":
        return {"accuracy": 100 / len(task.labels)}
    if task.kind == "retrieval":
        return {"accuracy": 100 / len(rows)}
    outcomes = np.array([_span_chance(row) for row in rows if isinstance(row, SpanRow)])
    exact, f1 = 100 * outcomes.mean(axis=0)
    return {"exact_match": float(exact), "f1": float(f1)}


def majority(task: Task, rows: Sequence[Row]) -> Metrics | None:
    """Accuracy, in percent, of always giving the most frequent gold label; None where there are no labels."""
    labels = Counter(row.label for row in rows if isinstance(row, PairRow))
    if task.kind != "pair_classification" or not labels:
        return None
    return {"accuracy": 100 * max(labels.values()) / labels.total()}


def binomial_bound(n: int, p: float, level: float = 0.99) -> float:
    """The accuracy in percent that guessing exceeds with a probability of at most ``1 - level``.

    ``n`` examples are guessed, each right with probability ``p`` (0 to 1). An accuracy above is above chance.
    """
    from scipy.stats import binom  # slow to import, and rarely needed

    return float(100 * binom.ppf(level, n, p) / n)


def _span_chance(row: SpanRow) -> Outcome:
    if not row.answers:
        raise DataFault(f"Question '{row.id}' has no gold answer: chance is not defined.")
    golds = [normalise(answer.text) for answer in row.answers]
    if _is_unspaced(row.context):
        return _over_characters(row.context, len(row.answers[0].text), golds)
    return _over_words(row.context, len(row.answers[0].text.split()), golds)


@lru_cache(maxsize=4096)
def _is_unspaced(context: str) -> bool:
    unspaced = len(_UNSPACED.findall(context))
    return unspaced > sum(letter.isalpha() for letter in _UNSPACED.sub("", context))


def _over_characters(context: str, length: int, golds: Sequence[list[str]]) -> Outcome:
    """Mean outcome over all substrings of ``length`` characters (the whole context if it is shorter)."""
    length = max(1, min(length, len(context)))
    count = len(context) - length + 1
    starts: Sequence[int] = range(count)
    if all(golds):
        # Only a span that holds a gold token can score; normalising every span would take minutes.
        text, firsts = _skeleton(context)
        wanted = [_one_sigma(token) for token in {token for gold in golds for token in gold}]
        starts = [
            start for start in starts if any(token in text[firsts[start] : firsts[start + length]] for token in wanted)
        ]
    total_exact = total_f1 = 0.0
    for start in starts:
        predicted = normalise(context[start : start + length])
        outcomes = [exact_and_f1(predicted, gold) for gold in golds]
        total_exact += max(exact for exact, _ in outcomes)
        total_f1 += max(f1 for _, f1 in outcomes)
    return total_exact / count, total_f1 / count


@lru_cache(maxsize=4096)
def _skeleton(context: str) -> tuple[str, list[int]]:
    """The context in lower case without punctuation, and where in it each character begins, and the end.

    Every token of a normalised span is a substring of the span's part of it.
    """
    kept = ["" if letter in string.punctuation else _one_sigma(letter.lower()) for letter in context]
    return "".join(kept), [0, *accumulate(len(part) for part in kept)]


def _one_sigma(text: str) -> str:
    # The one letter whose lower case depends on its neighbours, and so on where a span is cut.
    return text.replace("ς", "σ")


def _over_words(context: str, length: int, golds: Sequence[list[str]]) -> Outcome:
    """Mean outcome over all runs of ``length`` white-space words (the whole context if it has fewer).

    Lower case, punctuation and articles look at nothing beyond white space, so a span's tokens are those of
    its words, and sums over words give every span at once.
    """
    tokens, firsts = _words(context)
    words = len(firsts) - 1
    if not words:
        return 0.0, 0.0
    length = max(1, min(length, words))
    begins, ends = firsts[: words - length + 1], firsts[length:]
    sizes = ends - begins
    exact = np.zeros(len(sizes), dtype=bool)
    f1 = np.zeros(len(sizes))
    for gold in golds:
        shared = np.zeros(len(sizes), dtype=np.int64)
        for token, times in Counter(gold).items():
            seen = np.concatenate([[0], np.cumsum(tokens == token)])
            shared += np.minimum(seen[ends] - seen[begins], times)
        f1 = np.maximum(f1, 2 * shared / np.maximum(sizes + len(gold), 1))
        for span in np.flatnonzero((shared == sizes) & (sizes == len(gold))):
            exact[span] |= list(tokens[begins[span] : ends[span]]) == gold
    return float(exact.mean()), float(f1.mean())


@lru_cache(maxsize=4096)
def _words(context: str) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """The normalised tokens of a context, and where among them each white-space word begins, and the end."""
    per_word = [normalise(word) for word in context.split()]
    tokens = np.array([token for word in per_word for token in word], dtype=object)
    return tokens, np.cumsum([0, *(len(word) for word in per_word)])
