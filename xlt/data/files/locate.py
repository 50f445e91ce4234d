"""Where the files of a task lie below the data root."""

from __future__ import annotations

import difflib
from pathlib import Path

from xlt.data.files.fault import FileFault
from xlt.data.files.part import DataFile, Part
from xlt.errors import UsageFault
from xlt.tasks.record import Split, Task

ENGLISH = "en"


def declared_languages(task: Task, split: Split) -> tuple[str, ...]:
    """The languages that the record gives the split: English alone where the file name has no language."""
    if split not in task.files:
        return ()
    return task.languages if "{lang}" in task.files[split] else (ENGLISH,)


def present_languages(root: Path, task: Task, split: Split) -> tuple[str, ...]:
    """The declared languages of which every file exists, in the task's order."""
    return tuple(
        language
        for language in declared_languages(task, split)
        if all(_existing(root, name) for name in _names(task, split, language))
    )


def some_file_exists(root: Path, task: Task, split: Split, language: str) -> bool:
    """Whether at least one of the files of that language exists."""
    return any(_existing(root, name) for name in _names(task, split, language))


def locate(root: Path, task: Task, split: Split, language: str) -> Part:
    """Finds the files of one split of a task in one language; a plain file goes before its ``.gz``.

    Raises:
        UsageFault: the task has no such split or language.
        FileFault: a file is absent.
    """
    _check_asked(task, split, language)
    files = tuple(_find(root, name, task, split, language) for name in _names(task, split, language))
    return Part(task, split, language, files)


def _names(task: Task, split: Split, language: str) -> tuple[str, ...]:
    name = task.files[split].replace("{lang}", language)
    if "{side}" not in name:
        return (name,)
    return tuple(name.replace("{side}", side) for side in (language, ENGLISH))


def _existing(root: Path, name: str) -> str | None:
    return next((found for found in (name, f"{name}.gz") if (root / found).is_file()), None)


def _find(root: Path, name: str, task: Task, split: Split, language: str) -> DataFile:
    found = _existing(root, name)
    if found is None:
        raise FileFault(
            name,
            f"no such file in the data root '{root}', neither plain nor as .gz.",
            why=f"It holds {task.name} ({task.key}), split '{split}', language '{language}'.",
            mend=f"Get it from {task.address} and put it at {root / name}",
        )
    return DataFile(root / found, found, task.address)


def _check_asked(task: Task, split: Split, language: str) -> None:
    if split not in task.files:
        raise UsageFault(
            f"The task '{task.key}' has no split '{split}'.",
            why=f"Its splits: {', '.join(task.files) or 'none (it has no files of its own)'}.",
            mend=f"xlt tasks show {task.key}",
        )
    languages = declared_languages(task, split)
    if language not in languages:
        close = difflib.get_close_matches(language.lower(), languages, n=1, cutoff=0.5)
        question = f" Did you mean '{close[0]}'?" if close else ""
        raise UsageFault(
            f"The task '{task.key}' has no language '{language}' in its split '{split}'.{question}",
            why=f"Its languages there: {' '.join(languages)}.",
            mend=f"xlt tasks show {task.key}",
        )
