"""The tasks that XTREME-R adds to XTREME, and what it trains on for them, one record each."""

from __future__ import annotations

from xlt.tasks.record import Recipe, Task

_XCOPA_FILES = "xcopa/data/{{lang}}/{0}.{{lang}}.jsonl | xcopa/{0}-{{lang}}.jsonl"
_LAREQA = "ar de el en es hi ru th tr vi zh"
_MEWSLIX = "ar de en es fa ja pl ro ta tr uk"
_POOL = "mewslix/candidate_set_entities.jsonl"
_MENTIONS = (
    f"mewslix/wikinews_mentions-{{split}}.jsonl {_POOL} | mewslix/wikinews_mentions/{{split}}-{{lang}}.jsonl {_POOL}"
)
_XCOPA = "et ht id it qu sw ta th tr vi zh"
# Recipes are those of the launch scripts in https://github.com/google-research/xtreme for XLM-R Large.
_CHOOSING = Recipe(learning_rate=3e-5, epochs=5, max_length=128, warmup=0.0, weight_decay=0.0)

# What XCOPA is trained on: first Social IQa, then COPA, which is its own English training set.
XTREME_R_TRAINING = (
    Task(
        key="siqa",
        name="Social IQa",
        kind="multiple_choice",
        layout="siqa_jsonl",
        files={
            "train": "siqa/socialIQa_v1.4_trn.jsonl | siqa/train.jsonl siqa/train-labels.lst",
            "dev": "siqa/socialIQa_v1.4_dev.jsonl | siqa/dev.jsonl siqa/dev-labels.lst",
        },
        recipe=_CHOOSING,
        licence="none stated",
        address="https://leaderboard.allenai.org/socialiqa/submissions/get-started",
        train_rows=33_410,
        choices=3,
    ),
    Task(
        key="copa",
        name="COPA",
        kind="multiple_choice",
        layout="copa_jsonl",
        files={
            "train": "copa/train.jsonl | copa/COPA/train.jsonl | xcopa/train-en.jsonl",
            "dev": "copa/val.jsonl | copa/COPA/val.jsonl | xcopa/val-en.jsonl",
        },
        recipe=_CHOOSING,
        licence="not known",
        address="https://dl.fbaipublicfiles.com/glue/superglue/data/v2/COPA.zip",
        train_rows=400,
        choices=2,
    ),
)

XTREME_R_TARGET = (
    Task(
        key="xcopa",
        name="XCOPA",
        kind="multiple_choice",
        languages=tuple(_XCOPA.split()),
        trains_on="copa",
        layout="copa_jsonl",
        files={"dev": _XCOPA_FILES.format("val"), "test": _XCOPA_FILES.format("test")},
        recipe=_CHOOSING,
        benchmarks={"xtreme-r": _XCOPA},
        licence="CC BY 4.0",
        address="https://github.com/cambridgeltl/xcopa",
        choices=2,
    ),
    Task(
        key="lareqa",
        name="LAReQA (XQuAD-R)",
        kind="retrieval",
        metric="map20",
        languages=tuple(_LAREQA.split()),
        trains_on=None,
        layout="lareqa",
        files={"test": "lareqa/xquad-r/{lang}.json lareqa/xquad-r/*.json"},
        recipe=Recipe(max_length=256),
        benchmarks={"xtreme-r": _LAREQA},
        licence="CC BY-SA 4.0",
        address="https://github.com/google-research-datasets/lareqa",
    ),
    Task(
        key="mewslix",
        name="Mewsli-X",
        kind="retrieval",
        metric="map20",
        languages=tuple(_MEWSLIX.split()),
        trains_on=None,
        layout="mewslix",
        files={"dev": _MENTIONS.replace("{split}", "dev"), "test": _MENTIONS.replace("{split}", "test")},
        recipe=Recipe(max_length=64),
        benchmarks={"xtreme-r": _MEWSLIX},
        licence="Apache 2.0",
        address="https://github.com/google-research/google-research",
    ),
)
