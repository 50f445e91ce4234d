"""Folders in the form of an XTREME submission: what their files hold, and their score by XTREME's own evaluator.

Source: evaluate.py of https://github.com/google-research/xtreme; written anew after its rules.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from xlt.data.predictions import Prediction
from xlt.data.rows import BitextRow, Row, scored_rows
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.metrics import METRICS, Metrics, Scored, Seqeval, tag_f1
from xlt.evaluate.ranking import average_precision
from xlt.strict_json import MOST_BYTES, parse_json, read_bytes, reason, regular
from xlt.tasks.catalogue import TARGET
from xlt.tasks.record import FITTED_ON_DEV, Task
from xlt.tasks.xtreme_r import XTREME_R_TARGET

# The evaluator of XTREME-R has no form for LAReQA.
_TASKS = {task.key: task for task in (*TARGET, *XTREME_R_TARGET) if task.key != "lareqa"}
BENCHMARKS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    name: {key: tuple(task.benchmarks[name].split()) for key, task in _TASKS.items() if name in task.benchmarks}
    for name in ("xtreme", "xtreme-r")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """The score of one task of a submission."""

    languages: dict[str, Metrics]
    """The metrics of each language, in percent."""
    score: float
    """The mean over languages, in percent: of accuracy, of F1, or of F1 and exact match for span QA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionScore:
    """The score of a submission."""

    format: Literal[1] = 1
    """The version of this form."""
    benchmark: str
    """``xtreme`` or ``xtreme-r``."""
    tasks: dict[str, TaskScore]
    """The tasks that could be scored."""
    score: float | None
    """Their mean, in percent, where the official evaluator gives one: for all tasks of XTREME."""
    notes: list[str]
    """What was left out, what was counted as wrong, and which rules were applied."""


def score_submission(
    predictions: Path, labels: Path, benchmark: str = "xtreme", seqeval: Seqeval = "0.0.12"
) -> SubmissionScore:
    """Score ``predictions/TASK/test-LANGUAGE.*`` against files of the same names and forms below ``labels``.

    As officially, a task is left out where either folder lacks it, a task that is there has all its languages, and
    there is a total only of all tasks: never for XTREME-R, whose LAReQA the evaluator asks for and cannot read.
    A question without a prediction counts as wrong; everywhere else predictions and labels are as many. Tags are
    scored by the rule of that version of ``seqeval`` (see ``tag_f1``): the official evaluator pins none.

    Raises:
        UsageFault: there is no such benchmark.
        DataFault: nothing can be scored, or files are absent, broken or of unequal length, of which three of each
            task are named.
    """
    if benchmark not in BENCHMARKS:
        raise UsageFault(f"There is no benchmark '{benchmark}'.", fix=f"--benchmark, one of: {', '.join(BENCHMARKS)}")
    asked = BENCHMARKS[benchmark]
    given, gold = _folders(predictions), _folders(labels)
    tasks: dict[str, TaskScore] = {}
    notes: list[str] = []
    faults: dict[str, list[str]] = {}
    for task, languages in asked.items():
        if task not in given & gold:
            notes.append(f"{task}: not scored; there is no folder of {'labels' if task in given else 'predictions'}.")
            continue
        metrics: dict[str, Metrics] = {}
        for language in languages:
            name = f"{task}/{file_name(task, language)}"
            try:
                metrics[language] = _score_file(task, predictions / name, labels / name, language, seqeval, notes)
            except DataFault as fault:
                faults.setdefault(task, []).append(f"{name}: {fault.what}")
        if not faults:
            counted = METRICS[_TASKS[task].metric].printed
            score = fmean(fmean(each[metric] for metric in counted) for each in metrics.values())
            tasks[task] = TaskScore(languages=metrics, score=score)
    if faults:
        raise DataFault(
            f"{sum(map(len, faults.values()))} files of the submission cannot be scored.",
            why="\n       ".join(line for task, found in faults.items() for line in _first(task, found)),
            fix="Every task folder needs all languages of the benchmark, with a prediction for every label.",
        )
    if not tasks:
        raise DataFault(
            f"'{predictions}' and '{labels}' have no task of {benchmark} in common.",
            fix=f"Both hold a folder per task: {', '.join(asked)}.",
        )
    notes += [f"{name}: not scored; no task of {benchmark}." for name in sorted(given - {*asked})]
    if tagged := [task for task in tasks if _TASKS[task].kind == "tagging"]:
        notes.append(f"{', '.join(tagged)}: F1 by the rule of seqeval {seqeval}; XTREME's evaluator pins no version.")
    if benchmark == "xtreme-r":
        notes.append("No total: XTREME-R's includes LAReQA, which its evaluator cannot read from such a folder either.")
    complete = benchmark == "xtreme" and len(tasks) == len(asked)
    total = fmean(each.score for each in tasks.values()) if complete else None
    return SubmissionScore(benchmark=benchmark, tasks=tasks, score=total, notes=notes)


