"""What guessing a span would score, exactly, so that "above chance" is a statement and not an impression."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from xlt.data.rows import Row, SpanRow
from xlt.errors import DataFault
from xlt.evaluate.squad import bare, exact_and_f1, normalise

# Han, Kana, Thai, Lao, Myanmar, Khmer: scripts that put no space between words.
_UNSPACED = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
    "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff]"
)

Outcome = tuple[float, float]


def binomial_bound(n: int, p: float, level: float = 0.99) -> float:
    """The accuracy, in percent, that guessing exceeds with a probability of at most ``1 - level``.

    ``n`` examples are guessed, each right with probability ``p`` (0 to 1). An accuracy above is above chance.
    """
    from scipy.stats import binom  # slow to import, and rarely needed

    return float(100 * binom.ppf(level, n, p) / n)


def span_chance(rows: Sequence[Row], mlqa: str = "", *, unanswerable: bool = False) -> dict[str, float]:
    """The expected exact match and F1, in percent, of a span of the context drawn at random.

    The span has as many units as the first gold answer and is scored against all of them, by the rules of SQuAD or, in
    the language ``mlqa``, of MLQA. A unit is a white-space word, or a character where most letters of the context are
    of a script written without spaces. Where questions can be ``unanswerable`` (SQuAD v2.0), every other one is guessed
    to have no answer. No span is taken for none. All spans are scored; nothing is sampled.

    Raises:
        DataFault: a question has no gold answer and cannot be unanswerable.
    """
    outcomes = np.array([_outcome(row, mlqa, unanswerable) for row in rows if isinstance(row, SpanRow)])
    exact, f1 = 100 * outcomes.mean(axis=0)
    return {"exact_match": float(exact), "f1": float(f1)}


def _outcome(row: SpanRow, mlqa: str, unanswerable: bool) -> Outcome:
    golds = [normalise(answer.text, mlqa) for answer in row.answers]
    if unanswerable:
        golds = [gold for gold in golds if gold]
        if not golds:
            return 0.5, 0.5
    if not golds:
        raise DataFault(f"Question '{row.id}' has no gold answer: chance is not defined.")
    if _is_unspaced(row.context):
        exact, f1 = _over_characters(row.context, len(row.answers[0].text), golds, mlqa)
    else:
        exact, f1 = _over_words(row.context, len(row.answers[0].text.split()), golds, mlqa)
    return (exact / 2, f1 / 2) if unanswerable else (exact, f1)


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
        # Only a span that holds a gold token can score, and looking for one is fast; to normalise every span of a long
        # context would take minutes. Where a gold answer has no token that counts, a span without any is right as well,
        # so that every span has to be scored.
        text, firsts = _skeleton(context, mlqa)
        wanted = [_one_sigma(token) for token in {token for gold in golds for token in gold}]
        starts = [
            start for start in starts if any(token in text[firsts[start] : firsts[start + length]] for token in wanted)
        ]
    total_exact = total_f1 = 0.0  # spans that were left out add nothing to either
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
    # Sigma is the one letter whose lower case depends on its neighbours, and so on where a span is cut.
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
        # Tokens that each span shares with the gold answer, repeated ones as often as both have them: for each gold
        # token the running count up to the span's end, minus that up to its begin.
        shared = np.zeros(len(sizes), dtype=np.int64)
        for token, times in Counter(gold).items():
            seen = np.concatenate([[0], np.cumsum(tokens == token)])
            shared += np.minimum(seen[ends] - seen[begins], times)
        f1 = np.maximum(f1, 2 * shared / np.maximum(sizes + len(gold), 1))
        # As many shared tokens as both have is an exact match only if their order is the same.
        for span in np.flatnonzero((shared == sizes) & (sizes == len(gold))):
            exact[span] |= list(tokens[begins[span] : ends[span]]) == gold
    return float(exact.mean()), float(f1.mean())


@lru_cache(maxsize=4096)
def _words(context: str, mlqa: str) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """The normalised tokens of a context, and where among them each white-space word begins, and the end."""
    per_word = [normalise(word, mlqa) for word in context.split()]
    tokens = np.array([token for word in per_word for token in word], dtype=object)
    return tokens, np.cumsum([0, *(len(word) for word in per_word)])
