"""The source ``hub``: the same rows as from the official files, and the hub's known traps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hub_home import own_home, parquet
from xlt.data.files.source import FilesSource
from xlt.data.hub.lock import LockedFile, LockedRepository, cached, lock_for_writing
from xlt.data.hub.source import HubSource
from xlt.data.rows import PairRow, Row, SpanRow
from xlt.errors import DataFault, UsageFault
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.tasks.catalogue import TASKS, get_task
from xlt.tasks.record import Split

COMMIT = "a" * 40
Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Puts records into the hub's cache and the lock, as a fetch would: repository/folder/file, records."""
    own_home(tmp_path, monkeypatch)

    def put_file(name: str, *records: dict[str, Any], metadata: dict[str, str] | None = None) -> None:
        organisation, repository, path = name.split("/", 2)
        local = cached("dataset", f"{organisation}/{repository}", COMMIT, path)
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(parquet(list(records), metadata))
        with lock_for_writing() as lock:
            locked = lock.datasets.setdefault(f"{organisation}/{repository}", LockedRepository(revision=COMMIT))
            locked.files[path] = LockedFile(size=local.stat().st_size, sha256="0" * 64)

    return put_file


def rows(task: str, split: Split, language: str = "en") -> list[Row]:
    return HubSource().rows(get_task(task), split, language)


def nli(premise: str, label: int, **more: str) -> dict[str, Any]:
    return {"premise": premise, "hypothesis": f"not {premise}", "label": label, **more}


def nli_line(premise: str, label: str, pair_id: str) -> str:
    return json.dumps({"sentence1": premise, "sentence2": f"not {premise}", "gold_label": label, "pairID": pair_id})


def question(name: str, context: str, text: str, start: int) -> dict[str, Any]:
    return {
        "id": name,
        "question": f"{name}?",
        "context": context,
        "answers": {"text": [text], "answer_start": [start]},
    }


SITUATION = {"context": "c", "question": "q?", "answerA": "a", "answerB": "b", "answerC": "d"}
PREMISE = {"premise": "p.", "choice1": "a", "choice2": "b", "question": "effect", "idx": 3, "label": 1}


def squad_file(*questions: dict[str, Any]) -> str:
    paragraphs = [
        {
            "context": one["context"],
            "qas": [
                {
                    "id": one["id"],
                    "question": one["question"],
                    "answers": [
                        {"text": text, "answer_start": start}
                        for text, start in zip(one["answers"]["text"], one["answers"]["answer_start"], strict=True)
                    ],
                }
            ],
        }
        for one in questions
    ]
    return json.dumps({"data": [{"title": "", "paragraphs": paragraphs}]})


