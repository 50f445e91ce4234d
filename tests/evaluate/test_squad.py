"""The SQuAD rules against values worked by hand, and against a second way to write them down."""

from __future__ import annotations

import random
import re
import string

import pytest

from xlt.evaluate.squad import best_or_no_answer, best_over_golds, exact_and_f1, normalise


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The Denver Broncos.", ["denver", "broncos"]),
        ("  Denver\tBroncos\n", ["denver", "broncos"]),
        # Punctuation leaves no gap, so an article glued to a word by it is no article any more.
        ("the-end", ["theend"]),
        ("U.S.A.", ["usa"]),
        ("A. Lincoln", ["lincoln"]),
        # Only ASCII punctuation goes; quotes, dashes and full stops of other scripts stay.
        ("«Paris»", ["«paris»"]),
        ("北京。", ["北京。"]),
        ("1990–1995", ["1990–1995"]),
        ("“the”", ["“", "”"]),
        # Articles of other languages stay, and words that begin like an English one.
        ("die Anden", ["die", "anden"]),
        ("another theory", ["another", "theory"]),
        ("10\u00a0000", ["10", "000"]),
        ("ΟΔΟΣ", ["οδος"]),
        ("the a, an", []),
        ("?!", []),
        ("", []),
    ],
)
def test_normalisation(text: str, tokens: list[str]) -> None:
    assert normalise(text) == tokens


@pytest.mark.parametrize(
    ("predicted", "gold", "exact", "f1"),
    [
        ("Denver Broncos", "the Denver Broncos!", 1, 1),
        ("Denver", "Denver Broncos", 0, 2 / 3),
        # A token counts as often as it stands in both.
        ("new new york", "new york", 0, 4 / 5),
        ("new york new york", "new york", 0, 2 / 3),
        ("york new", "new york", 0, 1),
        ("北京", "北京市", 0, 0),
        ("", "Denver", 0, 0),
        ("the", "Denver", 0, 0),
        # Both empty: an exact match, and no token in common.
        ("the", "a", 1, 0),
    ],
)
def test_exact_match_and_f1(predicted: str, gold: str, exact: float, f1: float) -> None:
    assert exact_and_f1(normalise(predicted), normalise(gold)) == pytest.approx((exact, f1))


def test_each_metric_takes_its_own_best_gold_answer() -> None:
    assert best_over_golds("a b", ["c", "b"]) == (1.0, 1.0)
    assert best_over_golds("red blue", ["green", "red", "blue red sky"]) == pytest.approx((0.0, 0.8))


@pytest.mark.parametrize(
    ("predicted", "golds", "right"),
    [
        # Nothing to find: right if and only if nothing that counts is answered.
        ("", [], (1, 1)),
        ("the", [], (1, 1)),
        ("Denver", [], (0, 0)),
        # A gold answer of which nothing counts is none.
        ("", ["the", "?"], (1, 1)),
        ("Denver", ["the"], (0, 0)),
        ("", ["the", "Denver"], (0, 0)),
        # Something to find.
        ("", ["Denver"], (0, 0)),
        ("the Denver", ["Denver"], (1, 1)),
        ("in Denver", ["Denver", "Colorado"], (0, 2 / 3)),
    ],
)
def test_no_answer_by_the_rules_of_v2(predicted: str, golds: list[str], right: tuple[float, float]) -> None:
    assert best_or_no_answer(predicted, golds) == pytest.approx(right)


def test_agrees_with_precision_and_recall_on_random_texts() -> None:
    rng = random.Random(0)
    pieces = [
        "a",
        "an",
        "the",
        "The",
        "cat",
        "Cat.",
        "dog's",
        "dog",
        "-",
        "。",
        "Ärger",
        "x" + string.punctuation,
    ]
    for _ in range(3000):
        predicted, gold = (" ".join(rng.choices(pieces, k=rng.randint(0, 6))) for _ in range(2))
        assert exact_and_f1(normalise(predicted), normalise(gold)) == pytest.approx(_reference(predicted, gold))


def _reference(predicted: str, gold: str) -> tuple[float, float]:
    """Precision and recall by crossing out tokens one at a time."""
    left, right = (_reference_tokens(text) for text in (predicted, gold))
    remaining = list(right)
    for token in left:
        if token in remaining:
            remaining.remove(token)
    shared = len(right) - len(remaining)
    if not shared:
        return float(left == right), 0.0
    precision, recall = shared / len(left), shared / len(right)
    return float(left == right), 2 * precision * recall / (precision + recall)


def _reference_tokens(text: str) -> list[str]:
    bare = re.sub("[" + re.escape(string.punctuation) + "]", "", text.lower())
    return [token for token in bare.split() if token not in ("a", "an", "the")]
