"""The files of the multiple-choice tasks."""

from __future__ import annotations

import json

import pytest

from xlt.data.files.reading import FileFault
from xlt.data.files.source import FilesSource
from xlt.data.rows import ChoiceRow
from xlt.tasks.catalogue import get_task

NAMES = {
    "hellaswag": "hellaswag/hellaswag_val.jsonl",
    "commonsenseqa": "commonsenseqa/dev_rand_split.jsonl",
    "cosmosqa": "cosmosqa/valid.csv",
}
ENDING = {"ctx_a": "He sits.", "ctx_b": "he", "ctx": "", "endings": ["a.", "b.", "c.", "d."], "label": 2}
GUESS = {
    "answerKey": "B",
    "id": "7",
    "question": {"stem": "Where?", "choices": [{"label": letter, "text": f"in {letter}"} for letter in "ABCDE"]},
}
COSMOS = "id,context,question,answer0,answer1,answer2,answer3,label\n"


def dev(write, root, key, text):
    write(NAMES[key], text)
    return FilesSource(root).rows(get_task(key), "dev", "en")


def test_hellaswag_begins_every_ending_as_the_sentence_does(write, tmp_path):
    text = f"{json.dumps(ENDING)}\n{json.dumps(ENDING | {'ctx_b': '', 'label': 0})}\n"
    assert dev(write, tmp_path, "hellaswag", text) == [
        ChoiceRow("dev-1", "He sits.", ("he a.", "he b.", "he c.", "he d."), 2),
        ChoiceRow("dev-2", "He sits.", ("a.", "b.", "c.", "d."), 0),
    ]


def test_hellaswag_keeps_every_space_but_its_own(write, tmp_path):
    record = ENDING | {"ctx_b": "", "endings": ["\u00a0a.", "b.\u3000", "c.", "d."]}
    (row,) = dev(write, tmp_path, "hellaswag", json.dumps(record))
    assert isinstance(row, ChoiceRow)
    assert row.choices == ("\u00a0a.", "b.\u3000", "c.", "d.")


UNCLOSED = "k,C.,Why?,a,b,c,d,1\n"


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('k,"C.,Why?,a,b,c,d,1\n' + UNCLOSED * 3, 2),
        (UNCLOSED + 'k,20" of "x",Why?,a,"b\nb",c,d,"1\n' + UNCLOSED, 4),
        ('k,"C.\nC.,Why?,a,b,c,d,1\nk,C.,"W""hy"?,a,b,c,d,1\n', 2),
        (UNCLOSED + 'k,"C."C,Why?,a,b,c,d,1\n', 3),
        ('k,"' + "C" * 200_000, 2),
    ],
)
def test_an_unclosed_quote_is_named_where_it_opens(write, tmp_path, rows, line):
    with pytest.raises(FileFault, match="in a field whose quote opens here") as caught:
        dev(write, tmp_path, "cosmosqa", COSMOS + rows)
    assert caught.value.line == line


def test_commonsenseqa_finds_the_answer_by_its_letter(write, tmp_path):
    turned = GUESS | {"question": {"stem": "Who?", "choices": GUESS["question"]["choices"][::-1]}}  # type: ignore[index]
    rows = dev(write, tmp_path, "commonsenseqa", f"{json.dumps(GUESS)}\n{json.dumps(turned)}\n")
    assert rows[0] == ChoiceRow("dev-1", "Where?", ("in A", "in B", "in C", "in D", "in E"), 1)
    assert [row.choices[row.label] for row in rows if isinstance(row, ChoiceRow)] == ["in B", "in B"]


def test_cosmosqa_keeps_the_question_with_the_answers(write, tmp_path):
    assert dev(write, tmp_path, "cosmosqa", f'{COSMOS}k,"One, ""two""\nthree.",Why?,a,b,"c, c",d,2\n') == [
        ChoiceRow("dev-1", 'One, "two"\nthree.', ("Why? a", "Why? b", "Why? c, c", "Why? d"), 2)
    ]


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("hellaswag", json.dumps({name: ENDING[name] for name in ENDING if name != "label"}), ":1: field 'label' is"),
        ("hellaswag", json.dumps(ENDING | {"label": 4}), ":1: the label is none of the 4 choices"),
        (
            "hellaswag",
            json.dumps(ENDING | {"endings": ["a", 3]}),
            r":1: field 'endings\[1\]' should be a valid string, found 3",
        ),
        (
            "hellaswag",
            json.dumps(ENDING | {"endings": ["a", "\ud800"]}),
            "(?s):1: .* half of a surrogate pair",
        ),
        ("hellaswag", json.dumps(ENDING | {"label": ""}), ":1: field 'label' should be a valid integer"),
        ("hellaswag", json.dumps(ENDING | {"label": 10**30}), ":1: the label is none of the 4 choices"),
        ("hellaswag", f"{json.dumps(ENDING)[:-2]}{'1' * 5000}}}", ":1: not valid JSON: number out of range"),
        ("hellaswag", "[" * 10_000, ":1: not valid JSON: recursion limit exceeded"),
        ("commonsenseqa", json.dumps({"question": GUESS["question"]}), ":1: field 'answerKey' is missing"),
        ("commonsenseqa", json.dumps(GUESS | {"answerKey": ""}), ":1: the label is none of the 5 choices"),
        ("commonsenseqa", json.dumps(GUESS | {"question": "Where?"}), ":1: field 'question' should be an object"),
        ("cosmosqa", "id,context,question,answer0,answer1,answer2,answer3\n", ":1: the columns are id, context"),
        ("cosmosqa", f"{COSMOS}k,C.,Why?,a,b,c,2\n", ":2: 7 columns, expected 8"),
        ("cosmosqa", f"{COSMOS}k,C.,Why?,a,b,c,d,-1\n", ":2: the label is none of the 4 choices"),
        ("cosmosqa", f"{COSMOS}k,C.,Why?,a,b,c,d,{'1' * 5000}\n", ":2: the label is none of the 4 choices"),
    ],
)
def test_faults(write, tmp_path, key, text, message):
    with pytest.raises(FileFault, match=message) as caught:
        dev(write, tmp_path, key, text)
    assert caught.value.file == NAMES[key]