FOX = question("q1", "The quick fox.", "fox", 10)
FINNISH = question("finnish-7", "Kettu on nopea.", "Kettu", 0)
ENGLISH = question("english-7", "The fox is quick.", "fox", 4)
CHOICE = {"ctx_a": "He", "ctx_b": "then", "endings": ["runs.", "eats.", "is.", "sits."], "label": "2"}
LETTERS = {"label": ["A", "C", "B"], "text": ["one", "three", "two"]}
ANSWERS = {f"answer{n}": f"a{n}" for n in range(4)}
# Task, split, language; the official files; the hub's.
SAME: list[tuple[str, Split, str, dict[str, str], dict[str, list[dict[str, Any]]]]] = [
    (
        "mnli",
        "dev",
        "en",
        {"mnli/multinli_1.0_dev_matched.jsonl": nli_line("a", "neutral", "7n") + "\n" + nli_line("b", "-", "8")},
        {"nyu-mll/multi_nli/data/validation_matched-00000-of-00001.parquet": [nli("a", 1, pairID="7n")]},
    ),
    (
        "xnli",
        "test",
        "sw",
        {"xnli/test-sw.tsv": 'a "b"\tnot a "b"\tcontradiction\nc\tnot c\tentailment\n'},
        {"facebook/xnli/sw/test-00000-of-00001.parquet": [nli('a "b"', 2), nli("c", 0)]},
    ),
    (
        "pawsx",
        "dev",
        "ko",
        {"pawsx/dev-ko.tsv": "a\tb\t1\nNS\tc\t0\n"},
        {
            "google-research-datasets/paws-x/ko/validation-00000-of-00001.parquet": [
                {"id": 1, "sentence1": "a", "sentence2": "b", "label": 1},
                {"id": 2, "sentence1": "NS", "sentence2": "c", "label": 0},
            ]
        },
    ),
    (
        "panx",
        "test",
        "sw",
        {"panx/sw-test": "sw:Nai\tI-LOC\nsw:robi\tI-LOC\nsw:ni\tO\n"},
        {
            "google/xtreme/PAN-X.sw/test-00000-of-00001.parquet": [
                {"tokens": ["Nai", "robi", "ni"], "ner_tags": [6, 6, 0], "langs": ["sw"] * 3}
            ]
        },
    ),
    (
        "udpos",
        "test",
        "te",
        {"udpos/test-te.tsv": "ra\tVERB\n.\tPUNCT\n"},
        {"google/xtreme/udpos.Telugu/test-00000-of-00001.parquet": [{"tokens": ["ra", "."], "pos_tags": [15, 12]}]},
    ),
    (
        "xquad",
        "test",
        "ro",
        {"xquad/xquad.ro.json": squad_file(FOX)},
        {"google/xquad/xquad.ro/validation-00000-of-00001.parquet": [FOX]},
    ),
    (
        "mlqa",
        "test",
        "hi",
        {"mlqa/MLQA_V1/test/test-context-hi-question-hi.json": squad_file(FOX)},
        {"google/xtreme/MLQA.hi.hi/test-00000-of-00001.parquet": [FOX]},
    ),
    (
        "tydiqa",
        "test",
        "fi",
        {"tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.fi.dev.json": squad_file(FINNISH)},
        {
            "google-research-datasets/tydiqa/secondary_task/validation-00000-of-00001.parquet": [ENGLISH, FINNISH],
        },
    ),
    (
        "tatoeba",
        "test",
        "zh",
        {"tatoeba/zh-en.zh": "一 二\n三\n", "tatoeba/zh-en.en": "one two\nthree\n"},
        {
            "google/xtreme/tatoeba.cmn/validation-00000-of-00001.parquet": [
                {"source_sentence": "一 二\n", "target_sentence": "one two\n"},
                {"source_sentence": "三\n", "target_sentence": "three\n"},
            ]
        },
    ),
    (
        "bucc2018",
        "test",
        "zh",
        {
            "bucc2018/zh-en/zh-en.training.zh": "zh-000000001\t 一\nzh-000000002\t二\n",
            "bucc2018/zh-en/zh-en.training.en": "en-000000001\ttwo\nen-000000002\ta pair\nen-000000003\tzwei\n",
            "bucc2018/zh-en/zh-en.training.gold": "zh-000000002\ten-000000001\nzh-000000002\ten-000000003\n",
        },
        {
            "mteb/BUCC/zh-en/test-00000-of-00001.parquet": [
                {"sentence1": [" 一", "二"], "sentence2": ["two", "a pair", "zwei"], "gold": [[2, 1], [2, 3]]}
            ]
        },
    ),
    (
        "hellaswag",
        "dev",
        "en",
        {"hellaswag/hellaswag_val.jsonl": json.dumps({**CHOICE, "label": 2})},
        {"Rowan/hellaswag/data/validation-00000-of-00001.parquet": [CHOICE]},
    ),
    (
        "cosmosqa",
        "dev",
        "en",
        {"cosmosqa/valid.csv": "id,context,question,answer0,answer1,answer2,answer3,label\n1,c,q?,a0,a1,a2,a3,3\n"},
        {
            "allenai/cosmos_qa/default/validation/0000.parquet": [
                {"id": "1", "context": "c", "question": "q?", **ANSWERS, "label": 3}
            ]
        },
    ),
    (
        "commonsenseqa",
        "dev",
        "en",
        {
            "commonsenseqa/dev_rand_split.jsonl": json.dumps(
                {
                    "answerKey": "B",
                    "question": {
                        "stem": "q?",
                        "choices": [
                            {"label": label, "text": text}
                            for label, text in zip(LETTERS["label"], LETTERS["text"], strict=True)
                        ],
                    },
                }
            )
        },
        {
            "tau/commonsense_qa/data/validation-00000-of-00001.parquet": [
                {"id": "x", "question": "q?", "choices": LETTERS, "answerKey": "B"}
            ]
        },
    ),
    (
        "panx",
        "test",
        "lt",
        {"panx/lt-test": "lt:Vilnius\tB-LOC\nlt:yra\tO\n"},
        {"unimelb-nlp/wikiann/lt/test/0000.parquet": [{"tokens": ["Vilnius", "yra"], "ner_tags": [5, 0], "spans": []}]},
    ),
    (
        "siqa",
        "dev",
        "en",
        {"siqa/socialIQa_v1.4_dev.jsonl": json.dumps({**SITUATION, "correct": "C"})},
        {"allenai/social_i_qa/default/validation/0000.parquet": [{**SITUATION, "label": "3"}]},
    ),
    (
        "copa",
        "train",
        "en",
        {"copa/COPA/train.jsonl": json.dumps(PREMISE)},
        {"aps/super_glue/copa/train/0000.parquet": [PREMISE]},
    ),
    (
        "xcopa",
        "test",
        "ht",
        {"xcopa/data/ht/test.ht.jsonl": json.dumps({**PREMISE, "changed": True})},
        {"cambridgeltl/xcopa/ht/test-00000-of-00001.parquet": [{**PREMISE, "changed": True}]},
    ),
]


