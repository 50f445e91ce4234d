"""Every task of the paper, one record each. Recipes are the ones the authors published with jiant."""

from __future__ import annotations

from xlt.errors import UsageFault
from xlt.tasks.record import Recipe, Task

NLI_LABELS = ("entailment", "neutral", "contradiction")
XNLI_LANGUAGES = tuple("ar bg de el en es fr hi ru sw th tr ur vi zh".split())
XQUAD_LANGUAGES = tuple("ar de el en es hi ro ru th tr vi zh".split())
TATOEBA_LANGUAGES = tuple(
    "af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko "
    "ml mr nl pt ru sw ta te th tl tr ur vi zh".split()
)

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
)

INTERMEDIATE = (
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
        layout="nli_tsv",
        files={"dev": "xnli/dev-{lang}.tsv", "test": "xnli/test-{lang}.tsv"},
        labels=NLI_LABELS,
        recipe=Recipe(epochs=2, batch_size=32, max_length=256),
        licence="CC BY-NC 4.0",
        address="https://github.com/facebookresearch/XNLI",
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
        recipe=Recipe(epochs=2, batch_size=16, max_length=384),
        licence="CC BY-SA 4.0",
        address="https://github.com/google-deepmind/xquad",
    ),
    Task(
        key="tatoeba",
        name="Tatoeba",
        kind="retrieval",
        metric="accuracy",
        languages=TATOEBA_LANGUAGES,
        trains_on=None,
        layout="bitext",
        files={"test": "tatoeba/{lang}-en.{side}"},
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
            mend="xlt tasks ls",
        )
    return TASKS[key]
