"""The JSON form of SQuAD, and the task that uses it with names of languages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xlt.data.files.reading import FileFault
from xlt.data.files.source import FilesSource
from xlt.data.files.spans import align
from xlt.data.rows import Answer, SpanRow
from xlt.tasks.catalogue import get_task

XQUAD, SQUAD, SQUAD_V2, MLQA, TYDIQA = (get_task(key) for key in ("xquad", "squad", "squad_v2", "mlqa", "tydiqa"))
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
        ("Rhein", 999, 43),
        ("Rhein", 0, -1),
        ("liegt", 999, -1),
        ("Elbe", 21, -1),
        ("Elbe", 10**30, -1),
    ],
)
def test_answers_are_looked_for_near_their_offset(text, start, found):
    assert align(CONTEXT, text, start) == found
    assert found < 0 or CONTEXT[found : found + len(text)] == text


@pytest.mark.parametrize(
    ("text", "start", "found"),
    [
        ("Key", 49, 49),
        ("Key", 54, 41),
        ("Key", 62, 49),
        ("Key", 47, 49),
        ("Key", 5000, -1),
        ("novel", 5000, 28),
        ("novel", 0, 28),
        ("made", -1, -1),
    ],
)
def test_characters_go_before_bytes_bytes_before_what_is_near_and_that_before_the_only_one(text, start, found):
    # "Key" stands at the characters 41 and 49, which are the bytes 54 and 62; 49 is nearer to 54 than 41.
    context = "Клад («Кланнад», 2004) is a novel by us, Key, or Key: made so."
    assert align(context, text, start) == found


def test_answer_of_a_stripped_context_is_aligned_again(write, tmp_path):
    write("xquad/xquad.de.json", squad(question("q1", ("Isar", 23))))
    assert xquad(tmp_path)[0].answers == (Answer("Isar", 21),)


def test_answer_that_is_not_in_the_context_keeps_its_text(write, tmp_path):
    write("xquad/xquad.de.json", squad(question("q1", ("Elbe", 21))))
    assert xquad(tmp_path)[0].answers == (Answer("Elbe", -1),)


IMPOSSIBLE = question("q2") | {"answers": [], "is_impossible": True}


def test_only_squad_v2_has_questions_without_an_answer(write, tmp_path):
    for name in ("squad/dev-v1.1.json", "squad_v2/dev-v2.0.json"):
        write(name, squad(question() | {"is_impossible": False}, IMPOSSIBLE))
    source = FilesSource(tmp_path)
    assert [len(row.answers) for row in source.rows(SQUAD_V2, "dev", "en") if isinstance(row, SpanRow)] == [1, 0]
    with pytest.raises(FileFault, match="question 'q2' has no answer"):
        source.rows(SQUAD, "dev", "en")


def test_an_unmarked_question_of_squad_v2_needs_an_answer(write, tmp_path):
    write("squad_v2/dev-v2.0.json", squad(IMPOSSIBLE | {"is_impossible": False}))
    with pytest.raises(FileFault, match="question 'q2' has no answer"):
        FilesSource(tmp_path).rows(SQUAD_V2, "dev", "en")


def test_mlqa_takes_context_and_question_of_one_language(write, tmp_path):
    write("mlqa/MLQA_V1/test/test-context-de-question-en.json", squad(question()))
    write("mlqa/MLQA_V1/test/test-context-de-question-de.json.gz", squad(question()))
    assert FilesSource(tmp_path).languages(MLQA, "test") == ("de",)
    assert len(FilesSource(tmp_path).rows(MLQA, "test", "de")) == 1


def test_tydiqa_of_all_languages_gives_the_english_questions(write, tmp_path):
    write("tydiqa/tydiqa-goldp-v1.1-train.json", squad(question("finnish-1-0"), question("english-1-0")))
    assert [row.id for row in FilesSource(tmp_path).rows(TYDIQA, "train", "en")] == ["english-1-0"]


def test_tydiqa_of_the_release_goes_before_that_without_answers(write, tmp_path):
    write("tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.fi.dev.json", squad(question("q1", ("", 0))))
    with pytest.raises(FileFault, match="the answer to question 'q1' is empty"):
        FilesSource(tmp_path).rows(TYDIQA, "test", "fi")
    write("tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-finnish.json", squad(question("finnish-1-0")))
    assert [row.id for row in FilesSource(tmp_path).rows(TYDIQA, "test", "fi")] == ["finnish-1-0"]


def test_training_ids_that_xtreme_has_cut_are_told_apart(write, tmp_path):
    name = "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.en.train.json"
    write(name, squad(question("1"), question("1"), question("0")))
    assert [row.id for row in FilesSource(tmp_path).rows(TYDIQA, "train", "en")] == ["1", "1-2", "0"]


def without(record: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != field}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (without(question(), "id"), "field '{place}.id' is missing; found: question, answers"),
        (without(question("q2"), "question"), "field '{place}.question' is missing"),
        (without(question("q2"), "answers"), "field '{place}.answers' is missing"),
        (question(7), "field '{place}.id' should be a valid string, found 7"),
        (question("q2", answers={}), "field '{place}.answers' should be a valid array, found {{}}"),
        (question("q2", answers=[]), "question 'q2' has no answer"),
        (question("q2", answers=["Isar"]), "field '{place}.answers[0]' should be an object, found \"Isar\""),
        (question("q2", answers=[{"text": "Isar"}]), "field '{place}.answers[0].answer_start' is missing"),
        (question("q2", ("Isar", "21")), "field '{place}.answers[0].answer_start' should be a valid integer"),
        (question("q2", ("Isar", True)), "field '{place}.answers[0].answer_start' should be a valid integer"),
        (question("q1"), "the id 'q1' occurs twice"),
        (None, "field '{place}' should be an object, found null"),
    ],
)
def test_faults_name_the_place_in_the_file(write, tmp_path, wrong, message):
    write("xquad/xquad.de.json", squad(question(), wrong))
    with pytest.raises(FileFault) as caught:
        xquad(tmp_path)
    place = "data[0].paragraphs[0].qas[1]"
    assert caught.value.what.startswith(f"xquad/xquad.de.json: {message.format(place=place)}")


def test_blanked_answers_point_to_the_labelled_release(write, tmp_path):
    write("xquad/xquad.de.json", squad(question("q1", ("", 0))))
    with pytest.raises(FileFault, match="the answer to question 'q1' is empty") as caught:
        xquad(tmp_path)
    assert "XTREME" in caught.value.why
    assert XQUAD.address in caught.value.fix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"xquad\.de\.json: the record should be an object"),
        ('{"version": "1.1"}', "field 'data' is missing; found: version"),
        ('{"data": [{"title": "t"}]}', r"field 'data\[0\]\.paragraphs' is missing"),
        (
            '{"data": [{"paragraphs": [{"qas": []}]}]}',
            r"field 'data\[0\]\.paragraphs\[0\]\.context' is missing",
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
