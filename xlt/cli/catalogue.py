"""``xlt tasks``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xlt.cli.options import Debug, Json, TaskKey
from xlt.cli.output import emit
from xlt.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console


def ls(json: Json = False, debug: Debug = False) -> None:
    """List the tasks."""
    from pydantic import BaseModel
    from rich.table import Table

    from xlt.tasks.catalogue import TASKS

    class TaskList(BaseModel):
        format: Literal[1] = 1
        tasks: list[dict[str, Any]]

    result = TaskList(tasks=[_record(key) for key in TASKS])

    def render(console: Console) -> None:
        table = Table("key", "name", "kind", "metric", "languages", "trains on")
        for task in TASKS.values():
            table.add_row(
                task.key,
                task.name,
                task.kind,
                task.metric,
                str(len(task.languages) or "all"),
                task.trains_on or "–",
            )
        console.print(table)

    emit(result, render)


def show(
    key: TaskKey,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show one task: languages, files, labels, recipe, licence."""
    from pydantic import BaseModel

    class TaskRecord(BaseModel):
        format: Literal[1] = 1
        task: dict[str, Any]

    result = TaskRecord(task=_record(key))

    def render(console: Console) -> None:
        for name, value in result.task.items():
            if isinstance(value, dict):
                value = ", ".join(f"{inner} {setting}" for inner, setting in value.items())
            elif isinstance(value, list | tuple):
                value = " ".join(value)
            console.print(f"{name:10} {value}", markup=False)

    emit(result, render)


def check(
    data_root: Annotated[Path, typer.Option("--data-root", metavar="DIR", help="The folder with task files.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Load every task file found and report rows and problems."""
    from rich.table import Table

    from xlt.data.files.check import check as check_files
    from xlt.tasks.catalogue import TASKS

    report = check_files(data_root, TASKS.values())

    def render(console: Console) -> None:
        table = Table("task", "split", "languages", "rows")
        for key, splits in report.tasks.items():
            for split, languages in splits.items():
                table.add_row(key, split, str(len(languages)), str(sum(languages.values())))
        console.print(table)
        for problem in report.problems:
            place = f"{problem.file}:{problem.line}" if problem.line else problem.file
            console.print(f"{place}: {problem.message}", markup=False)

    emit(report, render)
    if report.problems:
        raise typer.Exit(int(ExitCode.DATA))


def _record(key: str) -> dict[str, Any]:
    from dataclasses import asdict

    from xlt.tasks.catalogue import TASKS

    return asdict(TASKS[key])
