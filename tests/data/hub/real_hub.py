"""The hub as it really is, as far as public sources tell: written down from them, not from ``artifact/hub.toml``.

Row counts: ``dataset_infos.json`` of the builders from which the hub's files were made (huggingface/datasets at 2.4.0,
``datasets/NAME``). Columns: the same builders', and for mteb/BUCC its page at 4145722. TyDiQA by language: published
counts, which add up to the builder's. Rows of SNLI without a label: so many that ANLI+ has the size that the paper
prints; in its development set a number like it.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]


def _listed(text: str) -> dict[str, tuple[str, *tuple[int, ...]]]:
    """``CODE NAME NUMBER...`` between commas, as code: name, numbers."""
    each = (entry.split() for entry in text.split(","))
    return {code: (name, *map(int, numbers)) for code, name, *numbers in each}


XNLI = "ar bg de el en es fr hi ru sw th tr ur vi zh".split()
PAWSX = "de en es fr ja ko zh".split()
XQUAD = "ar de el en es hi ro ru th tr vi zh".split()
# Development and test set; 0 where there is no file. The last five are not used: the hub mixes other treebanks in.
UDPOS = _listed("""\
af Afrikaans 194 425, ar Arabic 909 1680, bg Bulgarian 1115 1116, en English 3974 5440, es Spanish 3054 3147,
et Estonian 3125 3760, eu Basque 1798 1799, fa Persian 599 600, fi Finnish 3239 4422, he Hebrew 484 491,
hi Hindi 1659 2684, hu Hungarian 441 449, id Indonesian 559 1557, it Italian 2278 3518, ja Japanese 511 2372,
kk Kazakh 0 1047, ko Korean 3016 4276, mr Marathi 46 47, nl Dutch 1394 1471, pt Portuguese 1770 2681,
ta Tamil 80 120, te Telugu 131 146, th Thai 0 1000, tl Tagalog 0 55, tr Turkish 988 4785, ur Urdu 552 535,
vi Vietnamese 800 800, yo Yoruba 0 100,
de German 19233 22458, el Greek 2559 2809, fr French 5979 9465, ru Russian 9960 11336, zh Chinese 3038 5528""")
UDPOS_MIXED = ("de", "el", "fr", "ru", "zh")
# Development and test set have the same size.
PANX = {
    code: count
    for count, codes in {
        10_000: "ar bg de el en es et eu fa fi fr he hu id it ja ka ko nl pt ru th tr vi zh",
        1000: "af bn hi kk ml mr ms sw ta te tl ur",
        100: "jv my yo",
    }.items()
    for code in codes.split()
}
WIKIANN = {
    code: count
    for count, codes in {10_000: "lt pl ro uk", 1000: "az", 100: "gu pa qu"}.items()
    for code in codes.split()
}
XCOPA = "et ht id it qu sw ta th tr vi zh".split()
MLQA = _listed("""\
ar Arabic 517 5335, de German 512 4517, en English 1148 11590, es Spanish 500 5253, hi Hindi 507 4918,
vi Vietnamese 511 5495, zh Chinese 504 5137""")
TATOEBA = _listed("""\
af afr 1000, ar ara 1000, bg bul 1000, bn ben 1000, de deu 1000, el ell 1000, es spa 1000, et est 1000, eu eus 1000,
fa pes 1000, fi fin 1000, fr fra 1000, he heb 1000, hi hin 1000, hu hun 1000, id ind 1000, it ita 1000, ja jpn 1000,
jv jav 205, ka kat 746, kk kaz 575, ko kor 1000, ml mal 687, mr mar 1000, nl nld 1000, pt por 1000, ru rus 1000,
sw swh 390, ta tam 307, te tel 234, th tha 548, tl tgl 1000, tr tur 1000, ur urd 1000, vi vie 1000, zh cmn 1000""")
# Training set and validation set, which is the test set.
TYDIQA = _listed("""\
ar arabic 14805 921, bn bengali 2390 113, en english 3696 440, fi finnish 6855 782, id indonesian 5702 565,
ko korean 1625 276, ru russian 6490 812, sw swahili 2755 499, te telugu 5563 669""")
WIKIPEDIA = (
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi "
    "yo zh"
).split()
BUCC = {"de": 9580, "fr": 9086, "ru": 14435, "zh": 1899}  # gold pairs
UNLABELLED = {550_152: 785, 10_000: 158}

ONE_SHARD = "00000-of-00001.parquet"
ANSWERS = {"text": ["fox"], "answer_start": [10]}
QUESTION = {"id": "q", "title": "t", "context": "The quick fox.", "question": "Who?", "answers": ANSWERS}
NLI = {"premise": "A fox runs.", "hypothesis": "It moves.", "label": 0}
PARSES = {f"{text}_{parse}": "( x )" for text in ("premise", "hypothesis") for parse in ("binary_parse", "parse")}
ENDINGS = [f"It runs {n} times." for n in range(4)]
COPA = {"premise": "A fox ran.", "choice1": "a", "choice2": "b", "question": "cause", "idx": 0, "label": 1}
LETTERS = {"label": ["A", "B", "C", "D", "E"], "text": ["a", "b", "c", "d", "e"]}
# A row of each repository; of google/xtreme one of each kind of its configurations.
ROW: dict[str, dict[str, Any]] = {
    "nyu-mll/multi_nli": {"promptID": 1, "pairID": "1n", **NLI, **PARSES, "genre": "fiction"},
    "facebook/anli": {"uid": "u", **NLI, "reason": ""},
    "stanfordnlp/snli": NLI,
    "nyu-mll/glue": {"question1": "Who?", "question2": "Who is it?", "label": 1, "idx": 7},
    "rajpurkar/squad": QUESTION,
    "rajpurkar/squad_v2": QUESTION,
    "Rowan/hellaswag": {"ind": 1, "ctx_a": "A fox.", "ctx_b": "it", "ctx": "x", "endings": ENDINGS, "label": "3"},
    "allenai/cosmos_qa": {"id": "c", "context": "A fox.", "question": "Who?", "label": 3}
    | {f"answer{n}": ending for n, ending in enumerate(ENDINGS)},
    "tau/commonsense_qa": {
        "id": "c",
        "question": "Who?",
        "question_concept": "x",
        "choices": LETTERS,
        "answerKey": "E",
    },
    "allenai/social_i_qa": {"context": "A fox ran.", "question": "Why?", "label": "3"}
    | {f"answer{letter}": letter for letter in "ABC"},
    "aps/super_glue": COPA,
    "cambridgeltl/xcopa": {**COPA, "changed": False},
    "facebook/xnli": NLI,
    "google-research-datasets/paws-x": {"id": 1, "sentence1": "A fox.", "sentence2": "One fox.", "label": 1},
    "udpos": {"tokens": ["A", "fox", "."], "pos_tags": [5, 7, 12]},
    "PAN-X": {"tokens": ["A", "Fox", "."], "ner_tags": [0, 1, 0], "langs": ["x"] * 3},
    "unimelb-nlp/wikiann": {"tokens": ["A", "Fox"], "ner_tags": [0, 1], "langs": ["x"] * 2, "spans": ["PER: Fox"]},
    "MLQA": QUESTION,
    "tatoeba": {"source_sentence": "x\n", "target_sentence": "A fox.\n", "source_lang": "x", "target_lang": "eng"},
    "google/xquad": QUESTION,
    "google-research-datasets/tydiqa": QUESTION,
    "wikimedia/wikipedia": {"id": "12", "url": "u", "title": "Fox", "text": "A fox is an animal. It runs."},
}


def rows() -> dict[str, dict[str, int]]:
    """The rows of the files, by repository and path."""
    anli = {"train_r1": 16946, "train_r2": 45460, "train_r3": 100459, "dev_r1": 1000, "dev_r2": 1000, "dev_r3": 1200}
    names: dict[str, dict[str, int]] = {
        "nyu-mll/multi_nli": {"data/train": 392_702, "data/validation_matched": 9815},
        "facebook/anli": {f"plain_text/{split}": count for split, count in anli.items()},
        "stanfordnlp/snli": {"plain_text/train": 550_152, "plain_text/validation": 10_000},
        "nyu-mll/glue": {"qqp/train": 363_846, "qqp/validation": 40_430},
        "rajpurkar/squad": {"plain_text/train": 87_599, "plain_text/validation": 10_570},
        "rajpurkar/squad_v2": {"squad_v2/train": 130_319, "squad_v2/validation": 11_873},
        "Rowan/hellaswag": {"data/train": 39_905, "data/validation": 10_042},
        "tau/commonsense_qa": {"data/train": 9741, "data/validation": 1221},
        "facebook/xnli": {f"{code}/{split}": n for code in XNLI for split, n in (("validation", 2490), ("test", 5010))},
        "google-research-datasets/paws-x": {"en/train": 49_401}
        | {f"{code}/{split}": 2000 for code in PAWSX for split in ("validation", "test")},
        "google/xtreme": _xtreme(),
        "google/xquad": {f"xquad.{code}/validation": 1190 for code in XQUAD},
        "google-research-datasets/tydiqa": {"secondary_task/train": 49_881, "secondary_task/validation": 5077},
        "cambridgeltl/xcopa": {
            f"{code}/{split}": n for code in XCOPA for split, n in (("validation", 100), ("test", 500))
        },
        "mteb/BUCC": {f"{code}-en/test": 1 for code in BUCC},
    }
    found = {
        repository: {f"{name}-{ONE_SHARD}": count for name, count in files.items() if count}
        for repository, files in names.items()
    }
    # What the hub's bot converts has other names. Of Wikipedia's many rows 300 stand for all.
    found["allenai/cosmos_qa"] = {"default/train/0000.parquet": 25_262, "default/validation/0000.parquet": 2985}
    found["allenai/social_i_qa"] = {"default/train/0000.parquet": 33_410, "default/validation/0000.parquet": 1954}
    found["aps/super_glue"] = {"copa/train/0000.parquet": 400, "copa/validation/0000.parquet": 100}
    found["unimelb-nlp/wikiann"] = {
        f"{code}/{split}/0000.parquet": n for code, n in WIKIANN.items() for split in ("validation", "test")
    }
    found["wikimedia/wikipedia"] = {f"20231101.{code}/train-00000-of-00004.parquet": 300 for code in WIKIPEDIA}
    return found


def _xtreme() -> dict[str, int]:
    found = {"udpos.English/train": 21_253, "PAN-X.en/train": 20_000}
    for number, split in enumerate(("validation", "test"), start=1):
        found |= {f"udpos.{counts[0]}/{split}": counts[number] for counts in UDPOS.values()}
        found |= {f"PAN-X.{code}/{split}": count for code, count in PANX.items()}
        found |= {f"MLQA.{code}.{code}/{split}": counts[number] for code, counts in MLQA.items()}
    return found | {f"tatoeba.{name}/validation": count for name, count in TATOEBA.values()}


def content(repository: str, path: str, count: int) -> bytes:
    """A file with the columns and the number of rows of the real one, and the same in every row."""
    if repository == "mteb/BUCC":
        return _pools(path[:2])
    if repository == "google-research-datasets/tydiqa":
        of_language = ((name, counts["validation" in path]) for name, *counts in TYDIQA.values())
        return _table(repository, count, "id", tuple(f"{name}-{n}" for name, many in of_language for n in range(many)))
    if repository == "stanfordnlp/snli":
        without = UNLABELLED[count]
        return _table(repository, count, "label", (-1,) * without + (1,) * (count - without))
    return _table(path.partition(".")[0] if repository == "google/xtreme" else repository, count)


@cache
def _table(kind: str, count: int, column: str = "", values: tuple[Any, ...] = ()) -> bytes:
    row = pa.Table.from_pylist([ROW[kind]])
    columns = {name: pa.repeat(row[name][0], count) for name in row.column_names}
    if column:
        columns[column] = pa.array(values)
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def _pools(code: str) -> bytes:
    """One row: both sides, and the gold pairs counted from 1; every second sentence has a translation."""
    pairs = BUCC[code]
    sides = {name: [[f"{name} {n}" for n in range(2 * pairs)]] for name in ("sentence1", "sentence2")}
    stream = io.BytesIO()
    gold = [[[2 * n + 1, 2 * n + 2] for n in range(pairs)]]
    pq.write_table(pa.table({**sides, "gold": pa.array(gold, pa.list_(pa.list_(pa.int32())))}), stream)
    return stream.getvalue()
