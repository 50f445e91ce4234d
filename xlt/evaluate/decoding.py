"""From start and end logits to the best span of each window, and of each example over its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_ANSWER_TOKENS = 30


@dataclass(frozen=True, slots=True)
class WindowSpans:
    """The best span of each of W windows."""

    scores: npt.NDArray[np.float32]
    """Its score ``[W]``: minus infinity where the window has no token of the context."""
    characters: npt.NDArray[np.int64]
    """Its first character and the one after its last, ``[W, 2]``."""
    nulls: npt.NDArray[np.float32]
    """The score of no answer, ``[W]``: the start and end logit of the window's first token."""


def best_spans(
    logits: npt.NDArray[np.float32], offsets: npt.NDArray[np.int32], bounds: npt.NDArray[np.int64]
) -> WindowSpans:
    """The span with the highest start logit plus end logit in each window.

    ``logits [T, 2]`` and ``offsets [T, 2]`` (characters; -1 outside the context) hold the windows end to end,
    ``bounds [W + 1]`` where they begin and end; no window is empty. A span does not end before its start, lies inside
    the context, has at least one character and at most 30 tokens. That limit and the score are from BERT's SQuAD code
    (run_squad.py): raw logits without a softmax, so that windows of one example can be compared. Among equal scores the
    earliest start wins, then the earliest end. Two things differ from BERT's code: all spans are searched, not only
    pairs of the 20 best starts and ends, and a start may lie in a window with little context around it.
    """
    tokens = len(logits)
    inside = offsets[:, 0] < offsets[:, 1]
    start = np.where(inside, logits[:, 0], -np.inf).astype(np.float32)
    end = np.where(inside, logits[:, 1], -np.inf).astype(np.float32)
    window = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    best = np.full(tokens, -np.inf, dtype=np.float32)
    length = np.zeros(tokens, dtype=np.int64)
    # All windows at once, one length of span after another: only a longer span with a higher score replaces a shorter.
    for extra in range(min(MAX_ANSWER_TOKENS, tokens)):
        reach = tokens - extra
        score = start[:reach] + end[extra:]
        better = (score > best[:reach]) & (window[:reach] == window[extra:])
        np.copyto(best[:reach], score, where=better)
        length[:reach][better] = extra
    scores = np.maximum.reduceat(best, bounds[:-1])
    at_best = np.flatnonzero(best == scores[window])
    first = at_best[np.searchsorted(at_best, bounds[:-1])]
    characters = np.stack([offsets[first, 0], offsets[first + length[first], 1]], axis=1).astype(np.int64)
    characters[np.isneginf(scores)] = 0
    return WindowSpans(scores, characters, logits[bounds[:-1]].sum(axis=1))


def best_per_example(
    spans: WindowSpans, example: Sequence[int], examples: int, *, unanswerable: bool = False
) -> WindowSpans:
    """The best window of each example, the earliest among equals; ``example [W]`` is the example of each window.

    An example without a window, or without one that has a token of the context, gets the empty span at 0. With
    ``unanswerable`` questions an example also gets it, and the null score, if its lowest null score is above the score
    of its best span: the rule of BERT's run_squad.py, with its threshold of 0 between the two.
    """
    scores = np.full(examples, -np.inf, dtype=np.float32)
    characters = np.zeros((examples, 2), dtype=np.int64)
    nulls = np.full(examples, np.inf, dtype=np.float32)
    for window, owner in enumerate(example):
        nulls[owner] = min(nulls[owner], spans.nulls[window])
        if spans.scores[window] > scores[owner]:
            scores[owner], characters[owner] = spans.scores[window], spans.characters[window]
    if unanswerable:
        none = np.isfinite(nulls) & (nulls > scores)
        scores[none], characters[none] = nulls[none], 0
    return WindowSpans(scores, characters, nulls)
