"""Languages by tasks: their order from English away, their numbers, and what is below English."""

from __future__ import annotations

import pytest

from tests.verify.core_results import metrics_for
from xlt.tasks.catalogue import TARGET, get_task
from xlt.tasks.xtreme_r import XTREME_R_TARGET
from xlt.verify.cells import Cell
from xlt.verify.heat import HeatTable, gap_tables, nearness, read_languages, score_tables
from xlt.verify.tables import LanguageTable


def _table(task: str, split: str, scores: dict[tuple[str, str], float]) -> LanguageTable:
    cells = {
        (arm, code): Cell(
            arm=arm,
            task=task,
            split=split,
            language=code,
            metrics=metrics_for(get_task(task), score),
            chance=metrics_for(get_task(task), 33.0),
            majority=None,
            examples=100,
            n_trials=100,
            predictions="",
            run="",
        )
        for (arm, code), score in scores.items()
    }
    return LanguageTable(task, split, tuple(dict.fromkeys(arm for arm, _ in scores)), cells, ())


def _shown(table: HeatTable) -> dict[str, list[str]]:
    return {row.language: [cell.text if cell else "" for cell in row.cells] for _, rows in table.groups for row in rows}


XNLI = _table("xnli", "test", {("base", c): s for c, s in {"en": 80.0, "de": 75.0, "nl": 71.0, "th": 30.0}.items()})
QA = _table("xquad", "test", {("base", "en"): 70.0, ("base", "th"): 60.0, ("mnli", "en"): 71.0, ("mnli", "th"): 63.0})


def test_every_language_of_a_target_task_has_a_place_in_the_order() -> None:
    codes = {code for task in (*TARGET, *XTREME_R_TARGET) for code in task.languages}
    assert codes == {*read_languages().languages}
    assert [nearness(code)[1] for code in ("en", "nl", "es", "el", "fi", "zh", "xx")] == [
        "English",
        "Germanic, Latin script",
        "other Indo-European, Latin script",
        "other Indo-European, another script",
        "other families, Latin script",
        "other families, another script",
        "of unknown kin",
    ]
    assert sorted(("zh", "fi", "el", "es", "nl", "en"), key=nearness) == ["en", "nl", "es", "el", "fi", "zh"]


def test_scores_stand_from_english_away_and_one_that_a_guess_reaches_is_marked_without_colour() -> None:
    first, second = score_tables([XNLI, QA])
    assert (first.arm, first.tasks, second.tasks) == ("base", ("xnli", "xquad"), ("xquad",))
    assert _shown(first) == {
        "en": ["80.0", "70.0"],
        "de": ["75.0", ""],
        "nl": ["71.0", ""],
        "th": ["30.0°", "60.0"],
    }
    shades = [cell.shade for _, rows in first.groups for row in rows for cell in row.cells if cell]
    assert shades == sorted(shades, reverse=True) or min(shades) < max(shades)


def test_gaps_are_to_english_of_the_same_model_and_task_with_the_mean_of_each_group() -> None:
    first, second = gap_tables([XNLI, QA])
    assert _shown(first) == {
        "de": ["−5.0", ""],
        "nl": ["−9.0", ""],
        "mean": ["−7.0", ""],
        "th": ["−50.0", "−10.0"],
    }
    assert _shown(second) == {"th": ["−8.0"]}
    assert [words for words, _ in first.groups] == ["Germanic, Latin script", "other families, another script"]
    darkest = max(
        (cell for _, rows in first.groups for row in rows for cell in row.cells if cell), key=lambda c: c.shade
    )
    assert darkest.text == "−50.0"


@pytest.mark.parametrize("order", [1, -1])
def test_the_test_split_is_shown_where_there_is_one(order: int) -> None:
    dev = _table("xnli", "dev", {("base", "en"): 50.0})
    [made] = score_tables([XNLI, dev][::order])
    assert _shown(made)["en"] == ["80.0"]
    [made] = score_tables([dev])
    assert _shown(made)["en"] == ["50.0"]
