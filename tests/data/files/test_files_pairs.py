"""The formats of sentence pairs: natural language inference, PAWS-X and QQP."""

from __future__ import annotations

import json

import pytest

from xlt.data.files.reading import FileFault
from xlt.data.files.source import FilesSource
from xlt.data.rows import PairRow
from xlt.tasks.catalogue import get_task

ANLI_PLUS, MNLI, XNLI, PAWSX, QQP = (get_task(key) for key in ("anli_plus", "mnli", "xnli", "pawsx", "qqp"))
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
        (pair(sentence1=3), "field 'sentence1' should be a valid string, found 3"),
        (pair(sentence1=["x" * 80]), r"field 'sentence1' should be a valid string, found \[\"x+\.\.\."),
        ("{}", "field 'sentence1' is missing; found: no field at all"),
        ("[1]", r"the record should be an object, found \[1\]"),
        (
            pair(gold_label="maybe"),
            r"unknown label 'maybe'\.\nLabels of MNLI: entailment, neutral, contradiction",
        ),
        (
            '{"sentence1": "\\ud800", "sentence2": "", "gold_label": "neutral"}',
            "not valid JSON: unexpected end of hex escape",
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


def test_a_quoted_sentence_may_hold_a_null(write, tmp_path):
    write("xnli/dev-de.tsv", '"""A\0"" b"\t"C\0"\tneutral\n')
    assert xnli(tmp_path) == [PairRow("dev-1", '"A\0" b', '"C\0"', "neutral")]


def test_tsv_ids_are_equal_in_all_languages(write, tmp_path):
    for language in ("de", "ru"):
        write(f"xnli/test-{language}.tsv", "A\tB\tneutral\n" * 3)
    ids = [[row.id for row in xnli(tmp_path, "test", language)] for language in ("de", "ru")]
    assert ids[0] == ids[1] == ["test-1", "test-2", "test-3"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A\tB", "field missing: label; found 2 of 3 columns"),
        ("A", "field missing: second sentence, label; found 1 of 3 columns"),
        ("", "field missing: first sentence, second sentence, label; found 0 of 3 columns"),
        ("A\tB\tneutral\tx", "4 columns, expected 3"),
        ("A\tB\tC\tD\tneutral", "5 columns, expected 3"),
        ("A\tB\tlabel", r"unknown label 'label'\.\nLabels of XNLI: entailment, neutral, contradiction"),
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
    assert "XNLI-1.0.zip" in caught.value.fix
    assert "'de'" in caught.value.fix


def anli(label: str, uid: str = "u1") -> str:
    return json.dumps({"uid": uid, "context": "C.", "hypothesis": "H.", "label": label, "reason": ""})


def write_anli_plus(write, *rounds: str) -> None:
    for number, text in enumerate(rounds, start=1):
        write(f"anli_plus/anli_v1.0/R{number}/dev.jsonl", text)
    write("anli_plus/snli_1.0/snli_1.0_dev.jsonl.gz", pair(gold_label="-") + "\n" + pair(sentence1="S."))
    write("mnli/multinli_1.0_dev_matched.jsonl", pair(pairID="7e"))


def test_anli_plus_joins_its_three_sources(write, tmp_path):
    write_anli_plus(write, anli("e"), anli("n", "u2"), anli("c"))
    assert FilesSource(tmp_path).rows(ANLI_PLUS, "dev", "en") == [
        PairRow("u1", "C.", "H.", "entailment"),
        PairRow("u2", "C.", "H.", "neutral"),
        PairRow("dev-1", "C.", "H.", "contradiction"),
        PairRow("snli_1.0_dev-2", "S.", "B.", "neutral"),
        PairRow("7e", "A.", "B.", "neutral"),
    ]


def test_anli_plus_is_not_there_without_one_of_its_files(write, tmp_path):
    write_anli_plus(write, anli("e"), anli("n"))
    source = FilesSource(tmp_path)
    assert source.languages(ANLI_PLUS, "dev") == ()
    with pytest.raises(FileFault, match=r"^anli_plus/anli_v1\.0/R3/dev\.jsonl: no such file"):
        source.rows(ANLI_PLUS, "dev", "en")


@pytest.mark.parametrize("label", ["x", "entailment", "-1"])
def test_anli_labels_are_letters_and_the_fault_names_the_file_of_the_round(write, tmp_path, label):
    write_anli_plus(write, anli("e"), anli(label), anli("c"))
    with pytest.raises(FileFault, match=rf"^anli_plus/anli_v1\.0/R2/dev\.jsonl:1: unknown label '{label}'"):
        FilesSource(tmp_path).rows(ANLI_PLUS, "dev", "en")


def pawsx(root, split="test"):
    return FilesSource(root).rows(PAWSX, split, "de")


QUOTED = [PairRow("test-1", '"Er" kam', "Ja", "different"), PairRow("test-2", 'Sie "ging"', "NS", "paraphrase")]


def test_pawsx_as_published_has_a_header_and_plain_quotes(write, tmp_path):
    lines = ["id\tsentence1\tsentence2\tlabel", '1\t"Er" kam\tJa\t0', '2\tSie "ging"\tNS\t1']
    write("pawsx/x-final/de/test_2k.tsv", "\n".join(lines) + "\n")
    write("pawsx/test-de.tsv", "Er kam\tJa\n")
    assert pawsx(tmp_path) == QUOTED


def test_pawsx_of_xtreme_loses_the_quotes_that_its_script_added(write, tmp_path):
    write("pawsx/test-de.tsv.gz", '"""Er"" kam"\tJa\t0\r\n"Sie ""ging"""\tNS\t1\r\n')
    assert pawsx(tmp_path) == QUOTED


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("test-de.tsv", "A\tB\n", "test-de.tsv:1: the test label is missing"),
        ("x-final/de/test_2k.tsv", "id\tsentence1\tsentence2\tlabel\n1\tA\tB\t2\n", "2k.tsv:2: unknown label '2'"),
        ("x-final/de/test_2k.tsv", "id\tsentence1\tsentence2\tlabel\n1\tA\n", "2k.tsv:2: field missing: second"),
    ],
)
def test_faults_of_pawsx(write, tmp_path, name, text, message):
    write(f"pawsx/{name}", text)
    with pytest.raises(FileFault, match=message) as caught:
        pawsx(tmp_path)
    assert ("x-final.tar.gz" in caught.value.fix) == ("missing" in message and "label" in message)


