"""From rows to tokens: labels, windows that cover the whole context, offsets that give the text back."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from xlt.data.features import encode
from xlt.data.rows import Answer, BitextRow, ChoiceRow, MiningRow, PairRow, Row, SpanRow, TagRow, TextRow
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import DataFault
from xlt.tasks.catalogue import MASKED_LM, get_task
from xlt.tasks.record import Task

DRAW = random.Random(3)
WORDS = ["".join(DRAW.choices("abdegiklmnorstu", k=DRAW.randint(2, 8))) for _ in range(200)]
CONTEXT = " ".join(DRAW.choices(WORDS, k=120))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([" ".join(DRAW.choices(WORDS, k=12)) for _ in range(300)], 150, folder)
    return load_tokenizer(str(folder))


def shortened(key: str, max_length: int) -> Task:
    task = get_task(key)
    return dataclasses.replace(task, recipe=dataclasses.replace(task.recipe, max_length=max_length))


def question(place: int, words: int = 2, text: str = "") -> SpanRow:
    """A row whose answer is ``words`` words from word ``place`` on."""
    parts = CONTEXT.split(" ")
    answer = " ".join(parts[place : place + words])
    start = len(" ".join(parts[:place])) + (place > 0)
    return SpanRow(f"q{place}", text or "what is it?", CONTEXT, (Answer(answer, start),))


def test_pairs_have_two_segments_and_the_label_of_the_task(tokenizer: PreTrainedTokenizerBase) -> None:
    row = PairRow("a", WORDS[0], WORDS[1], "contradiction")
    (sequence,) = encode([row], get_task("mnli"), tokenizer, training=True)
    tokens = sequence.input_ids.tolist()
    assert (tokens[0], tokens[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokens.count(tokenizer.eos_token_id) == 3
    assert sequence.label == (2,)
    (unlabelled,) = encode([row], get_task("mnli"), tokenizer, training=False)
    assert unlabelled.label == ()


@pytest.mark.parametrize("place", [0, 1, 40, 77, 118])
def test_the_span_label_points_to_the_answer(tokenizer: PreTrainedTokenizerBase, place: int) -> None:
    row = question(place)
    windows = encode([row], shortened("squad", 96), tokenizer, training=True)
    found = 0
    for window in windows:
        assert window.offsets is not None
        first, last = window.label
        if (first, last) == (0, 0):
            continue
        found += 1
        start, end = window.offsets[first][0], window.offsets[last][1]
        assert CONTEXT[start:end].strip() == row.answers[0].text
    assert found >= 1


def test_windows_cover_every_character_of_the_context_and_overlap(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    windows = encode([question(5)], shortened("squad", 64), tokenizer, training=False)
    assert len(windows) > 2
    covered = np.zeros(len(CONTEXT), dtype=int)
    for window in windows:
        assert window.offsets is not None
        assert len(window.input_ids) <= 64
        for start, end in window.offsets[window.offsets[:, 0] >= 0]:
            covered[start:end] += 1
    letters = np.array([character != " " for character in CONTEXT])
    assert (covered[letters] >= 1).all()
    assert (covered[letters] >= 2).any()


def test_tokens_outside_the_context_have_no_offsets(tokenizer: PreTrainedTokenizerBase) -> None:
    (window,) = encode([question(5)], shortened("squad", 500), tokenizer, training=False)
    assert window.offsets is not None
    assert (window.offsets[0] == -1).all()
    assert (window.offsets[-1] == -1).all()
    asked = len(tokenizer("what is it?", add_special_tokens=False)["input_ids"])
    assert (window.offsets[: asked + 3] == -1).all()


def labelled_text(context: str, answer: str, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The text of the tokens that training points to, in a context that is one window."""
    row = SpanRow("q", "what is it?", context, (Answer(answer, context.index(answer)),))
    (window,) = encode([row], get_task("squad"), tokenizer, training=True)
    assert window.offsets is not None
    first, last = window.label
    return context[window.offsets[first, 0] : window.offsets[last, 1]] if (first, last) != (0, 0) else None


@pytest.mark.parametrize("invisible", ["\u200b", "\u200f", "\u200b\u200b", "\u0301", "\u0301\u200b"])
@pytest.mark.parametrize("rest", ["", " ab"])
def test_an_answer_may_end_with_what_no_token_covers(
    tokenizer: PreTrainedTokenizerBase, invisible: str, rest: str
) -> None:
    # The tokenizer drops zero-width characters and joins e and an acute accent to one character, as XLM-R's does.
    answer = f"{WORDS[3]}e{invisible}"
    assert labelled_text(f"{WORDS[0]} {answer}{rest}", answer, tokenizer) == answer
    # A longer answer begins with such a word.
    assert labelled_text(f"{WORDS[0]} {answer} ab", f"{answer} ab", tokenizer) == f"{answer} ab"


