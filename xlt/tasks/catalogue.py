"""Every task, one record each: those of the paper here. Recipes are the ones the authors published with jiant."""

from __future__ import annotations

from xlt.errors import UsageFault
from xlt.tasks.record import ENGLISH, Recipe, Split, Task
from xlt.tasks.xtreme_r import XTREME_R_TARGET, XTREME_R_TRAINING

NLI_LABELS = ("entailment", "neutral", "contradiction")
PARAPHRASE_LABELS = ("different", "paraphrase")
UNIVERSAL_TAGS = tuple("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split())
ENTITY_TAGS = tuple("B-LOC B-ORG B-PER I-LOC I-ORG I-PER O".split())

_XNLI = "ar bg de el en es fr hi ru sw th tr ur vi zh"
_PAWSX = "de en es fr ja ko zh"
_UDPOS = "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh"
_PANX = (
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr "
    "ur vi yo zh"
)
_XQUAD = "ar de el en es hi ro ru th tr vi zh"
_MLQA = "ar de en es hi vi zh"
_TYDIQA = "ar bn en fi id ko ru sw te"
_BUCC = "de fr ru zh"
_TATOEBA = "af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr nl pt ru sw ta te th tl tr ur vi zh"
# With the languages that XTREME-R adds. Its treebanks of these are of UD 2.7.
_UDPOS_R = f"{_UDPOS} lt pl ro uk wo"
_PANX_R = f"{_PANX} az gu lt pa pl qu ro uk"
_TATOEBA_R = f"{_TATOEBA} az lt pl ro uk"

_ANLI = "anli_plus/anli_v1.0/R1/{0}.jsonl anli_plus/anli_v1.0/R2/{0}.jsonl anli_plus/anli_v1.0/R3/{0}.jsonl"
_ANLI_PLUS = _ANLI + " anli_plus/snli_1.0/snli_1.0_{0}.jsonl mnli/multinli_1.0_{1}.jsonl"
_CCGBANK_TRAIN = " ".join(f"ccg/data/AUTO/{section:02}/wsj_*.auto" for section in range(2, 22))
_TREEBANKS = "udpos/ud-treebanks-v{ud}/UD_*/{lang}_*-ud-{split}.conllu"
_PAWSX_FILES = "pawsx/x-final/{lang}/{split}_2k.tsv | pawsx/{split}-{lang}.tsv"
_TYDIQA_FILES = "tydiqa/tydiqa-goldp-v1.1-{split}/tydiqa.goldp.{lang}.{split}.json"
_TYDIQA_TRAIN = "tydiqa/tydiqa-goldp-v1.1-train.json | " + _TYDIQA_FILES.format(split="train", lang=ENGLISH)
_TYDIQA_DEV = "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-{name}.json | " + _TYDIQA_FILES.replace("{split}", "dev")
_GOOGLE = "https://github.com/google-research-datasets/"
_GOOGLES_BUCKET = "its bucket may answer 403"
_READING = Recipe(epochs=2, batch_size=16, max_length=384, evaluate_every=1000, dev_examples=500)


def _splits(paths: str, *splits: Split) -> dict[Split, str]:
    """The files of these splits, whose names stand in ``paths`` for ``{split}``; a training set is English."""
    named = {split: paths.replace("{split}", split) for split in splits}
    return {split: path.replace("{lang}", ENGLISH) if split == "train" else path for split, path in named.items()}


def _blocked(address: str, why: str, key: str) -> str:
    """An official address that fails, why, and where the data are all the same."""
    return f"{address} ({why}; the hub has the same rows: xlt fetch {key}, and --source hub)"


def _bucc(official: str, xtreme: str) -> str:
    """The official files of a split, or those that XTREME's script writes."""
    stems = (
        f"bucc2018/{{lang}}-en/{{lang}}-en.{official}",
        f"bucc2018/{{lang}}-en.{xtreme}",
        f"bucc2018_format/{{lang}}-en.{xtreme}",
    )
    return " | ".join(f"{stem}.{{lang}} {stem}.en {stem}.gold" for stem in stems)


MASKED_LM = Task(
    key="mlm",
    name="masked language modelling (phase 1)",
    kind="masked_lm",
    metric="perplexity",
    languages=(),
    layout="text_lines",
    recipe=Recipe(learning_rate=5e-6, epochs=1),
    licence="CC BY-SA 3.0 and GFDL (Wikipedia)",
)

INTERMEDIATE = (
    Task(
        key="anli_plus",
        name="ANLI+",
        kind="pair_classification",
        layout="nli_jsonl",
        files={"train": _ANLI_PLUS.format("train", "train"), "dev": _ANLI_PLUS.format("dev", "dev_matched")},
        labels=NLI_LABELS,
        licence="ANLI CC BY-NC 4.0, SNLI CC BY-SA 4.0, MNLI OANC terms",
        address="https://github.com/facebookresearch/anli",
    ),
    Task(
        key="mnli",
        name="MNLI",
        kind="pair_classification",
        layout="nli_jsonl",
        files={"train": "mnli/multinli_1.0_train.jsonl", "dev": "mnli/multinli_1.0_dev_matched.jsonl"},
        labels=NLI_LABELS,
        recipe=Recipe(epochs=2, evaluate_every=1000, dev_examples=500),
        licence="OANC terms and permissive licences",
        address="https://cims.nyu.edu/~sbowman/multinli/",
        train_rows=392_702,
    ),
    Task(
        key="qqp",
        name="QQP",
        kind="pair_classification",
        layout="qqp_tsv",
        files=_splits("qqp/{split}.tsv | qqp/quora_duplicate_questions.tsv", "train", "dev"),
        labels=PARAPHRASE_LABELS,
        licence="Quora's terms of service",
        address="https://quoradata.quora.com/First-Quora-Dataset-Release-Question-Pairs",
        train_rows=363_846,
    ),
    Task(
        key="squad_v2",
        name="SQuAD v2.0",
        kind="span_qa",
        metric="squad_v2",
        layout="squad_json",
        files={"train": "squad_v2/train-v2.0.json", "dev": "squad_v2/dev-v2.0.json"},
        recipe=_READING,
        licence="CC BY-SA 4.0",
        address="https://rajpurkar.github.io/SQuAD-explorer/",
        train_rows=130_319,
    ),
    Task(
        key="squad",
        name="SQuAD v1.1",
        kind="span_qa",
        metric="squad",
        layout="squad_json",
        files={"train": "squad/train-v1.1.json", "dev": "squad/dev-v1.1.json"},
        recipe=_READING,
        licence="CC BY-SA 4.0",
        address="https://rajpurkar.github.io/SQuAD-explorer/",
        train_rows=87_599,
    ),
    Task(
        key="hellaswag",
        name="HellaSwag",
        kind="multiple_choice",
        layout="hellaswag_jsonl",
        files={"train": "hellaswag/hellaswag_train.jsonl", "dev": "hellaswag/hellaswag_val.jsonl"},
        licence="MIT (wikiHow's text is under a takedown notice since September 2026)",
        address=_blocked("https://rowanzellers.com/hellaswag/", "its files are blocked", "hellaswag"),
        train_rows=39_905,
        choices=4,
    ),
    Task(
        key="ccg",
        name="CCG supertagging",
        kind="tagging",
        layout="ccg",
        files={"train": f"{_CCGBANK_TRAIN} | ccg/ccg.train", "dev": "ccg/data/AUTO/00/wsj_*.auto | ccg/ccg.dev"},
        licence="LDC licence",
        address="https://catalog.ldc.upenn.edu/LDC2005T13",
    ),
    Task(
        key="cosmosqa",
        name="Cosmos QA",
        kind="multiple_choice",
        layout="cosmosqa_csv",
        files={"train": "cosmosqa/train.csv", "dev": "cosmosqa/valid.csv"},
        licence="CC BY 4.0",
        address="https://wilburone.github.io/cosmos/",
        train_rows=25_262,
        choices=4,
    ),
    Task(
        key="commonsenseqa",
        name="CommonsenseQA",
        kind="multiple_choice",
        layout="commonsenseqa_jsonl",
        files=_splits("commonsenseqa/{split}_rand_split.jsonl", "train", "dev"),
        licence="MIT",
        address="https://www.tau-nlp.sites.tau.ac.il/commonsenseqa",
        train_rows=9_741,
        choices=5,
    ),
)

TARGET = (
    Task(
        key="xnli",
        name="XNLI",
        kind="pair_classification",
        languages=tuple(_XNLI.split()),
        trains_on="mnli",
        layout="pair_tsv",
        files=_splits("xnli/{split}-{lang}.tsv", "dev", "test"),
        labels=NLI_LABELS,
        recipe=Recipe(epochs=2, evaluate_every=1000, dev_examples=500),
        benchmarks={"xtreme": _XNLI, "xtreme-r": _XNLI},
        licence="CC BY-NC 4.0",
        address="https://github.com/facebookresearch/XNLI",
    ),
    Task(
        key="pawsx",
        name="PAWS-X",
        kind="pair_classification",
        languages=tuple(_PAWSX.split()),
        layout="pair_tsv",
        files={"train": "pawsx/x-final/en/train.tsv | pawsx/train-en.tsv", **_splits(_PAWSX_FILES, "dev", "test")},
        labels=PARAPHRASE_LABELS,
        file_labels=("0", "1"),
        recipe=Recipe(epochs=5, evaluate_every=1000, dev_examples=500),
        benchmarks={"xtreme": _PAWSX},
        licence="free use, acknowledge Google LLC",
        address=_blocked(_GOOGLE + "paws", _GOOGLES_BUCKET, "pawsx"),
        train_rows=49_401,
    ),
    Task(
        key="udpos",
        name="UD-POS 2.5",
        kind="tagging",
        metric="tag_f1",
        languages=tuple(_UDPOS_R.split()),
        layout="tags",
        files=_splits(_TREEBANKS + " | udpos/{split}-{lang}.tsv", "train", "dev", "test"),
        labels=UNIVERSAL_TAGS,
        recipe=Recipe(epochs=10, evaluate_every=1000, dev_examples=500),
        benchmarks={"xtreme": _UDPOS, "xtreme-r": _UDPOS_R},
        licence="per treebank: CC BY-SA, some CC BY-NC-SA",
        address="https://universaldependencies.org",
        train_rows=21_253,
    ),
    Task(
        key="panx",
        name="NER (WikiAnn, PAN-X)",
        kind="tagging",
        metric="tag_f1",
        languages=tuple(_PANX_R.split()),
        layout="tags",
        files=_splits("panx/{lang}-{split} | panx/{split}-{lang}.tsv | ner/{split}-{lang}.tsv", "train", "dev", "test"),
        labels=ENTITY_TAGS,
        recipe=Recipe(epochs=10, evaluate_every=1000, dev_examples=500),
        benchmarks={"xtreme": _PANX, "xtreme-r": _PANX_R},
        licence="not stated (text of Wikipedia, CC BY-SA)",
        address=_blocked("https://github.com/afshinrahimi/mmner", "its cloud drive is gone", "panx"),
        train_rows=20_000,
    ),
    Task(
        key="xquad",
        name="XQuAD",
        kind="span_qa",
        metric="squad",
        languages=tuple(_XQUAD.split()),
        trains_on="squad",
        layout="squad_json",
        files={"test": "xquad/xquad.{lang}.json"},
        recipe=_READING,
        benchmarks={"xtreme": _XQUAD.replace(" ro", ""), "xtreme-r": _XQUAD},
        licence="CC BY-SA 4.0",
        address="https://github.com/google-deepmind/xquad",
    ),
    Task(
        key="mlqa",
        name="MLQA",
        kind="span_qa",
        metric="mlqa",
        languages=tuple(_MLQA.split()),
        trains_on="squad",
        layout="squad_json",
        files=_splits("mlqa/MLQA_V1/{split}/{split}-context-{lang}-question-{lang}.json", "dev", "test"),
        recipe=_READING,
        benchmarks={"xtreme": _MLQA, "xtreme-r": _MLQA},
        licence="CC BY-SA 3.0",
        address="https://github.com/facebookresearch/MLQA",
    ),
    Task(
        key="tydiqa",
        name="TyDiQA-GoldP",
        kind="span_qa",
        metric="squad",
        languages=tuple(_TYDIQA.split()),
        layout="tydiqa_json",
        files={"train": _TYDIQA_TRAIN, "test": _TYDIQA_DEV},
        recipe=Recipe(epochs=2, batch_size=16, max_length=384),
        benchmarks={"xtreme": _TYDIQA, "xtreme-r": _TYDIQA},
        licence="Apache 2.0",
        address=_blocked(_GOOGLE + "tydiqa", _GOOGLES_BUCKET, "tydiqa"),
        train_rows=3_696,
    ),
    Task(
        key="bucc2018",
        name="BUCC 2018",
        kind="retrieval",
        metric="mining_f1",
        languages=tuple(_BUCC.split()),
        trains_on=None,
        layout="bucc",
        files={"dev": _bucc("sample", "dev"), "test": _bucc("training", "test")},
        recipe=Recipe(max_length=512),
        benchmarks={"xtreme": _BUCC},
        licence="for research",
        address="https://comparable.limsi.fr/bucc2018/",
    ),
    Task(
        key="tatoeba",
        name="Tatoeba",
        kind="retrieval",
        languages=tuple(_TATOEBA_R.split()),
        trains_on=None,
        layout="bitext",
        files={"test": "tatoeba/{lang}-en.{lang} tatoeba/{lang}-en.en"},
        recipe=Recipe(max_length=512),
        benchmarks={"xtreme": _TATOEBA, "xtreme-r": _TATOEBA_R},
        licence="CC BY 2.0 FR",
        address="https://github.com/facebookresearch/LASER/tree/main/data/tatoeba/v1",
    ),
)

PACKAGED = (MASKED_LM, *INTERMEDIATE, *TARGET, *XTREME_R_TRAINING, *XTREME_R_TARGET)
# All that this process knows: users add records of their own (own.py).
TASKS: dict[str, Task] = {task.key: task for task in PACKAGED}


def get_task(key: str) -> Task:
    """The record named ``key``.

    Raises:
        UsageFault: no task has that name.
    """
    if key not in TASKS:
        raise UsageFault(
            f"There is no task named '{key}'.",
            why=f"Tasks: {', '.join(TASKS)}.",
            fix="xlt tasks ls; a record of your own needs --tasks FILE.toml, in commands that have this option",
        )
    return TASKS[key]