QQP_HEADER = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"


def test_qqp_of_glue_has_plain_quotes_and_cut_rows(write, tmp_path):
    write("qqp/train.tsv", QQP_HEADER + '7\t1\t2\tWhat is "x?\tWhy?\t1\n8\t3\t4\tHow\n to?\tWho?\t0\n')
    assert FilesSource(tmp_path).rows(QQP, "train", "en") == [PairRow("train-2", 'What is "x?', "Why?", "paraphrase")]


def test_qqp_of_quora_is_split_in_ten(write, tmp_path):
    rows = "".join(f'"{n}"\t"1"\t"2"\t"Is ""{n}""\nso?"\t"Why?"\t"{n % 2}"\n' for n in range(20))
    write("qqp/quora_duplicate_questions.tsv", QQP_HEADER + rows)
    source = FilesSource(tmp_path)
    assert [row.text_a for row in source.rows(QQP, "dev", "en")] == ['Is "0"\nso?', 'Is "10"\nso?']
    assert [row.label for row in source.rows(QQP, "train", "en")] == [
        ("different", "paraphrase")[n % 2] for n in range(20) if n % 10
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id\tquestion1\tquestion2\n0\tA?\tB?\n",
            "dev.tsv:1: the columns are id, question1, question2; expected id, qid1",
        ),
        (QQP_HEADER + "7\t1\t2\tA?\tB?\tmaybe\n", "dev.tsv:2: unknown label 'maybe'"),
    ],
)
def test_faults_of_qqp(write, tmp_path, text, message):
    write("qqp/dev.tsv", text)
    with pytest.raises(FileFault, match=message):
        FilesSource(tmp_path).rows(QQP, "dev", "en")
