"""Where the files of a task lie below the data root."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from xlt.data.files.fault import FileFault
from xlt.data.files.part import DataFile, Part
from xlt.data.files.tydiqa import NAMES
from xlt.errors import UsageFault, encodable
from xlt.tasks.record import ENGLISH, Split, Task


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
        if any(all(found(root, name) for name in names) for names in _alternatives(task, split, language))
    )


def some_file_exists(root: Path, task: Task, split: Split, language: str) -> bool:
    """Whether at least one of the files of that language exists; files borrowed from another task do not count."""
    return any(
        found(root, name)
        for names in _alternatives(task, split, language)
        for name in names
        if Path(name).parts[0] == Path(names[0]).parts[0]
    )


def locate(root: Path, task: Task, split: Split, language: str, within: str = "") -> Part:
    """Finds the files of one split of a task in one language; a plain file goes before its ``.gz``.

    Of the record's alternatives the first counts of which every file exists. ``within`` is the folder below the data
    root that holds them, where it is not the root itself.

    Raises:
        UsageFault: the task has no such split or language.
        FileFault: a file is absent.
    """
    _check_asked(task, split, language)
    alternatives = list(_alternatives(task, split, language))
    # Without a whole alternative the one that is there in part is the one meant: its gap is what to name.
    folder = root / within
    names = max(alternatives, key=lambda names: (all(parts := [bool(found(folder, n)) for n in names]), any(parts)))
    shown = [Path(within, name).as_posix() for name in names]
    files = tuple(file for name in shown for file in _find(root, name, task, split, language))
    return Part(task, split, language, files)


def _alternatives(task: Task, split: Split, language: str) -> Iterator[list[str]]:
    pattern = task.files[split].replace("{lang}", language).replace("{name}", NAMES.get(language, language))
    for alternative in pattern.split("|"):
        yield alternative.split()


def found(root: Path, pattern: str) -> list[str]:
    """The files that the pattern means, sorted, below the root; a plain one goes before its ``.gz``.

    Raises:
        FileFault: the name of one is not UTF-8.
    """
    paths = (path for ending in ("", ".gz") for path in root.glob(pattern + ending) if path.is_file())
    names = {path.relative_to(root).as_posix() for path in paths}
    for name in names:
        if encodable(name) != name:
            raise FileFault(name, "the name of the file is not UTF-8.", fix="Rename the file.")
    return sorted(name for name in names if not (name.endswith(".gz") and name.removesuffix(".gz") in names))


def _find(root: Path, name: str, task: Task, split: Split, language: str) -> list[DataFile]:
    names = found(root, name)
    if not names:
        raise FileFault(
            name,
            f"no such file in the data root '{root}', neither plain nor as .gz.",
            why=f"It holds {task.name} ({task.key}), split '{split}', language '{language}'.",
            fix=f"Get it from {task.address} and put it at {root / name}",
        )
    return [DataFile(root / shown, shown, task.address) for shown in names]


def _check_asked(task: Task, split: Split, language: str) -> None:
    if split not in task.files:
        raise UsageFault(
            f"The task '{task.key}' has no split '{split}'.",
            why=f"Its splits: {', '.join(task.files) or 'none (it has no files of its own)'}.",
            fix=f"xlt tasks show {task.key}",
        )
    languages = declared_languages(task, split)
    if language not in languages:
        close = difflib.get_close_matches(language.lower(), languages, n=1, cutoff=0.5)
        question = f" Did you mean '{close[0]}'?" if close else ""
        raise UsageFault(
            f"The task '{task.key}' has no language '{language}' in its split '{split}'.{question}",
            why=f"Its languages there: {' '.join(languages)}.",
            fix=f"xlt tasks show {task.key}",
        )
