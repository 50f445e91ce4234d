"""``xlt tasks``: the catalogue of tasks, and the task files of a folder.

xlt tasks ls
xlt tasks show xnli
xlt tasks check --data-root DIR --tasks FILE.toml
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from xlt.cli.lazy import lazily
from xlt.cli.options import OwnTasks, TaskKey
from xlt.cli.output import Shown, emit, table
from xlt.errors import ExitCode
from xlt.tasks import own
from xlt.tasks.catalogue import TASKS, get_task
from xlt.tasks.record import Task

with lazily():
    from xlt.data.files import check as files
    from xlt.data.hub import table as hub


def ls(*, tasks: OwnTasks = None) -> None:
    """List the tasks."""
    columns = ("key", "name", "kind", "metric", "languages", "trains on")
    rows = (
        (task.key, task.name, task.kind, task.metric, len(task.languages) or "all", task.trains_on)
        for task in TASKS.values()
    )
    emit({"tasks": list(TASKS.values())}, [table(columns, rows)])


def show(key: TaskKey, *, tasks: OwnTasks = None) -> None:
    """Show one task: languages, files, labels, recipe, licence."""
    found = hub.read_table().get(key)
    said = (found.absent or found.note) if found else ""
    emit({"task": get_task(key), "hub": said}, _task_lines(get_task(key), said))


def _task_lines(task: Task, hub: str) -> Shown:
    for name, value in asdict(task).items():
        if isinstance(value, dict):
            value = ", ".join(f"{inner} {setting}" for inner, setting in value.items())
        elif isinstance(value, list | tuple):
            value = " ".join(value)
        yield f"{name:10} {value}"
    if hub:
        yield f"{'on the hub':10} {hub}"


def check(data_root: Annotated[Path, "The folder of the task files."], *, tasks: OwnTasks = None) -> None:
    """Read every task file in a folder, and report rows and problems. Tasks of your own need theirs."""
    report = files.check(data_root, TASKS.values(), needed=own.records_of(TASKS))
    emit(report, _checked(report))
    if report.problems:
        raise typer.Exit(int(ExitCode.DATA))


def _checked(report: files.CheckReport) -> Shown:
    rows = (
        (key, split, len(languages), sum(languages.values()))
        for key, splits in report.tasks.items()
        for split, languages in splits.items()
        if languages
    )
    yield table(("task", "split", "languages", "rows"), rows)
    for folder, names in report.unread.items():
        yield f"{folder}: no task reads {len(names)} of the files, such as '{names[0]}'"
    for problem in report.problems:
        place = f"{problem.file}:{problem.line}" if problem.line else problem.file
        yield f"{place}: {problem.message}".removeprefix(": ")
