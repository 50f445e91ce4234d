"""Looks through a data root: what it holds of each task, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xlt.data.files.fault import FileFault
from xlt.data.files.given import TRANSLATED, read_text_file, text_files, translated_languages
from xlt.data.files.locate import declared_languages, locate, some_file_exists
from xlt.data.files.part import Part
from xlt.data.files.readers import read
from xlt.data.files.source import check_root
from xlt.data.rows import Row, SpanRow, is_blank
from xlt.errors import DataFault, XltError
from xlt.tasks.record import ENGLISH, Split, Task


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
    """Loads every file of the tasks that is found, and those of ``translated`` and ``text``, as a run does.

    A broken file is reported and does not stop the rest. A task without files is no problem; a data root without any
    file of the tasks is one.

    Raises:
        DataFault: the data root is no folder, or the name of a translation's folder is not UTF-8.
    """
    check_root(root)
    report = CheckReport()
    translations = translated_languages(root)
    for task in tasks:
        splits = report.tasks.setdefault(task.key, {})
        for split in task.files:
            languages = declared_languages(task, split)
            splits[split] = _check_languages(root, task, split, dict.fromkeys(languages, ""), report.problems)
        if "train" in task.files:
            given = {language: f"{TRANSLATED}/{language}" for language in translations}
            splits["train"] |= _check_languages(root, task, "train", given, report.problems)
        if task.kind == "masked_lm":
            splits |= _check_texts(root, report.problems)
    if not report.problems and not any(counts for splits in report.tasks.values() for counts in splits.values()):
        report.problems.append(_problem(DataFault(f"no file of any of the tasks in the data root '{root}'"), ""))
    return report


def _check_languages(
    root: Path, task: Task, split: Split, folders: Mapping[str, str], problems: list[Problem]
) -> dict[str, int]:
    """The rows of each language, which lies in the folder that ``folders`` names; translations are of English."""
    counts: dict[str, int] = {}
    for language, within in folders.items():
        of = ENGLISH if within else language
        try:
            if not some_file_exists(root / within, task, split, of):
                continue
            part = locate(root, task, split, of, within)
            rows = read(part)
        except XltError as fault:
            problems.append(_problem(fault, task.files[split]))
            continue
        counts[language] = len(rows)
        problems.extend(_remarks(part, rows))
    return counts


def _check_texts(root: Path, problems: list[Problem]) -> dict[str, dict[str, int]]:
    """The lines of each file of ``text``."""
    counts: dict[str, int] = {}
    try:
        for file in text_files(root):
            counts[file.stem] = len(read_text_file(file))
    except FileFault as fault:
        problems.append(_problem(fault, ""))
    return {"train": counts} if counts else {}


def _problem(fault: XltError, file: str) -> Problem:
    if isinstance(fault, FileFault):
        return Problem(fault.file, fault.line, fault.message)
    return Problem(file, None, fault.what)


def _remarks(part: Part, rows: list[Row]) -> Iterator[Problem]:
    """Rows that are sound in form but say nothing, or that training cannot use."""
    training = part.split == "train"
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
            yield Problem(part.file.shown, None, f"{len(ids)} rows {what}, first '{ids[0]}': {fate}")
