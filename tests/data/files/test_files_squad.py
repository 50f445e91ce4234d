"""The JSON form of SQuAD v1.1."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xlt.data.files.fault import FileFault
from xlt.data.files.source import FilesSource
from xlt.data.files.squad_json import align
from xlt.data.rows import Answer, SpanRow
from xlt.tasks.catalogue import get_task

XQUAD = get_task("xquad")
CONTEXT = "München liegt an der Isar. 🙂 Köln liegt am Rhein."


def question(key: object = "q1", *answers: tuple[object, object], **fields: Any) -> dict[str, Any]:
    listed = [{"text": text, "answer_start": start} for text, start in answers or [("Isar", 21)]]
    return {"id": key, "question": "Wo?", "answers": listed, **fields}


def squad(*questions: Any, context: str = CONTEXT) -> str:
    paragraph = {"context": context, "qas": list(questions)}
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [paragraph]}]}, ensure_ascii=False)


def xquad(root):
    return FilesSource(root).rows(XQUAD, "test", "de")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_squad(write, tmp_path, ending):
    write(
        f"xquad/xquad.de.json{ending}",
        "\ufeff" + squad(question(), question("q2", ("Köln", 29), ("Rhein", 43))),
    )
    assert xquad(tmp_path) == [
        SpanRow("q1", "Wo?", CONTEXT, (Answer("Isar", 21),)),
        SpanRow("q2", "Wo?", CONTEXT, (Answer("Köln", 29), Answer("Rhein", 43))),
    ]


@pytest.mark.parametrize(
    ("text", "start", "found"),
    [
        ("Isar", 21, 21),
        ("Isar", 23, 21),
        ("Isar", 19, 21),
        ("liegt", 10, 8),
        ("liegt", 30, 34),
        ("München", -3, 0),
        ("Rhein", 999, -1),
        ("Rhein", 0, -1),
        ("Elbe", 21, -1),
    ],
)
def test_answers_are_looked_for_near_their_offset(text, start, found):
    assert align(CONTEXT, text, start) == found
    assert found < 0 or CONTEXT[found : found + len(text)] == text


def test_answer_of_a_stripped_context_is_aligned_again(write, tmp_path):
    write("xquad/xquad.de.json", squad(question("q1", ("Isar", 23))))
    assert xquad(tmp_path)[0].answers == (Answer("Isar", 21),)


def test_answer_that_is_not_in_the_context_keeps_its_text(write, tmp_path):
    write("xquad/xquad.de.json", squad(question("q1", ("Elbe", 21))))
    assert xquad(tmp_path)[0].answers == (Answer("Elbe", -1),)


def test_question_marked_impossible_needs_no_answer(write, tmp_path):
    write("xquad/xquad.de.json", squad(question() | {"answers": [], "is_impossible": True}))
    assert xquad(tmp_path)[0].answers == ()


def without(record: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != field}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (without(question(), "id"), "field 'id' is missing; found: question, answers"),
        (without(question("q2"), "question"), "field 'question' is missing"),
        (without(question("q2"), "answers"), "field 'answers' is missing"),
        (question(7), "field 'id' should be text, found 7"),
        (question("q2", answers={}), "field 'answers' should be a list, found {}"),
        (question("q2", answers=[]), "the question has no answer"),
        (question("q2", answers=["Isar"]), 'answers[0]: expected a JSON object, found "Isar"'),
        (question("q2", answers=[{"text": "Isar"}]), "answers[0]: field 'answer_start' is missing"),
        (question("q2", ("Isar", "21")), "answers[0]: field 'answer_start' should be a whole number"),
        (question("q2", ("Isar", True)), "answers[0]: field 'answer_start' should be a whole number"),
        (question("q1"), "the id 'q1' occurs twice"),
        (None, "expected a JSON object, found null"),
    ],
)
def test_faults_name_the_place_in_the_file(write, tmp_path, wrong, message):
    write("xquad/xquad.de.json", squad(question(), wrong))
    with pytest.raises(FileFault) as caught:
        xquad(tmp_path)
    separator = "." if message.startswith("answers") else ": "
    assert caught.value.what.startswith(f"xquad/xquad.de.json: data[0].paragraphs[0].qas[1]{separator}{message}")


def test_blanked_answers_point_to_the_labelled_release(write, tmp_path):
    write("xquad/xquad.de.json", squad(question("q1", ("", 0))))
    with pytest.raises(FileFault, match="the answer is empty") as caught:
        xquad(tmp_path)
    assert "XTREME" in caught.value.why
    assert XQUAD.address in caught.value.mend


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"xquad\.de\.json: expected a JSON object"),
        ('{"version": "1.1"}', "field 'data' is missing; found: version"),
        ('{"data": [{"title": "t"}]}', r"data\[0\]: field 'paragraphs' is missing"),
        (
            '{"data": [{"paragraphs": [{"qas": []}]}]}',
            r"data\[0\]\.paragraphs\[0\]: field 'context' is missing",
        ),
        ('{"data": []}', "no row"),
        ('{"data":\n [\n {"title": nil}]}', r"xquad\.de\.json:3: not valid JSON"),
        ('{"data":\n [{"title": "t', r"(?s)xquad\.de\.json:2: not valid JSON.*truncated"),
    ],
)
def test_faults_of_the_document(write, tmp_path, content, message):
    write("xquad/xquad.de.json", content)
    with pytest.raises(FileFault, match=message):
        xquad(tmp_path)
