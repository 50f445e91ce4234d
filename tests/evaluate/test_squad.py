"""The rules of SQuAD and MLQA against values worked by hand, and against a second way to write them down."""

from __future__ import annotations

import random
import re
import string
import unicodedata
from dataclasses import replace

import pytest

from xlt.data.predictions import Prediction
from xlt.data.rows import Answer, SpanRow
from xlt.data.world import WorldSource, languages
from xlt.evaluate.metrics import chance, score
from xlt.evaluate.squad import best_or_no_answer, best_over_golds, exact_and_f1, normalise
from xlt.tasks.catalogue import get_task


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
    ("language", "text", "tokens"),
    [
        ("en", "“The” end—an «A»", ["endan"]),
        ("en", "die la", ["die", "la"]),
        ("de", "Die Straße der EINES „Hauses“ the", ["straße", "hauses", "the"]),
        ("es", "¿El-la? las unas Casas los", ["ella", "casas"]),
        ("vi", "Cái của Hà Nội là những", ["hà", "nội"]),
        # The article goes wherever its letters stand, and leaves a gap.
        ("ar", "الكتاب، والكتاب", ["كتاب", "و", "كتاب"]),
        # No articles, and the danda is punctuation.
        ("hi", "the भारत।", ["the", "भारत"]),
        # Han characters one by one, everything else at white space; 㐀 is outside the official range.
        ("zh", "《北京》 IBM大 the 2008年。", ["北", "京", "ibm", "大", "the", "2008", "年"]),
        ("zh", "㐀鿕 x", ["㐀鿕", "x"]),
        # Languages that MLQA's script does not know.
        ("qaa", "The el 北京。", ["the", "el", "北京"]),
        # A symbol is no punctuation, unless it is one of ASCII's.
        ("qaa", "1€ + 2£ $", ["1€", "2£"]),
    ],
)
def test_normalisation_of_mlqa(language: str, text: str, tokens: list[str]) -> None:
    assert normalise(text, language) == tokens


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


ARTICLES = {
    "en": "a an the",
    "de": "ein eine einen einem eines einer der die das den dem des",
    "es": "un una unos unas el la los las",
    "vi": "của là cái chiếc những",
}
PIECES = "The an der Die ein el LAS una của Là ال والال 北京 IBM北 。 ، ।क „x“ - — + € x-y Ärger ΟΔΟΣ İ 1990–95".split()


@pytest.mark.parametrize("language", ["en", "de", "es", "vi", "ar", "hi", "zh", "qaa"])
def test_mlqa_agrees_with_a_second_formulation_on_random_texts(language: str) -> None:
    rng = random.Random(language)
    for _ in range(1000):
        predicted, gold = (rng.choice(["", " "]).join(rng.choices(PIECES, k=rng.randint(0, 6))) for _ in range(2))
        expected = _reference(predicted, gold, language)
        assert best_over_golds(predicted, [gold], language) == pytest.approx(expected)


@pytest.mark.parametrize("code", languages())
def test_single_words_of_the_constructed_world_score_as_by_the_rules_of_squad(world: WorldSource, code: str) -> None:
    task = get_task("mlqa")
    rng = random.Random(code)
    rows = [row for row in world.rows(task, "test", code) if isinstance(row, SpanRow)][:100]
    given = []
    for row in rows:
        (answer,) = row.answers
        word = rng.choice([answer.text, *re.findall(r"[^\s.।]+", row.context)])
        start = answer.start if word == answer.text else row.context.index(word)
        given.append(Prediction(row.id, (start, start + len(word)), 0.0))
    metrics = score(task, rows, given, code)
    assert task.metric == "mlqa"
    assert metrics == score(replace(task, metric="squad"), rows, given)
    assert 0 < metrics["exact_match"] < 100


def test_punctuation_of_other_scripts_counts_by_the_rules_of_squad_alone() -> None:
    task = get_task("mlqa")
    row = SpanRow("q", "?", "एक दो।", (Answer("दो", 3),))
    given = [Prediction("q", (3, 6), 0.0)]
    assert row.context[3:6] == "दो।"
    assert score(task, [row], given, "hi") == {"exact_match": 100.0, "f1": 100.0}
    assert score(replace(task, metric="squad"), [row], given) == {"exact_match": 0.0, "f1": 0.0}
    assert chance(task, [row], "hi") == {"exact_match": 50.0, "f1": 50.0}


def _reference(predicted: str, gold: str, language: str = "") -> tuple[float, float]:
    """Precision and recall by crossing out tokens one at a time."""
    left, right = (_reference_tokens(text, language) for text in (predicted, gold))
    remaining = list(right)
    for token in left:
        if token in remaining:
            remaining.remove(token)
    shared = len(right) - len(remaining)
    if not shared:
        return float(left == right), 0.0
    precision, recall = shared / len(left), shared / len(right)
    return float(left == right), 2 * precision * recall / (precision + recall)


def _reference_tokens(text: str, language: str) -> list[str]:
    """A letter at a time, then a word at a time."""
    if not language:
        bare = re.sub("[" + re.escape(string.punctuation) + "]", "", text.lower())
        return [token for token in bare.split() if token not in ("a", "an", "the")]
    kept = "".join(c for c in text.lower() if unicodedata.category(c)[0] != "P" and c not in string.punctuation)
    if language == "ar":
        return " ".join(kept.split("ال")).split()
    if language == "zh":
        return "".join(f" {c} " if 0x4E00 <= ord(c) <= 0x9FA5 else c for c in kept).split()
    articles = ARTICLES.get(language, "").split()
    return "".join(" " if piece in articles else piece for piece in re.findall(r"\w+|\W", kept)).split()
