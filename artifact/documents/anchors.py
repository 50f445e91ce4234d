"""The anchors of EXPECTED_RESULTS.md: what others printed, and what was recorded here beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from xlt.artifact import artifact_root, read_json
from xlt.tasks.catalogue import get_task
from xlt.verify.claims import Claim, PaperTable, Printed, read_claims, read_literature
from xlt.verify.recorded import ReferenceRun, read_references
from xlt.verify.scores import SCORE

TIER, SOURCES = "pocket", ("hub", "files")


def anchors() -> list[dict[str, Any]]:
    """Every anchor: its claim, its printed tables, and per quantity and language the printed value and the recorded."""
    literature = read_literature()
    runs = [run for source in SOURCES for run in read_references(TIER, source).runs]
    return [
        {
            "claim": claim,
            "beside": [table for table in literature.tables if table.name in claim.beside],
            "tables": [
                {"table": table, "rows": list(_rows(claim, table, literature.cells(), runs)), "trial": _trial(table)}
                for table in literature.tables
                if table.name in claim.tables
            ],
        }
        for claim in read_claims().claims
        if TIER in claim.measured_by
    ]


def _trial(table: PaperTable) -> dict[str, Any] | None:
    """What was measured of the table with another model than its own or in several ways, which no claim is judged by:
    ``artifact/measured/anchors/TABLE.json``. Per way the mean, and the language farthest from what is printed."""
    if not (artifact_root() / "measured" / "anchors" / f"{table.name}.json").is_file():
        return None
    found = read_json("measured", "anchors", f"{table.name}.json")
    ((quantity, printed),) = table.rows[0].by_language.items()
    ways: dict[str, dict[str, Any]] = {}
    for way, values in found["values"].items():
        off = {code: values[code] - printed[code] for code in printed}
        farthest = max(off, key=lambda code: abs(off[code]))
        apart = fmean(map(abs, off.values()))
        ways[way] = {"mean": fmean(values.values()), "off": fmean(off.values()), "apart": apart}
        ways[way] |= {"farthest": farthest, "most": off[farthest], "values": values}
    return found | {"quantity": quantity, "printed": printed, "ways": ways}


def _rows(
    claim: Claim, table: PaperTable, cells: Sequence[Printed], runs: Sequence[ReferenceRun]
) -> Iterator[dict[str, Any]]:
    """A row per mean: what is printed and recorded of it and of its languages."""
    own = [cell for cell in cells if cell.table == table.name and cell.arm == claim.row]
    for mean in own:
        if mean.language or (claim.quantities and mean.quantity not in claim.quantities):
            continue
        languages = {
            cell.language: (cell.expected, _recorded(claim, cell, runs))
            for cell in own
            if cell.language and cell.quantity == mean.quantity
        }
        found = [measured for _, measured in languages.values() if measured is not None]
        whole = fmean(found) if len(found) == len(languages) else None
        yield {"cell": mean, "languages": languages, "measured": whole}


def _recorded(claim: Claim, cell: Printed, runs: Sequence[ReferenceRun]) -> float | None:
    """The mean over the recorded seeds of one cell; None where there is none."""
    task, _, metric = cell.quantity.partition("/")
    split = cell.split if cell.split in get_task(task).files else "test"
    name = f"{claim.measured_by[TIER]}/{task}/{split}/{cell.language}"
    there = [(run.score(name), run.cells[name].metrics) for run in runs if name in run.cells]
    values = [score if (metric or SCORE) == SCORE else metrics.get(metric) for score, metrics in there]
    return fmean(value for value in values if value is not None) if values else None
