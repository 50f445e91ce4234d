"""Scoring a submission folder: every task against a second formulation, and every folder that must be refused."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from xlt.data.predictions import Prediction
from xlt.data.rows import (
    Answer,
    BitextRow,
    CandidateRow,
    ChoiceRow,
    MiningRow,
    PairRow,
    QueryRow,
    Row,
    SpanRow,
    TagRow,
)
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.submission import BENCHMARKS, file_name, score_submission, submission_text
from xlt.tasks.catalogue import get_task

Draw = Callable[[random.Random], Any]
N = 6
# One example of each task, and how a list of them is written as labels and as predictions.
DRAWS: dict[str, Draw] = {
    "pawsx": lambda rng: rng.choice("01"),
    "xnli": lambda rng: rng.choice(["entailment", "neutral", "contradiction"]),
    "tatoeba": lambda rng: str(rng.randrange(N)),
    "panx": lambda rng: rng.choices(["O", "B-LOC", "I-LOC", "I-PER"], k=4),
    "udpos": lambda rng: rng.choices(["NOUN", "VERB", "ADJ"], k=4),
    "bucc2018": lambda rng: f"f{rng.randrange(9)}\te{rng.randrange(2)}",
    "xcopa": lambda rng: rng.randrange(2),
    "mewslix": lambda rng: f"Q{rng.randrange(30)}",
    "xquad": lambda rng: " ".join(rng.choices(["red", "blue", "10"], k=rng.randint(1, 3))),
}
DRAWS |= dict.fromkeys(("mlqa", "tydiqa"), DRAWS["xquad"])


def _write(path: Path, task: str, values: list[Any], gold: bool) -> None:
    if task in ("panx", "udpos"):
        text = "\n".join("\n".join(tags) + "\n" for tags in values)
    elif task == "xcopa":
        text = "".join(json.dumps({"question": "?", "label": value}) + "\n" for value in values)
    elif task == "mewslix":
        text = json.dumps({f"q{n}": [value] if gold else _ranked(value) for n, value in enumerate(values)})
    elif file_name(task, "de").endswith(".json"):
        qas = [{"id": f"q{n}", "answers": [{"text": value}]} for n, value in enumerate(values)]
        answers = {f"q{n}": value for n, value in enumerate(values)}
        text = json.dumps({"data": [{"paragraphs": [{"qas": qas}]}]} if gold else answers)
    else:
        text = "\n".join(values) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _ranked(first: str) -> list[str]:
    """All 30 entities from one on; only twenty count."""
    return [f"Q{(int(first[1:]) + n) % 30}" for n in range(30)]


def _expected(task: str, gold: list[Any], given: list[Any]) -> dict[str, float]:
    """The metrics between 0 and 1, by counting."""
    pairs = list(zip(gold, given, strict=True))
    if task in ("panx", "udpos", "bucc2018"):
        wanted, found = (set(values) if task == "bucc2018" else _chunks(values) for values in (gold, given))
        precision, recall = len(wanted & found) / (len(found) or 1), len(wanted & found) / len(wanted)
        f1 = 2 * precision * recall / (precision + recall) if precision else 0.0
        return {"f1": f1, "precision": precision, "recall": recall}
    if task == "mewslix":
        distances = [(int(right[1:]) - int(first[1:])) % 30 for right, first in pairs]
        return {"map@20": mean(1 / (away + 1) if away < 20 else 0.0 for away in distances)}
    exact = mean(float(right == said) for right, said in pairs)
    if not file_name(task, "de").endswith(".json"):
        return {"accuracy": exact}
    shared = [2 * (Counter(a.split()) & Counter(b.split())).total() / len((a + " " + b).split()) for a, b in pairs]
    return {"exact_match": exact, "f1": mean(shared)}


def _chunks(sentences: list[list[str]]) -> set[tuple[int, int, int, str]]:
    """Sentence, first and last word and type of each entity, or of each run of equal tags without B- and I-."""
    found = set()
    for number, tags in enumerate(sentences):
        begun = [tag.startswith("B-") for tag in tags]
        keys = [(tag.split("-")[-1], sum(begun[: place + 1])) for place, tag in enumerate(tags)]
        for (kind, _), run in groupby(range(len(tags)), key=keys.__getitem__):
            places = list(run)
            if kind != "O":
                found.add((number, places[0], places[-1], kind))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str, int], dict[str, dict[str, dict[str, float]]]]:
    """Writes labels and predictions of a whole benchmark and gives the metrics that they must have."""

    def make(benchmark: str, seed: int) -> dict[str, dict[str, dict[str, float]]]:
        rng = random.Random(f"{benchmark} {seed}")
        expected: dict[str, dict[str, dict[str, float]]] = {}
        for task, languages in BENCHMARKS[benchmark].items():
            for language in languages:
                gold = [DRAWS[task](rng) for _ in range(N)]
                share = rng.random()
                given = [value if rng.random() < share else DRAWS[task](rng) for value in gold]
                name = f"{task}/{file_name(task, language)}"
                _write(tmp_path / "labels" / name, task, gold, True)
                _write(tmp_path / "predictions" / name, task, given, False)
                expected.setdefault(task, {})[language] = _expected(task, gold, given)
        return expected

    return make


@pytest.mark.parametrize(("benchmark", "seed"), [("xtreme", 0), ("xtreme", 1), ("xtreme-r", 0)])
def test_every_task_and_language(folder: Any, tmp_path: Path, benchmark: str, seed: int) -> None:
    expected = folder(benchmark, seed)
    result = score_submission(tmp_path / "predictions", tmp_path / "labels", benchmark)
    assert list(result.tasks) == list(BENCHMARKS[benchmark])
    means = {}
    for task, languages in expected.items():
        for language, metrics in languages.items():
            percent = {name: pytest.approx(100 * value, abs=1e-9) for name, value in metrics.items()}
            assert result.tasks[task].languages[language] == percent, (task, language)
        counted = [name for name in ("exact_match", "f1", "accuracy", "map@20") if name in metrics]
        means[task] = mean(100 * metrics[name] for metrics in languages.values() for name in counted)
        assert result.tasks[task].score == pytest.approx(means[task])
    # The official evaluator has no total for XTREME-R: LAReQA belongs to it and cannot be scored.
    assert result.score == (pytest.approx(mean(means.values())) if benchmark == "xtreme" else None)
    assert "udpos, panx: F1 by the rule of seqeval 0.0.12" in result.notes[0]
    assert len(result.notes) == 1 + (benchmark == "xtreme-r")


def test_tags_are_scored_by_the_rule_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "xtreme", {"udpos": ("de",)})  # type: ignore[arg-type]
    for side, first in (("labels", "CCONJ"), ("predictions", "SCONJ")):
        _write(tmp_path / side / "udpos/test-de.tsv", "udpos", [[first, "NOUN"]], side == "labels")
    folders = tmp_path / "predictions", tmp_path / "labels"
    assert score_submission(*folders).tasks["udpos"].score == 50.0
    newer = score_submission(*folders, seqeval="1.2.2")
    assert (newer.tasks["udpos"].score, "seqeval 1.2.2" in newer.notes[0]) == (100.0, True)


def test_a_byte_order_mark_is_no_part_of_a_submission(folder: Any, tmp_path: Path) -> None:
    folder("xtreme-r", 0)
    before = score_submission(tmp_path / "predictions", tmp_path / "labels", "xtreme-r")
    for path in (*tmp_path.glob("predictions/*/*"), *tmp_path.glob("labels/*/*-[a-f]*")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert score_submission(tmp_path / "predictions", tmp_path / "labels", "xtreme-r") == before


def test_languages_are_as_many_as_in_the_benchmarks() -> None:
    xtreme = {task: len(languages) for task, languages in BENCHMARKS["xtreme"].items()}
    assert xtreme == {
        "pawsx": 7,
        "xnli": 15,
        "panx": 40,
        "udpos": 33,
        "bucc2018": 4,
        "tatoeba": 36,
        "xquad": 11,
        "mlqa": 7,
        "tydiqa": 9,
    }
    larger = {task: len(languages) for task, languages in BENCHMARKS["xtreme-r"].items()}
    added = {"panx": 48, "udpos": 38, "tatoeba": 41, "xquad": 12, "xcopa": 11, "mewslix": 11}
    assert larger == {**{task: n for task, n in xtreme.items() if task not in ("pawsx", "bucc2018")}, **added}


def test_a_partial_folder_has_no_total_and_says_what_lacks(folder: Any, tmp_path: Path) -> None:
    folder("xtreme", 0)
    (tmp_path / "predictions" / "xnli").rename(tmp_path / "predictions" / "xnly")
    (tmp_path / "labels" / "panx").rename(tmp_path / "labels" / "names")
    result = score_submission(tmp_path / "predictions", tmp_path / "labels")
    assert set(result.tasks) == {*BENCHMARKS["xtreme"]} - {"xnli", "panx"}
    assert result.score is None
    assert [note.split(":")[0] for note in result.notes] == ["xnli", "panx", "xnly", "udpos"]


def test_unanswered_questions_are_wrong_and_noted(folder: Any, tmp_path: Path) -> None:
    folder("xtreme", 0)
    for side in ("labels", "predictions"):
        _write(tmp_path / side / "mlqa/test-de.json", "mlqa", ["der Hund", "Katze"], side == "labels")
    path = tmp_path / "predictions/mlqa/test-de.json"
    path.write_text('{"q0": "Hund!", "q9": "Katze"}', "utf-8")
    result = score_submission(tmp_path / "predictions", tmp_path / "labels")
    assert result.tasks["mlqa"].languages["de"] == {"exact_match": 50.0, "f1": 50.0}
    assert result.notes[0] == "mlqa/test-de.json: 1 of 2 have no prediction and count as wrong."
    assert result.score is not None


def test_of_a_task_whose_files_are_absent_the_first_are_named(folder: Any, tmp_path: Path) -> None:
    folder("xtreme", 0)
    for path in (tmp_path / "predictions" / "tatoeba").glob("test-*"):
        path.unlink()
    with pytest.raises(DataFault) as caught:
        score_submission(tmp_path / "predictions", tmp_path / "labels")
    assert caught.value.what == "36 files of the submission cannot be scored."
    *named, rest = caught.value.why.split("\n       ")
    assert (len(named), rest) == (3, "tatoeba: 33 more files")


def test_every_file_that_cannot_be_scored_is_named(folder: Any, tmp_path: Path) -> None:
    folder("xtreme-r", 0)
    given = tmp_path / "predictions"
    (given / "xnli/test-sw.tsv").unlink()
    (tmp_path / "labels/tydiqa/test-ko.json").unlink()
    (given / "tatoeba/test-de.tsv").write_text("1\n2\n", "utf-8")
    (given / "udpos/test-af.tsv").write_text("\n\n".join(["NOUN\nNOUN\nNOUN"] * N), "utf-8")
    (given / "panx/test-af.tsv").write_text("O\n", "utf-8")
    (given / "xquad/test-ar.json").write_text("{", "utf-8")
    (given / "mlqa/test-zh.json").write_text('{"q0": 3}', "utf-8")
    (given / "xcopa/test-et.jsonl").write_text('{"choice": 1}\n' * N, "utf-8")
    (given / "mewslix/test-pl.json").write_bytes(b"\xff")
    (given / "mlqa/test-ar.json").write_text("[" * 10_000, "utf-8")
    with pytest.raises(DataFault) as caught:
        score_submission(given, tmp_path / "labels", "xtreme-r")
    faults = dict(line.strip().split(": ", 1) for line in caught.value.why.split("\n"))
    assert caught.value.what.startswith("10 files")
    assert faults["xnli/test-sw.tsv"] == "there is no file of predictions."
    assert faults["tydiqa/test-ko.json"] == "there is no file of labels."
    assert faults["tatoeba/test-de.tsv"] == "2 predictions for 6 labels."
    assert faults["udpos/test-af.tsv"].startswith("6 sentences have more or fewer tags")
    assert faults["panx/test-af.tsv"] == "1 predictions for 6 labels."
    for name in (
        "xquad/test-ar.json",
        "mlqa/test-ar.json",
        "mlqa/test-zh.json",
        "xcopa/test-et.jsonl",
        "mewslix/test-pl.json",
    ):
        assert faults[name].startswith("not of the form of its task")


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"q0": "\\ud800"}', b'{"q0": "a", "q0": "b"}', b'{"q0": NaN}', b"5", b"null"]
)
def test_answers_that_others_broke_are_named(folder: Any, tmp_path: Path, content: bytes) -> None:
    folder("xtreme-r", 0)
    for name in ("xquad/test-ar.json", "mewslix/test-pl.json", "xcopa/test-et.jsonl"):
        (tmp_path / "predictions" / name).write_bytes(content)
    with pytest.raises(DataFault) as caught:
        score_submission(tmp_path / "predictions", tmp_path / "labels", "xtreme-r")
    faults = caught.value.why.split("\n")
    assert [fault.strip().partition(":")[0] for fault in faults] == [
        "xquad/test-ar.json",
        "xcopa/test-et.jsonl",
        "mewslix/test-pl.json",
    ]


def test_folders_and_benchmarks_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="no benchmark 'xtreme-s'"):
        score_submission(tmp_path, tmp_path, "xtreme-s")
    with pytest.raises(DataFault, match="not a folder"):
        score_submission(tmp_path / "none", tmp_path)
    with pytest.raises(DataFault, match="no task of xtreme in common"):
        score_submission(tmp_path, tmp_path)


def test_predictions_in_the_words_of_a_submission() -> None:
    def text(task: str, rows: list[Row], *said: str | tuple[int, int]) -> str:
        given = [Prediction(row.id, each, 0.5) for row, each in zip(rows, said, strict=True)]
        return submission_text(get_task(task), rows, given[::-1], None)

    pairs: list[Row] = [PairRow(id_, "a", "b", "paraphrase") for id_ in "12"]
    assert text("pawsx", pairs, "paraphrase", "different") == "1\n0\n"
    assert text("xnli", pairs, "neutral", "entailment") == "neutral\nentailment\n"
    spans: list[Row] = [
        SpanRow("q1", "?", "Äpfel rot", (Answer("rot", 6),)),
        SpanRow("q2", "?", "x", (Answer("x", 0),)),
    ]
    assert json.loads(text("xquad", spans, (6, 9), (0, 0))) == {"q1": "rot", "q2": ""}
    tags: list[Row] = [TagRow("1", ("a", "b"), ("O", "O")), TagRow("2", ("c",), ("O",))]
    assert text("panx", tags, "B-LOC O", "O") == "B-LOC\nO\n\nO\n\n"
    # English in alphabetical order: Bee (second line), ant (third), bee (first); each with its foreign line, from 0.
    bitext: list[Row] = [BitextRow("a", "x", "bee"), BitextRow("b", "y", " Bee"), BitextRow("c", "z", "ant")]
    assert text("tatoeba", bitext, "a", "c", "b") == "2\n1\n0\n"
    choices: list[Row] = [ChoiceRow(id_, "p", ("a", "b"), 0) for id_ in "12"]
    assert text("xcopa", choices, "1", "0") == '{"label": 1}\n{"label": 0}\n'
    with pytest.raises(DataFault, match="do not fit"):
        submission_text(get_task("xnli"), pairs, [], None)


def test_ranked_entities_are_written_for_each_mention() -> None:
    rows: list[Row] = [QueryRow(id_, "m", ("Q1",)) for id_ in "ab"]
    given = [Prediction("b", "Q2 Q1", 0.5), Prediction("a", "Q1", 0.5)]
    pool: list[Row] = [CandidateRow(f"Q{n}", "e") for n in range(3)]
    written = submission_text(get_task("mewslix"), [*rows, *pool], given, None)
    assert json.loads(written) == {"a": ["Q1"], "b": ["Q2", "Q1"]}


def test_mined_pairs_are_those_above_the_best_threshold_on_dev() -> None:
    task = get_task("bucc2018")
    rows: list[Row] = [MiningRow("f1", "x", False, ("e1",)), MiningRow("e1", "y", True)]
    dev = rows, [Prediction("f1", "e1", 1.2), Prediction("f2", "e1", 1.0)]
    given = [Prediction("f7", "e7", 1.15), Prediction("f8", "e8", 1.05)]
    assert submission_text(task, rows, given, dev) == "f7\te7\n"
    with pytest.raises(UsageFault, match="dev split"):
        submission_text(task, rows, given, None)