def _first(task: str, faults: Sequence[str], most: int = 3) -> Iterator[str]:
    """The first faults of a task, and how many others it has."""
    yield from faults[:most]
    if len(faults) > most:
        yield f"{task}: {len(faults) - most} more files"


def submission_text(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction], dev: Scored | None) -> str:
    """What ``test-LANGUAGE.*`` holds for the test ``rows`` of one language, in their order.

    Mining writes the pairs above the threshold of best F1 on ``dev``.

    Raises:
        DataFault: predictions and rows do not fit each other.
        UsageFault: mining has no ``dev``.
    """
    if task.metric in FITTED_ON_DEV and dev is None:
        raise UsageFault(
            f"A submission of '{task.key}' needs the predictions for its dev split.",
            why="They set the threshold above which pairs are submitted.",
            fix="Score the dev split as well: --split dev",
        )
    _, given = METRICS[task.metric].prepare(task, rows, predictions, dev)
    return _form(task.key).write(task, rows, given)


def file_name(task: str, language: str) -> str:
    """The name of the file of a task in a language."""
    return f"test-{language}.{_form(task).suffix}"


def _folders(root: Path) -> set[str]:
    try:
        return {path.name for path in root.iterdir() if path.is_dir()}
    except OSError as error:
        raise DataFault(f"'{root}' is not a folder that can be read.", fix="--predictions DIR --labels DIR") from error


def _score_file(
    task: str, predictions: Path, labels: Path, language: str, seqeval: Seqeval, notes: list[str]
) -> Metrics:
    for path, what in ((predictions, "predictions"), (labels, "labels")):
        if not path.is_file():
            raise DataFault(f"there is no file of {what}.")
    form = _form(task)
    try:
        gold, given = form.read(labels), form.read(predictions)
        if isinstance(gold, dict):
            if absent := gold.keys() - given.keys():
                name = f"{task}/{labels.name}"
                notes.append(f"{name}: {len(absent)} of {len(gold)} have no prediction and count as wrong.")
            if None in given.values() or not all(isinstance(each, list) for each in gold.values()):
                raise ValueError("an answer is null, or a label is no list of answers")
            gold, given = [*gold.values()], [given.get(id_) for id_ in gold]
        elif not gold or (len(gold) != len(given) and _TASKS[task].metric != "mining_f1"):
            raise DataFault(f"{len(given)} predictions for {len(gold)} labels.")
        if _TASKS[task].kind == "tagging":
            return _tagging(gold, given, seqeval)
        return (form.compare or METRICS[_TASKS[task].metric].compare)(gold, given, language)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataFault(f"not of the form of its task ({type(error).__name__}: {reason(error)}).") from error


# Reading


def _lines(path: Path) -> list[str]:
    with regular(path, MOST_BYTES).open(encoding="utf-8-sig") as stream:
        return [line.strip() for line in stream]


def _tags(path: Path) -> list[list[str]]:
    """Sentences, each ended by a blank line; one more blank line is a sentence without words."""
    sentences: list[list[str]] = [[]]
    for line in _lines(path):
        if line:
            sentences[-1].append(line)
        else:
            sentences.append([])
    return sentences if sentences[-1] else sentences[:-1]


