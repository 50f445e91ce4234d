"""Languages by tasks: the scores of one phase-2 model and what they are below English, in the order of nearness to it.

How near a language is to English is not measured here: family and genus (WALS) and script are categories
(``artifact/languages.toml``); a constructed language has a distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Literal

from xlt.artifact import read_record
from xlt.data.world import languages as world_languages
from xlt.frozen import Frozen
from xlt.tasks.record import ENGLISH
from xlt.verify.cells import Cell
from xlt.verify.comparison import mean
from xlt.verify.tables import LanguageTable

SHADES = 9
WIDEST_GAP = 45.0  # points below English from which on the shade is the darkest


class Language(Frozen):
    """What is known of a natural language."""

    name: str
    family: str
    genus: str
    script: str


class Languages(Frozen):
    """``artifact/languages.toml``."""

    format: Literal[1]
    source: str
    """Where family and genus were read."""
    source_of_scripts: str
    """Where the scripts were read."""
    label: Literal["SEEN"]
    languages: dict[str, Language]
    """By code."""


@cache
def read_languages() -> Languages:
    """The languages of XTREME."""
    return read_record(Languages, "languages.toml")


def nearness(code: str) -> tuple[float, str]:
    """A place in the order from English away, and in words which languages share it; English itself is the first."""
    if code in world_languages():
        return world_languages()[code].distance, "English" if code == ENGLISH else "constructed, nearest first"
    known = read_languages().languages
    if code not in known:
        return 9.0, "of unknown kin"
    own, english = known[code], known[ENGLISH]
    if code == ENGLISH:
        return 0.0, "English"
    kin = [own.genus == english.genus, own.family == english.family, True].index(True)
    same = own.script == english.script
    words = (english.genus, f"other {english.family}", "other families")[kin]
    return 1.0 + 2 * kin + (not same), f"{words}, {'Latin' if same else 'another'} script"


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A number and its shade, from 0 (none) to ``SHADES``; ``cell`` is the score that it is of, None of a mean."""

    text: str
    shade: int
    cell: Cell | None = None


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A language, or a mean over a group of them, in each task; None where there is no score."""

    language: str
    cells: tuple[HeatCell | None, ...]


@dataclass(frozen=True, slots=True)
class HeatTable:
    """One phase-2 model: a column for each task, the rows in groups from English away."""

    arm: str
    tasks: tuple[str, ...]
    groups: tuple[tuple[str, tuple[HeatRow, ...]], ...]


def score_tables(tables: Sequence[LanguageTable]) -> list[HeatTable]:
    """By phase-2 model the scores of every language in every task, of the test split where there is one."""
    chosen = _tested(tables)
    return [made for arm in _arms(chosen) if (made := _table(arm, chosen, gap=False))]


def gap_tables(tables: Sequence[LanguageTable]) -> list[HeatTable]:
    """By phase-2 model how far each language is from English in the same task, and the means of each group."""
    chosen = _tested([table for table in tables if table.transfer])
    return [made for arm in _arms(chosen) if (made := _table(arm, chosen, gap=True))]


def _tested(tables: Sequence[LanguageTable]) -> list[LanguageTable]:
    by_task = {table.task: table for table in sorted(tables, key=lambda each: each.split)}  # dev before test
    return [by_task[task] for task in dict.fromkeys(table.task for table in tables)]


def _arms(tables: Sequence[LanguageTable]) -> list[str]:
    return list(dict.fromkeys(arm for table in tables for arm in table.arms))


def _table(arm: str, tables: Sequence[LanguageTable], *, gap: bool) -> HeatTable | None:
    scored = [table for table in tables if arm in table.arms]
    codes = {code for table in scored for code in table.languages if (arm, code) in table.cells}
    codes -= {ENGLISH} if gap else set()
    groups = []
    for words, members in groupby(
        sorted(codes, key=lambda code: (*nearness(code), code)), lambda code: nearness(code)[1]
    ):
        numbers = {code: [_number(table, arm, code, gap=gap) for table in scored] for code in members}
        rows = [
            HeatRow(
                code,
                tuple(_cell(n, table.cells.get((arm, code)), gap=gap) for n, table in zip(its, scored, strict=True)),
            )
            for code, its in numbers.items()
        ]
        if gap and len(rows) > 1:
            means = [[n for n in column if n is not None] for column in zip(*numbers.values(), strict=True)]
            rows.append(HeatRow("mean", tuple(_cell(mean(its) if its else None, None, gap=gap) for its in means)))
        groups.append((words, tuple(rows)))
    return HeatTable(arm, tuple(table.task for table in scored), tuple(groups)) if groups else None


def _number(table: LanguageTable, arm: str, code: str, *, gap: bool) -> float | None:
    if gap:
        return table.gap(arm, code)
    return table.cells[arm, code].score if (arm, code) in table.cells else None


def _cell(number: float | None, cell: Cell | None, *, gap: bool) -> HeatCell | None:
    if number is None:
        return None
    share = -number / WIDEST_GAP if gap else number / 100
    text = f"{number:+.1f}".replace("-", "−") if gap else f"{number:.1f}{'°' if cell and cell.standing else ''}"
    return HeatCell(text, round(SHADES * min(1.0, max(0.0, share))), cell)
