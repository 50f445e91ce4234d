"""What guessing would score, exactly, so that "above chance" is a statement and not an impression."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from statistics import fmean

import numpy as np
import numpy.typing as npt

from xlt.data.predictions import Prediction
from xlt.data.rows import ChoiceRow, MiningRow, PairRow, Row, SpanRow, TagRow
from xlt.errors import DataFault
from xlt.evaluate.cell import gold_pairs
from xlt.evaluate.metrics import Metrics, score, task_score
from xlt.evaluate.squad import bare, best_or_no_answer, exact_and_f1, normalise
from xlt.tasks.record import Task

# Han, Kana, Thai, Lao, Myanmar, Khmer: scripts that put no space between words.
_UNSPACED = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
    "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff]"
)

Outcome = tuple[float, float]


def chance(task: Task, rows: Sequence[Row], language: str = "en") -> Metrics:
    """The expected metrics, in percent, of a guess that is uniform over what is possible, but in tagging.

    Pair classification: one label of the task's. Multiple choice: one of the choices. Tagging: the most frequent
    tag of ``rows`` for every word, which a uniform guess stays below. Retrieval: one row of ``rows``. Mining: one
    English sentence for every foreign one. Span QA: one of the spans of the context that have as many units as the
    first gold answer, scored by the rules of SQuAD, or of MLQA in ``language``, against all gold answers; a unit is a
    white-space word, or a character where most letters of the context are of a script written without spaces; of
    SQuAD v2.0 every other question is guessed to have no answer (and no span to count as none). Nothing is sampled.

    Raises:
        DataFault: there are no rows, a question has no gold answer (SQuAD v2.0 aside), or nothing is to be mined.
    """
    if not rows:
        raise DataFault(f"'{task.key}' has no rows: chance is not defined.")
    if task.kind == "pair_classification":
        return {"accuracy": 100 / len(task.labels)}
    if task.kind == "multiple_choice":
        return {"accuracy": 100 * fmean(1 / len(row.choices) for row in rows if isinstance(row, ChoiceRow))}
    if task.kind == "tagging":
        return _most_frequent_tag(task, rows)
    if task.metric == "mining_f1":
        return _mining_chance(task, rows)
    if task.kind == "retrieval":
        return {"accuracy": 100 / len(rows)}
    mlqa = language if task.metric == "mlqa" else ""
    outcomes = np.array([_span_chance(task, row, mlqa) for row in rows if isinstance(row, SpanRow)])
    exact, f1 = 100 * outcomes.mean(axis=0)
    return {"exact_match": float(exact), "f1": float(f1)}


def majority(task: Task, rows: Sequence[Row]) -> Metrics | None:
    """The metrics, in percent, of always giving the most frequent gold label; None where there is nothing to repeat.

    That is a class of pairs, a tag, the number of a choice, or no answer (SQuAD v2.0).
    """
    if task.kind == "tagging":
        return _most_frequent_tag(task, rows)
    if task.metric == "squad_v2":
        golds = [[answer.text for answer in row.answers] for row in rows if isinstance(row, SpanRow)]
        right = 100 * fmean(best_or_no_answer("", each)[0] for each in golds)
        return {"exact_match": right, "f1": right}
    labels = Counter(row.label for row in rows if isinstance(row, PairRow | ChoiceRow))
    return {"accuracy": 100 * max(labels.values()) / labels.total()} if labels else None


def better_guess(task: Task, *guesses: Metrics | None) -> Metrics:
    """Of the guesses that there are, ``chance`` and ``majority``, the one that scores higher.

    "Above chance" is above this one: where labels are uneven, always giving the most frequent one beats a uniform
    guess without any knowledge.
    """
    return max((each for each in guesses if each), key=lambda each: task_score(task, each))


def counted(task: Task, metrics: Metrics) -> float:
    """The metric, in percent, that is a share of things that are each right or wrong (see ``trials``)."""
    if task.metric == "mining_f1":
        return metrics["recall"]
    return metrics["exact_match" if task.kind == "span_qa" else "accuracy"]


def trials(task: Task, rows: Sequence[Row]) -> int:
    """How many things ``counted`` is a share of: words in tagging, gold pairs in mining, else rows."""
    if task.kind == "tagging":
        return sum(len(row.words) for row in rows if isinstance(row, TagRow))
    return len(gold_pairs(rows)) if task.metric == "mining_f1" else len(rows)


def binomial_bound(n: int, p: float, level: float = 0.99) -> float:
    """The accuracy in percent that guessing exceeds with a probability of at most ``1 - level``.

    ``n`` examples are guessed, each right with probability ``p`` (0 to 1). An accuracy above is above chance.
    """
    from scipy.stats import binom  # slow to import, and rarely needed

    return float(100 * binom.ppf(level, n, p) / n)


def _most_frequent_tag(task: Task, rows: Sequence[Row]) -> Metrics:
    sentences = [row for row in rows if isinstance(row, TagRow)]
    tags = Counter(tag for row in sentences for tag in row.tags)
    tag = max(tags, key=tags.__getitem__, default="")
    return score(task, rows, [Prediction(row.id, " ".join([tag] * len(row.words)), 0.0) for row in sentences])


def _mining_chance(task: Task, rows: Sequence[Row]) -> Metrics:
    """Each gold pair is found with the chance of one English sentence among all; F1 divides by a fixed number."""
    pairs = len(gold_pairs(rows))
    english = sum(isinstance(row, MiningRow) and row.english for row in rows)
    if not pairs:
        raise DataFault(f"'{task.key}' has no gold pairs: chance is not defined.")
    foreign, found = len(rows) - english, pairs / english
    return {
        "f1": 200 * found / (foreign + pairs),
        "precision": 100 * found / foreign,
        "recall": 100 / english,
    }


def _span_chance(task: Task, row: SpanRow, mlqa: str) -> Outcome:
    golds = [normalise(answer.text, mlqa) for answer in row.answers]
    if task.metric == "squad_v2":
        golds = [gold for gold in golds if gold]
        if not golds:
            return 0.5, 0.5
    if not golds:
        raise DataFault(f"Question '{row.id}' has no gold answer: chance is not defined.")
    if _is_unspaced(row.context):
        exact, f1 = _over_characters(row.context, len(row.answers[0].text), golds, mlqa)
    else:
        exact, f1 = _over_words(row.context, len(row.answers[0].text.split()), golds, mlqa)
    return (exact / 2, f1 / 2) if task.metric == "squad_v2" else (exact, f1)


@lru_cache(maxsize=4096)
def _is_unspaced(context: str) -> bool:
    unspaced = len(_UNSPACED.findall(context))
    return unspaced > sum(letter.isalpha() for letter in _UNSPACED.sub("", context))


def _over_characters(context: str, length: int, golds: Sequence[list[str]], mlqa: str) -> Outcome:
    """Mean outcome over all substrings of ``length`` characters (the whole context if it is shorter)."""
    length = max(1, min(length, len(context)))
    count = len(context) - length + 1
    starts: Sequence[int] = range(count)
    if all(golds):
        # Only a span that holds a gold token can score; normalising every span would take minutes.
        text, firsts = _skeleton(context, mlqa)
        wanted = [_one_sigma(token) for token in {token for gold in golds for token in gold}]
        starts = [
            start for start in starts if any(token in text[firsts[start] : firsts[start + length]] for token in wanted)
        ]
    total_exact = total_f1 = 0.0
    for start in starts:
        predicted = normalise(context[start : start + length], mlqa)
        outcomes = [exact_and_f1(predicted, gold) for gold in golds]
        total_exact += max(exact for exact, _ in outcomes)
        total_f1 += max(f1 for _, f1 in outcomes)
    return total_exact / count, total_f1 / count


@lru_cache(maxsize=4096)
def _skeleton(context: str, mlqa: str) -> tuple[str, list[int]]:
    """The context in lower case without punctuation, and where in it each character begins, and the end.

    Every token of a normalised span is a substring of the span's part of it.
    """
    kept = [_one_sigma(bare(letter, mlqa)) for letter in context]
    return "".join(kept), [0, *accumulate(len(part) for part in kept)]


def _one_sigma(text: str) -> str:
    # The one letter whose lower case depends on its neighbours, and so on where a span is cut.
    return text.replace("ς", "σ")


def _over_words(context: str, length: int, golds: Sequence[list[str]], mlqa: str) -> Outcome:
    """Mean outcome over all runs of ``length`` white-space words (the whole context if it has fewer).

    Lower case, punctuation and articles look at nothing beyond white space, so a span's tokens are those of
    its words, and sums over words give every span at once.
    """
    tokens, firsts = _words(context, mlqa)
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
def _words(context: str, mlqa: str) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """The normalised tokens of a context, and where among them each white-space word begins, and the end."""
    per_word = [normalise(word, mlqa) for word in context.split()]
    tokens = np.array([token for word in per_word for token in word], dtype=object)
    return tokens, np.cumsum([0, *(len(word) for word in per_word)])
