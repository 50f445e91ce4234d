"""The pools of LAReQA and Mewsli-X: whose sentences and entities are searched, and what is asked."""

from __future__ import annotations

import json

import pytest

from xlt.data.files.reading import FileFault
from xlt.data.files.source import FilesSource
from xlt.data.rows import CandidateRow, QueryRow
from xlt.tasks.catalogue import get_task

LAREQA, MEWSLIX = get_task("lareqa"), get_task("mewslix")
# Two sentences and the blank between them, which belongs to none; the third is the first again.
CONTEXT = "Es regnet. Ja.\nEs regnet."
BREAKS = [[0, 10], [11, 14], [15, 25]]


def ask(name: str, *starts: int) -> dict[str, object]:
    return {"id": name, "question": f"{name}?", "answers": [{"text": CONTEXT[at], "answer_start": at} for at in starts]}


def xquad_r(*paragraphs: list[dict[str, object]]) -> str:
    each = [{"context": CONTEXT, "sentence_breaks": BREAKS, "qas": questions} for questions in paragraphs]
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": each}]})


@pytest.fixture
def lareqa(write):
    """Nine languages without questions, German and English with them; what is written again replaces it."""
    for language in LAREQA.languages:
        write(f"lareqa/xquad-r/{language}.json", xquad_r([]))
    write("lareqa/xquad-r/de.json", xquad_r([ask("a", 3), ask("b", 12)], [ask("gap", 10)], [ask("c", 12)]))
    write("lareqa/xquad-r/en.json.gz", xquad_r([ask("b", 13)], [ask("a", 11), ask("gap", 0)]))
    (write("x", "").parent / "lareqa/xquad-r/en.json").unlink()


# DERIVED: load_data of utils_lareqa.py in google-research/xtreme, run on such files, gives these questions, candidates
# and right answers (0 differences on random files of 11 languages; ids of its questions end with the language).
def test_the_sentences_of_all_languages_are_one_pool(lareqa, tmp_path):
    queries = {}
    for language in ("de", "en"):
        rows = FilesSource(tmp_path).rows(LAREQA, "test", language)
        queries[language] = [row for row in rows if isinstance(row, QueryRow)]
        pool = [row for row in rows if isinstance(row, CandidateRow)]
        # The second German paragraph answers nothing.
        names = [f"{name}_{place}" for name in ("de_1", "de_3", "en_1", "en_2") for place in range(3)]
        assert [row.id for row in pool] == names
    assert pool[1].text == "Ja.Es regnet. Ja.Es regnet."
    # Both copies of the sentence that a begins in are right.
    right = {"a": ("de_1_0", "de_1_2", "en_2_1"), "b": ("de_1_1", "en_1_1"), "c": ("de_3_1",)}
    assert queries["de"] == [QueryRow(name, f"{name}?", right[name]) for name in "abc"]
    gap = QueryRow("gap", "gap?", ("en_2_0", "en_2_2"))
    assert queries["en"] == [*(QueryRow(name, f"{name}?", right[name]) for name in "ba"), gap]


def test_a_pool_without_all_languages_is_none(lareqa, tmp_path):
    (tmp_path / "lareqa/xquad-r/zh.json").unlink()
    with pytest.raises(FileFault, match=r"lareqa/xquad-r/de\.json: the pool of answers lacks the language zh"):
        FilesSource(tmp_path).rows(LAREQA, "test", "de")


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([ask("a", 1), ask("a", 2)], "the id 'a' occurs twice"),
        ([ask("a", 1, 2)], "question 'a' has 2 answers, not one"),
    ],
)
def test_what_is_wrong_with_a_question(lareqa, write, tmp_path, questions, message):
    write("lareqa/xquad-r/tr.json", xquad_r(questions))
    with pytest.raises(FileFault, match=rf"lareqa/xquad-r/tr\.json: {message}"):
        FilesSource(tmp_path).rows(LAREQA, "test", "tr")


