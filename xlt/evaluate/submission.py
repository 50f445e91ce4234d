"""Scoring a folder of predictions in the form of an XTREME submission, as XTREME's own evaluator does.

Source: evaluate.py of https://github.com/google-research/xtreme; written anew after its rules.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from xlt.errors import DataFault, UsageFault
from xlt.evaluate.metrics import Metrics, Seqeval, tag_f1
from xlt.evaluate.squad import best_over_golds
from xlt.strict_json import parse_json, read_bytes, reason
from xlt.tasks import catalogue

_XTREME = {
    "pawsx": catalogue.PAWSX_LANGUAGES,
    "xnli": catalogue.XNLI_LANGUAGES,
    "panx": catalogue.PANX_LANGUAGES,
    "udpos": catalogue.UDPOS_LANGUAGES,
    "bucc2018": catalogue.BUCC_LANGUAGES,
    "tatoeba": catalogue.TATOEBA_LANGUAGES,
    "xquad": tuple(each for each in catalogue.XQUAD_LANGUAGES if each != "ro"),
    "mlqa": catalogue.MLQA_LANGUAGES,
    "tydiqa": catalogue.TYDIQA_LANGUAGES,
}
_XTREME_R = {
    "xnli": _XTREME["xnli"],
    "panx": (*_XTREME["panx"], *"az gu lt pa pl qu ro uk".split()),
    "udpos": (*_XTREME["udpos"], *"lt pl ro uk wo".split()),
    "tatoeba": (*_XTREME["tatoeba"], *"az lt pl ro uk".split()),
    "xcopa": tuple("et ht id it qu sw ta th tr vi zh".split()),
    "mewslix": tuple("ar de en es fa ja pl ro ta tr uk".split()),
    "xquad": (*_XTREME["xquad"], "ro"),
    "mlqa": _XTREME["mlqa"],
    "tydiqa": _XTREME["tydiqa"],
}
BENCHMARKS: Mapping[str, Mapping[str, tuple[str, ...]]] = {"xtreme": _XTREME, "xtreme-r": _XTREME_R}


@dataclass(frozen=True, slots=True)
class TaskScore:
    """The metrics of each language, in percent, and their mean over languages (of F1 and exact match for QA)."""

    languages: dict[str, Metrics]
    score: float


@dataclass(frozen=True, slots=True)
class SubmissionScore:
    """The tasks that could be scored, their mean in percent where the official evaluator gives one, and remarks."""

    format: Literal[1]
    benchmark: str
    tasks: dict[str, TaskScore]
    score: float | None
    notes: list[str]


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
        DataFault: nothing can be scored, or files are absent, broken or of unequal length; all of them are named.
    """
    if benchmark not in BENCHMARKS:
        raise UsageFault(f"There is no benchmark '{benchmark}'.", fix=f"--benchmark, one of: {', '.join(BENCHMARKS)}")
    given, gold = _folders(predictions), _folders(labels)
    tasks: dict[str, TaskScore] = {}
    notes: list[str] = []
    faults: list[str] = []
    for task, languages in BENCHMARKS[benchmark].items():
        if task not in given & gold:
            notes.append(f"{task}: not scored; there is no folder of {'labels' if task in given else 'predictions'}.")
            continue
        metrics: dict[str, Metrics] = {}
        for language in languages:
            name = FORMS[task].file_name(language)
            try:
                files = predictions / task / name, labels / task / name
                metrics[language] = _score_file(task, *files, language, seqeval, notes)
            except DataFault as fault:
                faults.append(f"{task}/{name}: {fault.what}")
        if not faults:
            score = fmean(fmean(each[metric] for metric in FORMS[task].counted) for each in metrics.values())
            tasks[task] = TaskScore(metrics, score)
    if faults:
        raise DataFault(
            f"{len(faults)} files of the submission cannot be scored.",
            why="\n       ".join(faults),
            fix="Every task folder needs all languages of the benchmark, with a prediction for every label.",
        )
    if not tasks:
        raise DataFault(
            f"'{predictions}' and '{labels}' have no task of {benchmark} in common.",
            fix=f"Both hold a folder per task: {', '.join(BENCHMARKS[benchmark])}.",
        )
    notes += [f"{name}: not scored; no task of {benchmark}." for name in sorted(given - {*BENCHMARKS[benchmark]})]
    if tagged := [task for task in tasks if FORMS[task] is _TAGS]:
        notes.append(f"{', '.join(tagged)}: F1 by the rule of seqeval {seqeval}; XTREME's evaluator pins no version.")
    if benchmark == "xtreme-r":
        notes.append("No total: XTREME-R's includes LAReQA, which its evaluator cannot read from such a folder either.")
    complete = benchmark == "xtreme" and len(tasks) == len(_XTREME)
    return SubmissionScore(
        1, benchmark, tasks, fmean(each.score for each in tasks.values()) if complete else None, notes
    )


