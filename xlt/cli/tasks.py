"""``xlt tasks``: the catalogue of tasks, and the task files of a folder.

xlt tasks ls
xlt tasks show xnli
xlt tasks check --data-root DIR --json
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xlt.cli.options import TaskKey
from xlt.cli.output import emit, table
from xlt.errors import ExitCode

if TYPE_CHECKING:
    from rich.table import Table

    from xlt.data.files.check import CheckReport
    from xlt.tasks.record import Task


@dataclass(frozen=True, slots=True)
class TaskList:
    """What ``xlt tasks ls`` found."""

    format: Literal[1]
    """The version of this document."""
    tasks: list[Task]
    """The records of all tasks, in the order of the catalogue."""


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """What ``xlt tasks show`` found."""

    format: Literal[1]
    """The version of this document."""
    task: Task
    """The record of the task."""


def ls() -> None:
    """List the tasks."""
    from xlt.tasks.catalogue import TASKS

    columns = ("key", "name", "kind", "metric", "languages", "trains on")
    rows = (
        (task.key, task.name, task.kind, task.metric, len(task.languages) or "all", task.trains_on)
        for task in TASKS.values()
    )
    emit(TaskList(1, list(TASKS.values())), [table(columns, rows)])


def show(key: TaskKey) -> None:
    """Show one task: languages, files, labels, recipe, licence."""
    from xlt.tasks.catalogue import get_task

    emit(TaskRecord(1, get_task(key)), _task_lines(get_task(key)))


def _task_lines(task: Task) -> Iterator[str]:
    for name, value in asdict(task).items():
        if isinstance(value, dict):
            value = ", ".join(f"{inner} {setting}" for inner, setting in value.items())
        elif isinstance(value, list | tuple):
            value = " ".join(value)
        yield f"{name:10} {value}"


def check(data_root: Annotated[Path, "The folder of the task files."]) -> None:
    """Read every task file in a folder, and report rows and problems."""
    from xlt.data.files.check import check as check_files
    from xlt.tasks.catalogue import TASKS

    report = check_files(data_root, TASKS.values())
    emit(report, _checked(report))
    if report.problems:
        raise typer.Exit(int(ExitCode.DATA))


def _checked(report: CheckReport) -> Iterator[str | Table]:
    rows = (
        (key, split, len(languages), sum(languages.values()))
        for key, splits in report.tasks.items()
        for split, languages in splits.items()
    )
    yield table(("task", "split", "languages", "rows"), rows)
    for problem in report.problems:
        place = f"{problem.file}:{problem.line}" if problem.line else problem.file
        yield f"{place}: {problem.message}"
