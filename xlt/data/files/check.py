"""Looks through a data root: what it holds of each task, and everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from xlt.data.files.locate import check_root, declared_languages, locate, some_file_exists
from xlt.data.files.reading import FileFault
from xlt.data.files.source import TRANSLATED, read, read_text_file, text_files, translated_languages
from xlt.data.rows import Row, SpanRow, is_blank
from xlt.errors import XltError, encodable
from xlt.tasks.own import unknown_words
from xlt.tasks.record import ENGLISH, Split, Task

CATALOGUE = "xlt/tasks/catalogue.py"


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One thing that is wrong with a file."""

    file: str
    """The path below the data root; where a task's record is wrong, that of the catalogue."""
    line: int | None
    """The line, counted from 1, if a single line is wrong."""
    message: str
    """What is wrong."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a data root holds."""

    tasks: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """The number of rows by task, split and language, of the files that can be read."""
    problems: list[FileProblem] = field(default_factory=list)
    """All problems, also with rows of files that can be read."""
    unread: dict[str, list[str]] = field(default_factory=dict)
    """By folder, the files beside those of a task that no task reads: extra ones, or ones with another name."""

    @contextmanager
    def collecting(self, file: str = "") -> Iterator[None]:
        """Reports an error, which is one of ``file`` unless it names a file itself."""
        try:
            yield
        except FileFault as fault:
            self.problems.append(FileProblem(fault.file, fault.line, fault.message))
        except XltError as fault:
            self.problems.append(FileProblem(file, None, fault.what))


def check(root: Path, tasks: Iterable[Task], needed: Collection[str] = ()) -> CheckReport:
    """Loads every file of the tasks that is found, and those in ``translated`` and ``text``, as a run does.

    A broken file is reported and does not stop the rest. A task may lack its files, unless its key is among ``needed``;
    a data root without any file of the tasks is a problem.

    Raises:
        DataFault: the data root is not a folder, or the name of a translation's folder is not UTF-8.
    """
    check_root(root)
    report = CheckReport()
    translations = translated_languages(root)
    read_files: set[Path] = set()
    tasks = list(tasks)
    report.problems.extend(_record_problems(tasks))
    for task in tasks:
        counts = report.tasks[task.key] = {split: {} for split in task.files}
        # Every language as it is declared, then translations of the English training set.
        places = [(split, each, each, "") for split in task.files for each in declared_languages(task, split)]
        if "train" in task.files:
            places += [("train", each, ENGLISH, f"{TRANSLATED}/{each}") for each in translations]
        for split, language, written, within in places:
            with report.collecting(task.files[split]):
                if some_file_exists(root / within, task, split, written):
                    files = locate(root, task, split, written, within)
                    read_files |= {file.path for file in files.files}
                    rows = read(files)
                    counts[split][language] = len(rows)
                    report.problems.extend(FileProblem(files.file.shown, None, text) for text in _remarks(rows, split))
        if task.key in needed:
            report.problems.extend(_lacking(root, task))
        if task.kind == "masked_lm":
            with report.collecting():
                for file in text_files(root):
                    counts.setdefault("train", {})[file.stem] = len(read_text_file(file))
    if not report.problems and not any(found for counts in report.tasks.values() for found in counts.values()):
        nothing = f"no file of any of the tasks in the data root '{encodable(str(root))}'"
        nothing += "; where each lies: xlt tasks show TASK"
        report.problems.append(FileProblem("", None, nothing))
    report.unread.update(_unread(root, read_files))
    return report


def _record_problems(tasks: Sequence[Task]) -> Iterator[FileProblem]:
    """Records that say what nothing understands, and keys that several have: of these only the last would be used."""
    for task in tasks:
        yield from (FileProblem(CATALOGUE, None, f"{fault}.") for fault in unknown_words(task))
    for key, count in Counter(task.key for task in tasks).items():
        if count > 1:
            yield FileProblem(CATALOGUE, None, f"{count} tasks have the key '{key}'.")


def _lacking(root: Path, task: Task) -> Iterator[FileProblem]:
    """The sets of a task of which no file is there, whatever the language."""
    for split, named in task.files.items():
        if not any(some_file_exists(root, task, split, each) for each in declared_languages(task, split)):
            yield FileProblem(named, None, f"the {split} file of the task '{task.key}' is not there.")


def _unread(root: Path, read_files: set[Path]) -> dict[str, list[str]]:
    found = {}
    for folder in sorted({file.parent for file in read_files} - {root}):
        names = {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}
        if extra := sorted(names - {file.name for file in read_files if file.parent == folder}):
            found[encodable(folder.relative_to(root).as_posix())] = [encodable(name) for name in extra]
    return found


def _remarks(rows: list[Row], split: Split) -> Iterator[str]:
    """What to say of rows that are sound in form but say nothing, or that training cannot use."""
    training = split == "train"
    answers = ((row, row.answers[: 1 if training else None]) for row in rows if isinstance(row, SpanRow))
    found = {
        "have a blank text": [row.id for row in rows if is_blank(row)],
        "have an answer whose place in the context is not known": [
            row.id for row, its in answers if any(answer.start < 0 for answer in its)
        ],
    }
    fate = "they are left out of training" if training else "they count in every score"
    for what, ids in found.items():
        if ids:
            yield f"{len(ids)} rows {what}, first '{ids[0]}': {fate}"