@pytest.mark.parametrize("mark", ["\ufeff", "\u200b"])
def test_an_invisible_character_before_a_word_is_no_part_of_it(tokenizer: PreTrainedTokenizerBase, mark: str) -> None:
    # So more answers of XQuAD, whose contexts begin with a byte order mark in two languages, are reachable exactly.
    context = f"{mark}{WORDS[0]} {WORDS[1]}"
    assert labelled_text(context, WORDS[0], tokenizer) == WORDS[0]
    assert labelled_text(context, f"{mark}{WORDS[0]}", tokenizer) == WORDS[0]
    assert labelled_text(f"ab {mark} {WORDS[0]}", WORDS[0], tokenizer) == WORDS[0]


@pytest.mark.parametrize(("context", "answer"), [(" ab de", " ab"), ("de ab ", "ab "), ("de  ab\n", "  ab\n")])
def test_blanks_at_the_edges_of_an_answer_do_not_hide_it(
    tokenizer: PreTrainedTokenizerBase, context: str, answer: str
) -> None:
    assert labelled_text(context, answer, tokenizer) == "ab"


def test_an_answer_of_invisible_characters_alone_is_nowhere(tokenizer: PreTrainedTokenizerBase) -> None:
    assert labelled_text("ab \u200b de", "\u200b", tokenizer) is None


def test_tokens_at_the_end_of_a_window_do_not_reach_into_the_next_one(tokenizer: PreTrainedTokenizerBase) -> None:
    context = "\u200b ".join(CONTEXT.split(" "))
    row = dataclasses.replace(question(5), context=context)
    windows = encode([row], shortened("squad", 64), tokenizer, training=False)
    plain = encode([question(5)], shortened("squad", 64), tokenizer, training=False)
    assert len(windows) == len(plain) > 2
    for window, expected in zip(windows, plain, strict=True):
        assert window.offsets is not None
        assert expected.offsets is not None
        texts = [context[start:end].removesuffix("\u200b") for start, end in window.offsets if start >= 0]
        assert texts == [CONTEXT[start:end] for start, end in expected.offsets if start >= 0]


def test_a_very_long_question_is_cut_and_the_context_still_fits(tokenizer: PreTrainedTokenizerBase) -> None:
    row = question(5, text=" ".join(WORDS))
    windows = encode([row], shortened("squad", 96), tokenizer, training=True)
    assert all(len(window.input_ids) <= 96 for window in windows)
    assert any(window.label != (0, 0) for window in windows)


def test_answers_of_unknown_place_are_not_trained_on(tokenizer: PreTrainedTokenizerBase) -> None:
    lost = dataclasses.replace(question(5), answers=(Answer("elsewhere", -1),))
    assert {s.example_id for s in encode([lost, question(9)], get_task("squad"), tokenizer, training=True)} == {"q9"}
    assert {s.example_id for s in encode([lost], get_task("squad"), tokenizer, training=False)} == {"q5"}


@pytest.mark.parametrize(
    ("task", "good", "blank"),
    [
        ("pawsx", PairRow("a", "x", "y", "paraphrase"), PairRow("b", "x", "\u3000", "different")),
        ("mnli", PairRow("a", "x", "y", "neutral"), PairRow("b", "", "y", "neutral")),
        ("hellaswag", ChoiceRow("a", "x", ("y", "z"), 0), ChoiceRow("b", " ", ("y", "z"), 0)),
        ("commonsenseqa", ChoiceRow("a", "x", ("y", "z"), 0), ChoiceRow("b", "x", ("y", "\u200b"), 0)),
        ("squad", question(5), dataclasses.replace(question(9), question="\u00a0")),
        ("panx", TagRow("a", ("\u200b", "x"), ("O", "O")), TagRow("b", ("\u200b", " "), ("O", "O"))),
        ("mlm", TextRow("a", "x"), TextRow("b", "\t")),
    ],
)
def test_a_row_with_a_blank_text_is_predicted_but_not_trained_on(
    tokenizer: PreTrainedTokenizerBase, task: str, good: Row, blank: Row
) -> None:
    trained = encode([blank, good], get_task(task), tokenizer, training=True)
    assert {sequence.example_id for sequence in trained} == {good.id}
    assert {s.example_id for s in encode([blank, good], get_task(task), tokenizer, training=False)} == {
        blank.id,
        good.id,
    }


