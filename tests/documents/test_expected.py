"""EXPECTED_RESULTS.md and the numbers in it."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import fmean

import pytest

from artifact.documents import anchors, expected
from xlt.verify.recorded import BandRule, MeasuredCell, MeasuredMean, ReferenceRun, ReferenceSet

PAGE = Path(__file__).parents[2] / "EXPECTED_RESULTS.md"


def made(seed: int, value: float, recipe: str = "r") -> ReferenceRun:
    """A record of one mean over two languages."""
    cells = {
        f"baseline/xnli/test/{code}": MeasuredCell(
            metrics={"accuracy": value + shift}, above_chance=value + shift > 40, predictions="p"
        )
        for code, shift in (("en", 10.0), ("qaa", -10.0))
    }
    mean = MeasuredMean(value=value, chance=33.3, recipe=recipe, data="d")
    return ReferenceRun(
        tier="smoke",
        source="world",
        seed=seed,
        date="2026-01-01",
        platform={},
        means={"baseline/xnli/test": mean},
        cells=cells,
    )


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[ReferenceRun]:
    """What is recorded, in a list that a test fills."""
    records: list[ReferenceRun] = []
    rule = BandRule(
        format=1, family_error=0.02, overall_error=0.01, least_loss=0.5, minimum_seeds=8, floor=5.0, reason="r"
    )
    monkeypatch.setattr(
        expected, "read_references", lambda tier, source: ReferenceSet(tier, source, rule, tuple(records))
    )
    return records


@pytest.fixture(scope="module")
def page() -> str:
    """The page as the records give it."""
    return expected.render()


def test_the_page_is_what_the_records_give(page: str) -> None:
    assert PAGE.read_text("utf-8") == page, "stale: run make expected"


def test_every_claim_has_its_commands_its_cost_and_what_is_not_known(page: str) -> None:
    sections = page.partition("## Claims of the paper")[2].partition("\n## ")[0].split("\n### ")[1:]
    assert [each[:2] for each in sections] == [f"C{number}" for number in range(1, 9)]
    for number, section in enumerate(sections, start=1):
        command = rf"^    xlt verify --data-root DIR --results results-0 .*--claim C{number}$"
        assert re.search(command, section, re.MULTILINE)
        assert "minutes of work, hours of a GPU" in section
        assert "- Status: never run here." in section
    assert "SQuAD +8.2; MNLI +7.5; HellaSwag +7.0 points. Source: https://" in sections[0]
    assert "In `--tier paper` only: anli_plus, qqp, ccg" in sections[3]
    assert "bucc2018 71.5, tatoeba 31.0" in sections[7]
    assert "1 in the table replication. Nothing is trained" in sections[7]


def test_what_nobody_has_read_is_listed_as_not_reproducible(page: str) -> None:
    listed = page.partition("## What cannot be reproduced, and why")[2]
    assert "- `main` (" in listed
    assert "needs the paper's main table" in listed
    assert "`xtreme`" not in listed


def test_fresh_seeds_are_judged_by_the_reference_and_the_bands_rest_on_all(recorded: list[ReferenceRun]) -> None:
    recorded += [*(made(seed, 60.0 + seed % 3) for seed in range(17)), made(17, 95.0), made(18, 61.0)]
    series = expected.read_series()
    assert [record.seed for record in series.reference] == list(range(17))
    assert [record.seed for record in series.fresh] == [17, 18]
    assert list(series.missed()) == [(17, "baseline/xnli/test", "deviates"), (17, "all means together", "deviates")]
    (row,) = expected.bands(series)
    assert row["mean"] == pytest.approx(fmean([*(60.0 + seed % 3 for seed in range(17)), 95.0, 61.0]))


def test_a_fresh_seed_at_chance_has_failed_where_the_others_say_so(recorded: list[ReferenceRun]) -> None:
    recorded += [*(made(seed, 60.0 + seed % 3) for seed in range(17)), made(17, 30.0)]
    fails = [(17, "baseline/xnli/test", "collapsed"), (17, "all means together", "deviates")]
    assert list(expected.read_series().missed()) == fails
    recorded[:] = [*(made(seed, 35.0 + 10 * (seed % 3)) for seed in range(17)), made(17, 30.0)]
    assert list(expected.read_series().missed()) == []


def test_successive_seeds_are_listed_as_a_range() -> None:
    assert expected.seeds([made(seed, 50.0) for seed in (0, 1, 2, 5, 7, 8)]) == "0 to 2, 5, 7 to 8"


def test_english_and_other_languages_are_counted_apart(recorded: list[ReferenceRun]) -> None:
    recorded += [made(seed, value) for seed, value in enumerate((45.0, 55.0, 65.0), start=1)]
    series = expected.read_series()
    (row,) = expected.english(series)
    assert (row["scores"], row["above"]) == ("65 (55–75)", 2)
    (above,) = expected.above_chance(series)
    assert above["counts"][0] == "0.7 (0)"


def test_seeds_of_two_recipes_are_not_put_together(recorded: list[ReferenceRun]) -> None:
    recorded += [made(1, 50.0), made(2, 50.0, recipe="another")]
    with pytest.raises(ValueError, match="not all of one recipe"):
        expected.read_series()


def test_every_measured_workload_and_task_has_its_line(page: str) -> None:
    listed = page.partition("## Other workloads beside their peers")[2].partition("\n## ")[0]
    assert [row for row in expected._speeds() if f"| {row['name']} | " not in listed] == []
    assert "Hugging Face, padded 0.74" in listed  # a row in which ours is slower is printed too
    table = page.partition("Every task on those files")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == 18
    assert {line.count(" | ") for line in lines} == {5}


def test_what_was_tried_of_an_anchor_stands_beside_what_is_printed():
    (row,) = (each for each in anchors.anchors() if each["claim"].id == "A1")
    trial = row["tables"][0]["trial"]
    foreign, english = trial["ways"].values()
    assert len(foreign["values"]) == len(english["values"]) == len(trial["printed"]) == 36
    assert "queries, as printed" in next(iter(trial["ways"]))
    assert foreign["apart"] < english["apart"]
    assert f"| jv | 62.4 | {foreign['values']['jv']:.1f} | {english['values']['jv']:.1f} |" in PAGE.read_text("utf-8")
