"""Span decoding against a search of all pairs of tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xlt.evaluate.decoding import MAX_ANSWER_TOKENS, WindowSpans, best_per_example, best_spans


def _offsets(question: int, context: int) -> npt.NDArray[np.int32]:
    """Offsets of a window: outside, then tokens of three characters and a space, then one token outside."""
    starts = np.arange(context) * 4
    inside = np.stack([starts, starts + 3], axis=1)
    outside = np.full((1, 2), -1)
    return np.concatenate([outside.repeat(question, axis=0), inside, outside]).astype(np.int32)


def _brute_force(logits: npt.NDArray[np.float32], offsets: npt.NDArray[np.int32]) -> tuple[float, tuple[int, int]]:
    best, span = -np.inf, (0, 0)
    for start in range(len(logits)):
        for end in range(start, min(start + MAX_ANSWER_TOKENS, len(logits))):
            score = logits[start, 0] + logits[end, 1]
            if offsets[start, 0] >= 0 and offsets[end, 0] >= 0 and score > best:
                best, span = score, (int(offsets[start, 0]), int(offsets[end, 1]))
    return best, span


def _check(windows: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]]) -> None:
    bounds = np.cumsum([0, *(len(logits) for logits, _ in windows)])
    logits, offsets = (np.concatenate(parts) for parts in zip(*windows, strict=True))
    found = best_spans(logits, offsets, bounds)
    for index, window in enumerate(windows):
        score, span = _brute_force(*window)
        assert found.scores[index] == score
        assert tuple(found.characters[index]) == span


def test_equals_the_search_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        shapes = [(int(rng.integers(1, 12)), int(rng.integers(1, 90))) for _ in range(6)]
        _check([(rng.normal(size=(q + c + 1, 2)).astype(np.float32), _offsets(q, c)) for q, c in shapes])


def test_equal_scores_go_to_the_earliest_start_then_the_earliest_end() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        shapes = [(int(rng.integers(1, 5)), int(rng.integers(1, 50))) for _ in range(6)]
        _check([(rng.integers(0, 2, (q + c + 1, 2)).astype(np.float32), _offsets(q, c)) for q, c in shapes])


def test_thirty_tokens_are_allowed_and_no_more() -> None:
    for length, allowed in ((30, True), (31, False)):
        logits = np.zeros((60, 2), dtype=np.float32)
        logits[5, 0] = logits[5 + length - 1, 1] = 10
        found = best_spans(logits, _offsets(1, 58), np.array([0, 60]))
        assert bool(found.scores[0] == 20) is allowed


def test_a_high_logit_on_the_question_or_before_the_start_is_no_answer() -> None:
    logits = np.zeros((10, 2), dtype=np.float32)
    logits[1], logits[8, 0], logits[4, 1] = 100, 5, 5
    found = best_spans(logits, _offsets(3, 6), np.array([0, 10]))
    assert found.scores[0] == 5
    assert tuple(found.characters[0]) == (0, 7)  # start at token 3, end at token 4


def test_an_answer_does_not_reach_into_the_next_window() -> None:
    logits = np.zeros((4, 2), dtype=np.float32)
    logits[1, 0] = logits[2, 1] = 10
    offsets = np.array([[0, 3], [4, 7], [0, 3], [4, 7]], dtype=np.int32)
    found = best_spans(logits, offsets, np.array([0, 2, 4]))
    assert found.scores.tolist() == [10, 10]
    assert found.characters.tolist() == [[4, 7], [0, 3]]


def test_a_span_holds_a_character() -> None:
    logits = np.array([[0, 0], [9, 9], [1, 1]], dtype=np.float32)
    offsets = np.array([[-1, -1], [4, 4], [4, 7]], dtype=np.int32)
    found = best_spans(logits, offsets, np.array([0, 3]))
    assert found.characters.tolist() == [[4, 7]]


def _with_null(null: float, span: float) -> npt.NDArray[np.float32]:
    return np.array([[null / 2, null / 2], [span / 2, span / 2]], dtype=np.float32)


def test_no_answer_wins_if_every_window_prefers_it_to_the_best_span() -> None:
    # Windows of four examples: the null score must be above the best span in each window, its lowest counts.
    windows = [
        *(_with_null(8, 2), _with_null(6, 4)),
        *(_with_null(8, 2), _with_null(3, 4)),
        _with_null(5, 5),
        _with_null(-3, -4),
    ]
    offsets = np.array([[-1, -1], [4, 7]] * 6, dtype=np.int32)
    found = best_spans(np.concatenate(windows), offsets, np.arange(0, 13, 2))
    owners = [0, 0, 1, 1, 2, 3]
    best = best_per_example(found, owners, 4, unanswerable=True)
    assert best.characters.tolist() == [[0, 0], [4, 7], [4, 7], [0, 0]]
    assert best.scores.tolist() == [6, 4, 5, -3]
    assert best_per_example(found, owners, 4).characters.tolist() == [[4, 7]] * 4


def test_a_window_without_context_never_wins() -> None:
    logits = np.array([[9, 9], [-5, -5]], dtype=np.float32)
    offsets = np.array([[-1, -1], [4, 7]], dtype=np.int32)
    found = best_spans(logits, offsets, np.array([0, 1, 2]))
    assert found.scores.tolist() == [-np.inf, -10]
    best = best_per_example(found, [0, 0], 2)
    assert best.characters.tolist() == [[4, 7], [0, 0]]


def test_the_earliest_of_equal_windows_wins() -> None:
    spans = WindowSpans(
        np.array([1, 3, 3, 2], dtype=np.float32),
        np.array([[0, 1], [10, 12], [20, 22], [5, 6]]),
        np.zeros(4, dtype=np.float32),
    )
    best = best_per_example(spans, [0, 0, 0, 1], 2)
    assert best.characters.tolist() == [[10, 12], [5, 6]]
    assert best.scores.tolist() == [3, 2]