def test_a_question_without_an_answer_is_trained_on_in_squad_v2_only(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [dataclasses.replace(question(5), answers=()), question(9)]
    windows = encode(rows, shortened("squad_v2", 64), tokenizer, training=True)
    assert {window.label for window in windows if window.example_id == "q5"} == {(0, 0)}
    assert any(window.label != (0, 0) for window in windows if window.example_id == "q9")
    assert {window.example_id for window in encode(rows, get_task("squad"), tokenizer, training=True)} == {"q9"}


def test_the_choices_of_a_prompt_lie_end_to_end(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [ChoiceRow("a", WORDS[0], tuple(WORDS[1:5]), 2), ChoiceRow("b", WORDS[5], (WORDS[6], " ".join(WORDS)), 0)]
    first, second = encode(rows, get_task("hellaswag"), tokenizer, training=True)
    expected = [tokenizer(WORDS[0], choice)["input_ids"] for choice in WORDS[1:5]]
    assert first.input_ids.tolist() == [token for tokens in expected for token in tokens]
    assert first.lengths == tuple(len(tokens) for tokens in expected)
    assert (first.label, second.label, len(second.lengths)) == ((2,), (0,), 2)
    assert [each.label for each in encode(rows, get_task("hellaswag"), tokenizer, training=False)] == [(), ()]


def test_the_prompt_is_cut_and_the_choice_only_if_it_must_be(tokenizer: PreTrainedTokenizerBase) -> None:
    def tokens_of(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    row = ChoiceRow("a", CONTEXT, (WORDS[1], CONTEXT), 0)
    (encoded,) = encode([row], shortened("hellaswag", 40), tokenizer, training=True)
    assert encoded.lengths == (40, 40)
    short, long = (part.tolist() for part in np.split(encoded.input_ids, [40]))
    eos, prompt, choice = tokenizer.eos_token_id, tokens_of(CONTEXT), tokens_of(WORDS[1])
    assert short == [tokenizer.bos_token_id, *prompt[: 36 - len(choice)], eos, eos, *choice, eos]
    assert long == [tokenizer.bos_token_id, eos, eos, *prompt[:36], eos]


def test_a_long_sentence_is_split_at_words_and_loses_none(tokenizer: PreTrainedTokenizerBase) -> None:
    words = CONTEXT.split(" ")
    tags = DRAW.choices(get_task("udpos").labels, k=len(words))
    rows = [TagRow("long", tuple(words), tuple(tags)), TagRow("none", (), ()), TagRow("short", ("ab",), ("X",))]
    pieces = encode(rows, shortened("udpos", 24), tokenizer, training=True)
    assert [piece.example_id for piece in pieces] == ["long"] * (len(pieces) - 1) + ["short"]
    whole = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
    inner: list[int] = []
    starts: list[int] = []
    for piece in pieces[:-1]:
        assert piece.words is not None
        assert len(piece.input_ids) <= 24
        assert (piece.input_ids[0], piece.input_ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        starts += (piece.words - 1 + len(inner)).tolist()
        inner += piece.input_ids[1:-1].tolist()
    assert inner == whole["input_ids"]
    assert starts == [whole.word_ids().index(word) for word in range(len(words))]
    labels = [get_task("udpos").labels[tag] for piece in pieces[:-1] for tag in piece.label]
    assert labels == tags
    # Each piece is as long as it can be: the next one's first word did not fit.
    for piece, following in itertools.pairwise(pieces[:-1]):
        assert following.words is not None
        first_word = int(following.words[1]) - 1 if len(following.words) > 1 else len(following.input_ids) - 2
        assert len(piece.input_ids) + first_word > 24


def test_a_word_without_a_token_gets_the_unknown_one_and_a_giant_its_first(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    giant = "".join(WORDS[:30])
    row = TagRow("a", ("", WORDS[0], "\u3000", "", giant, ""), ("X",) * 6)
    pieces = encode([row], shortened("udpos", 20), tokenizer, training=False)
    unknown, giant_tokens = tokenizer.unk_token_id, tokenizer(giant, add_special_tokens=False)["input_ids"]
    known = tokenizer(WORDS[0], add_special_tokens=False)["input_ids"]
    assert [piece.input_ids[1:-1].tolist() for piece in pieces] == [
        [unknown, *known, unknown, unknown],
        giant_tokens[:18],
        [unknown],
    ]
    assert [[] if piece.words is None else piece.words.tolist() for piece in pieces] == [
        [1, 2, 2 + len(known), 3 + len(known)],
        [1],
        [1],
    ]


def test_an_unknown_tag_is_named_in_training_and_ignored_later(tokenizer: PreTrainedTokenizerBase) -> None:
    row = TagRow("s7", ("ab", "de"), ("NOUN", "NUON"))
    with pytest.raises(DataFault, match=r"Row 's7' of 'udpos' has the tag 'NUON'"):
        encode([row], get_task("udpos"), tokenizer, training=True)
    (piece,) = encode([row], get_task("udpos"), tokenizer, training=False)
    assert piece.label == ()


def test_long_lines_are_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    (sequence,) = encode([TextRow("t", CONTEXT)], shortened(MASKED_LM.key, 20), tokenizer, training=True)
    assert len(sequence.input_ids) == 20


def test_retrieval_has_nothing_to_train_on(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataFault, match="no training data"):
        encode([BitextRow("b", "x", "y")], get_task("tatoeba"), tokenizer, training=True)


def test_of_retrieval_every_text_is_one_sequence(tokenizer: PreTrainedTokenizerBase) -> None:
    one, other = CONTEXT.split()[:2]
    pair, side = BitextRow("b", one, other), MiningRow("m", one, english=False)
    made = encode([pair, side], get_task("tatoeba"), tokenizer, training=False)
    assert [each.example_id for each in made] == ["b", "b", "m"]
    assert [each.input_ids.tolist() for each in made] == tokenizer([one, other, one])["input_ids"]


def test_no_rows_give_no_sequences(tokenizer: PreTrainedTokenizerBase) -> None:
    assert encode([], get_task("mnli"), tokenizer, training=True) == []