def _folders(root: Path) -> set[str]:
    try:
        return {path.name for path in root.iterdir() if path.is_dir()}
    except OSError as error:
        raise DataFault(f"'{root}' is not a folder that can be read.", fix="--predictions DIR --labels DIR") from error


def _score_file(
    task: str, predictions: Path, labels: Path, language: str, seqeval: Seqeval, notes: list[str]
) -> Metrics:
    form = FORMS[task]
    for path, what in ((predictions, "predictions"), (labels, "labels")):
        if not path.is_file():
            raise DataFault(f"there is no file of {what}.")
    try:
        gold, given = form.read(labels), form.read(predictions)
        if form.suffix == "json":
            ids = {question["id"] for question in _questions(gold)} if form.counted == _QA else set(gold)
            if absent := ids - set(given):
                notes.append(
                    f"{task}/{labels.name}: {len(absent)} of {len(ids)} have no prediction and count as wrong."
                )
        elif not gold or (task != "bucc2018" and len(gold) != len(given)):
            raise DataFault(f"{len(given)} predictions for {len(gold)} labels.")
        score = partial(_tagging, seqeval=seqeval) if form is _TAGS else form.score
        return score(gold, given, language)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataFault(f"not of the form of its task ({type(error).__name__}: {reason(error)}).") from error


def _lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig") as stream:
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


def _document(path: Path) -> Any:
    content = parse_json(read_bytes(path).removeprefix(codecs.BOM_UTF8))
    return content.get("data", content) if isinstance(content, dict) else content


def _choices(path: Path) -> list[Any]:
    return [parse_json(line)["label"] for line in _lines(path)]


def _accuracy(gold: list[Any], given: list[Any], language: str) -> Metrics:
    return {"accuracy": 100 * fmean(float(label == other) for label, other in zip(gold, given, strict=True))}


def _tagging(gold: list[list[str]], given: list[list[str]], language: str, *, seqeval: Seqeval = "0.0.12") -> Metrics:
    pairs = enumerate(zip(gold, given, strict=True), start=1)
    if unequal := [number for number, (tags, others) in pairs if len(tags) != len(others)]:
        raise DataFault(f"{len(unequal)} sentences have more or fewer tags than labels; the first is {unequal[0]}.")
    return tag_f1(gold, given, seqeval)


def _mining(gold: list[str], given: list[str], language: str) -> Metrics:
    wanted, found = ({tuple(line.split("\t")) for line in lines} for lines in (gold, given))
    right = len(wanted & found)
    return {
        "f1": 200 * right / (len(wanted) + len(found)),
        "precision": 100 * right / max(len(found), 1),
        "recall": 100 * right / len(wanted),
    }


def _questions(articles: Any) -> list[Any]:
    return [qa for article in articles for paragraph in article["paragraphs"] for qa in paragraph["qas"]]


def _answers(gold: Any, given: Any, language: str, *, mlqa: bool = False) -> Metrics:
    outcomes = [
        best_over_golds(given[qa["id"]], [answer["text"] for answer in qa["answers"]], language if mlqa else "")
        if qa["id"] in given
        else (0.0, 0.0)
        for qa in _questions(gold)
    ]
    exact, f1 = zip(*outcomes, strict=True)
    return {"exact_match": 100 * fmean(exact), "f1": 100 * fmean(f1)}


def _entities(gold: Any, given: Any, language: str) -> Metrics:
    """The mean of one over the rank of the right entity among the first twenty."""
    ranks = [
        next((1 / rank for rank, found in enumerate(given.get(id_, ())[:20], start=1) if found == right.strip()), 0.0)
        for id_, (right, *_) in gold.items()
    ]
    return {"map@20": 100 * fmean(ranks)}


@dataclass(frozen=True, slots=True)
class _Form:
    """How the files of a task end, are read and scored, and the metrics whose mean is the task's score."""

    suffix: Literal["tsv", "json", "jsonl"]
    read: Callable[[Path], Any]
    score: Callable[[Any, Any, str], Metrics]
    counted: tuple[str, ...]

    def file_name(self, language: str) -> str:
        return f"test-{language}.{self.suffix}"


_QA = ("exact_match", "f1")
_LABELS = _Form("tsv", _lines, _accuracy, ("accuracy",))
_TAGS = _Form("tsv", _tags, _tagging, ("f1",))
_SQUAD = _Form("json", _document, _answers, _QA)
FORMS: Mapping[str, _Form] = {
    "pawsx": _LABELS,
    "xnli": _LABELS,
    "tatoeba": _LABELS,
    "panx": _TAGS,
    "udpos": _TAGS,
    "bucc2018": _Form("tsv", _lines, _mining, ("f1",)),
    "xquad": _SQUAD,
    "tydiqa": _SQUAD,
    "mlqa": _Form("json", _document, partial(_answers, mlqa=True), _QA),
    "xcopa": _Form("jsonl", _choices, _accuracy, ("accuracy",)),
    "mewslix": _Form("json", _document, _entities, ("map@20",)),
}
