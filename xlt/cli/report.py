"""``xlt report``.

xlt report
xlt report --results DIR
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xlt.cli.options import DEFAULT_RESULTS, DataRoot
from xlt.cli.output import emit
from xlt.cli.verify import Folders


def report(
    results: Folders = None,
    data_root: DataRoot = None,
    ship: Annotated[
        Path | None,
        typer.Option("--ship", metavar="FILE", help="Pack all that verify needs, without models and texts: x.tar.gz"),
    ] = None,
) -> None:
    """Write the report below the (first) results folder: a page for people; report.json, cells.csv and an RO-Crate."""
    from pydantic import BaseModel

    from xlt.verify.export import ship as pack
    from xlt.verify.judge import join, recompute
    from xlt.verify.report import write_report
    from xlt.verify.stored import source_of

    class ReportFiles(BaseModel):
        format: Literal[1] = 1
        page: str
        document: str
        result_hash: str
        archive: str | None = None

    folders = results or [DEFAULT_RESULTS]
    verification = join([recompute(folder, source_of(folder, data_root)) for folder in folders])
    page = write_report(verification, *folders)
    if ship:
        pack(verification, tuple(folders), ship)
    files = ReportFiles(
        page=str(page),
        document=str(page.with_name("report.json")),
        result_hash=verification.result_hash,
        archive=str(ship) if ship else None,
    )
    emit(files, [f"Report: {page}", *([f"Archive for others to verify: {ship}"] if ship else [])])
