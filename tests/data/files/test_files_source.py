"""The source itself: protocol, cache, and the text of phase 1."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xlt.data.files.source import FilesSource
from xlt.data.source import Source
from xlt.errors import DataFault, UsageFault
from xlt.tasks.catalogue import get_task

MNLI, XNLI, XQUAD, TATOEBA = (get_task(key) for key in ("mnli", "xnli", "xquad", "tatoeba"))


def test_it_is_a_source(tmp_path):
    source: Source = FilesSource(tmp_path)
    assert (source.name, source.settings) == ("files", {})


def test_data_root_must_be_a_folder(tmp_path):
    with pytest.raises(DataFault, match="not a folder"):
        FilesSource(tmp_path / "absent")


def test_files_are_parsed_once_and_callers_cannot_change_the_cache(write, tmp_path):
    path = write("xnli/dev-de.tsv", "A\tB\tneutral\n")
    source = FilesSource(tmp_path)
    source.rows(XNLI, "dev", "de").clear()
    path.unlink()
    assert len(source.rows(XNLI, "dev", "de")) == 1


def test_layout_without_a_reader(write, tmp_path):
    write("xnli/dev-de.tsv", "A\tB\tneutral\n")
    with pytest.raises(UsageFault, match="'conllu', which has no reader"):
        FilesSource(tmp_path).rows(replace(XNLI, layout="conllu"), "dev", "de")


def squad(context: str) -> str:
    question = '{"id": "q", "question": "Where is it?", "answers": [{"text": "It", "answer_start": 0}]}'
    return f'{{"data": [{{"paragraphs": [{{"context": "{context}", "qas": [{question}]}}]}}]}}'


def text(root):
    return [(row.id, row.text) for row in FilesSource(root).pretraining_text()]


def test_pretraining_text_holds_each_sentence_once_in_catalogue_order(write, tmp_path):
    write("xnli/dev-zh.tsv", "他今天来了吗？他今天来了。\t他 今天来了。\tneutral\n")
    write("xnli/dev-en.tsv", "A dog runs.\tThe cat  sleeps.\tneutral\n")
    write("squad/dev-v1.1.json", squad("It is raining. A dog runs. Dr. No sings."))
    write(
        "mnli/multinli_1.0_train.jsonl",
        '{"sentence1": "A dog runs.", "sentence2": "Yes.", "gold_label": "neutral"}\n',
    )
    assert text(tmp_path) == [
        ("mnli.train.en-1", "A dog runs."),
        ("squad.dev.en-1", "It is raining."),
        ("squad.dev.en-2", "Dr. No sings."),
        ("xnli.dev.en-1", "The cat sleeps."),
        ("xnli.dev.zh-1", "他今天来了吗？"),
        ("xnli.dev.zh-2", "他今天来了。"),
        ("xnli.dev.zh-3", "他 今天来了。"),
    ]


def test_no_sentence_of_a_test_file_is_in_the_pretraining_text(write, tmp_path):
    write(
        "xnli/dev-en.tsv",
        "One is here. Two is here.\tThree  is here.\tneutral\nFour is here.\tFive is here.\tneutral\n"
        "Where is it?\tSix is here.\tneutral\n",
    )
    write("xnli/test-de.tsv", "Two  is here.\tA long one. Three is here.\tneutral\n")
    write("xquad/xquad.ar.json", squad("It is. Four is here."))
    write("tatoeba/de-en.de", "Sechs.\n")
    write("tatoeba/de-en.en", "Six is here.\n")
    assert text(tmp_path) == [("xnli.dev.en-1", "One is here."), ("xnli.dev.en-2", "Five is here.")]


def test_a_tagged_test_sentence_is_held_out_however_its_words_are_spaced(write, tmp_path):
    write("udpos/test-en.tsv", "Do\tAUX\nn't\tPART\ngo\tVERB\n.\tPUNCT\n")
    write("ner/train-en.tsv", "Don't\tO\ngo\tO\n.\tO\n\nBob\tB-PER\nsings\tO\n")
    write("xnli/dev-en.tsv", "Don't go.\tBob  sings\tneutral\n")
    assert text(tmp_path) == [("xnli.dev.en-1", "Bob sings")]


def test_test_files_alone_give_no_pretraining_text(write, tmp_path):
    write("xquad/xquad.ar.json", squad("It is raining."))
    assert text(tmp_path) == []


def test_useless_lines_are_left_out(write, tmp_path):
    write("xnli/dev-en.tsv", f"1998 - 2001, 7.\t{'word ' * 300}\tneutral\nThis is kept.\tOh!\tneutral\n")
    assert text(tmp_path) == [("xnli.dev.en-1", "This is kept.")]