def spans(*pairs: tuple[int, int]) -> list[dict[str, int]]:
    return [{"start": start, "end": end} for start, end in pairs]


def entity(name: str, text: str, *sentences: tuple[int, int]) -> str:
    facts = {"title": "t", "description_language": "de", "description_url": "u"}
    return json.dumps({"entity_id": name, "description": text, "sentence_spans": spans(*sentences), **facts}) + "\n"


def mentioned(language: str, *mentions: tuple[str, int, int, str]) -> str:
    text = "Ein {Satz}. Der  Rhein\nist lang. Ende."
    context = {"language": language, "text": text, "sentence_spans": spans((0, 11), (12, 32), (33, 38))}
    found = [
        {"example_id": name, "mention_span": {"start": start, "end": end, "text": text[start:end]}, "entity_id": right}
        for name, start, end, right in mentions
    ]
    return json.dumps({"context": {**context, "document_id": "7"}, "mentions": found}) + "\n"


POOL = "mewslix/candidate_set_entities.jsonl"
ENTITIES = entity("Q1", "Ein Fluss.\nEr fließt. Mehr.", (0, 10), (11, 21)) + entity("Q2", "A town.", (0, 7))


# DERIVED: preprocess_mention and preprocess_entity_description of utils_mewslix.py in google-research/xtreme, run on
# such records, give these texts (0 differences on 600 random ones).
@pytest.mark.parametrize("name", ["mewslix/wikinews_mentions-dev.jsonl", "mewslix/wikinews_mentions/dev-de.jsonl"])
def test_a_mention_is_marked_in_its_sentence_and_entities_are_described(write, tmp_path, name):
    write(POOL, ENTITIES)
    other = mentioned("en", ("x", 4, 10, "Q2")) if name.endswith("-dev.jsonl") else ""
    write(name, mentioned("de", ("m", 17, 22, "Q1"), ("n", 0, 3, "Q2")) + other)
    assert FilesSource(tmp_path).rows(MEWSLIX, "dev", "de") == [
        QueryRow("m", "Rhein: Der  { Rhein } ist lang.", ("Q1",)),
        QueryRow("n", "Ein: { Ein } (Satz).", ("Q2",)),
        CandidateRow("Q1", "Ein Fluss. Er fließt."),
        CandidateRow("Q2", "A town."),
    ]


@pytest.mark.parametrize(
    ("mentions", "pool", "message"),
    [
        (mentioned("de", ("m", 17, 22, "")), ENTITIES, r":1: the entity '' is none of the 2 candidates"),
        (mentioned("de", ("m", 17, 22, "Q3")), ENTITIES, r":1: the entity 'Q3' is none of the 2 candidates"),
        (mentioned("de", ("m", 8, 20, "Q1")), ENTITIES, r":1: the mention 'm' is in no sentence"),
        (mentioned("de"), ENTITIES + entity("Q1", "B.", (0, 2)), r"jsonl:3: the id 'Q1' is blank, no single word, or"),
        (mentioned("de"), entity("Q 1", "B.", (0, 2)), r"jsonl:1: the id 'Q 1' is blank, no single word"),
    ],
)
def test_what_is_wrong_with_mentions_and_entities(write, tmp_path, mentions, pool, message):
    write(POOL, pool)
    write("mewslix/wikinews_mentions-test.jsonl", mentions)
    with pytest.raises(FileFault, match=message) as caught:
        FilesSource(tmp_path).rows(MEWSLIX, "test", "de")
    assert ("takes the labels" in caught.value.why) == ("''" in message)


def test_a_changed_pool_is_read_again(write, tmp_path):
    write("mewslix/wikinews_mentions-dev.jsonl", mentioned("de", ("m", 17, 22, "Q1")))
    for text in ("One.", "Another one."):
        write(POOL, entity("Q1", text, (0, len(text))))
        assert FilesSource(tmp_path).rows(MEWSLIX, "dev", "de")[-1] == CandidateRow("Q1", text)
