"""A part of a verification: some claims, printed tables or cells, and the exit code of that part."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator

from xlt.errors import UsageFault
from xlt.verify.comparison import VerdictWord
from xlt.verify.evidence import golden_code
from xlt.verify.judge import Verification, exit_code, with_code, worst_code
from xlt.verify.paper import Paper
from xlt.verify.scores import tasks_of
from xlt.verify.verdicts import count_verdicts


def select(
    verification: Verification,
    claims: Collection[str] = (),
    tables: Collection[str] = (),
    cells: Collection[str] = (),
) -> Verification:
    """The claims (by id), printed tables (by name) and cells (``task`` or ``task.language``) asked for, of all seeds.

    Problems stay: what was edited anywhere can be trusted nowhere.

    Raises:
        UsageFault: there is no such claim, table or cell, or the tier has no claims.
    """
    paper = verification.paper
    if paper is None and (claims or tables):
        raise without_claims(verification.tier)
    if paper is not None:
        _known("claim", claims, [each.claim.id for each in paper.claims])
        _known("table", tables, [each.cell.table for each in paper.cells])
        paper = _of_paper(paper, claims, tables, cells)
    parts = [_of_cells(each, cells) for each in verification.seeds]
    unread = {verdict.task for each in verification.seeds for verdict in each.verdicts if verdict.value is None}
    named = [name for each in verification.seeds for name in _names(each)]
    _known("cell", [cell for cell in cells if cell.partition(".")[0] not in unread], named)
    words: set[VerdictWord] = set()
    if paper is not None:
        words = {each.verdict for each in paper.claims} | {each.verdict for each in paper.cells}
    codes = [exit_code(each.problems, each.runs, {v.verdict for v in each.verdicts}, whole=False) for each in parts]
    code = worst_code([exit_code((), (), words), golden_code(verification.golden), *codes])
    return with_code(parts[0].model_copy(update={"further": tuple(parts[1:]), "paper": paper}), code)


def without_claims(tier: str) -> UsageFault:
    """The refusal of claims and printed tables of a tier that has none, or of single runs."""
    subject = f"The tier '{tier}' has" if tier else "Single runs have"
    return UsageFault(
        f"{subject} no claims of the paper and no printed tables.",
        why="They are about XLM-R Large, which the tiers core and paper train; anchors are of the tier pocket.",
        fix="xlt reproduce --tier core; here: xlt verify --cell TASK, or --cell TASK.LANGUAGE",
    )


def check_tasks(cells: Iterable[str], tasks: Iterable[str]) -> None:
    """Raise ``UsageFault`` for a cell of none of these tasks, before anything is computed."""
    _known("cell", [cell.partition(".")[0] for cell in cells], tasks)


def _names(verification: Verification) -> Iterator[str]:
    """Tasks and cells that were recomputed."""
    yield from (verdict.task for verdict in verification.verdicts)
    yield from (f"{cell.task}.{cell.language}" for cell in verification.cells)


def _of_paper(paper: Paper, claims: Collection[str], tables: Collection[str], cells: Collection[str]) -> Paper:
    shown = [
        each
        for each in paper.cells
        if each.cell.table in tables
        or any(
            tasks_of(each.cell.quantity) == (task,) and language in ("", each.cell.language)
            for task, _, language in (cell.partition(".") for cell in cells)
        )
    ]
    judged = tuple(each for each in paper.claims if each.claim.id in claims)
    return paper.model_copy(update={"claims": judged, "cells": tuple(shown)})


def _of_cells(verification: Verification, wanted: Collection[str]) -> Verification:
    tasks = {cell.partition(".")[0] for cell in wanted}
    cells = [cell for cell in verification.cells if {cell.task, f"{cell.task}.{cell.language}"} & {*wanted}]
    verdicts = [verdict for verdict in verification.verdicts if verdict.task in tasks]
    return verification.model_copy(
        update={
            "cells": tuple(cells),
            "verdicts": tuple(verdicts),
            "overall": None,
            "means": tuple(mean for mean in verification.means if mean.task in tasks),
            "statements": tuple(each for each in verification.statements if each.task in tasks),
            "counts": count_verdicts(verdicts),
        }
    )


def _known(noun: str, asked: Collection[str], names: Iterable[str]) -> None:
    there = list(dict.fromkeys(names))
    if unknown := [name for name in asked if name not in there]:
        close = difflib.get_close_matches(unknown[0], there, n=1, cutoff=0.3)
        raise UsageFault(
            f"There is no {noun} '{unknown[0]}' here.",
            why=f"There are: {', '.join(there[:40])}{', …' if len(there) > 40 else ''}.",
            fix=f"--{noun} {close[0] if close else there[0] if there else 'NAME'}",
        )
