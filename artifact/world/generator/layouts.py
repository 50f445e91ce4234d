"""Rows of the world as the text of files in the official layouts of their tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from xlt.data.rows import BitextRow, ChoiceRow, MiningRow, PairRow, SpanRow, TagRow


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def json_lines(records: Iterable[dict[str, Any]]) -> str:
    """One JSON document per line."""
    return _text(json.dumps(record, ensure_ascii=False) for record in records)


def _nli(rows: Sequence[PairRow]) -> tuple[str]:
    records = (
        {"pairID": row.id, "sentence1": row.text_a, "sentence2": row.text_b, "gold_label": row.label} for row in rows
    )
    return (json_lines(records),)


def _pairs(rows: Sequence[PairRow]) -> tuple[str]:
    """As XTREME's script writes XNLI and PAWS-X: no header, no id."""
    return (_text(f"{row.text_a}\t{row.text_b}\t{row.label}" for row in rows),)


def _qqp(rows: Sequence[PairRow]) -> tuple[str]:
    questions = (
        f"{number}\t{2 * number}\t{2 * number + 1}\t{row.text_a}\t{row.text_b}\t{int(row.label == 'paraphrase')}"
        for number, row in enumerate(rows)
    )
    return (_text(["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", *questions]),)


def _squad(rows: Sequence[SpanRow]) -> tuple[str]:
    paragraphs = [
        {
            "context": row.context,
            "qas": [
                {
                    "id": row.id,
                    "question": row.question,
                    "answers": [{"text": answer.text, "answer_start": answer.start} for answer in row.answers],
                    "is_impossible": not row.answers,
                }
            ],
        }
        for row in rows
    ]
    return (json.dumps({"data": [{"title": "world", "paragraphs": paragraphs}]}, ensure_ascii=False) + "\n",)


def _hellaswag(rows: Sequence[ChoiceRow]) -> tuple[str]:
    return (json_lines({"ctx_a": r.prompt, "ctx_b": "", "endings": r.choices, "label": r.label} for r in rows),)


def _commonsenseqa(rows: Sequence[ChoiceRow]) -> tuple[str]:
    def choices(row: ChoiceRow) -> list[dict[str, str]]:
        return [{"label": letter, "text": text} for letter, text in zip("ABCDE", row.choices, strict=True)]

    return (
        json_lines(
            {"question": {"stem": row.prompt, "choices": choices(row)}, "answerKey": "ABCDE"[row.label]} for row in rows
        ),
    )


def _supertags(rows: Sequence[TagRow]) -> tuple[str]:
    return (_text(f"{' '.join(row.words)}\t{' '.join(row.tags)}" for row in rows),)


def _tags(rows: Sequence[TagRow]) -> tuple[str]:
    """A word and its tag per line, and a blank line after each sentence."""
    sentences = (_text(f"{word}\t{tag}" for word, tag in zip(row.words, row.tags, strict=True)) for row in rows)
    return (_text(sentences),)


def _bitext(rows: Sequence[BitextRow]) -> tuple[str, str]:
    return _text(row.foreign for row in rows), _text(row.english for row in rows)


def _bucc(rows: Sequence[MiningRow]) -> tuple[str, str, str]:
    """Both sides, in the order of their ids, and which sentence translates which."""

    def side(english: bool) -> list[MiningRow]:
        own = (row for row in rows if row.english == english)
        return sorted(own, key=lambda row: int(row.id.rpartition("-")[2]))

    foreign, english = (_text(f"{row.id}\t{row.text}" for row in side(each)) for each in (False, True))
    return foreign, english, _text(f"{row.id}\t{match}" for row in side(False) for match in row.matches)


# By the name of the layout in the task's record: the texts of the files that hold the rows of one split.
LAYOUTS: dict[str, Callable[[Sequence[Any]], tuple[str, ...]]] = {
    "nli_jsonl": _nli,
    "pair_tsv": _pairs,
    "qqp_tsv": _qqp,
    "squad_json": _squad,
    "tydiqa_json": _squad,
    "hellaswag_jsonl": _hellaswag,
    "commonsenseqa_jsonl": _commonsenseqa,
    "ccg": _supertags,
    "tags": _tags,
    "bitext": _bitext,
    "bucc": _bucc,
}

# Splits for which the official layout has no file, and ANLI+, whose official files include those of other tasks. Cosmos
# QA's own layout repeats the question in every choice; here it is part of the prompt.
OWN: dict[str, dict[str, Any]] = {
    "anli_plus": {"files": {"train": "anli_plus/train.jsonl", "dev": "anli_plus/dev.jsonl"}},
    "cosmosqa": {"layout": "hellaswag_jsonl"},
    "xquad": {"files": {"dev": "xquad/dev/xquad.{lang}.json"}},
    "tydiqa": {"files": {"dev": "tydiqa/dev/tydiqa.goldp.{lang}.dev.json"}},
    "tatoeba": {"files": {"dev": "tatoeba/dev/{lang}-en.{lang} tatoeba/dev/{lang}-en.en"}},
}
