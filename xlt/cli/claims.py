"""The paper's claims and printed cells on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from xlt.verify.paper import ClaimVerdict, Paper
    from xlt.verify.printed import CellVerdict
    from xlt.verify.rules import Part

NO_CLAIMS = "The paper's claims are about XLM-R Large and no part of this tier: xlt reproduce --tier core"
FEW = 2


def shown_paper(paper: Paper | None) -> Iterator[str | Table]:
    """The claims, with their parts where few are asked for, and the printed cells, failures first; then the counts."""
    if paper is None:
        yield NO_CLAIMS
        return
    if paper.claims:
        yield _claims(paper.claims)
    # A table has dozens of languages: where all are well, their mean says so.
    printed = [each for each in paper.cells if each.verdict == "deviates" or not each.cell.language or not paper.claims]
    if printed := [each for each in printed if each.cell.expected is not None or not paper.claims]:
        yield _printed(printed)
    yield from (f"{', '.join(ids)}: {fix}" for fix, ids in _fixes(paper).items())
    yield f"The paper: {paper.summary}."


def _claims(claims: Sequence[ClaimVerdict]) -> Table:
    from rich.table import Table

    table = Table("verdict", "claim", "measured", "expected", "why", title="The paper's claims")
    for each in claims:
        table.add_row(each.verdict, f"{each.claim.id}  {each.claim.statement}", "", "", each.reason)
        for part in each.parts if len(claims) <= FEW else ():
            verdict = part.verdict if part.decides else f"({part.verdict})"
            expected = "–" if part.expected is None else f"{part.expected:.1f}"
            table.add_row(verdict, f"    {part.name}", _measured(part), expected, part.reason)
    return table


def _printed(cells: Sequence[CellVerdict]) -> Table:
    from rich.table import Table

    table = Table("verdict", "cell", "measured", "printed", "why", title="Printed cells")
    for each in cells:
        printed = "–" if each.cell.expected is None else f"{each.cell.expected:.1f}"
        table.add_row(each.verdict, each.key, _measured(each), printed, each.reason)
    return table


def _measured(found: Part | CellVerdict) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "–"
    return f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"


def _fixes(paper: Paper) -> dict[str, list[str]]:
    """The claims that need more runs, by the command that makes them."""
    commands: dict[str, list[str]] = {}
    for each in paper.claims:
        if each.fix:
            commands.setdefault(each.fix, []).append(each.claim.id)
    return commands
