"""The shape of a task record: what a task is, where its files lie, how it is trained and scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["pair_classification", "multiple_choice", "span_qa", "tagging", "retrieval", "masked_lm"]
Metric = Literal["accuracy", "squad", "squad_v2", "mlqa", "tag_f1", "mining_f1", "perplexity"]
Split = Literal["train", "dev", "test"]
ENGLISH = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained on a task. The defaults are those of the authors' own code (jiant, XTREME scripts).

    Exactly one of ``epochs`` and ``steps`` is above zero. ``batch_size`` counts examples per optimiser step.
    ``warmup`` is the share of all steps with a rising learning rate; it then falls linearly to zero. Of several
    tasks trained together each is drawn in proportion to its number of examples, counted up to ``examples_cap``.
    """

    learning_rate: float = 1e-5
    epochs: int = 0
    steps: int = 0
    batch_size: int = 32
    max_length: int = 256
    stride: int = 128
    warmup: float = 0.1
    weight_decay: float = 0.01
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    gradient_clipping: float = 1.0
    mask_probability: float = 0.15
    examples_cap: int = 2**17
    evaluate_every: int = 0
    patience: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of the paper, as data.

    ``files`` maps a split to the paths of its files below the data root, separated by spaces; after ``|`` stand
    others that do as well, and the first that are all there count. ``{lang}`` is the language code, ``{name}`` its
    English name, ``*`` any characters; a ``.gz`` beside a file is found too. ``layout`` names the reader of that
    official format; both are empty where the task is read from no files. ``labels`` are the classes, or the tags of a
    tagging task; empty there if they are those of its training data. ``metric`` is what the paper's tables print:
    ``squad_v2`` and ``squad`` are the mean of F1 and exact match with and without unanswerable questions, ``mlqa`` is
    the same by MLQA's rules, ``tag_f1`` is seqeval's F1. ``trains_on`` is the task whose English training set a
    target task uses, its own key if it has one, and ``None`` where nothing is trained (retrieval). ``train_rows`` is
    how many rows its English training set is published to have, 0 where that was not seen, and ``choices`` how many
    sequences a row makes.
    """

    key: str
    name: str
    kind: Kind
    metric: Metric
    languages: tuple[str, ...]
    trains_on: str | None
    layout: str = ""
    files: Mapping[Split, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    recipe: Recipe = field(default_factory=Recipe)
    licence: str = ""
    address: str = ""
    train_rows: int = 0
    choices: int = 1
