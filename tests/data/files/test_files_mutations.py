"""Damaged files of every layout: whatever is wrong with one, the reader says so in its own words or reads on."""

from __future__ import annotations

import gzip
import json
import random
import re
from contextlib import suppress
from pathlib import Path

import pytest

from xlt.data.files.source import READERS, FilesSource
from xlt.data.rows import fingerprint, is_trainable
from xlt.errors import DataFault
from xlt.tasks.catalogue import get_task

NLI = {"sentence1": "A b.", "sentence2": "C d.", "gold_label": "neutral", "pairID": "7e"}
ANSWER = {"text": "Isar", "answer_start": 21}
PARAGRAPH = {
    "context": "München liegt an der Isar. Die Isar ist kalt.",
    "qas": [
        {"id": "english-1", "question": "Wo?", "answers": [ANSWER]},
        {"id": "2", "question": "?", "answers": [ANSWER]},
    ],
}
SQUAD = json.dumps({"data": [{"title": "t", "paragraphs": [PARAGRAPH, PARAGRAPH | {"qas": []}]}]})
HELLASWAG = {"ctx_a": "He sits.", "ctx_b": "he", "endings": ["a.", "b.", "c."], "label": 2}
CHOICES = [{"label": letter, "text": f"in {letter}"} for letter in "AB"]
COMMONSENSE = {"answerKey": "B", "question": {"stem": "Where?", "choices": CHOICES}}
SITUATION = {"context": "A b.", "question": "Why?", "answerA": "c", "answerB": "d", "answerC": "e", "correct": "B"}
PREMISE = {"premise": "A b.", "choice1": "c", "choice2": "d", "question": "cause", "label": 1, "idx": 0}
BROKEN = {"context": "A b. C d.", "sentence_breaks": [[0, 4], [5, 9]], "qas": [PARAGRAPH["qas"][0]]}
XQUAD_R = json.dumps(
    {
        "data": [
            {
                "title": "t",
                "paragraphs": [BROKEN | {"qas": [{**BROKEN["qas"][0], "answers": [{"text": "C", "answer_start": 5}]}]}],
            }
        ]
    }
)
SPANS = [{"start": 0, "end": 4}, {"start": 5, "end": 9}]
TEXT = {"language": "de", "text": "A b. C d.", "sentence_spans": SPANS}
MENTION = {"example_id": "m", "mention_span": {"start": 5, "end": 6, "text": "C"}, "entity_id": "Q1"}
ENTITY = {"entity_id": "Q1", "description": "C is d. E", "sentence_spans": [{"start": 0, "end": 7}]}
HEADER = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
LEAF = r"(<L (S[dcl]\NP)/NP VBZ VBZ and\/or (S[dcl]\NP_1)/NP_2>)"
TREEBANK = [
    "1-2\tzum\t_\t_\t_\t_\t_\t_\t_\t_",
    "1\tzu\t_\tADP\t_\t_\t2\t_\t2:x|1:y\t_",
    "2\tdem\t_\tDET\t_\t_\t0\t_\t_\t_",
    "2.1\tleer\t_\tX\t_\t_\t_\t_\t_\t_",
]
# Task, split and language, and a small sound input; of several files each is damaged in turn.
INPUTS: list[tuple[str, str, str, dict[str, str]]] = [
    ("mnli", "train", "en", {"mnli/multinli_1.0_train.jsonl": f"{json.dumps(NLI)}\n{json.dumps(NLI)}\n"}),
    ("xnli", "dev", "de", {"xnli/dev-de.tsv": '"""A"" b"\tC\tneutral\nD\tE\tcontradictory\n'}),
    (
        "pawsx",
        "train",
        "en",
        {"pawsx/x-final/en/train.tsv": "id\tsentence1\tsentence2\tlabel\n1\tA\tB\t0\n2\tC\tD\t1\n"},
    ),
    ("qqp", "train", "en", {"qqp/train.tsv": f"{HEADER}7\t1\t2\tWhat?\tWhy?\t1\n8\t3\t4\tHow?\tWho?\t0\n"}),
    (
        "qqp",
        "dev",
        "en",
        {"qqp/quora_duplicate_questions.tsv": f'{HEADER}"7"\t"1"\t"2"\t"Is ""x""\nso?"\t"Why?"\t"1"\n'},
    ),
    ("squad", "dev", "en", {"squad/dev-v1.1.json": SQUAD.replace("english-1", "1", 1)}),
    ("squad_v2", "train", "en", {"squad_v2/train-v2.0.json": SQUAD}),
    ("tydiqa", "train", "en", {"tydiqa/tydiqa-goldp-v1.1-train.json": SQUAD}),
    (
        "hellaswag",
        "dev",
        "en",
        {"hellaswag/hellaswag_val.jsonl": f"{json.dumps(HELLASWAG)}\n{json.dumps(HELLASWAG)}\n"},
    ),
    (
        "cosmosqa",
        "dev",
        "en",
        {"cosmosqa/valid.csv": 'id,context,question,answer0,answer1,answer2,answer3,label\nk,"C, c",W?,a,b,c,d,2\n'},
    ),
    ("commonsenseqa", "dev", "en", {"commonsenseqa/dev_rand_split.jsonl": f"{json.dumps(COMMONSENSE)}\n"}),
    ("siqa", "train", "en", {"siqa/socialIQa_v1.4_trn.jsonl": f"{json.dumps(SITUATION)}\n{json.dumps(SITUATION)}\n"}),
    (
        "siqa",
        "dev",
        "en",
        {"siqa/dev.jsonl": f"{json.dumps(SITUATION)}\n{json.dumps(SITUATION)}\n", "siqa/dev-labels.lst": "1\n3\n"},
    ),
    ("copa", "train", "en", {"copa/train.jsonl": f"{json.dumps(PREMISE)}\n"}),
    ("xcopa", "test", "et", {"xcopa/data/et/test.et.jsonl": f"{json.dumps(PREMISE)}\n"}),
    ("lareqa", "test", "de", {f"lareqa/xquad-r/{code}.json": XQUAD_R for code in get_task("lareqa").languages}),
    (
        "mewslix",
        "dev",
        "de",
        {
            "mewslix/wikinews_mentions/dev-de.jsonl": json.dumps({"context": TEXT, "mentions": [MENTION]}),
            "mewslix/candidate_set_entities.jsonl": json.dumps(ENTITY),
        },
    ),
    ("ccg", "dev", "en", {"ccg/ccg.dev": "He runs .\tNP S\\NP .\nYes .\tNP .\n"}),
    (
        "ccg",
        "dev",
        "en",
        {"ccg/data/AUTO/00/wsj_0001.auto": f"ID=wsj_0001.1 PARSER=GOLD\n(<T S 0 2> {LEAF} {LEAF} )\n"},
    ),
    ("panx", "test", "de", {"panx/de-test": "de:In\tO\nde:Ulm\tB-LOC\n\nde:Ja\tO\n\n"}),
    (
        "udpos",
        "test",
        "de",
        {"udpos/ud-treebanks-v2.5/UD_German-X/de_x-ud-test.conllu": "\n".join([*TREEBANK, "", ""])},
    ),
    ("tatoeba", "test", "de", {"tatoeba/de-en.de": "eins\nzwei\n", "tatoeba/de-en.en": "one\ntwo\n"}),
    (
        "bucc2018",
        "dev",
        "de",
        {
            "bucc2018/de-en.dev.de": "de-1\tEins\nde-2\tZwei\n",
            "bucc2018/de-en.dev.en": "en-1\tOne\nen-2\tTwo\n",
            "bucc2018/de-en.dev.gold": "de-1\ten-1\n",
        },
    ),
]
ODD = [
    *(b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", "\u00a0".encode(), "\u2028".encode(), "\u0663".encode()),
    *(b"\r", b"\t", b"\n", b"\n\n", b" ", b'"', b'""', b"\\", b"-", b".", b"|", b":", b"1-2", b"2-1", b"1-99999999999"),
    *(b"(<L ", b"ID=", b"", b"0", b"-1", b"20000000000000000000", b"9" * 5000, b"1e999", b"NaN", b"-Infinity", b"null"),
    *(b"true", b"{}", b"[]", b'"\\ud800"', b'"\\u0000"', b'{"\\udfff": 1}', b"[" * 10_000, b"[" * 700 + b"]" * 700),
]
TOKEN = re.compile(rb'"[^"]*"|\w+|[^\s\w]')
MUTATIONS = 300


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The data after one to three changes: of a byte, a slice, a line, or a whole token."""
    for _ in range(draw.randint(1, 3)):
        place, end = sorted(draw.randint(0, len(data)) for _ in range(2))
        match draw.randrange(7):
            case 0:
                data = data[:place] + bytes([draw.randrange(256)]) + data[place + 1 :]
            case 1:
                data = data[:place] + data[end:]
            case 2:
                data = data[:end] + data[place:end] + data[end:]
            case 3:
                data = data[:place]
            case 4:
                data = data[:place] + draw.choice(ODD) + data[place:]
            case 5:
                lines = data.split(b"\n")
                draw.shuffle(lines)
                data = b"\n".join(lines)
            case 6 if token := TOKEN.search(data, place):
                data = data[: token.start()] + draw.choice(ODD) + data[token.end() :]
    return data


def test_every_layout_is_among_the_inputs() -> None:
    assert {get_task(key).layout for key, *_ in INPUTS} == set(READERS)


@pytest.mark.parametrize(("key", "split", "language", "files"), INPUTS)
def test_a_byte_order_mark_and_carriage_returns_are_no_part_of_a_row(
    tmp_path: Path, key, split, language, files
) -> None:
    found = []
    for mark, end in (("", "\n"), ("\ufeff", "\r\n")):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((mark + text.replace("\n", end)).encode())
        found.append(FilesSource(tmp_path).rows(get_task(key), split, language))
    # A line end inside a quoted field is a part of its text.
    assert [repr(row).replace(r"\r\n", r"\n") for row in found[1]] == [repr(row) for row in found[0]]
    assert repr(found[1]).count(r"\r") == repr(found[0]).count(r"\n")


@pytest.mark.parametrize(("key", "split", "language", "files"), INPUTS)
def test_a_damaged_file_is_read_or_refused_in_words(tmp_path: Path, key, split, language, files) -> None:
    def rows():
        return FilesSource(tmp_path).rows(get_task(key), split, language)

    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    assert rows()
    draw, refused = random.Random(f"{key} {split}"), 0
    for number in range(MUTATIONS):
        name = sorted(files)[number % len(files)]
        (tmp_path / name).write_bytes(damaged(files[name].encode(), draw))
        try:
            # What is read can be judged and hashed.
            assert fingerprint(row for row in rows() if is_trainable(row))
        except DataFault as fault:
            refused += len(str(fault).encode()) > 0
        (tmp_path / name).write_text(files[name], "utf-8")
    assert MUTATIONS // 10 < refused < MUTATIONS


def test_a_damaged_gzip_file_is_read_or_refused_in_words(tmp_path: Path) -> None:
    draw = random.Random(0)
    path = tmp_path / "xnli/dev-de.tsv.gz"
    path.parent.mkdir()
    for _ in range(MUTATIONS):
        path.write_bytes(damaged(gzip.compress(b"A\tB\tneutral\n" * 9), draw))
        with suppress(DataFault):
            assert FilesSource(tmp_path).rows(get_task("xnli"), "dev", "de")
