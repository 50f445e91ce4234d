"""Chance, exactly: against enumerations of every span."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from xlt.data.rows import Answer, BitextRow, PairRow, Row, SpanRow
from xlt.errors import DataFault
from xlt.evaluate.chance import binomial_bound, chance, majority
from xlt.evaluate.squad import best_over_golds
from xlt.tasks.catalogue import get_task

XNLI, XQUAD, TATOEBA = get_task("xnli"), get_task("xquad"), get_task("tatoeba")


def _row(context: str, *answers: str) -> SpanRow:
    return SpanRow("q", "?", context, tuple(Answer(text, context.find(text)) for text in answers))


def _enumerated(spans: list[str], row: SpanRow) -> dict[str, Any]:
    outcomes = np.array([best_over_golds(span, [answer.text for answer in row.answers]) for span in spans])
    exact, f1 = 100 * outcomes.mean(axis=0)
    return {"exact_match": pytest.approx(exact), "f1": pytest.approx(f1)}


def test_labels_and_retrieval() -> None:
    rows: list[Row] = [PairRow(str(i), "a", "b", label) for i, label in enumerate(["neutral"] * 3 + ["entailment"])]
    assert chance(XNLI, rows) == {"accuracy": pytest.approx(100 / 3)}
    assert majority(XNLI, rows) == {"accuracy": 75.0}
    bitext: list[Row] = [BitextRow(str(i), "x", "y") for i in range(8)]
    assert chance(TATOEBA, bitext) == {"accuracy": 12.5}
    assert majority(TATOEBA, bitext) is None
    assert majority(XQUAD, [_row("a b", "a")]) is None


def test_a_span_worked_by_hand() -> None:
    # Two-word spans: "the cat" (F1 2/3 of "black cat"), "cat saw", "saw black", "black cat" (exact), "cat ."
    row = _row("The cat saw black cat .", "black cat")
    halves = [2 / 3, 1 / 2, 1 / 2, 1, 2 / 3]
    assert chance(XQUAD, [row]) == {"exact_match": pytest.approx(20), "f1": pytest.approx(20 * sum(halves))}


def test_word_spans_equal_their_enumeration() -> None:
    rng = random.Random(0)
    words = [
        "The",
        "cat",
        "cat.",
        "a",
        "an",
        "«the»",
        "dog-house",
        "!",
        "ΟΔΟΣ",
        "οδός,",
        "10\u00a0000",
        "İz",
        "x",
    ]
    for _ in range(200):
        context = " ".join(rng.choices(words, k=rng.randint(1, 25)))
        units = context.split()
        size = rng.randint(1, min(4, len(units)))
        begin = rng.randint(0, len(units) - size)
        row = _row(context, " ".join(units[begin : begin + size]), *rng.choices(words, k=rng.randint(0, 2)))
        spans = [" ".join(units[i : i + size]) for i in range(len(units) - size + 1)]
        assert chance(XQUAD, [row]) == _enumerated(spans, row)


@pytest.mark.parametrize("letters", ["北京在中国。 a the1,", "กขคงจ ฉ2.", "ひらがなカ、ー", "ខ្មែរ ", "မြန်မာ", "北ΣΟς"])
def test_scripts_without_spaces_are_cut_at_characters(letters: str) -> None:
    rng = random.Random(0)
    for _ in range(100):
        # More than half of it is the unspaced script's first letter.
        parts = rng.choices(letters, k=rng.randint(1, 30))
        parts += letters[0] * (len(parts) + 1)
        rng.shuffle(parts)
        context = "".join(parts)
        size = rng.randint(1, min(5, len(context)))
        begin = rng.randint(0, len(context) - size)
        row = _row(context, context[begin : begin + size], rng.choice(context))
        spans = [context[i : i + size] for i in range(len(context) - size + 1)]
        expected = _enumerated(spans, row)
        assert chance(XQUAD, [row]) == expected


def test_a_few_foreign_words_do_not_change_the_unit() -> None:
    # Latin text that mentions a Chinese name is cut at words: three spans of one word.
    assert chance(XQUAD, [_row("Beijing (北京) lies", "lies")])["exact_match"] == pytest.approx(100 / 3)
    # Chinese text that mentions a Latin name is cut at characters: ten of them.
    assert chance(XQUAD, [_row("北京市在中国IBM北", "市")])["exact_match"] == pytest.approx(10)


def test_questions_are_averaged() -> None:
    rows: list[Row] = [_row("one two", "one"), _row("one two three four", "one")]
    assert chance(XQUAD, rows)["exact_match"] == pytest.approx(37.5)


def test_an_answer_longer_than_the_context_is_guessed_as_the_whole_context() -> None:
    assert chance(XQUAD, [_row("one two", "one two three")])["f1"] == pytest.approx(80)


def test_refusals() -> None:
    with pytest.raises(DataFault, match="'xquad' has no rows"):
        chance(XQUAD, [])
    with pytest.raises(DataFault, match="Question 'q' has no gold answer"):
        chance(XQUAD, [_row("text")])


def test_the_binomial_bound_is_the_smallest_with_that_level() -> None:
    # Ten coin tosses: P(X <= 8) = 1013/1024 = 0.9893, P(X <= 9) = 0.9990.
    assert binomial_bound(10, 0.5) == 90.0
    assert binomial_bound(10, 0.5, level=0.98) == 80.0
    assert 33.4 < binomial_bound(5010, 1 / 3) < 35.0
