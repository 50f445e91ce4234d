"""A search for the worst case asks no more than its budget, finds what a blind one does not, and leaves gold alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.data.test_noise import TEXTS
from tests.data.test_perturb import LEXICON, rows_of
from xlt.data.perturb import Perturbation, Perturber
from xlt.data.predictions import Prediction
from xlt.data.rows import PairRow, Row, SpanRow, TagRow
from xlt.errors import DataFault
from xlt.evaluate.worst_case import Predict, worst_case
from xlt.tasks.catalogue import get_task

TEXT = "abcdefghijklmnopqrstuvwx"
Sure = Callable[[str], float]  # of the right label, by the first text


def searching(budget: int, kind: str = "case", severity: float = 0.25) -> Perturber:
    return Perturber(Perturbation(kind, severity, budget, search=True), LEXICON)


def model(sure: Sure, asked: list[list[Row]]) -> Predict:
    def predict(rows: Sequence[Row]) -> list[Prediction]:
        asked.append(list(rows))
        found = []
        for row in rows:
            assert isinstance(row, PairRow)
            right = sure(row.text_a)
            label = row.label if right > 0.5 else "contradiction"
            found.append(Prediction(row.id, label, max(right, 1 - right)))
        return found

    return predict


def capitals(text: str) -> int:
    """How many of the first eight letters are capitals."""
    return sum(letter.isupper() for letter in text[:8])


def searched(rows: Sequence[PairRow], sure: Sure, perturber: Perturber) -> tuple[list[Prediction], list[list[Row]]]:
    asked: list[list[Row]] = []
    return worst_case(rows, get_task("xnli"), "de", perturber, model(sure, asked)), asked


def test_a_search_goes_where_the_model_is_less_sure_and_ends_where_it_is_wrong() -> None:
    # Each of eight letters of 24 takes a tenth: six of them make the answer wrong, and a draw has two on average.
    row, perturber = PairRow("7", TEXT, "1 2 3", "neutral"), searching(100)
    assert (perturber.room(row), perturber.most(24)) == (24, 11)
    (found,), asked = searched([row], lambda text: 1.0 - 0.09 * capitals(text), perturber)
    assert found.prediction == "contradiction"
    assert len(asked) < 100
    # What it asked about last is what it found, and its id says which edits that is.
    (worst,) = perturber.found([row], [found.id])
    assert (worst,) == tuple(asked[-1])
    assert isinstance(worst, PairRow)
    assert (capitals(worst.text_a), worst.text_b) == (6, row.text_b)
    # The hundred that a draw at random tries have not so many.
    drawn = Perturber(Perturbation("case", 0.25, 100), {}).rows([row])
    assert max(capitals(each.text_a) for each in drawn) < 6  # type: ignore[union-attr]
    again, _ = searched([row], lambda text: 1.0 - 0.09 * capitals(text), perturber)
    assert again == [found]


def test_a_search_asks_no_more_than_its_budget_and_all_rows_at_once() -> None:
    rows = [PairRow(str(number), TEXT[number:], "1", "neutral") for number in range(5)]
    _, asked = searched(rows, lambda text: 0.9, searching(7))
    assert [len(each) for each in asked] == [5] * 7
    assert asked[0] == [PairRow(f"{row.id}~", row.text_a, row.text_b, row.label) for row in rows]
    # One that is wrong as it is is asked about once, and so is one that has no place for the noise.
    rows = [PairRow("1", TEXT, "1", "neutral"), PairRow("2", "123", "1", "neutral"), PairRow("3", "x", "1", "neutral")]
    found, asked = searched(rows, lambda text: 0.2 if text == TEXT else 0.9, searching(7))
    assert [len(each) for each in asked] == [3, *[1] * 6]
    assert [each.id for each in found[:2]] == ["1~", "2~"]
    # A row does not depend on the others.
    alone, _ = searched(rows[2:], lambda text: 0.9, searching(7))
    assert alone == found[2:]


@pytest.mark.parametrize("kind", ["letter-swap", "letter-drop", "word-repeat", "word-swap", "code-mixing"])
def test_gold_survives_any_combination_of_edits_in_every_script(kind: str) -> None:
    for text in TEXTS.values():
        for row in rows_of(text)[:4]:
            perturber = searching(4, kind, 1.0)
            room = perturber.room(row)
            for numbers in ((), range(0, room, 2), range(room)):
                (found,) = perturber.found([row], [perturber.edited(row, numbers).id])
                match row, found:
                    case SpanRow(), SpanRow():
                        for answer, before in zip(found.answers, row.answers, strict=True):
                            assert answer.text == before.text
                            assert found.context[answer.start : answer.start + len(answer.text)] == answer.text
                    case TagRow(), TagRow():
                        pairs = {*zip(row.words, row.tags, strict=True)}
                        assert (
                            kind not in ("word-repeat", "word-swap")
                            or {*zip(found.words, found.tags, strict=True)} <= pairs
                        )
                        assert len(found.words) == len(found.tags)
    # All edits made are those of a draw with all of them.
    row = PairRow("1", TEXTS["Latin"], TEXTS["Cyrillic"], "neutral")
    whole, (drawn,) = searching(2, kind, 1.0), Perturber(Perturbation(kind, 1.0), LEXICON).rows([row])
    edited = whole.edited(row, range(whole.room(row)))
    assert (edited.text_a, edited.text_b) == (drawn.text_a, drawn.text_b)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "id_", ["7", "7~99", "7~2.1", "7~1.1", "7~x", "7~01", "8~1", "7~" + ".".join(map(str, range(12)))]
)
def test_predictions_that_no_search_ends_with_are_refused(id_: str) -> None:
    row = PairRow("7", TEXT, "1", "neutral")
    assert len(searching(4).found([row], ["7~1.2"])) == 1
    with pytest.raises(DataFault):
        searching(4).found([row], [id_])
    with pytest.raises(DataFault, match="no row '8'"):
        searching(4).found([row], ["7~1", "8~"])
