"""Perturbed rows: gold stays what it was, and nothing but the text, the severity and the draw decides them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.data.test_noise import TEXTS
from xlt.data.files.source import FilesSource
from xlt.data.perturb import KINDS, Perturbation, Perturber
from xlt.data.perturbed import PerturbedSource
from xlt.data.rows import (
    Answer,
    BitextRow,
    ChoiceRow,
    MiningRow,
    PairRow,
    QueryRow,
    Row,
    SpanRow,
    TagRow,
    fingerprint,
    is_blank,
    labels_of,
)
from xlt.errors import DataFault, UsageFault
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.tasks.catalogue import get_task

LEXICON = {"ёжик": "hedgehog", "bien": "well", "va": "goes well", "أحمد": "Ahmed", "किताब": "book", "都": "capital"}
OTHERS = ("Another row says this.", "A third one does not.")


def perturbed(row: Row, kind: str, severity: float = 0.5, draws: int = 1) -> list[Row]:
    return Perturber(Perturbation(kind, severity, draws), LEXICON, OTHERS).rows([row])


def span_row(text: str, *answers: tuple[int, int]) -> SpanRow:
    return SpanRow("q", text[:20], text, tuple(Answer(text[start:end], start) for start, end in answers))


def rows_of(text: str) -> list[Row]:
    """A row of every kind in one text."""
    words = tuple(text.split())
    return [
        PairRow("1", text, text[::-1].strip(), "neutral"),
        ChoiceRow("2", text, (text[:9], text[9:]), 1),
        span_row(text, (3, 8), (5, 12)),
        TagRow("4", words, tuple(f"T{place}" for place in range(len(words)))),
        BitextRow("5", text, "An English sentence."),
        MiningRow("6", text, english=False, matches=("7",)),
        QueryRow("8", text, ("9",)),
    ]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_gold_survives_every_kind_in_every_script(kind: str, text: str) -> None:
    for severity in (0.05, 0.2, 1.0):
        for row in rows_of(text):
            (found,) = perturbed(row, kind, severity)
            assert (type(found), found.id) == (type(row), row.id)
            assert not is_blank(found)
            match row, found:
                case SpanRow(), SpanRow():
                    assert [each.text for each in found.answers] == [each.text for each in row.answers]
                    for answer in found.answers:
                        assert found.context[answer.start : answer.start + len(answer.text)] == answer.text
                case TagRow(), TagRow():
                    assert len(found.words) == len(found.tags) > 0
                    assert all(word.strip() and len(word.split()) == 1 for word in found.words)
                    if not KINDS[kind].words:
                        assert found.tags == row.tags
                    else:  # every word has its own tag still
                        assert {*zip(found.words, found.tags, strict=True)} <= {*zip(row.words, row.tags, strict=True)}
                case BitextRow(), BitextRow():
                    assert found.english == row.english
                case MiningRow(), MiningRow():
                    assert found.matches == row.matches
                case QueryRow(), QueryRow():
                    assert found.answers == row.answers
                case _:
                    assert [*labels_of(found)] == [*labels_of(row)]


@pytest.mark.parametrize("kind", KINDS)
def test_without_severity_nothing_changes_and_with_all_of_it_something_does(kind: str) -> None:
    rows = [row for text in TEXTS.values() for row in rows_of(text)]
    assert [each for row in rows for each in perturbed(row, kind, 0.0)] == rows
    assert [each for row in rows for each in perturbed(row, kind, 1.0)] != rows


def test_any_answer_of_any_text_is_found_where_it_moved() -> None:
    random = Random(0)
    letters = "".join(TEXTS.values()) + " \n\u200b\u0301\u094d👩‍👩‍👧"
    for _ in range(300):
        text = "".join(random.choices(letters, k=random.randint(1, 60)))
        start = random.randrange(len(text))
        end = random.randint(start + 1, len(text))
        (found,) = perturbed(span_row(text, (start, end)), random.choice(sorted(KINDS)), 0.7)
        assert isinstance(found, SpanRow)
        (answer,) = found.answers
        assert answer.text == text[start:end]
        assert found.context[answer.start : answer.start + len(answer.text)] == answer.text


def test_an_answer_that_is_not_in_the_context_has_no_place_afterwards_either() -> None:
    row = SpanRow("1", "Who?", "one two three four", (Answer("five", -1),))
    (found,) = perturbed(row, "word-repeat", 1.0)
    assert isinstance(found, SpanRow)
    assert found.answers == row.answers
    assert found.context == "one one two two three three four four"


def test_a_row_is_the_same_whatever_else_is_perturbed() -> None:
    rows = [row for text in TEXTS.values() for row in rows_of(text)]
    for kind in KINDS:
        together = Perturber(Perturbation(kind, 0.3), LEXICON, OTHERS).rows(rows)
        assert together == [each for row in rows for each in perturbed(row, kind, 0.3)]
    # By the text, not by the id: equal sentences of a corpus stay equal.
    (one,) = perturbed(BitextRow("1", TEXTS["Latin"], ""), "letter-swap")
    (two,) = perturbed(replace(BitextRow("1", TEXTS["Latin"], ""), id="2"), "letter-swap")
    assert (one.foreign, one.id) == (two.foreign, "1")  # type: ignore[union-attr]


def test_perturbed_rows_do_not_change_from_version_to_version() -> None:
    """Whoever changes a perturbation changes what earlier results were made of; they could not be verified any more."""
    rows = [each for kind in KINDS for text in TEXTS.values() for row in rows_of(text) for each in perturbed(row, kind)]
    rows = [row for row in rows if not isinstance(row, QueryRow)]  # which came later
    assert fingerprint(rows)[:16] == "db21431efe508ad1"


def test_the_share_of_edits_is_the_severity() -> None:
    text = "abcdefghij " * 400
    counts = []
    for severity in (0.05, 0.1, 0.2):
        (found,) = perturbed(BitextRow("1", text, ""), "case", severity)
        counts.append(sum(a != b for a, b in zip(text, found.foreign, strict=True)))  # type: ignore[union-attr]
    shares = [count / 4000 for count in counts]
    assert shares == pytest.approx([0.05, 0.1, 0.2], abs=0.02)


def test_a_higher_severity_makes_the_edits_of_a_lower_one_too() -> None:
    text = TEXTS["Latin"] * 5
    places = []
    for severity in (0.05, 0.1, 0.2, 0.6):
        (found,) = perturbed(BitextRow("1", text, ""), "case", severity)
        places.append({place for place, letter in enumerate(found.foreign) if letter != text[place]})  # type: ignore[union-attr]
    assert places[0] < places[1] < places[2] < places[3]


def test_draws_are_copies_with_numbers_and_other_edits() -> None:
    row = PairRow("7", TEXTS["Latin"], TEXTS["Cyrillic"], "neutral")
    found = perturbed(row, "letter-swap", 0.3, draws=4)
    assert [each.id for each in found] == ["7~0", "7~1", "7~2", "7~3"]
    assert len({each.text_a for each in found}) == 4  # type: ignore[union-attr]
    (alone,) = perturbed(row, "letter-swap", 0.3)
    assert replace(alone, id="7~0") == found[0]


def test_words_of_entities_stay_in_their_order() -> None:
    row = TagRow("1", tuple("He met Ada King Lovelace in old London town".split()),
                 ("O", "O", "B-PER", "I-PER", "I-PER", "O", "O", "B-LOC", "O"))  # fmt: skip
    for kind in ("word-drop", "word-swap", "word-repeat"):
        (found,) = perturbed(row, kind, 1.0)
        assert isinstance(found, TagRow)
        assert found != row
        named = [pair for pair in zip(found.words, found.tags, strict=True) if pair[1] != "O"]
        assert named == [("Ada", "B-PER"), ("King", "I-PER"), ("Lovelace", "I-PER"), ("London", "B-LOC")]


def test_a_distractor_is_of_another_context_and_says_no_answer() -> None:
    row = span_row("Nobody knows this place.", (0, 6))
    sentences = ("nobody was here.", "Nobody knows this place.", "It rained.")
    (found,) = Perturber(Perturbation("distraction", 1.0), {}, sentences).rows([row])
    assert isinstance(found, SpanRow)
    assert found.context == "Nobody knows this place. It rained."
    assert (found.question, found.answers) == (row.question, row.answers)
    assert Perturber(Perturbation("distraction", 1.0), {}, sentences[:2]).rows([row]) == [row]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "typo",
        "case:2",
        "case:x",
        "case:0.1:0",
        "case:0.1:2:3",
        "case:nan",
        "case:",
        "case:-0.1",
        "case:0.1:1:search",
        "case:0.1:8:find",
        "case:0.1:8:search:2",
        "case:0.1:search",
        "case:inf",
        "case:0",
    ],
)
def test_what_is_no_perturbation_is_refused(text: str) -> None:
    with pytest.raises(UsageFault, match="is no perturbation"):
        Perturbation.parse(text)


@pytest.mark.parametrize(
    ("text", "why", "fix"),
    [
        ("letter-swop:0.1", "Kinds: letter-swap, letter-drop", "--perturb letter-swap:0.1"),
        ("distraktion", "Kinds: letter-swap, letter-drop", "--perturb distraction:1"),
        ("case:0", "The severity '0' is not a number from 0.001 to 1.", "--perturb case:0.1"),
        ("case:1e-300", "The severity '1e-300' is not a number from 0.001 to 1.", "--perturb case:0.1"),
        ("case:much", "The severity 'much' is not a number", "--perturb case:0.1"),
        ("case:0.1:0", "'0' is not a number of draws of each row, 1 to 1000.", "--perturb case:0.1"),
        ("case:0.1:1:search", "'1' is not a number of queries of the model for each row, 2 to 1000.", "case:0.1"),
        ("case:0.1:8:find", "After the draws comes nothing but 'search'", "--perturb case:0.1"),
    ],
)
def test_it_is_said_what_is_wrong_with_a_perturbation(text: str, why: str, fix: str) -> None:
    with pytest.raises(UsageFault) as fault:
        Perturbation.parse(text)
    assert why in fault.value.why
    assert fix in fault.value.fix


def test_without_a_severity_a_tenth_is_edited_and_every_row_distracted() -> None:
    assert [Perturbation.parse(kind).severity for kind in KINDS] == [0.1] * (len(KINDS) - 1) + [1.0]


def test_a_perturbation_has_one_name() -> None:
    given = ("case", "case:0.10", "case:.1:1", "case:0.2:8", "case:.2:8:search")
    names = ["case:0.1", "case:0.1", "case:0.1", "case:0.2:8", "case:0.2:8:search"]
    assert [str(Perturbation.parse(each)) for each in given] == names


@pytest.mark.parametrize(
    ("perturbation", "task"),
    [
        *[("word-swap", "pawsx"), ("word-drop", "qqp"), ("word-drop", "xnli"), ("word-swap", "anli_plus")],
        *[("word-drop", "hellaswag"), ("distraction", "xnli"), ("letter-swap:0.1:2", "tatoeba")],
        *[("letter-swap:0.1:2:search", "bucc2018"), ("distraction:1:8:search", "xquad")],
    ],
)
def test_what_would_change_the_label_is_refused(perturbation: str, task: str) -> None:
    with pytest.raises(UsageFault, match=f"'{task}' is not perturbed by"):
        Perturbation.parse(perturbation).check(get_task(task))
    Perturbation.parse("letter-swap").check(get_task(task))


# The source


def source(root: Path, perturbation: str) -> PerturbedSource:
    files = FilesSource(root)
    return PerturbedSource(files, files, Perturbation.parse(perturbation), root)


def test_only_evaluation_rows_are_perturbed(tiny_files: Path) -> None:
    clean, other, task = FilesSource(tiny_files), source(tiny_files, "letter-swap:0.3"), get_task("xnli")
    assert other.settings == {"perturb": "letter-swap:0.3"}
    assert other.languages(task, "test") == clean.languages(task, "test")
    assert other.rows(get_task("mnli"), "train", "en") == clean.rows(get_task("mnli"), "train", "en")
    assert other.rows(task, "test", "en") != clean.rows(task, "test", "en")
    with pytest.raises(UsageFault, match="'xnli' is not perturbed by distraction"):
        source(tiny_files, "distraction").rows(task, "test", "en")


def test_a_distractor_does_not_depend_on_how_many_rows_are_evaluated(tiny_files: Path) -> None:
    class First(FilesSource):
        def rows(self, *asked: object) -> list[Row]:
            return super().rows(*asked)[:2]  # type: ignore[arg-type]

    task, whole = get_task("xquad"), source(tiny_files, "distraction:1")
    limited = PerturbedSource(First(tiny_files), FilesSource(tiny_files), whole.perturbation, None)
    assert limited.rows(task, "test", "en") == whole.rows(task, "test", "en")[:2]
    assert whole.rows(task, "test", "en")[:2] != First(tiny_files).rows(task, "test", "en")


def test_codes_are_mixed_by_the_users_lexicon(tiny_files: Path, tmp_path: Path) -> None:
    task, clean = get_task("xnli"), FilesSource(tiny_files)
    with pytest.raises(DataFault, match="no lexicon for code-mixing"):
        PerturbedSource(clean, clean, Perturbation("code-mixing", 0.1), tmp_path).rows(task, "test", "sw")
    word = clean.rows(task, "test", "sw")[0].text_a.split()[0].strip(".,")  # type: ignore[union-attr]
    (tmp_path / "lexicon").mkdir()
    (tmp_path / "lexicon/sw-en.txt").write_text(f"{word.lower()} WORD\n{word.lower()}\tsecond\nalone\n\n", "utf-8")
    mixed = PerturbedSource(clean, clean, Perturbation("code-mixing", 1.0), tmp_path)
    assert mixed.rows(task, "test", "sw")[0].text_a.startswith("WORD")  # type: ignore[union-attr]


def test_languages_without_a_lexicon_are_left_out_by_name(tiny_files: Path, tmp_path: Path) -> None:
    task, clean = get_task("xnli"), FilesSource(tiny_files)
    assert [*clean.languages(task, "test")] == ["en", "sw", "zh"]
    mixed = PerturbedSource(clean, clean, Perturbation("code-mixing", 0.1), tmp_path)
    with pytest.raises(DataFault, match="no lexicon for code-mixing in: sw zh"):
        mixed.languages(task, "test")
    (tmp_path / "lexicon").mkdir()
    (tmp_path / "lexicon/sw-en.txt").write_text("ndiyo yes\n", "utf-8")
    # Synonyms for training, not translations.
    (tmp_path / "lexicon/en-en.txt").write_text("yes aye\n", "utf-8")
    assert mixed.languages(task, "test") == ("sw",)
    assert mixed.languages(get_task("mnli"), "train") == clean.languages(get_task("mnli"), "train")
    assert mixed.without_lexicon(task) == mixed.without_lexicon(task, ["sw"]) == ["zh"]
    for language, message in (("zh", "code-mixing in: zh"), ("en", "English is not code-mixed")):
        with pytest.raises(DataFault, match=message):
            mixed.without_lexicon(task, [language])
        with pytest.raises(DataFault, match=message):
            mixed.rows(task, "test", language)
    assert source(tiny_files, "case:0.1").without_lexicon(task, ["zh"]) == []


def test_the_world_brings_its_own_lexica() -> None:
    clean = open_source(SourceOptions(limit=6))
    mixed = open_source(SourceOptions(limit=6, perturb="code-mixing:1"))
    task = get_task("tatoeba")
    for before, after in zip(clean.rows(task, "test", "qaf"), mixed.rows(task, "test", "qaf"), strict=True):
        assert isinstance(before, BitextRow)
        assert isinstance(after, BitextRow)
        assert after.foreign != before.foreign
        assert any(word.isascii() and word.isalpha() for word in after.foreign.split())
        assert after.english == before.english


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("task", "language"),
    [
        ("xquad", "hi"),
        ("xquad", "th"),
        ("xquad", "zh"),
        ("mlqa", "ar"),
        ("udpos", "ru"),
        ("udpos", "th"),
        ("panx", "de"),
    ],
)
def test_gold_of_real_rows_survives(data_root: Path, task: str, language: str) -> None:
    clean = FilesSource(data_root)
    split = "test" if "test" in get_task(task).files and language in clean.languages(get_task(task), "test") else "dev"
    rows = clean.rows(get_task(task), split, language)[:60]
    for kind in KINDS:
        for row, found in zip(rows, Perturber(Perturbation(kind, 0.3), {}, OTHERS).rows(rows), strict=True):
            if isinstance(row, SpanRow) and isinstance(found, SpanRow):
                assert [each.text for each in found.answers] == [each.text for each in row.answers]
                for answer in found.answers:
                    if answer.start >= 0:
                        assert found.context[answer.start : answer.start + len(answer.text)] == answer.text
            elif isinstance(row, TagRow) and isinstance(found, TagRow):
                assert len(found.words) == len(found.tags)
                assert all(word.strip() for word in found.words)
