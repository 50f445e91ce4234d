"""artifact/APPENDIX.md: that it is what claims, tiers and measurements give, and that what it points to is there."""

from __future__ import annotations

import re

import pytest

from artifact.documents import appendix
from tests.conftest import PROJECT
from xlt.verify.claims import read_claims


@pytest.fixture(scope="module")
def page() -> str:
    """The appendix as the data give it."""
    return appendix.render()


def test_the_appendix_is_what_the_data_give(page: str) -> None:
    assert (PROJECT / "artifact" / "APPENDIX.md").read_text("utf-8") == page, "stale: run make expected"


def test_every_claim_has_how_to_prepare_run_and_judge_it_its_cost_and_what_may_vary(page: str) -> None:
    sections = dict(re.findall(r"^### (\w\d)\. (.*?)(?=^##)", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == {claim.id for claim in read_claims().claims}
    for name, text in sections.items():
        assert re.search(r"^\[\d human-commands.* \+ compute-hours", text, re.MULTILINE), name
        assert all(
            f"- {part}" in text for part in ("Preparation: `xlt", "Execution: `", "Results: `xlt", "Expected")
        ), name
        assert f"--claim {name}`" in text
        assert "aximum variation" in text


def test_whatever_the_checklist_points_to_is_there_and_what_is_not_met_says_so(page: str) -> None:
    table = page.partition("| badge |")[2].splitlines()[2:]
    rows = [line.split(" | ") for line in table]
    assert {row[0].removeprefix("| ") for row in rows} >= {"Available", "Functional", "Reproduced", "Reusable"}
    named = [name for row in rows for name in re.findall(r"`([^` ]+)`", row[2])]
    paths = [name for name in named if not name.startswith(("results", "--", "XLT_"))]
    assert len(paths) > 20
    assert [name for name in paths if not (PROJECT / name).exists()] == []
    assert [row for row in rows if not re.search(r"`|\*\*not|A\.\d", row[2])] == []
    # Every section of a page that it names by its title.
    for name, title in re.findall(r"`([\w.]+\.md)`, \"([^\"]+)\"", page):
        assert f"## {title}" in (PROJECT / name).read_text("utf-8"), title


def test_costs_do_not_depend_on_what_was_fetched_here(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("XLT_DATA_LOCK", str(tmp_path / "broken"))
    (tmp_path / "broken").write_text("no lock", encoding="utf-8")
    assert appendix.costs("core")["unknown"] == []
    assert appendix.os.environ["XLT_DATA_LOCK"] == str(tmp_path / "broken")
