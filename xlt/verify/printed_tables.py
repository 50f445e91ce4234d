"""The paper's printed tables as the report shows them: a verdict beside every value, each linked to its runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xlt.verify.forest import Delta
from xlt.verify.judge import Verification
from xlt.verify.literature import Table, read_literature
from xlt.verify.paper import Paper
from xlt.verify.printed import CellVerdict
from xlt.verify.scores import tasks_of
from xlt.verify.verdicts import VERDICT_WORDS, VerdictWord

Key = tuple[int, str, str]


@dataclass(frozen=True, slots=True)
class PrintedTable:
    """A printed table: a row per phase-2 model, a column per quantity, and by task the cells of single languages."""

    table: Table
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[CellVerdict | None, ...]], ...]
    by_language: dict[str, tuple[CellVerdict, ...]]
    reasons: tuple[tuple[VerdictWord, str, tuple[str, ...]], ...]

    @property
    def unread(self) -> bool:
        """Whether nobody has read any of its values."""
        return all(cell is None or cell.cell.expected is None for _, cells in self.rows for cell in cells)


def printed_tables(paper: Paper) -> Iterator[PrintedTable]:
    """Every table of which a cell was judged, those with values first."""
    made = [_table(table, [each for each in paper.cells if each.cell.table == table.name]) for table in _known(paper)]
    yield from sorted(made, key=lambda each: each.unread)


def _known(paper: Paper) -> list[Table]:
    names = {each.cell.table for each in paper.cells}
    return [table for table in read_literature().tables if table.name in names]


def _table(table: Table, cells: list[CellVerdict]) -> PrintedTable:
    order = [
        *dict.fromkeys(name for row in table.rows for name in (*row.values, *row.unknown)),
        *table.unknown,
    ]
    whole = {(each.cell.arm, each.cell.quantity): each for each in cells if not each.cell.language}
    columns = tuple(name for name in dict.fromkeys(order) if any(quantity == name for _, quantity in whole))
    arms = dict.fromkeys(row.arm for row in table.rows)
    rows = tuple((arm, tuple(whole.get((arm, name)) for name in columns)) for arm in arms)
    by_language: dict[str, list[CellVerdict]] = {}
    for each in cells:
        if each.cell.language:
            by_language.setdefault(each.cell.quantity, []).append(each)
    return PrintedTable(
        table,
        columns,
        tuple((arm, found) for arm, found in rows if any(found)),
        {task: tuple(sorted(found, key=lambda each: each.cell.language)) for task, found in by_language.items()},
        _reasons([each for each in whole.values() if each.value is None]),
    )


def _reasons(cells: list[CellVerdict]) -> tuple[tuple[VerdictWord, str, tuple[str, ...]], ...]:
    """Why cells were not measured, those with one reason together."""
    groups: dict[tuple[VerdictWord, str], list[str]] = {}
    for each in sorted(cells, key=lambda each: VERDICT_WORDS.index(each.verdict)):
        groups.setdefault((each.verdict, each.reason), []).append(f"{each.cell.arm} {each.cell.quantity}")
    return tuple((*key, tuple(names)) for key, names in groups.items())


def run_links(verification: Verification, anchors: dict[str, str]) -> dict[Key, str]:
    """Where the page has the run behind a score, by seed, phase-2 model and task."""
    return {
        (each.seed, cell.arm, cell.task): anchors[cell.run]
        for each in (verification, *verification.further)
        for cell in each.cells
        if cell.run in anchors
    }


def seed_links(cell: CellVerdict, runs: dict[Key, str], means: dict[int, str]) -> list[tuple[int, str]]:
    """An anchor for each seed of the cell: its run, or where several are behind it ``means``, all of the seed's."""
    tasks = tasks_of(cell.cell.quantity)
    keys = [(seed, cell.cell.arm, tasks[0]) for seed in cell.seeds]
    single = len(tasks) == 1
    return [(key[0], runs[key] if single and key in runs else means[key[0]]) for key in keys]


def differences(paper: Paper, runs: dict[Key, str], means: dict[int, str]) -> list[Delta]:
    """Measured minus printed of every printed cell that was judged, those of single languages left out."""
    return [
        Delta(
            each.key,
            each.value - each.cell.expected,
            each.low - each.cell.expected,
            each.high - each.cell.expected,
            0.0,
            each.cell.margin,
            f"#{seed_links(each, runs, means)[0][1]}",
        )
        for each in paper.cells
        if each.value is not None and each.low is not None and each.high is not None
        if each.cell.expected is not None and not each.cell.language
    ]
