"""Looks through a data root: what it holds of each task, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from xlt.data.files.fault import FileFault
from xlt.data.files.locate import declared_languages, locate, some_file_exists
from xlt.data.files.part import Part
from xlt.data.files.readers import read
from xlt.data.files.source import check_root
from xlt.data.files.squad_json import NOT_FOUND
from xlt.data.rows import Row, SpanRow
from xlt.errors import XltError
from xlt.tasks.record import Split, Task


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the file below the data root, its line if one is to blame, and what it is."""

    file: str
    line: int | None
    message: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Rows per task, split and language of every sound file, and all problems."""

    tasks: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def check(root: Path, tasks: Iterable[Task]) -> CheckReport:
    """Loads every file of the tasks that is found; a broken one is reported and does not stop the rest.

    A task without files is no problem; a data root without any file of the tasks is one.

    Raises:
        DataFault: the data root is no folder.
    """
    check_root(root)
    report = CheckReport()
    for task in tasks:
        report.tasks[task.key] = {}
        for split in task.files:
            report.tasks[task.key][split] = _check_split(root, task, split, report.problems)
    if not report.problems and not any(counts for splits in report.tasks.values() for counts in splits.values()):
        report.problems.append(Problem("", None, f"no file of any of the tasks in the data root '{root}'"))
    return report


def _check_split(root: Path, task: Task, split: Split, problems: list[Problem]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for language in declared_languages(task, split):
        if not some_file_exists(root, task, split, language):
            continue
        try:
            part = locate(root, task, split, language)
            rows = read(part)
        except FileFault as fault:
            problems.append(Problem(fault.file, fault.line, fault.message))
            continue
        except XltError as fault:
            problems.append(Problem(task.files[split], None, fault.what))
            continue
        counts[language] = len(rows)
        problems.extend(_unaligned(part, rows))
    return counts


def _unaligned(part: Part, rows: list[Row]) -> list[Problem]:
    ids = [
        row.id for row in rows if isinstance(row, SpanRow) and any(answer.start == NOT_FOUND for answer in row.answers)
    ]
    if not ids:
        return []
    message = f"{len(ids)} questions have an answer that is not near its offset in the context, first '{ids[0]}'"
    return [Problem(part.file.shown, None, message)]
