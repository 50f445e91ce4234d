"""The check of a whole data root."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from xlt.data.files.check import Problem, check
from xlt.errors import DataFault
from xlt.tasks.catalogue import TASKS, get_task

XNLI, XQUAD, TATOEBA = (get_task(key) for key in ("xnli", "xquad", "tatoeba"))


def test_one_problem_does_not_stop_the_rest(write, tmp_path):
    write("xnli/dev-ar.tsv", "A\tB\tneutral\nA\tB\tmaybe\n")
    write("xnli/dev-de.tsv.gz", "A\tB\tneutral\n")
    write("xnli/dev-zh.tsv", "")
    write("tatoeba/de-en.de", "eins\n")
    report = check(tmp_path, [XNLI, TATOEBA])
    assert report.tasks == {"xnli": {"dev": {"de": 1}, "test": {}}, "tatoeba": {"test": {}}}
    assert [(problem.file, problem.line) for problem in report.problems] == [
        ("xnli/dev-ar.tsv", 2),
        ("xnli/dev-zh.tsv", None),
        ("tatoeba/de-en.en", None),
    ]
    assert report.problems[0].message == "unknown label 'maybe'"


def test_answers_that_cannot_be_aligned_are_reported(write, tmp_path):
    question = {"id": "q7", "question": "?", "answers": [{"text": "Elbe", "answer_start": 0}]}
    paragraph = {"context": "Am Rhein.", "qas": [question]}
    write("xquad/xquad.de.json", json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    report = check(tmp_path, [XQUAD])
    assert report.tasks == {"xquad": {"test": {"de": 1}}}
    assert len(report.problems) == 1
    assert "'q7'" in report.problems[0].message


def test_a_layout_without_a_reader_does_not_stop_the_rest(write, tmp_path):
    write("xnli/dev-ar.tsv", "A\tB\tneutral\n")
    report = check(tmp_path, [replace(XNLI, key="other", layout="conllu"), XNLI])
    assert report.tasks["xnli"] == {"dev": {"ar": 1}, "test": {}}
    assert report.problems[0].file == "xnli/dev-{lang}.tsv"
    assert "'conllu'" in report.problems[0].message


def test_files_of_another_task_do_not_call_for_the_rest(write, tmp_path):
    write("mnli/multinli_1.0_dev_matched.jsonl", '{"sentence1": "A", "sentence2": "B", "gold_label": "neutral"}')
    report = check(tmp_path, TASKS.values())
    assert report.problems == []
    assert (report.tasks["mnli"]["dev"], report.tasks["anli_plus"]["dev"]) == ({"en": 1}, {})


def test_report_is_plain_json(write, tmp_path):
    write("xnli/dev-ar.tsv", "A\tB\n")
    document = json.loads(json.dumps(asdict(check(tmp_path, TASKS.values()))))
    assert set(document) == {"tasks", "problems"}
    assert set(document["problems"][0]) == {"file", "line", "message"}
    assert list(document["tasks"]) == list(TASKS)


def test_data_root_without_any_task_file_is_a_problem(tmp_path):
    report = check(tmp_path, [XNLI])
    assert report.problems == [Problem("", None, f"no file of any of the tasks in the data root '{tmp_path}'")]


def test_data_root_must_be_a_folder(tmp_path):
    with pytest.raises(DataFault, match="not a folder"):
        check(tmp_path / "absent", [XNLI])
