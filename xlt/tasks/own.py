"""Tasks of the user's own: records in TOML files, with the fields of those in the package, and the checks of both."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from xlt.errors import UsageFault
from xlt.strict_json import read_bytes, reason
from xlt.tasks.catalogue import PACKAGED, TASKS
from xlt.tasks.record import ENGLISH, Kind, Metric, Recipe, Task

SWITCH = "XLT_TASKS"
EXAMPLE = "Compare it with the example in README.md (Add a task), or with: xlt tasks show xnli"
# Keys and languages become parts of the names of files.
KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
LANGUAGE = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8}){0,2}")
_PACKAGED_KEYS = frozenset(task.key for task in PACKAGED)
# What of a record decides what is learned and how it is scored; recipe, rows and lengths are in a run's spec.
_DECIDING = ("kind", "metric", "trains_on", "labels", "choices")


def add_files(paths: Iterable[Path]) -> None:
    """Make the tasks of these files known to this process.

    Raises:
        UsageFault: there is no such file, it holds no usable records, or there is another task of that key.
    """
    for path in paths:
        tasks = read_tasks(path)
        add_tasks(tasks, f"in '{path.name}'")
        if lacking := [task for task in tasks if task.trains_on and task.trains_on not in TASKS]:
            key = lacking[0].trains_on
            raise UsageFault(
                f"The task '{lacking[0].key}' in '{path}' trains on '{key}', which is no task.",
                fix=f"Add the table [{key}] to the file, or name a task: xlt tasks ls",
            )


def read_tasks(path: Path) -> list[Task]:
    """The records of a TOML file: a table for each task, named as its key.

    Raises:
        UsageFault: there is no such file, or a record is not as ``Task`` says.
    """
    if not path.is_file():
        raise UsageFault(
            f"There is no file '{path}' with records of tasks.",
            why=f"Records of your own are TOML files, which --tasks or {SWITCH} names.",
            fix="Correct the path.",
        )
    try:
        tables = tomllib.loads(read_bytes(path).decode("utf-8"))
        if not tables:
            raise ValueError("it holds no table")
        return [task_of(key, record) for key, record in tables.items()]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        why = reason(error) + ("" if reason(error).endswith((".", "?")) else ".")
        raise UsageFault(f"'{path}' does not hold records of tasks.", why=why, fix=EXAMPLE) from error


def task_of(key: str, record: object) -> Task:
    """The task of a key and the fields of its record. ``ValueError`` names the first thing that is wrong with it."""
    from pydantic import TypeAdapter, ValidationError

    if not KEY.fullmatch(key):
        raise ValueError(f"'{key}' is no key: small letters, digits and _, at most 40, a letter first")
    if not isinstance(record, Mapping):
        raise ValueError(f"'{key}' is no table of a task; one begins with [{key}]")
    _known_fields(record, Task, key)
    if isinstance(recipe := record.get("recipe"), Mapping):
        _known_fields(recipe, Recipe, f"{key}.recipe")
    if record.get("kind") == "retrieval":
        record = {"trains_on": None, **record}
    # In our words, before the library says it in its own.
    for name in ("languages", "labels"):
        if isinstance(value := record.get(name), str):
            raise ValueError(f"{name} of the task '{key}' is a list: {name} = [\"{value}\"]")
    for name in ("kind", "metric"):
        if isinstance(value := record.get(name), str) and (unknown := _unknown_word(key, name, value)):
            raise ValueError(unknown)
    try:
        task = TypeAdapter(Task).validate_python({"name": key, **record, "key": key})
    except ValidationError as error:
        raise ValueError(f"{key}.{reason(error)}") from error
    if fault := next(_faults(task), None):
        raise ValueError(f"the task '{key}' {fault}")
    return task


def _known_fields(record: Mapping[str, object], shape: type, where: str) -> None:
    names = [each.name for each in fields(shape) if each.name != "key"]
    if unknown := [name for name in record if name not in names]:
        close = get_close_matches(unknown[0], names, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else f". Fields: {', '.join(names)}"
        raise ValueError(f"{where} has a field '{unknown[0]}', which no record has{hint}")


def _unknown_word(key: str, name: str, value: str) -> str:
    values = get_args({"kind": Kind, "metric": Metric}[name])
    return "" if value in values else f"the {name} '{value}' of the task '{key}' is none of {', '.join(values)}"


def unknown_words(task: Task) -> list[str]:
    """What the record says that nothing in the package understands: a kind, a metric."""
    found = (_unknown_word(task.key, name, getattr(task, name)) for name in ("kind", "metric"))
    return [each for each in found if each]


def _faults(task: Task) -> Iterator[str]:
    alike = [each for each in PACKAGED if each.kind == task.kind]
    metrics, layouts = ({getattr(each, name): None for each in alike} for name in ("metric", "layout"))
    if task.kind == "masked_lm":
        yield "is of the kind masked_lm, of which there is one task, mlm"
    if task.metric not in metrics:
        yield f"is of the kind {task.kind}, which is scored by {' or '.join(metrics)}, not by {task.metric}"
    if task.layout not in layouts:
        yield f"names the layout '{task.layout}'; those of the kind {task.kind} are {', '.join(layouts)}"
    if len({*task.labels}) < len(task.labels):
        yield "has a label twice"
    if task.kind == "pair_classification" and len(task.labels) < 2:
        yield "has fewer than two labels"
    if task.kind == "multiple_choice" and task.choices < 2:
        yield "has fewer than two choices"
    if wrong := [code for code in task.languages if not LANGUAGE.fullmatch(code)]:
        yield f"has a language '{wrong[0]}', which is no code such as en or zh-Hant"
    if not task.languages or len({*task.languages}) < len(task.languages):
        yield "has no languages, or one of them twice"
    if not task.files:
        yield "names no files"
    if task.trains_on == task.key and not task.files.get("train"):
        yield "has no training file, and no other task that it trains on"
    for split, paths in task.files.items():
        if any(Path(each).is_absolute() or ".." in Path(each).parts for each in paths.split()):
            yield f"names a file of the {split} split that is not below the data root"
        if split != "train" and "{lang}" not in paths and "{name}" not in paths and task.languages != (ENGLISH,):
            yield f"has the same {split} file for all its languages: {{lang}} stands for the code of one"
    if bool(task.recipe.epochs) == bool(task.recipe.steps) and task.trains_on:
        yield "has a recipe with neither epochs nor steps, or with both"


def add_tasks(tasks: Sequence[Task], where: str) -> None:
    """Make these tasks known to this process. The same record may come again; ``where`` they stand, in words.

    Raises:
        UsageFault: there is another task of that key.
    """
    for task in tasks:
        known = TASKS.setdefault(task.key, task)
        if differing := [name for name in _DECIDING if getattr(known, name) != getattr(task, name)]:
            packaged = known in PACKAGED
            raise UsageFault(
                f"There is another task '{task.key}' already.",
                why=f"{'The package has it' if packaged else 'It was read before'}, with other {', '.join(differing)} "
                f"than {where}.",
                fix="Give yours another key." if packaged else f"Use one record for it: --tasks FILE, or {SWITCH}.",
            )


def records_of(keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The records of those of the tasks that the package does not have, as they are stored with a run."""
    return {key: _stored(TASKS[key]) for key in keys if key not in _PACKAGED_KEYS and key in TASKS}


def option(keys: Iterable[str]) -> str:
    """What a command needs that is to use these tasks: nothing where the package has them."""
    return "" if _PACKAGED_KEYS.issuperset(keys) else " --tasks FILE"


def _stored(task: Task) -> dict[str, Any]:
    """The fields that are not at their defaults; a recipe stands in the spec of the run."""
    plain = asdict(task)
    defaults = {
        each.name: each.default_factory() if each.default_factory is not MISSING else each.default
        for each in fields(Task)
    }
    left_out = {"key", "recipe"}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in plain.items()
        if name not in left_out and value != defaults[name]
    }


def deciding(records: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Stored records without what changes no number of a run."""
    return {
        key: {name: value for name, value in record.items() if name in _DECIDING} for key, record in records.items()
    }


@contextmanager
def for_one_command() -> Iterator[None]:
    """A block after which the tasks are known that were known before."""
    before = dict(TASKS)
    try:
        yield
    finally:
        TASKS.clear()
        TASKS.update(before)
