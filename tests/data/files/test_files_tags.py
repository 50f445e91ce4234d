"""The files of the tagging tasks: columns, treebanks, supertags."""

from __future__ import annotations

import pytest

from xlt.data.files.reading import FileFault
from xlt.data.files.source import FilesSource
from xlt.data.rows import TagRow
from xlt.tasks.catalogue import get_task

PANX, UDPOS, CCG = (get_task(key) for key in ("panx", "udpos", "ccg"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("panx/test-de.tsv.gz", "In\tO\nUlm\tB-LOC\n\n\nde:\tO\nJa\tO"),
        ("panx/de-test", "de:In\tO\r\nde:Ulm\tB-LOC\r\n\r\nde:de:\tO\r\nde:Ja\tO\r\n\r\n"),
        ("ner/test-de.tsv", "In\tO\nUlm\tB-LOC\n\nde:\tO\nJa\tO\n\n"),
    ],
)
def test_words_with_and_without_their_language(write, tmp_path, name, text):
    write(name, text)
    assert FilesSource(tmp_path).rows(PANX, "test", "de") == [
        TagRow("test-1", ("In", "Ulm"), ("O", "B-LOC")),
        TagRow("test-2", ("de:", "Ja"), ("O", "O")),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Ulm\tB-MISC", r"unknown label 'B-MISC'\.\nLabels of NER"),
        ("Ulm", "the word 'Ulm' has no tag.\nThe test files that XTREME"),
        ("Ulm\t", "the word 'Ulm' has no tag"),
        ("Ulm\tO\tO", "3 columns, expected 2"),
    ],
)
def test_faults_of_columns(write, tmp_path, line, message):
    write("panx/test-de.tsv", f"In\tO\n{line}\n")
    with pytest.raises(FileFault, match=rf"^panx/test-de\.tsv:2: {message}"):
        FilesSource(tmp_path).rows(PANX, "test", "de")


def node(number: str, form: str, tag: str = "_", head: object = "_", deps: str = "_") -> str:
    return f"{number}\t{form}\t_\t{tag}\t_\t_\t{head}\t_\t{deps}\t_"


def treebank(*sentences: list[str]) -> str:
    return "".join("# text\n" + "\n".join(sentence) + "\n\n" for sentence in sentences)


GO = [node("1", "geht", "VERB", 0), node("2", "es", "PRON", 1)]
# Of "zum" the article stands higher; of "ins" the preposition would, by its rank, but for its enhanced dependency.
FUSED = [
    node("1-2", "zum"),
    node("1", "zu", "ADP", 2),
    node("2", "dem", "DET", 3),
    node("3", "Haus", "NOUN", 0),
    node("3.1", "leer", "VERB"),
    node("4-5", "ins"),
    node("4", "in", "DET", 3),
    node("5", "das", "ADP", 3, "3:x|1:y"),
    node("6", "10\u200c 000", "NUM", 3),
]


def udpos(root, language="de"):
    return FilesSource(root).rows(UDPOS, "test", language)


def test_treebanks_of_a_language_are_joined_and_words_are_fused(write, tmp_path):
    write("udpos/ud-treebanks-v2.5/UD_German-PUD/de_pud-ud-test.conllu", treebank(GO))
    write("udpos/ud-treebanks-v2.5/UD_German-GSD/de_gsd-ud-test.conllu.gz", treebank(FUSED))
    write("udpos/ud-treebanks-v2.5/UD_German-LIT/de_lit-ud-test.conllu", treebank(GO))
    write("udpos/ud-treebanks-v2.5/UD_Swiss_German-UZH/gsw_uzh-ud-test.conllu", treebank(GO))
    write("udpos/test-de.tsv", "Ja\tINTJ\n")
    assert udpos(tmp_path) == [
        TagRow("test-1", ("zum", "Haus", "ins", "10000"), ("DET", "NOUN", "DET", "NUM")),
        TagRow("test-2", ("geht", "es"), ("VERB", "PRON")),
    ]


def test_the_languages_that_xtreme_r_added_are_read_of_their_own_release(write, tmp_path):
    for release, sentence in (("2.5", FUSED), ("2.7", GO)):
        for code in ("de", "lt"):
            write(f"udpos/ud-treebanks-v{release}/UD_X/{code}_x-ud-test.conllu", treebank(sentence))
    words = [[row.words for row in udpos(tmp_path, code) if isinstance(row, TagRow)] for code in ("de", "lt")]
    assert words == [[("zum", "Haus", "ins", "10000")], [("geht", "es")]]


def test_parts_of_one_height_are_ranked_as_the_language_does(write, tmp_path):
    sentence = [node("1", "va", "VERB", 0), node("2-3", "x"), node("2", "a", "ADV", 1), node("3", "b", "NOUN", 1)]
    for code in ("it", "de"):
        write(f"udpos/ud-treebanks-v2.5/UD_X/{code}_x-ud-test.conllu", treebank(sentence))
    tags = [[row.tags for row in udpos(tmp_path, code) if isinstance(row, TagRow)] for code in ("it", "de")]
    assert tags == [[("VERB", "ADV")], [("VERB", "NOUN")]]


