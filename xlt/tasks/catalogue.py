"""Every task of the paper, one record each. Recipes are the ones the authors published with jiant."""

from __future__ import annotations

from xlt.errors import UsageFault
from xlt.tasks.record import Recipe, Task

NLI_LABELS = ("entailment", "neutral", "contradiction")
PARAPHRASE_LABELS = ("different", "paraphrase")
UNIVERSAL_TAGS = tuple("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split())
ENTITY_TAGS = tuple("B-LOC B-ORG B-PER I-LOC I-ORG I-PER O".split())
XNLI_LANGUAGES = tuple("ar bg de el en es fr hi ru sw th tr ur vi zh".split())
PAWSX_LANGUAGES = tuple("de en es fr ja ko zh".split())
UDPOS_LANGUAGES = tuple(
    "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh".split()
)
PANX_LANGUAGES = tuple(
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr "
    "ur vi yo zh".split()
)
XQUAD_LANGUAGES = tuple("ar de el en es hi ro ru th tr vi zh".split())
MLQA_LANGUAGES = tuple("ar de en es hi vi zh".split())
TYDIQA_LANGUAGES = tuple("ar bn en fi id ko ru sw te".split())
BUCC_LANGUAGES = tuple("de fr ru zh".split())
TATOEBA_LANGUAGES = tuple(
    "af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko "
    "ml mr nl pt ru sw ta te th tl tr ur vi zh".split()
)

_ANLI_SNLI = " ".join(
    [*(f"anli_plus/anli_v1.0/R{number}/{{0}}.jsonl" for number in (1, 2, 3)), "anli_plus/snli_1.0/snli_1.0_{0}.jsonl"]
)
_CCGBANK_TRAIN = " ".join(f"ccg/data/AUTO/{section:02}/wsj_*.auto" for section in range(2, 22))
_TREEBANKS = "udpos/ud-treebanks-v2.5/UD_*/{0}_*-ud-{1}.conllu"
_TYDIQA_DEV = "tydiqa/tydiqa-goldp-v1.1-dev"


def _bucc(*stems: str) -> str:
    return " | ".join(f"{stem}.{{lang}} {stem}.en {stem}.gold" for stem in stems)


MASKED_LM = Task(
    key="mlm",
    name="masked language modelling (phase 1)",
    kind="masked_lm",
    metric="perplexity",
    languages=(),
    trains_on="mlm",
    layout="text_lines",
    files={},
    recipe=Recipe(learning_rate=5e-6, epochs=1, max_length=256),
    licence="CC BY-SA 3.0 and GFDL (Wikipedia)",
)

INTERMEDIATE = (
    Task(
        key="anli_plus",
        name="ANLI+",
        kind="pair_classification",
        metric="accuracy",
        languages=("en",),
        trains_on="anli_plus",
        layout="nli_jsonl",
        files={
            "train": _ANLI_SNLI.format("train") + " mnli/multinli_1.0_train.jsonl",
            "dev": _ANLI_SNLI.format("dev") + " mnli/multinli_1.0_dev_matched.jsonl",
        },
        labels=NLI_LABELS,
        recipe=Recipe(epochs=3, batch_size=32, max_length=256, evaluate_every=1000),
        licence="ANLI CC BY-NC 4.0, SNLI CC BY-SA 4.0, MNLI OANC terms",
        address="https://github.com/facebookresearch/anli",
    ),
    Task(
        key="mnli",
        name="MNLI",
        kind="pair_classification",
        metric="accuracy",
        languages=("en",),
        trains_on="mnli",
        layout="nli_jsonl",
        files={"train": "mnli/multinli_1.0_train.jsonl", "dev": "mnli/multinli_1.0_dev_matched.jsonl"},
        labels=NLI_LABELS,
        recipe=Recipe(epochs=2, batch_size=32, max_length=256, evaluate_every=1000),
        licence="OANC terms and permissive licences",
        address="https://cims.nyu.edu/~sbowman/multinli/",
        train_rows=392_702,
    ),
    Task(
        key="qqp",
        name="QQP",
        kind="pair_classification",
        metric="accuracy",
        languages=("en",),
        trains_on="qqp",
        layout="qqp_tsv",
        files={
            "train": "qqp/train.tsv | qqp/quora_duplicate_questions.tsv",
            "dev": "qqp/dev.tsv | qqp/quora_duplicate_questions.tsv",
        },
        labels=PARAPHRASE_LABELS,
        recipe=Recipe(epochs=3, batch_size=32, max_length=256, evaluate_every=1000),
        licence="Quora's terms of service",
        address="https://quoradata.quora.com/First-Quora-Dataset-Release-Question-Pairs",
        train_rows=363_846,
    ),
    Task(
        key="squad_v2",
        name="SQuAD v2.0",
        kind="span_qa",
        metric="squad_v2",
        languages=("en",),
        trains_on="squad_v2",
        layout="squad_json",
        files={"train": "squad_v2/train-v2.0.json", "dev": "squad_v2/dev-v2.0.json"},
        recipe=Recipe(epochs=2, batch_size=16, max_length=384, evaluate_every=1000),
        licence="CC BY-SA 4.0",
        address="https://rajpurkar.github.io/SQuAD-explorer/",
        train_rows=130_319,
    ),
    Task(
        key="squad",
        name="SQuAD v1.1",
        kind="span_qa",
        metric="squad",
        languages=("en",),
        trains_on="squad",
        layout="squad_json",
        files={"train": "squad/train-v1.1.json", "dev": "squad/dev-v1.1.json"},
        recipe=Recipe(epochs=2, batch_size=16, max_length=384, evaluate_every=1000),
        licence="CC BY-SA 4.0",
        address="https://rajpurkar.github.io/SQuAD-explorer/",
        train_rows=87_599,
    ),
    Task(
        key="hellaswag",
        name="HellaSwag",
        kind="multiple_choice",
        metric="accuracy",
        languages=("en",),
        trains_on="hellaswag",
        layout="hellaswag_jsonl",
        files={"train": "hellaswag/hellaswag_train.jsonl", "dev": "hellaswag/hellaswag_val.jsonl"},
        recipe=Recipe(epochs=3, batch_size=32, max_length=256, evaluate_every=1000),
        licence="MIT (wikiHow's text is under a takedown notice since September 2026)",
        address="https://rowanzellers.com/hellaswag/ (its files are blocked; the hub has the same rows: "
        "xlt fetch hellaswag, and --source hub)",
        train_rows=39_905,
        choices=4,
    ),
    Task(
        key="ccg",
        name="CCG supertagging",
        kind="tagging",
        metric="accuracy",
        languages=("en",),
        trains_on="ccg",
        layout="ccg",
        files={"train": f"{_CCGBANK_TRAIN} | ccg/ccg.train", "dev": "ccg/data/AUTO/00/wsj_*.auto | ccg/ccg.dev"},
        recipe=Recipe(epochs=3, batch_size=32, max_length=256, evaluate_every=1000),
        licence="LDC licence",
        address="https://catalog.ldc.upenn.edu/LDC2005T13",
    ),
    Task(
        key="cosmosqa",
        name="Cosmos QA",
        kind="multiple_choice",
        metric="accuracy",
        languages=("en",),
        trains_on="cosmosqa",
        layout="cosmosqa_csv",
        files={"train": "cosmosqa/train.csv", "dev": "cosmosqa/valid.csv"},
        recipe=Recipe(epochs=3, batch_size=32, max_length=256, evaluate_every=1000),
        licence="CC BY 4.0",
        address="https://wilburone.github.io/cosmos/",
        train_rows=25_262,
        choices=4,
    ),
    Task(
        key="commonsenseqa",
        name="CommonsenseQA",
        kind="multiple_choice",
        metric="accuracy",
        languages=("en",),
        trains_on="commonsenseqa",
        layout="commonsenseqa_jsonl",
        files={
            "train": "commonsenseqa/train_rand_split.jsonl",
            "dev": "commonsenseqa/dev_rand_split.jsonl",
        },
        recipe=Recipe(epochs=3, batch_size=32, max_length=256, evaluate_every=1000),
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
        metric="accuracy",
        languages=XNLI_LANGUAGES,
        trains_on="mnli",
        layout="pair_tsv",
        files={"dev": "xnli/dev-{lang}.tsv", "test": "xnli/test-{lang}.tsv"},
        labels=NLI_LABELS,
        recipe=Recipe(epochs=2, batch_size=32, max_length=256, evaluate_every=1000),
        licence="CC BY-NC 4.0",
        address="https://github.com/facebookresearch/XNLI",
    ),
    Task(
        key="pawsx",
        name="PAWS-X",
        kind="pair_classification",
        metric="accuracy",
        languages=PAWSX_LANGUAGES,
        trains_on="pawsx",
        layout="pair_tsv",
        files={
            "train": "pawsx/x-final/en/train.tsv | pawsx/train-en.tsv",
            "dev": "pawsx/x-final/{lang}/dev_2k.tsv | pawsx/dev-{lang}.tsv",
            "test": "pawsx/x-final/{lang}/test_2k.tsv | pawsx/test-{lang}.tsv",
        },
        labels=PARAPHRASE_LABELS,
        recipe=Recipe(epochs=5, batch_size=32, max_length=256, evaluate_every=1000),
        licence="free use, acknowledge Google LLC",
        address="https://github.com/google-research-datasets/paws (its bucket may answer 403; the hub has the same "
        "rows: xlt fetch pawsx, and --source hub)",
        train_rows=49_401,
    ),
    Task(
        key="udpos",
        name="UD-POS 2.5",
        kind="tagging",
        metric="tag_f1",
        languages=UDPOS_LANGUAGES,
        trains_on="udpos",
        layout="tags",
        files={
            "train": _TREEBANKS.format("en", "train") + " | udpos/train-en.tsv",
            "dev": _TREEBANKS.format("{lang}", "dev") + " | udpos/dev-{lang}.tsv",
            "test": _TREEBANKS.format("{lang}", "test") + " | udpos/test-{lang}.tsv",
        },
        labels=UNIVERSAL_TAGS,
        recipe=Recipe(epochs=10, batch_size=32, max_length=256, evaluate_every=1000),
        licence="per treebank: CC BY-SA, some CC BY-NC-SA",
        address="https://universaldependencies.org",
        train_rows=21_253,
    ),
    Task(
        key="panx",
        name="NER (WikiAnn, PAN-X)",
        kind="tagging",
        metric="tag_f1",
        languages=PANX_LANGUAGES,
        trains_on="panx",
        layout="tags",
        files={
            "train": "panx/en-train | panx/train-en.tsv | ner/train-en.tsv",
            "dev": "panx/{lang}-dev | panx/dev-{lang}.tsv | ner/dev-{lang}.tsv",
            "test": "panx/{lang}-test | panx/test-{lang}.tsv | ner/test-{lang}.tsv",
        },
        labels=ENTITY_TAGS,
        recipe=Recipe(epochs=10, batch_size=32, max_length=256, evaluate_every=1000),
        licence="not stated (text of Wikipedia, CC BY-SA)",
        address="https://github.com/afshinrahimi/mmner (its cloud drive is gone; the hub has the same rows: "
        "xlt fetch panx, and --source hub)",
        train_rows=20_000,
    ),
    Task(
        key="xquad",
        name="XQuAD",
        kind="span_qa",
        metric="squad",
        languages=XQUAD_LANGUAGES,
        trains_on="squad",
        layout="squad_json",
        files={"test": "xquad/xquad.{lang}.json"},
        recipe=Recipe(epochs=2, batch_size=16, max_length=384, evaluate_every=1000),
        licence="CC BY-SA 4.0",
        address="https://github.com/google-deepmind/xquad",
    ),
    Task(
        key="mlqa",
        name="MLQA",
        kind="span_qa",
        metric="mlqa",
        languages=MLQA_LANGUAGES,
        trains_on="squad",
        layout="squad_json",
        files={
            "dev": "mlqa/MLQA_V1/dev/dev-context-{lang}-question-{lang}.json",
            "test": "mlqa/MLQA_V1/test/test-context-{lang}-question-{lang}.json",
        },
        recipe=Recipe(epochs=2, batch_size=16, max_length=384, evaluate_every=1000),
        licence="CC BY-SA 3.0",
        address="https://github.com/facebookresearch/MLQA",
    ),
    Task(
        key="tydiqa",
        name="TyDiQA-GoldP",
        kind="span_qa",
        metric="squad",
        languages=TYDIQA_LANGUAGES,
        trains_on="tydiqa",
        layout="tydiqa_json",
        files={
            "train": "tydiqa/tydiqa-goldp-v1.1-train.json | tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.en.train.json",
            "test": f"{_TYDIQA_DEV}/tydiqa-goldp-dev-{{name}}.json | {_TYDIQA_DEV}/tydiqa.goldp.{{lang}}.dev.json",
        },
        recipe=Recipe(epochs=2, batch_size=16, max_length=384),
        licence="Apache 2.0",
        address="https://github.com/google-research-datasets/tydiqa (its bucket may answer 403; the hub has the same "
        "rows: xlt fetch tydiqa, and --source hub)",
        train_rows=3_696,
    ),
    Task(
        key="bucc2018",
        name="BUCC 2018",
        kind="retrieval",
        metric="mining_f1",
        languages=BUCC_LANGUAGES,
        trains_on=None,
        layout="bucc",
        files={
            "dev": _bucc(
                "bucc2018/{lang}-en/{lang}-en.sample",
                "bucc2018/{lang}-en.dev",
                "bucc2018_format/{lang}-en.dev",
            ),
            "test": _bucc(
                "bucc2018/{lang}-en/{lang}-en.training",
                "bucc2018/{lang}-en.test",
                "bucc2018_format/{lang}-en.test",
            ),
        },
        recipe=Recipe(max_length=512),
        licence="for research",
        address="https://comparable.limsi.fr/bucc2018/",
    ),
    Task(
        key="tatoeba",
        name="Tatoeba",
        kind="retrieval",
        metric="accuracy",
        languages=TATOEBA_LANGUAGES,
        trains_on=None,
        layout="bitext",
        files={"test": "tatoeba/{lang}-en.{lang} tatoeba/{lang}-en.en"},
        recipe=Recipe(max_length=512),
        licence="CC BY 2.0 FR",
        address="https://github.com/facebookresearch/LASER/tree/main/data/tatoeba/v1",
    ),
)

TASKS: dict[str, Task] = {task.key: task for task in (MASKED_LM, *INTERMEDIATE, *TARGET)}


def get_task(key: str) -> Task:
    """The record named ``key``.

    Raises:
        UsageFault: no task has that name.
    """
    if key not in TASKS:
        raise UsageFault(
            f"There is no task named '{key}'.",
            why=f"Tasks: {', '.join(TASKS)}.",
            fix="xlt tasks ls",
        )
    return TASKS[key]
