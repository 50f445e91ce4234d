"""The shape of a task record: what a task is, where its files lie, how it is trained and scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xlt.tasks.adversarial import Adversarial

# A new kind needs a row type (data/rows.py), an entry in the table of each room that works on it (encoders in
# data/features.py, heads in model/heads.py, decoders in evaluate/predict.py, answers in evaluate/metrics.py), and how
# its batches are packed (data/packing.py).
Kind = Literal["pair_classification", "multiple_choice", "span_qa", "tagging", "retrieval", "masked_lm"]
# A new metric needs its record in evaluate/metrics.py, and its name here.
Metric = Literal["accuracy", "squad", "squad_v2", "mlqa", "tag_f1", "mining_f1", "map20", "perplexity"]
# Metrics with a threshold that is fitted on the predictions for the dev split.
FITTED_ON_DEV: frozenset[Metric] = frozenset({"mining_f1"})
Split = Literal["train", "dev", "test"]
Pooling = Literal["mean", "first", "last"]
ENGLISH = "en"
# The least that a recipe may say. Of eight tokens two texts and what stands around them keep one each.
_LEAST = {"epochs": 0, "steps": 0, "batch_size": 1, "max_length": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained on a task. The authors' own code (jiant, XTREME scripts) has the same defaults."""

    learning_rate: float = 1e-5
    """The highest learning rate, reached at the end of the warm-up."""
    epochs: int = 0
    """Passes over the training examples. Exactly one of ``epochs`` and ``steps`` is above zero."""
    steps: int = 0
    """Optimiser steps."""
    batch_size: int = 32
    """Examples per optimiser step."""
    max_length: int = 256
    """Tokens of a sequence, special ones included; longer texts are cut or split."""
    stride: int = 128
    """Tokens that two windows of one context share (span QA)."""
    warmup: float = 0.1
    """Share of all steps in which the learning rate rises linearly; then it falls linearly to zero."""
    weight_decay: float = 0.01
    """AdamW's, which spares biases and LayerNorm."""
    adam_beta2: float = 0.999
    """Decay of AdamW's mean of squared gradients."""
    adam_epsilon: float = 1e-8
    """What AdamW adds to its denominator."""
    gradient_clipping: float = 1.0
    """Largest norm of the gradient of all weights together."""
    mask_probability: float = 0.15
    """Share of the tokens that masked LM predicts."""
    examples_cap: int = 2**17
    """Of several tasks trained together each is drawn in proportion to its examples, counted up to this number."""
    evaluate_every: int = 0
    """Steps between two scores on the English dev split, which choose the checkpoint; 0 keeps the last one."""
    patience: int = 30
    """Scores without a better one after which training stops."""
    train_examples: int = 0
    """So many rows of a training set are used, evenly spaced over it; 0 is all."""
    dev_examples: int = 0
    """So many rows of the English dev split are scored in training, its first, as in the authors' code; 0 is all."""
    test_examples: int = 0
    """So many rows of each language of a dev or test set are scored, evenly spaced over it; 0 is all."""
    synonyms: int = 0
    """So many copies of each training row are used in its place, with words drawn from their synonyms; 0: the row."""
    first_pass: int = 0
    """Steps of a first pass over the training rows, which tells how easy each of them is; 0: none."""
    easiest: float = 0.0
    """Only so large a share of the training rows is used, the easiest by the first pass; 0: all."""
    hardest: float = 0.0
    """The same with the hardest."""
    adversarial: Adversarial | None = None
    """How word embeddings are perturbed in training; settings by their names become a record, and false is None."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} {value}: at least {least}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate {self.learning_rate}: above 0")
        given: Any = self.adversarial
        if not isinstance(given, Adversarial):
            object.__setattr__(self, "adversarial", Adversarial.of(given) if given else None)
        shares = [share for share in (self.easiest, self.hardest) if share]
        if len(shares) > 1 or bool(shares) != bool(self.first_pass) or not all(0 < share < 1 for share in shares):
            raise ValueError("first_pass goes with one share of the rows, easiest or hardest, between 0 and 1")

    @property
    def rows(self) -> tuple[int, int]:
        """What decides, beside the data, which rows are trained on."""
        return self.train_examples, self.synonyms

    @property
    def passes(self) -> int:
        """Backward passes to the weights that each example takes part in."""
        return self.adversarial.passes if self.adversarial else 1

    def learning_rate_factor(self, step: int, steps: int) -> float:
        """The share of the highest learning rate that a step (0-based) of so many has."""
        rising = int(self.warmup * steps)
        return step / rising if step < rising else max(0.0, (steps - step) / max(1, steps - rising))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of the paper, as data."""

    key: str
    """The name in commands, files and tiers."""
    name: str
    """The name in tables."""
    kind: Kind
    """What a row is and what is predicted of it."""
    metric: Metric = "accuracy"
    """How predictions are scored (see ``METRICS`` in ``xlt.evaluate.metrics``)."""
    languages: tuple[str, ...] = (ENGLISH,)
    """The languages of its dev and test splits."""
    trains_on: str | None = ""
    """The task whose English training set it uses, by default itself; None where nothing is trained (retrieval)."""
    layout: str = ""
    """The reader of its official file format (``READERS`` in ``xlt.data.files.source``); empty if it has no files."""
    files: Mapping[Split, str] = field(default_factory=dict)
    """Paths below the data root, separated by spaces. Alternatives are separated by ``|``; the first whose files all
    exist is used. ``{lang}`` is the language code, ``{name}`` its English name, ``{ud}`` the release of its treebanks,
    ``*`` any characters; a ``.gz`` beside a file is found too."""
    labels: tuple[str, ...] = ()
    """The classes, or the tags of a tagging task; if empty, a tagging task has the tags of its training data."""
    file_labels: tuple[str, ...] = ()
    """What the labels are called in a submission, in their order; empty if they are called the same."""
    benchmarks: Mapping[str, str] = field(default_factory=dict)
    """The benchmarks (``xtreme``, ``xtreme-r``) that it belongs to, with its languages there, separated by spaces."""
    recipe: Recipe = Recipe(epochs=3, evaluate_every=1000, dev_examples=500)
    """How it is trained."""
    licence: str = ""
    """The licence of its data."""
    address: str = ""
    """Where its official files are published."""
    train_rows: int = 0
    """How many rows its English training set is published to have; 0 where no source says so."""
    choices: int = 1
    """How many sequences a row makes (multiple choice)."""

    @property
    def unanswerable(self) -> bool:
        """Whether a question may have no answer."""
        return self.metric == "squad_v2"

    def __post_init__(self) -> None:
        if self.trains_on == "":
            object.__setattr__(self, "trains_on", self.key)