def test_blanked_sentences_are_left_out(write, tmp_path):
    words = [["_", "_"], ["_", "a"], ["_", "a", "b"], ["a"]]
    sentences = [[node(str(n), word, "X", 0) for n, word in enumerate(each, 1)] for each in words]
    write("udpos/ud-treebanks-v2.5/UD_German-X/de_x-ud-test.conllu", treebank(*sentences))
    assert [row.words for row in udpos(tmp_path) if isinstance(row, TagRow)] == [("_", "a", "b"), ("a",)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2\ta\tb", "3 columns, expected 10"),
        (node("2", "es", "N", 1), "unknown label 'N'"),
        (node("2-3", "es"), "the parts of '2-3' are not in the sentence"),
        (node("2-x", "es"), "the parts of '2-x' are not in the sentence"),
    ],
)
def test_faults_of_treebanks(write, tmp_path, line, message):
    write("udpos/ud-treebanks-v2.5/UD_German-X/de_x-ud-test.conllu", treebank([GO[0], line]))
    with pytest.raises(FileFault, match=rf"de_x-ud-test\.conllu:3: {message}"):
        udpos(tmp_path)


def test_supertags_in_lines(write, tmp_path):
    write("ccg/ccg.dev.gz", "He runs .\tNP S\\NP .\n")
    assert FilesSource(tmp_path).rows(CCG, "dev", "en") == [TagRow("dev-1", ("He", "runs", "."), ("NP", "S\\NP", "."))]


def test_a_no_break_space_is_a_letter_of_its_word(write, tmp_path):
    write("ccg/ccg.train", "10\u00a0000  dogs\u3000 \ufeffbark\tN/N N S\\NP\n")
    write("ccg/data/AUTO/00/wsj_0001.auto", "ID=a\n(<L N CD CD 10\u00a0000 N>)\n")
    source = FilesSource(tmp_path)
    words = ("10\u00a0000", "dogs\u3000", "\ufeffbark")
    assert source.rows(CCG, "train", "en") == [TagRow("train-1", words, ("N/N", "N", "S\\NP"))]
    assert source.rows(CCG, "dev", "en") == [TagRow("a", ("10\u00a0000",), ("N",))]


def test_words_that_cannot_be_seen_are_words(write, tmp_path):
    words = ("\u200f", "Ulm", "\u200b", "\ufe0f", "\u00a0", "\u3000a")
    write("panx/de-test", "".join(f"de:{word}\tO\n" for word in words) + "\nde:\u200e\tO\n")
    assert FilesSource(tmp_path).rows(PANX, "test", "de") == [
        TagRow("test-1", words, ("O",) * 6),
        TagRow("test-2", ("\u200e",), ("O",)),
    ]


def test_an_empty_node_may_stand_inside_a_fused_word(write, tmp_path):
    sentence = [
        node("0.1", "_", "VERB"),
        node("1", "qal", "VERB", 0),
        node("2-3", "wal"),
        node("2", "wa", "CCONJ", 3),
        node("2.1", "kan", "VERB", deps="2:dep"),
        node("3", "al", "NOUN", 1),
        node("4", ".", "PUNCT", 1),
    ]
    write("udpos/ud-treebanks-v2.5/UD_Arabic-X/ar_x-ud-test.conllu", treebank(sentence))
    assert udpos(tmp_path, "ar") == [TagRow("test-1", ("qal", "wal", "."), ("VERB", "NOUN", "PUNCT"))]


@pytest.mark.parametrize(
    ("line", "found"), [("He runs\tNP", "2 and 1"), ("He runs", "2"), ("a\tb\tc", "1 and 1 and 1")]
)
def test_as_many_supertags_as_words(write, tmp_path, line, found):
    write("ccg/ccg.dev", f"He\tNP\n{line}\n")
    with pytest.raises(FileFault, match=rf"^ccg/ccg\.dev:2: the columns have {found} words"):
        FilesSource(tmp_path).rows(CCG, "dev", "en")


TREE = r"(<T S[dcl] 0 2> (<L NP PRP PRP He NP>) (<L (S[dcl]\NP)/NP VBZ VBZ and\/or (S[dcl]\NP_1)/NP_2>) )"


def test_supertags_of_ccgbank(write, tmp_path):
    for section in range(25):
        name = f"wsj_{section:02}01"
        text = f"ID={name}.1 PARSER=GOLD NUMPARSE=1\n{TREE}\n"
        write(f"ccg/data/AUTO/{section:02}/{name}.auto{'.gz' if section % 2 else ''}", text)
    write("ccg/ccg.train", "He runs\tNP S\n")
    source = FilesSource(tmp_path)
    assert source.rows(CCG, "dev", "en") == [TagRow("wsj_0001.1", ("He", "and/or"), ("NP", r"(S[dcl]\NP)/NP"))]
    assert [row.id for row in source.rows(CCG, "train", "en")] == [f"wsj_{n:02}01.1" for n in range(2, 22)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ID=a\n", ":1: the last sentence has no derivation"),
        (f"{TREE}\n{TREE}\n", ":1: expected a line that begins with 'ID='"),
        ("ID=a\n(<L NP PRP He NP>)\n", ":2: only 0 of 1 leaves have all six fields"),
    ],
)
def test_faults_of_ccgbank(write, tmp_path, text, message):
    write("ccg/data/AUTO/00/wsj_0001.auto", text)
    with pytest.raises(FileFault, match=rf"wsj_0001\.auto{message}"):
        FilesSource(tmp_path).rows(CCG, "dev", "en")