# The same text in both releases of Social IQa: with the letter in the record, and with numbers in a file beside it.
SITUATION = {
    "context": "Robin lost the key.",
    "question": "What will Robin do next?",
    "answerA": "eat",
    "answerB": "sing",
    "answerC": "search",
}
ASKED = ChoiceRow("train-1", "Robin lost the key. What will Robin do next?", ("eat", "sing", "search"), 2)


def siqa(root):
    return FilesSource(root).rows(get_task("siqa"), "train", "en")


def test_social_iqa_has_letters_in_its_records_or_numbers_in_a_second_file(write, tmp_path):
    write("siqa/train.jsonl", f"{json.dumps(SITUATION)}\n")
    write("siqa/train-labels.lst", "3\n")
    assert siqa(tmp_path) == [ASKED]
    write("siqa/train-labels.lst", "3\n1\n")
    with pytest.raises(FileFault, match=r"train-labels.lst: 2 labels, but siqa/train.jsonl has 1 questions"):
        siqa(tmp_path)
    write("siqa/socialIQa_v1.4_trn.jsonl", json.dumps({**SITUATION, "correct": "C", "promptDim": "xWant"}))
    assert siqa(tmp_path) == [ASKED]


@pytest.mark.parametrize(("correct", "number"), [("", None), ("D", None), ("AB", None), ("A", "C"), ("A", "12")])
def test_a_label_of_social_iqa_that_is_none_of_its_answers_is_named(write, tmp_path, correct, number):
    name = "siqa/train.jsonl" if number else "siqa/socialIQa_v1.4_trn.jsonl"
    write(name, f"\n{json.dumps({**SITUATION, 'correct': correct})}\n")
    write("siqa/train-labels.lst", f"{number}\n")
    with pytest.raises(FileFault, match="the label is none of the 3 choices") as caught:
        siqa(tmp_path)
    assert (caught.value.file, caught.value.line) == (name, 2)


PREMISE = {"premise": "Sein Rad quietschte.", "choice1": "Er ölte es.", "choice2": "Er schlief.", "label": 0, "idx": 4}


def test_xcopa_asks_for_the_cause_or_the_effect_in_english(write, tmp_path):
    # SEEN: run_xcopa.py of google-research/xtreme pairs "PREMISE What was the QUESTION?" with each choice.
    records = [{**PREMISE, "question": "effect", "changed": False}, {**PREMISE, "question": "cause", "label": 1}]
    write("xcopa/data/id/val.id.jsonl", "".join(f"{json.dumps(each)}\n" for each in records))
    write("xcopa/test-id.jsonl", "".join(f"{json.dumps(each)}\n" for each in records[::-1]))
    task, source = get_task("xcopa"), FilesSource(tmp_path)
    choices = ("Er ölte es.", "Er schlief.")
    first, second = (f"Sein Rad quietschte. What was the {asked}?" for asked in ("effect", "cause"))
    assert source.rows(task, "dev", "id") == [
        ChoiceRow("dev-1", first, choices, 0),
        ChoiceRow("dev-2", second, choices, 1),
    ]
    assert [row.prompt for row in source.rows(task, "test", "id") if isinstance(row, ChoiceRow)] == [second, first]


def test_a_test_set_whose_labels_xtremes_script_took_away_is_refused(write, tmp_path):
    write("xcopa/test-id.jsonl", "".join(f"{json.dumps({**PREMISE, 'question': 'cause'})}\n" for _ in range(20)))
    with pytest.raises(FileFault, match="all 20 labels are '0': placeholders"):
        FilesSource(tmp_path).rows(get_task("xcopa"), "test", "id")
