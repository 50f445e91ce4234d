"""README.md and the guide: what they link to exists, and what they say of claims, hours and commands is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from xlt.artifact import artifact_root
from xlt.cli import app

PROJECT = Path(__file__).parent.parent.parent
PAGES = (
    "README.md",
    "artifact/GUIDE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "EXPECTED_RESULTS.md",
    "artifact/APPENDIX.md",
)
README = (PROJECT / "README.md").read_text("utf-8")
APPENDIX = (artifact_root() / "APPENDIX.md").read_text("utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return table[2:]


def anchors(page: Path) -> set[str]:
    """The anchors that a reader makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_somewhere(name: str) -> None:
    page = PROJECT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


def test_every_claim_stands_with_its_seeds_and_margin() -> None:
    claims = tomllib.loads((artifact_root() / "claims.toml").read_text("utf-8"))["claims"]
    shown = {row[0]: row for row in rows("Claims, commands, results, margins")}
    assert [*shown] == [claim["id"] for claim in claims]
    for claim in claims:
        _, _, tiers, seeds, margin = shown[claim["id"]]
        assert tiers.split(", ") == claim["tiers"], claim["id"]
        assert int(seeds) == claim["seeds"], claim["id"]
        if "margin" in claim:
            assert float(margin) == claim["margin"], claim["id"]
        for expected in re.findall(r"[\w/]+ [\d.]+ ± [\d.]+", margin):
            assert expected in APPENDIX.split(f"\n### {claim['id']}. ")[1].split("\n### ")[0], expected


def test_predicted_hours_are_those_of_the_appendix() -> None:
    (line,) = (line for line in APPENDIX.splitlines() if line.startswith("| time of one seed |"))
    predicted = [re.findall(r"^ ([\d.]+) on one NVIDIA H200", cell) for cell in line.split("|")[4:6]]
    shown = re.findall(r"([\d.]+) h a seed on an H200, predicted", README)
    assert shown == [hours for each in predicted for hours in each]
    (line,) = (line for line in APPENDIX.splitlines() if line.startswith("| the same on eight of them"))
    eight = re.findall(r"([\d.]+) on eight NVIDIA H200, graph engine, predicted", line)
    assert re.findall(r"core ([\d.]+) h, paper ([\d.]+) h a seed on eight H200, predicted", README) == [(*eight,)]


def test_the_table_of_commands_names_every_command() -> None:
    named = {name for row in rows("Commands") for name in re.findall(r"`(?:xlt )?(\w+)(?: ls)?`", row[0])}
    known = {command.name for command in app.app.registered_commands} | {
        group.name for group in app.app.registered_groups
    }
    assert named - {"show", "check"} == known
