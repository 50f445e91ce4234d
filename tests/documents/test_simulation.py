"""The rates of wrong verdicts, measured with a fixed seed; the table in the docs is theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifact.documents.simulation import contrast_rates, document, ladder_rates, recorded_rate

STATISTICS = Path(__file__).parents[2] / "artifact" / "STATISTICS.md"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_difference_of_a_margin_is_called_reproduced_in_five_of_a_hundred(n: int):
    assert ladder_rates(n, 0.3, 1.0, repeats=600)["reproduced"] < 0.07
    assert ladder_rates(n, 0.3, 2.0, repeats=200)["reproduced"] == 0.0


@pytest.mark.parametrize("cells", [1, 9])
def test_a_faithful_machine_deviates_in_five_of_a_hundred_however_many_cells_are_looked_at(cells: int):
    assert ladder_rates(3, 3.0, 0.0, cells, repeats=300)["deviates"] < 0.075


def test_seeds_that_lie_close_are_told_what_they_are():
    assert ladder_rates(3, 0.1, 0.0, repeats=200)["reproduced"] > 0.9
    assert ladder_rates(3, 0.1, 5.0, repeats=200)["deviates"] > 0.9


def test_two_seeds_that_lie_apart_are_no_evidence():
    assert ladder_rates(2, 1.0, 0.0, repeats=200)["not verifiable"] > 0.5


def test_signs_are_shown_where_there_is_an_effect_and_rarely_where_there_is_none():
    above, below, most = contrast_rates(3, 0.0, 9, repeats=300)
    assert max(above, below) < 0.08
    assert most < 0.01
    above, below, most = contrast_rates(5, 5.0, 9, repeats=100)
    assert min(above, most) > 0.9
    assert below == 0.0


def test_a_sound_run_raises_an_alarm_in_one_of_a_hundred_and_a_bad_mean_is_found():
    assert recorded_rate(16, 0.0, repeats=200) < 0.03
    assert recorded_rate(26, 8.0, repeats=50) > 0.9


def test_the_table_in_the_docs_is_that_of_the_rules():
    stored = STATISTICS.read_text("utf-8")
    again = document(repeats=1)
    rows = [line for line in stored.splitlines() if line.startswith("|")]
    assert len(rows) == len([line for line in again.splitlines() if line.startswith("|")])
    prose = [
        [line for line in text.splitlines() if not line.startswith(("|", "to ±")) and "times" not in line]
        for text in (stored, again)
    ]
    assert prose[0] == prose[1]
    for n, spread, off in ((3, 0.3, 1.0), (5, 0.1, 0.0)):
        rates = ladder_rates(n, spread, off, repeats=2000)
        (row,) = [line.replace("*", "") for line in rows if line.startswith(f"| 1 | {n} | {spread} | {off} |")]
        assert row.split(" | ")[4] == f"{100 * rates['reproduced']:.1f} %"