@pytest.mark.parametrize(
    ("task", "split", "language", "files", "hub"), SAME, ids=[f"{case[0]}-{case[2]}" for case in SAME]
)
def test_hub_and_official_files_give_the_same_rows(
    put: Put, tmp_path: Path, task: str, split: Split, language: str, files: dict[str, str], hub: dict[str, Any]
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    for name, records in hub.items():
        put(name, *records)
    expected = FilesSource(tmp_path).rows(get_task(task), split, language)
    assert expected
    assert rows(task, split, language) == expected


def test_joined_data_sets_come_in_order_with_ids_of_their_own_and_without_unlabelled_rows(put: Put) -> None:
    for number in (1, 2, 3):
        put(f"facebook/anli/plain_text/dev_r{number}-00000-of-00001.parquet", nli("x", 2, uid=f"u{number}"))
    put("stanfordnlp/snli/plain_text/validation-00000-of-00001.parquet", nli("no gold", -1), nli("s", 0))
    put("nyu-mll/multi_nli/data/validation_matched-00000-of-00001.parquet", nli("m", 1, pairID="9"))
    found = [row for row in rows("anli_plus", "dev") if isinstance(row, PairRow)]
    assert [row.id for row in found] == ["u1", "u2", "u3", "dev-4-2", "9"]
    assert [row.label for row in found] == ["contradiction"] * 3 + ["entailment", "neutral"]


def test_an_answer_that_a_stripped_context_has_shifted_is_aligned(put: Put) -> None:
    put("google/xquad/xquad.zh/validation-00000-of-00001.parquet", question("q", "The quick fox.", "fox", 11))
    row = rows("xquad", "test", "zh")[0]
    assert isinstance(row, SpanRow)
    assert row.answers[0].start == 10


@pytest.mark.parametrize("gold", [[0, 1], [1, 0], [3, 1], [1, 2], [1], [1, 1, 1]])
def test_a_gold_pair_of_no_sentence_is_a_data_error(put: Put, gold: list[int]) -> None:
    pools = {"sentence1": ["eins", "zwei"], "sentence2": ["one"], "gold": [[1, 1], gold]}
    put("mteb/BUCC/de-en/test-00000-of-00001.parquet", pools)
    with pytest.raises(DataFault, match="Row 1 of 'test-00000"):
        rows("bucc2018", "test", "de")


def test_a_missing_translation_is_an_empty_text(put: Put) -> None:
    put(
        "google-research-datasets/paws-x/ja/test-00000-of-00001.parquet",
        {"id": 1, "sentence1": "a", "sentence2": None, "label": 0},
        {"id": 2, "sentence1": "a", "sentence2": "b", "label": 1},
    )
    assert rows("pawsx", "test", "ja") == [
        PairRow("test-1", "a", "", "different"),
        PairRow("test-2", "a", "b", "paraphrase"),
    ]


def test_a_question_without_answers_has_none(put: Put) -> None:
    nothing = {**FOX, "id": "q2", "answers": {"text": [], "answer_start": []}}
    put("rajpurkar/squad_v2/squad_v2/validation-00000-of-00001.parquet", FOX, nothing)
    assert [len(row.answers) for row in rows("squad_v2", "dev") if isinstance(row, SpanRow)] == [1, 0]


def test_a_missing_sentence_is_a_blank_one(put: Put) -> None:
    record = {"sentence1": "A.", "sentence2": None, "label": 1}
    put("google-research-datasets/paws-x/de/test-00000-of-00001.parquet", record)
    assert rows("pawsx", "test", "de") == [PairRow("test-1", "A.", "", "paraphrase")]


def test_shards_come_in_their_order(put: Put) -> None:
    for shard in (1, 0):
        put(f"facebook/xnli/en/test-0000{shard}-of-00002.parquet", nli(f"shard {shard}", 0))
    found = [(row.id, row.text_a) for row in rows("xnli", "test") if isinstance(row, PairRow)]
    assert found == [("test-1", "shard 0"), ("test-2", "shard 1")]


NAMES = {"names": ["contradiction", "entailment", "neutral"], "_type": "ClassLabel"}


@pytest.mark.parametrize("feature", [NAMES, {"feature": NAMES, "_type": "Sequence"}, [NAMES]])
def test_another_order_of_labels_in_the_file_itself_is_refused(put: Put, feature: Any) -> None:
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    put("facebook/xnli/en/test-00000-of-00001.parquet", nli("a", 0), metadata=metadata)
    with pytest.raises(DataFault, match="another order"):
        rows("xnli", "test")


@pytest.mark.parametrize(
    ("record", "message"),
    [({"premise": "a", "label": 1}, "no column hypothesis"), (nli("a", 7), "Row 1 of"), (nli("a", -7), "Row 1 of")],
)
def test_a_file_that_is_not_as_described_is_a_data_error(put: Put, record: dict[str, Any], message: str) -> None:
    put("facebook/xnli/en/test-00000-of-00001.parquet", record)
    with pytest.raises(DataFault, match=message):
        rows("xnli", "test")


def test_polluted_treebanks_and_tasks_without_their_data_are_not_offered(put: Put) -> None:
    source = HubSource()
    assert not {"el", "zh", "ru", "fr", "de"} & set(source.languages(get_task("udpos"), "test"))
    assert "kk" not in source.languages(get_task("udpos"), "dev")
    assert source.languages(get_task("ccg"), "train") == source.languages(get_task("bucc2018"), "dev") == ()
    with pytest.raises(UsageFault, match="language 'el'"):
        source.rows(get_task("udpos"), "test", "el")
    with pytest.raises(DataFault, match="not taken from the hub"):
        source.rows(get_task("ccg"), "train", "en")
    with pytest.raises(UsageFault, match="no split 'dev'") as caught:
        source.rows(get_task("bucc2018"), "dev", "de")
    assert "xlt fetch bucc2018 --data-root DIR" in caught.value.why


def test_the_table_names_every_task_and_every_language_has_its_code(put: Put) -> None:
    source = HubSource()
    for task in TASKS.values():
        for split in ("train", "dev", "test"):
            for language in source.languages(task, split):
                with pytest.raises(DataFault, match="was not fetched: ") as caught:
                    source.rows(task, split, language)
                command, _, instead = caught.value.fix.partition("; or, ")
                assert command == f"xlt fetch {task.key}"
                assert ("--data-root DIR" in instead) == (task.key in ("bucc2018", "udpos"))
                assert "{" not in caught.value.what
    assert len(source.languages(get_task("panx"), "test")) == 48
    assert len(source.languages(get_task("udpos"), "test")) == 28
    assert len(source.languages(get_task("tatoeba"), "test")) == 36


def test_a_file_of_another_size_than_the_lock_says_counts_as_absent(put: Put) -> None:
    put("facebook/xnli/en/test-00000-of-00001.parquet", nli("a", 0))
    cached("dataset", "facebook/xnli", COMMIT, "en/test-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataFault, match="was not fetched"):
        rows("xnli", "test")


def test_text_for_phase_1_is_that_of_the_fetched_training_and_development_files(put: Put) -> None:
    put("facebook/xnli/en/validation-00000-of-00001.parquet", nli("The first sentence.", 0), nli("A held out one.", 0))
    put("facebook/xnli/en/test-00000-of-00001.parquet", nli("A held out one.", 0))
    source = open_source(SourceOptions(name="hub"))
    assert [row.text for row in source.pretraining_text()] == ["The first sentence.", "not The first sentence."]


def test_official_files_stand_in_for_what_the_hub_lacks_and_for_nothing_else(put: Put, tmp_path: Path) -> None:
    for name, content in {
        "udpos/test-el.tsv": "a\tNOUN\n",
        "bucc2018/de-en/de-en.training.de": "de-1\teins\n",
        "bucc2018/de-en/de-en.training.en": "en-1\tone\n",
        "bucc2018/de-en/de-en.training.gold": "de-1\ten-1\n",
        "xnli/test-sw.tsv": "a\tb\tneutral\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    source = open_source(SourceOptions(name="hub", data_root=tmp_path))
    assert source.languages(get_task("udpos"), "test") == ("el",)
    assert [row.id for row in source.rows(get_task("bucc2018"), "test", "de")] == ["de-1", "en-1"]
    with pytest.raises(DataFault, match="was not fetched"):
        source.rows(get_task("xnli"), "test", "sw")