def _answers(path: Path) -> Any:
    """From each id to its answer; of a file in the form of SQuAD, to its gold answers."""
    content = parse_json(read_bytes(path).removeprefix(codecs.BOM_UTF8))
    articles = content.get("data", content) if isinstance(content, dict) else content
    if not isinstance(articles, list):
        return articles
    questions = (qa for article in articles for paragraph in article["paragraphs"] for qa in paragraph["qas"])
    return {qa["id"]: [answer["text"] for answer in qa["answers"]] for qa in questions}


# Scoring what has no metric of its own in the catalogue


def _tagging(gold: list[list[str]], given: list[list[str]], seqeval: Seqeval) -> Metrics:
    pairs = enumerate(zip(gold, given, strict=True), start=1)
    if unequal := [number for number, (tags, others) in pairs if len(tags) != len(others)]:
        raise DataFault(f"{len(unequal)} sentences have more or fewer tags than labels; the first is {unequal[0]}.")
    return tag_f1(gold, given, seqeval)


def _entities(gold: Sequence[Any], given: Sequence[Any], language: str) -> Metrics:
    """Of the labels of a mention the first counts."""
    pairs = zip(gold, given, strict=True)
    return {"map@20": 100 * fmean(average_precision([right.strip()], ranked or ()) for (right, *_), ranked in pairs)}


# Writing


def _label_lines(task: Task, rows: Sequence[Row], given: Sequence[list[str]]) -> str:
    names = dict(zip(task.labels, task.file_labels or task.labels, strict=True))
    return "".join(f"{names[label]}\n" for (label,) in given)


def _tag_lines(task: Task, rows: Sequence[Row], given: Sequence[list[str]]) -> str:
    """A tag a line, and a blank line after each sentence."""
    return "".join("\n".join(tags) + "\n\n" for tags in given)


def _line_numbers(task: Task, rows: Sequence[Row], given: Sequence[list[str]]) -> str:
    """The number of the foreign line, from 0, for each English sentence in alphabetical order.

    XTREME's download puts the English side into that order.
    """
    numbers = {row.id: number for number, row in enumerate(rows)}
    english = [row.english.strip() for row in rows if isinstance(row, BitextRow)]
    order = sorted(range(len(rows)), key=english.__getitem__)
    return "".join(f"{numbers[given[place][0]]}\n" for place in order)


def _choice_lines(task: Task, rows: Sequence[Row], given: Sequence[list[str]]) -> str:
    return "".join(json.dumps({"label": int(choice)}) + "\n" for (choice,) in given)


def _answer_object(task: Task, rows: Sequence[Row], given: Sequence[Any]) -> str:
    """From each id to its answer, or to its candidates, best first."""
    texts = {row.id: text for row, text in zip(scored_rows(rows), given, strict=True)}
    return json.dumps(texts, ensure_ascii=False, indent=1) + "\n"


def _pair_lines(task: Task, rows: Sequence[Row], given: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{foreign}\t{english}\n" for foreign, english in given)


@dataclass(frozen=True, slots=True)
class _Form:
    """How files of predictions and labels end, are read, compared and written."""

    suffix: Literal["tsv", "json", "jsonl"]
    read: Callable[[Path], Any]
    write: Callable[[Task, Sequence[Row], Sequence[Any]], str] = _label_lines
    compare: Callable[[Sequence[Any], Sequence[Any], str], Metrics] | None = None
    """None: as the task's metric does."""


# By kind, unless the metric has its own.
_FORMS: Mapping[str, _Form] = {
    "pair_classification": _Form("tsv", lambda path: [[line] for line in _lines(path)]),
    "multiple_choice": _Form(
        "jsonl", lambda path: [[parse_json(line)["label"]] for line in _lines(path)], _choice_lines
    ),
    "tagging": _Form("tsv", _tags, _tag_lines),
    "span_qa": _Form("json", _answers, _answer_object),
    "retrieval": _Form("tsv", lambda path: [[line] for line in _lines(path)], _line_numbers),
    "mining_f1": _Form("tsv", lambda path: [tuple(line.split("\t")) for line in _lines(path)], _pair_lines),
    "map20": _Form("json", _answers, _answer_object, _entities),
}


def _form(key: str) -> _Form:
    task = _TASKS[key]
    return next(_FORMS[name] for name in (task.metric, task.kind) if name in _FORMS)
