"""``xlt report``.

xlt report
xlt report --results DIR
xlt report --results results-Q2 --ship q2.tar.gz   # a study, for others to verify
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from xlt.cli.lazy import lazily
from xlt.cli.options import DEFAULT_RESULTS, AgainOptions, DataRoot, Folders
from xlt.cli.output import emit
from xlt.cli.verify import Golden, asked_numerics, golden_checks, recomputed, with_seeds
from xlt.errors import UsageFault

with lazily():
    from xlt import files
    from xlt.pipeline import store
    from xlt.verify import export, judge
    from xlt.verify import report as reports


ARCHIVES = (".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """What ``xlt report`` wrote."""

    page: str
    """The report for people."""
    document: str
    """The same as JSON, of the form in artifact/schema."""
    result_hash: str
    """The hash of all recomputed numbers."""
    archive: str | None
    """The archive of ``--ship``; null where none was asked for."""


def report(
    *,
    results: Folders = None,
    data_root: DataRoot = None,
    ship: Annotated[
        Path | None,
        typer.Option("--ship", metavar="FILE", help="Pack all that verify needs, without models and texts: x.tar.gz"),
    ] = None,
    again: AgainOptions,
    golden: Golden = None,
) -> None:
    """Write the report below the (first) results folder: a page for people; report.json, cells.csv and an RO-Crate.

    The exit code is that of verify, by what the report says.
    """
    folders = with_seeds(results or [DEFAULT_RESULTS])
    if ship and not ship.name.endswith(ARCHIVES):
        raise UsageFault(f"'{ship}': the archive is a gzipped tar.", fix=f"--ship {ship.with_suffix('')}.tar.gz")
    for folder in folders:
        if (folder / store.SPEC).is_file():
            fix = f"--results {folder.resolve().parents[2]}; xlt verify --results takes the run alone"
            raise UsageFault(f"'{folder}' is the folder of one run; a report is of a results folder.", fix=fix)
    if ship:
        files.check_writable_file(ship, "--ship", "the archive")
    if folders[0].is_dir():  # without it there is nothing to report
        files.check_writable(folders[0] / "report")
    compared = golden_checks(asked_numerics(folders, replay=bool(again.replay)), golden)
    found, folders = recomputed(folders, data_root, again.again())
    verification = judge.join(found, golden=compared)
    page = reports.write_report(verification, *folders)
    if ship:
        export.ship(verification, tuple(folders), ship)
    document, archive = page.with_name("report.json"), str(ship) if ship else None
    written = ReportFiles(str(page), str(document), verification.result_hash, archive)
    emit(written, [f"Report: {page}", *([f"Archive for others to verify: {ship}"] if ship else [])])
    raise typer.Exit(verification.exit_code)
