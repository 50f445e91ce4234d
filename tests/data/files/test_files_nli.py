"""The two formats of natural language inference."""

from __future__ import annotations

import json

import pytest

from xlt.data.files.fault import FileFault
from xlt.data.files.source import FilesSource
from xlt.data.rows import PairRow
from xlt.tasks.catalogue import get_task

MNLI, XNLI = get_task("mnli"), get_task("xnli")
TRAIN = "mnli/multinli_1.0_train.jsonl"


def pair(**fields: object) -> str:
    record = {"sentence1": "A.", "sentence2": "B.", "gold_label": "neutral", **fields}
    return json.dumps({name: value for name, value in record.items() if value is not None}, ensure_ascii=False)


def mnli(root):
    return FilesSource(root).rows(MNLI, "train", "en")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_jsonl(write, tmp_path, ending):
    lines = [
        pair(pairID="7e", genre="fiction"),
        "",
        pair(sentence1="C\u2028D"),
        pair(gold_label="entailment"),
    ]
    write(TRAIN + ending, "\ufeff" + "\r\n".join(lines) + "\n\n")
    assert mnli(tmp_path) == [
        PairRow("7e", "A.", "B.", "neutral"),
        PairRow("multinli_1.0_train-3", "C\u2028D", "B.", "neutral"),
        PairRow("multinli_1.0_train-4", "A.", "B.", "entailment"),
    ]


def test_jsonl_leaves_out_rows_without_an_agreed_label(write, tmp_path):
    write(TRAIN, "\n".join([pair(gold_label="-", pairID="1"), pair(pairID="2")]))
    assert [row.id for row in mnli(tmp_path)] == ["2"]


def test_jsonl_without_any_agreed_label_is_no_data(write, tmp_path):
    write(TRAIN, pair(gold_label="-"))
    with pytest.raises(FileFault, match="no row"):
        mnli(tmp_path)


def test_jsonl_ids_stay_unique(write, tmp_path):
    write(TRAIN, "\n".join([pair(pairID="1"), pair(pairID="1")]))
    assert [row.id for row in mnli(tmp_path)] == ["1", "multinli_1.0_train-2"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (pair(sentence2=None), "field 'sentence2' is missing; found: sentence1, gold_label"),
        (pair(gold_label=None), "field 'gold_label' is missing"),
        (pair(sentence1=3), "field 'sentence1' should be text, found 3"),
        (pair(sentence1=["x" * 80]), r"field 'sentence1' should be text, found \[\"x+\.\.\."),
        ("{}", "field 'gold_label' is missing; found: no field at all"),
        ("[1]", r"expected a JSON object, found \[1\]"),
        (
            pair(gold_label="maybe"),
            "unknown label 'maybe'\nLabels of MNLI: entailment, neutral, contradiction",
        ),
        (
            '{"sentence1": "\\ud800", "sentence2": "", "gold_label": "neutral"}',
            "field 'sentence1' holds half a surrogate pair",
        ),
        ('{"sentence1" "A"}', r"not valid JSON: .* \(column 14\)"),
        (pair()[:20], r"not valid JSON[^$]*truncated"),
    ],
)
def test_jsonl_faults_name_file_and_line(write, tmp_path, line, message):
    write(f"{TRAIN}.gz", f"{pair()}\n\n{line}\n")
    with pytest.raises(FileFault, match=rf"^{TRAIN}\.gz:3: {message}") as caught:
        mnli(tmp_path)
    assert caught.value.line == 3


def xnli(root, split="dev", language="de"):
    return FilesSource(root).rows(XNLI, split, language)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_tsv(write, tmp_path, ending):
    write(
        f"xnli/dev-de.tsv{ending}",
        '"Oh, er\x85 kam\tEr "kam\tneutral\r\nA\t\tcontradictory\r\nB\tC\tentailment\r\n\r\n',
    )
    assert xnli(tmp_path) == [
        PairRow("dev-1", '"Oh, er\x85 kam', 'Er "kam', "neutral"),
        PairRow("dev-2", "A", "", "contradiction"),
        PairRow("dev-3", "B", "C", "entailment"),
    ]


def test_tsv_ids_are_equal_in_all_languages(write, tmp_path):
    for language in ("de", "ru"):
        write(f"xnli/test-{language}.tsv", "A\tB\tneutral\n" * 3)
    ids = [[row.id for row in xnli(tmp_path, "test", language)] for language in ("de", "ru")]
    assert ids[0] == ids[1] == ["test-1", "test-2", "test-3"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A\tB", "field missing: label; found 2 of 3 columns"),
        ("A", "field missing: hypothesis, label; found 1 of 3 columns"),
        ("", "field missing: premise, hypothesis, label; found 0 of 3 columns"),
        ("A\tB\tneutral\tx", "4 columns, expected 3"),
        ("A\tB\tlabel", "unknown label 'label'\nLabels of XNLI: entailment, neutral, contradiction"),
        ("A\tB\t", "unknown label ''"),
    ],
)
def test_tsv_faults_name_file_and_line(write, tmp_path, line, message):
    write("xnli/dev-de.tsv", f"A\tB\tneutral\n{line}\nA\tB\tneutral\n")
    with pytest.raises(FileFault, match=rf"^xnli/dev-de\.tsv:2: {message}"):
        xnli(tmp_path)


@pytest.mark.parametrize("line", ["A\tB", "A\tB\t"])
def test_test_file_without_labels_points_to_the_labelled_release(write, tmp_path, line):
    write("xnli/test-de.tsv", f"{line}\r\n{line}\r\n")
    with pytest.raises(FileFault, match=r"^xnli/test-de\.tsv:1: the test label is missing") as caught:
        xnli(tmp_path, "test")
    assert "XTREME" in caught.value.why
    assert "XNLI-1.0.zip" in caught.value.mend
    assert "'de'" in caught.value.mend
