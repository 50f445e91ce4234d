"""Chance, exactly: against enumerations of every span."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import numpy as np
import pytest

from xlt.data.predictions import Prediction
from xlt.data.rows import Answer, BitextRow, ChoiceRow, MiningRow, PairRow, Row, SpanRow, TagRow
from xlt.errors import DataFault
from xlt.evaluate.chance import binomial_bound
from xlt.evaluate.metrics import better_guess, binomial_metric, chance, majority, n_trials, score
from xlt.evaluate.pair_f1 import gold_pairs, pair_f1
from xlt.evaluate.squad import best_or_no_answer, best_over_golds
from xlt.tasks.catalogue import get_task

XNLI, XQUAD, TATOEBA = get_task("xnli"), get_task("xquad"), get_task("tatoeba")


def _row(context: str, *answers: str) -> SpanRow:
    return SpanRow("q", "?", context, tuple(Answer(text, context.find(text)) for text in answers))


def _enumerated(spans: list[str], row: SpanRow, mlqa: str = "") -> dict[str, Any]:
    outcomes = np.array([best_over_golds(span, [answer.text for answer in row.answers], mlqa) for span in spans])
    exact, f1 = 100 * outcomes.mean(axis=0)
    return {"exact_match": pytest.approx(exact), "f1": pytest.approx(f1)}


def test_labels_and_retrieval() -> None:
    rows: list[Row] = [PairRow(str(i), "a", "b", label) for i, label in enumerate(["neutral"] * 3 + ["entailment"])]
    assert chance(XNLI, rows) == {"accuracy": pytest.approx(100 / 3)}
    assert majority(XNLI, rows) == {"accuracy": 75.0}
    assert (n_trials(XNLI, rows), binomial_metric(XNLI, {"accuracy": 75.0})) == (4, 75.0)
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


@pytest.mark.parametrize("language", ["zh", "ar", "de", "qaa"])
def test_by_the_rules_of_mlqa_the_spans_are_the_same(language: str) -> None:
    rng = random.Random(language)
    words = ["北京市在", "中国。", "北I"] if language == "zh" else ["الكتاب،", "بال", "die", "«Der", "the", "x-ال", "—"]
    joint = "" if language == "zh" else " "
    for _ in range(60):
        context = joint.join(rng.choices(words, k=rng.randint(4, 12)))
        units = context.split() if joint else [*context]
        begin = rng.randint(0, len(units) - 2)
        row = _row(context, joint.join(units[begin : begin + 2]), rng.choice(units))
        spans = [joint.join(units[i : i + 2]) for i in range(len(units) - 1)]
        assert chance(get_task("mlqa"), [row], language) == _enumerated(spans, row, language)


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
    assert chance(XQUAD, [_row("  ", "one")]) == {"exact_match": 0, "f1": 0}  # no word to draw


def test_choices_equal_the_enumeration_of_all_guesses() -> None:
    task = get_task("commonsenseqa")
    rows: list[Row] = [ChoiceRow(str(n), "p", ("x",) * n, n % 2) for n in (2, 3, 5)]
    guesses = product(*(range(n) for n in (2, 3, 5)))
    accuracies = [
        score(task, rows, [Prediction(row.id, str(each), 0.0) for row, each in zip(rows, guess, strict=True)])
        for guess in guesses
    ]
    assert chance(task, rows)["accuracy"] == pytest.approx(np.mean([each["accuracy"] for each in accuracies]))
    assert majority(task, rows) == {"accuracy": pytest.approx(200 / 3)}  # always the second choice


def test_tagging_is_the_best_single_tag_and_where_that_finds_nothing_the_tags_of_the_next_sentence() -> None:
    task = get_task("udpos")
    rng = random.Random(0)
    rows: list[Row] = [
        TagRow(str(n), ("w",) * n, tuple(rng.choices(["NOUN", "VERB", "X"], weights=[5, 3, 1], k=n)))
        for n in range(1, 9)
    ]
    single = [
        score(task, rows, [Prediction(str(n), " ".join([tag] * n), 0.0) for n in range(1, 9)]) for tag in task.labels
    ]
    assert majority(task, rows) == max(single, key=lambda each: each["accuracy"])
    assert chance(task, rows)["accuracy"] == max(each["accuracy"] for each in single)
    assert n_trials(task, rows) == 36
    assert binomial_metric(task, chance(task, rows)) == chance(task, rows)["accuracy"]
    # Nearly every word is outside of names: always saying so finds no name.
    task = get_task("panx")
    sentences = ("O B-PER O", "B-LOC O", "O O B-LOC O", "O B-PER")
    names: list[Row] = [TagRow(each, tuple(each.split()), tuple(each.split())) for each in sentences]
    assert majority(task, names) == {"accuracy": pytest.approx(700 / 11), "f1": 0, "precision": 0, "recall": 0}
    # B-LOC O B-LOC; O O; O B-PER O B-PER; O B-PER: one of five names is right, and there are four.
    found = {"f1": pytest.approx(200 / 9), "precision": 20.0, "recall": 25.0}
    assert chance(task, names) == {"accuracy": majority(task, names)["accuracy"], **found}
    assert binomial_metric(task, better_guess(task, chance(task, names), majority(task, names))) > 63
    assert chance(task, names[:1])["f1"] == 100  # the only sentence is its own next: nothing to guess by


def test_every_other_question_is_guessed_to_have_no_answer() -> None:
    task = get_task("squad_v2")
    answerable, nothing = _row("The cat saw a black cat", "black cat", "the"), _row("some text")
    words = answerable.context.split()
    spans = [*[" ".join(words[i : i + 2]) for i in range(5)], *[""] * 5]
    outcomes = np.array([best_or_no_answer(span, ["black cat", "the"]) for span in spans])
    exact, f1 = 100 * outcomes.mean(axis=0)
    assert chance(task, [answerable]) == {"exact_match": pytest.approx(exact), "f1": pytest.approx(f1)}
    assert chance(task, [nothing]) == chance(task, [_row("the text", "the")]) == {"exact_match": 50, "f1": 50}
    both = chance(task, [answerable, nothing])
    assert both == {"exact_match": pytest.approx((exact + 50) / 2), "f1": pytest.approx((f1 + 50) / 2)}
    assert binomial_metric(task, both) == both["exact_match"]
    assert n_trials(task, [answerable, nothing]) == 2
    # Never answering is right for both questions whose gold is nothing that counts.
    rows: list[Row] = [answerable, nothing, _row("the text", "the"), answerable]
    assert majority(task, rows) == {"exact_match": 50.0, "f1": 50.0}
    assert better_guess(task, chance(task, rows), majority(task, rows)) == {"exact_match": 50.0, "f1": 50.0}
    assert better_guess(task, chance(task, [answerable]), majority(task, [answerable])) == chance(task, [answerable])


def test_mining_equals_the_enumeration_of_all_pairings() -> None:
    task = get_task("bucc2018")
    matches: dict[str, tuple[str, ...]] = {"f0": ("e2",), "f1": (), "f2": ("e0", "e1")}
    rows: list[Row] = [MiningRow(f"e{n}", "x", True) for n in range(4)]
    rows += [MiningRow(id_, "x", False, found) for id_, found in matches.items()]
    outcomes = [
        pair_f1(gold_pairs(rows), [(id_, f"e{english}") for id_, english in zip(matches, pairing, strict=True)])
        for pairing in product(range(4), repeat=3)
    ]
    expected = {name: pytest.approx(np.mean([each[name] for each in outcomes])) for name in outcomes[0]}
    guessed = chance(task, rows)
    assert guessed == expected
    assert binomial_metric(task, guessed) == 25
    assert n_trials(task, rows) == 3
    with pytest.raises(DataFault, match="no gold pairs"):
        chance(task, [rows[0], rows[5]])


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
