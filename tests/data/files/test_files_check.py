"""The check of a whole data root."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace

import pytest

from xlt.data.files.check import FileProblem, check
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
    assert report.problems[0].message == "unknown label 'maybe'."


def test_files_that_no_task_reads_are_listed(write, tmp_path):
    write("xnli/dev-de.tsv", "A\tB\tneutral\n")
    write("xnli/dev-FR.tsv", "A\tB\tneutral\n")
    write("xnli/.hidden", "x")
    write("tatoeba/de-en.de", "eins\n")
    write("tatoeba/de-en.en", "one\n")
    write("tatoeba/fra-eng.fra", "un\n")
    write("tatoeba/fra-eng.eng", "one\n")
    write("elsewhere/file.txt", "x")
    report = check(tmp_path, [XNLI, TATOEBA])
    assert report.problems == []
    assert report.unread == {"tatoeba": ["fra-eng.eng", "fra-eng.fra"], "xnli": ["dev-FR.tsv"]}


def squad(*starts: int) -> str:
    questions = [
        {"id": f"q{start}", "question": "?", "answers": [{"text": "is far", "answer_start": start}]} for start in starts
    ]
    return json.dumps({"data": [{"paragraphs": [{"context": f"{'x' * 100} is far", "qas": questions}]}]})


@pytest.mark.parametrize(
    ("task", "name", "fate"),
    [
        ("squad", "squad/train-v1.1.json", "they are left out of training"),
        ("squad", "squad/dev-v1.1.json", "they count in every score"),
    ],
)
def test_what_becomes_of_answers_without_a_place_is_said(write, tmp_path, task, name, fate):
    write(name, squad(101, 102, 1, 2))
    assert check(tmp_path, [get_task(task)]).problems == [
        FileProblem(name, None, f"2 rows have an answer whose place in the context is not known, first 'q1': {fate}")
    ]


HEADER = "id\tsentence1\tsentence2\tlabel\n"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("pawsx/x-final/en/train.tsv", f"{HEADER}1\tA\tB\t1\n2\t\t\t0\n3\t \tB\t0\n", "2 rows, 'train-2', train"),
        ("pawsx/x-final/de/test_2k.tsv", f"{HEADER}1\tA\tB\t1\n2\tA\t\u200b\u3000\t0\n", "1 rows, 'test-2', score"),
        ("mnli/multinli_1.0_train.jsonl", '{"sentence1": "", "sentence2": "b", "gold_label": "neutral"}', "1 rows, "),
        ("panx/de-test", "de:\u00a0\tO\n\nde:\u200b\tO\nde:a\tO\n", "1 rows, 'test-1', score"),
        ("bucc2018/de-en.dev.de", "de-1\t \nde-2\tZwei\n", "1 rows, 'de-1', score"),
        ("xquad/xquad.de.json", squad(101).replace('"?"', '" "'), "1 rows, 'q101', score"),
    ],
)
def test_rows_with_a_blank_text_are_named(write, tmp_path, name, text, found):
    write("bucc2018/de-en.dev.en", "en-1\tOne\n")
    write("bucc2018/de-en.dev.gold", "de-2\ten-1\n")
    write(name, text)
    problems = [each for each in check(tmp_path, TASKS.values()).problems if each.file == name]
    assert len(problems) == 1
    count, first, fate = (*found.split(", "), "")[:3]
    for part in (f"{count} have a blank text", first, fate):
        assert part in problems[0].message


def test_translations_and_text_are_checked_as_runs_read_them(write, tmp_path):
    pair = '{"sentence1": "A", "sentence2": "B", "gold_label": "neutral"}\n'
    write("mnli/multinli_1.0_train.jsonl", pair)
    write("translated/sw/mnli/multinli_1.0_train.jsonl", pair * 2)
    write("translated/de/mnli/multinli_1.0_train.jsonl", f'{pair}{{"sentence1"')
    write("text/sw.txt", "Sentensi.\nNyingine.\n")
    write("text/de.txt.gz", b"gut\n\xff\n")
    report = check(tmp_path, TASKS.values())
    assert report.tasks["mnli"]["train"] == {"en": 1, "sw": 2}
    assert [(problem.file, problem.line) for problem in report.problems] == [
        ("text/de.txt.gz", 2),
        ("translated/de/mnli/multinli_1.0_train.jsonl", 2),
    ]
    (tmp_path / "text/de.txt.gz").unlink()
    assert check(tmp_path, TASKS.values()).tasks["mlm"] == {"train": {"sw": 2}}


@pytest.mark.parametrize(
    ("name", "row", "other"),
    [
        ("xnli/test-de.tsv", "A\tB\tentailment\n", "A\tB\tneutral\n"),
        ("cosmosqa/valid.csv", "k,C.,W?,a,b,c,d,0\n", "k,C.,W?,a,b,c,d,3\n"),
        ("ner/dev-en.tsv", "Ulm\tO\n\n", "Ulm\tB-LOC\n\n"),
    ],
)
def test_labels_that_are_all_the_same_are_placeholders(write, tmp_path, name, row, other):
    header = "id,context,question,answer0,answer1,answer2,answer3,label\n" if name.endswith("csv") else ""
    for rows, refused in ((row * 20, True), (row * 19, False), (row * 19 + other, False)):
        write(name, header + rows)
        problems = check(tmp_path, TASKS.values()).problems
        assert [(each.file, "20 labels" in each.message) for each in problems] == [(name, True)] * refused


def test_labels_of_a_training_set_may_be_all_the_same(write, tmp_path):
    write("ner/train-en.tsv", "Ulm\tO\n\n" * 30)
    assert check(tmp_path, TASKS.values()).problems == []


@pytest.mark.parametrize("folder", ["udpos/ud-treebanks-v2.5/UD_German-X", "text", "translated"])
def test_a_name_that_is_not_utf8_is_a_problem_that_can_be_printed(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    name = os.fsencode(tmp_path / folder) + {"text": b"/\xff.txt", "translated": b"/\xff"}.get(
        folder, b"/de_\xff-ud-dev.conllu"
    )
    if folder == "translated":
        os.mkdir(name)
        with pytest.raises(DataFault, match="not UTF-8") as caught:
            check(tmp_path, TASKS.values())
        assert str(caught.value).encode()
        return
    with open(name, "w") as stream:
        stream.write("x\n")
    (problem,) = check(tmp_path, TASKS.values()).problems
    assert "\\udcff" in problem.file
    assert json.dumps(asdict(problem), ensure_ascii=False).encode()


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
    assert set(document) == {"tasks", "problems", "unread"}
    assert set(document["problems"][0]) == {"file", "line", "message"}
    assert list(document["tasks"]) == list(TASKS)


def test_data_root_without_any_task_file_is_a_problem(tmp_path):
    report = check(tmp_path, [XNLI])
    what = f"no file of any of the tasks in the data root '{tmp_path}'; where each lies: xlt tasks show TASK"
    assert report.problems == [FileProblem("", None, what)]


def test_data_root_must_be_a_folder(tmp_path):
    with pytest.raises(DataFault, match="not a folder"):
        check(tmp_path / "absent", [XNLI])


def test_a_record_that_nothing_understands_and_a_key_of_several_tasks_are_problems(write, tmp_path):
    write("xnli/dev-de.tsv", "A\tB\tneutral\n")
    wrong = replace(TATOEBA, kind="retreival", metric="acc")
    found = [problem.message for problem in check(tmp_path, [XNLI, wrong, replace(XQUAD, key="xnli")]).problems]
    assert [message.partition(" is none of ")[0] for message in found[:2]] == [
        "the kind 'retreival' of the task 'tatoeba'",
        "the metric 'acc' of the task 'tatoeba'",
    ]
    assert found[2:] == ["2 tasks have the key 'xnli'."]
