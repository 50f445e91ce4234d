"""Finds the files of a task below the data root."""

from __future__ import annotations

from pathlib import Path

from xlt.data.files.reading import DataFile, FileFault, SplitFiles
from xlt.data.files.spans import LANGUAGE_NAMES
from xlt.data.files.tags import TREEBANKS, TREEBANKS_OF
from xlt.data.source import lacks
from xlt.errors import DataFault, encodable
from xlt.tasks.record import ENGLISH, Split, Task


def check_root(root: Path) -> None:
    """Raises a ``DataFault`` if the data root is not a folder."""
    if not root.is_dir():
        raise DataFault(
            f"The data root '{root}' is not a folder.",
            fix="Give the folder that holds the task folders (mnli, xnli, ...): --data-root DIR",
        )


def declared_languages(task: Task, split: Split) -> tuple[str, ...]:
    """The languages that the task's record gives the split: English alone where the file name has no language."""
    if split not in task.files:
        return ()
    return task.languages if "{lang}" in task.files[split] else (ENGLISH,)


def present_languages(root: Path, task: Task, split: Split) -> tuple[str, ...]:
    """The declared languages whose files all exist, in the task's order."""
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


def locate(root: Path, task: Task, split: Split, language: str, within: str = "") -> SplitFiles:
    """Finds the files of one split of a task in one language.

    The task's record separates alternatives by ``|``; the first whose files all exist is used. ``within`` is the folder
    below the data root that holds them, where it is not the root itself.

    Raises:
        UsageFault: the task has no such split or language.
        FileFault: a file is absent.
    """
    if language not in (languages := declared_languages(task, split)):
        splits = ", ".join(task.files) or "none (it has no files of its own)"
        note = "" if languages else f"Its splits: {splits}."
        raise lacks("The source 'files'", task, split, language, languages, note)
    alternatives = _alternatives(task, split, language)
    # If no alternative is complete, the user means the one that has some files: the error names the file it lacks.
    folder = root / within
    names = max(alternatives, key=lambda names: (all(parts := [bool(found(folder, n)) for n in names]), any(parts)))
    files: list[DataFile] = []
    for name in (Path(within, name).as_posix() for name in names):
        if not (shown := found(root, name)):
            raise FileFault(
                name,
                f"no such file in the data root '{root}', neither plain nor as .gz.",
                why=f"It holds {task.name} ({task.key}), split '{split}', language '{language}'.",
                fix=f"Get it from {task.address} and put it at {root / name}",
            )
        files += (DataFile(root / each, each, task.address) for each in shown)
    return SplitFiles(task, split, language, tuple(files))


def found(root: Path, pattern: str) -> list[str]:
    """The paths of the files that match the pattern, sorted, below the root; a plain file goes before its ``.gz``."""
    paths = (path for ending in ("", ".gz") for path in root.glob(pattern + ending) if path.is_file())
    names = {path.relative_to(root).as_posix() for path in paths}
    for name in names:
        if encodable(name) != name:
            raise FileFault(name, "the name of the file is not UTF-8.", fix="Rename the file.")
    return sorted(name for name in names if not (name.endswith(".gz") and name.removesuffix(".gz") in names))


def _alternatives(task: Task, split: Split, language: str) -> list[list[str]]:
    names = {"lang": language, "name": LANGUAGE_NAMES.get(language, language)}
    names["ud"] = TREEBANKS_OF.get(language, TREEBANKS)
    pattern = task.files[split]
    for name, value in names.items():
        pattern = pattern.replace(f"{{{name}}}", value)
    return [alternative.split() for alternative in pattern.split("|")]
