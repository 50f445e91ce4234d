"""The shipped claims and printed values: whole, with sources, agreeing with each other; and values of an evaluator."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import fmean

import pytest

from xlt.errors import EnvironmentFault, UsageFault
from xlt.evaluate.submission import BENCHMARKS
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import get_task
from xlt.verify.claims import Literature, PaperTable, read_claims, read_given, read_literature
from xlt.verify.scores import BASELINE, BEST, NINE, tasks_of

GIVEN = """
format = 1
[[rows]]
table = "main"
arm = "mnli"
source = "Table 2, https://example.org"
values = { xnli = 79.9, "xquad/f1" = 77.0 }
"""


@pytest.fixture(scope="module")
def literature() -> Literature:
    return read_literature()


def table(literature: Literature, name: str) -> PaperTable:
    return next(each for each in literature.tables if each.name == name)


def test_every_claim_has_place_source_rule_and_tier_and_names_known_arms():
    claims = read_claims()
    paper = [claim for claim in claims.claims if not claim.measured_by]
    assert [claim.id for claim in paper] == [f"C{number}" for number in range(1, 9)]
    core = read_tier("core").plan("hub")
    assert claims.backbone == core.backbone.name
    for claim in paper:
        assert "https://" in claim.source
        assert claim.tiers == (("paper",) if claim.id == "C6" else ("core", "paper"))
        assert set(claim.arms) <= set(claims.arms)
        assert (claim.margin > 0) == bool(claim.margin_reason)
    for arm, plan in (core.arms | read_tier("paper").plan("hub").arms).items():
        assert arm == "multi_mlm" or set(claims.arms[arm]) == set(plan.train)


def test_a_cost_says_what_was_not_measured():
    cost = read_claims().claims[0].cost
    assert "71.5 GB of disk" in cost
    assert "minutes of work, hours of a GPU, GiB of its memory not measured yet" in cost


def test_every_cell_has_a_source_and_a_quantity_that_exists(literature):
    cells = literature.cells()
    assert len({cell.key for cell in cells}) == len(cells)
    for cell in cells:
        assert "https://" in cell.source
        assert set(tasks_of(cell.quantity)) <= set(NINE), cell.key
        assert cell.language in ("", *get_task(tasks_of(cell.quantity)[0]).languages)
        assert cell.arm in (BEST, *read_claims().arms)
        assert (cell.expected is None) == bool(cell.needs), cell.key


def test_means_are_over_the_languages_of_xtreme(literature):
    for key, languages in BENCHMARKS["xtreme"].items():
        assert set(literature.languages["test"][key].split()) == set(languages)
        without = {"kk", "th", "tl", "yo"} if key == "udpos" else set()
        assert set(literature.languages["dev"][key].split()) == set(languages) - without


def test_the_printed_values_agree_with_each_other(literature):
    (row,) = table(literature, "replication").rows
    for task, by_language in row.by_language.items():
        assert fmean(by_language.values()) == pytest.approx(row.values[task], abs=0.05)
        assert set(by_language) == set(get_task(task).benchmarks["xtreme"].split())
    best, board = table(literature, "test").rows[0].values, table(literature, "leaderboard").rows[0].values
    assert fmean([best["xnli"], best["pawsx"]]) == pytest.approx(board["sentence_pair"], abs=0.06)
    assert fmean([best["udpos"], best["panx"]]) == pytest.approx(board["structured"], abs=0.06)
    assert fmean(v for key, v in best.items() if "/" in key) == pytest.approx(board["qa"], abs=0.1)


def test_nothing_that_was_not_read_has_a_number(literature):
    unread = PaperTable.model_validate({**table(literature, "main").model_dump(), "rows": [{"arm": BASELINE}]})
    assert unread.unknown
    with pytest.raises(ValueError, match="nobody has read"):
        PaperTable.model_validate({**unread.model_dump(), "rows": [{"arm": BASELINE, "values": {"xnli": 80.1}}]})


def test_an_evaluator_adds_values_with_a_source_where_there_are_none(literature, tmp_path: Path):
    path = tmp_path / "given.toml"
    path.write_text(GIVEN, "utf-8")
    cells = {cell.key: cell for cell in literature.cells(read_given(path))}
    given = cells["main.mnli.xquad/f1"]
    assert (given.expected, given.source, given.needs) == (77.0, "Table 2, https://example.org", "")
    assert cells["main.mnli.pawsx"].expected is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"main"', '"test"', "No table lists such a cell"),
        ("xnli = 79.9", "glue = 79.9", "No value can be given for 'main.mnli.glue'"),
        ('table = "main"\narm = "mnli"', 'table = "leaderboard"\narm = "best"', "main|leaderboard.best.xnli"),
        ('source = "Table 2, https://example.org"\n', "", "holds no expected values"),
        ('"Table 2, https://example.org"', '""', "holds no expected values"),
        ("format = 1", "format = ", "holds no expected values"),
        ("xnli = 79.9", "xnli = nan", r"values\.xnli: Input should be a finite number"),
        ("xnli = 79.9", "xnli = inf", r"values\.xnli: Input should be a finite number"),
        ("xnli = 79.9", "xnli = 800", r"values\.xnli: Input should be less than or equal to 100"),
        ("xnli = 79.9", "xnli = -80", r"values\.xnli: Input should be greater than or equal to 0"),
        ("xnli = 79.9", "xnli = true", r"values\.xnli: Input should be a valid number"),
        ("xnli = 79.9", 'xnli = "80"', r"values\.xnli: Input should be a valid number"),
        ('xnli = 79.9, "xquad/f1" = 77.0', 'xnli = 0.799, "xquad/f1" = 0.77', "give percent .* not fractions"),
        ('xnli = 79.9, "xquad/f1" = 77.0', "", r"rows\.0\.values: Dictionary should have at least 1 item"),
        ('"Table 2, https://example.org"', '" \\t"', r"rows\.0\.source: String should have at least 1 character"),
        ("format = 1", f"deep = {'[' * 10_000}", "holds no expected values"),
        ("format = 1", f"format = {'1' * 10_000}", "holds no expected values"),
        ("format = 1", 'format = "\\ud800"', "holds no expected values"),
    ],
)
def test_values_without_source_or_place_are_refused(literature, tmp_path: Path, old: str, new: str, message: str):
    path = tmp_path / "given.toml"
    path.write_text(GIVEN.replace(old, new), "utf-8")
    with pytest.raises(UsageFault, match=message):
        literature.cells(read_given(path))


def test_whole_percents_and_one_tiny_score_beside_others_are_values(literature, tmp_path: Path):
    path = tmp_path / "given.toml"
    path.write_text(GIVEN.replace("79.9", "80").replace("77.0", "0.3"), "utf-8")
    cells = {cell.key: cell.expected for cell in literature.cells(read_given(path))}
    assert (cells["main.mnli.xnli"], cells["main.mnli.xquad/f1"]) == (80.0, 0.3)


def test_what_is_no_file_holds_no_values(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin.toml").write_bytes(b"\xff")
    for name in ("pipe", "latin.toml", "none", "."):
        with pytest.raises(UsageFault, match="holds no expected values"):
            read_given(tmp_path / name)


def test_a_value_that_is_printed_cannot_be_replaced(literature, tmp_path: Path):
    path = tmp_path / "given.toml"
    path.write_text(GIVEN.replace('"main"', '"test"').replace('"mnli"', '"best"'), "utf-8")
    with pytest.raises(UsageFault, match="It has one already"):
        literature.cells(read_given(path))


def test_a_broken_file_of_claims_is_a_fault_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XLT_ARTIFACT", str(tmp_path))
    (tmp_path / "claims.toml").write_text('format = 1\nbackbone = "x"\n', "utf-8")
    with pytest.raises(EnvironmentFault, match=r"claims\.toml"):
        read_claims()
