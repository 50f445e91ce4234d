"""What the benchmarks of speed compute on: random models of two sizes, and sequences with the lengths of real ones."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from xlt.artifact import RESTORE, read_json
from xlt.data.features import encode
from xlt.data.packing import Encoded
from xlt.data.source import Source, with_labels
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import EnvironmentFault, UsageFault
from xlt.model.encoder import PackedModel
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import ENGLISH, Split
from xlt.train.seeding import accumulate_in_fp32, derive_seed, seed_everything

Size = Literal["small", "large"]

# XLM-R Large as its published configuration says; and one that a CPU steps in milliseconds. Heads of 64 in both.
CONFIGS: dict[Size, dict[str, Any]] = {
    "large": {
        "vocab_size": 250_002,
        "num_hidden_layers": 24,
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "max_position_embeddings": 514,
    },
    "small": {
        "vocab_size": 4000,
        "num_hidden_layers": 3,
        "hidden_size": 128,
        "num_attention_heads": 2,
        "intermediate_size": 512,
        "max_position_embeddings": 514,
    },
}
RETRIEVAL_LAYER: dict[Size, int] = {"large": 14, "small": 2}
MEASURED = ("mnli", "squad", "hellaswag", "tatoeba", "bucc2018")
RESERVED = 4  # the special tokens of XLM-R come first in its vocabulary
# Of XLM-R's 250,002 words an English run is taken to use 30,000. An estimate: nothing was counted.
USED = 0.12


class Lengths(BaseModel):
    """How long sequences are: per task, how many have how many tokens (of multiple choice, each choice is one).

    ``vocabulary`` is that of the SentencePiece model that cut them, trained on the same files.
    """

    format: Literal[1] = 1
    source: str
    vocabulary: int
    tasks: dict[str, dict[int, int]] = Field(min_length=1)


def default_size() -> Size:
    """``large`` with a GPU, ``small`` without."""
    return "large" if torch.cuda.is_available() else "small"


def fresh_model(size: Size, *, dropout: float = 0.1, **changes: Any) -> PackedModel:
    """A random XLM-R of ``size`` on the device at hand, with its masked-LM head; ``changes`` go to its configuration.

    On a GPU its blocks get their kernels, as those of a loaded model do. Products of this process are those of a run.
    """
    accumulate_in_fp32()
    seed_everything(0)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return PackedModel.fresh({**CONFIGS[size], **rates, **changes}).to("cuda" if torch.cuda.is_available() else "cpu")


def fresh_encoder(size: Size) -> PackedModel:
    """The same for inference, without head and dropout; in bf16 on a GPU."""
    model = fresh_model(size, dropout=0.0)
    model.drop_masked_lm_head()
    return model.to(torch.bfloat16 if torch.cuda.is_available() else torch.float32)


def sample_lengths(task: str, count: int, longest: int = 512) -> list[int]:
    """``count`` lengths of sequences of the task, sampled from the measured ones, the same at every call.

    Raises:
        UsageFault: the task's lengths were not measured.
    """
    found = measured_lengths().tasks.get(task)
    if found is None:
        raise UsageFault(f"No lengths were measured for '{task}'.", why=f"There are: {', '.join(MEASURED)}.")
    chosen = random.Random(derive_seed(0, task)).choices(list(found), weights=list(found.values()), k=count)
    return [min(length, longest) for length in chosen]


def random_ids(length: int, vocabulary: int, generator: torch.Generator) -> Tensor:
    """A sequence ``[length]`` of random words between ``<s>`` (0) and ``</s>`` (2), int64, on the CPU."""
    ids = torch.randint(RESERVED, vocabulary, (length,), generator=generator)
    ids[0], ids[-1] = 0, 2
    return ids


def random_sequences(task: str, count: int, size: Size, *, classes: int = 3, longest: int = 512) -> list[Encoded]:
    """``count`` random labelled pairs with the lengths of ``task``'s sequences, of as many words as a run uses."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = round(USED * CONFIGS[size]["vocab_size"])
    return [
        Encoded(
            example_id=str(index),
            input_ids=random_ids(length, vocabulary, generator).numpy().astype(np.int32),
            label=(index % classes,),
        )
        for index, length in enumerate(sample_lengths(task, count, longest))
    ]


def forward_flop(config: Mapping[str, Any], lengths: Sequence[int], layers: int = 0) -> float:
    """FLOP of the products in ``layers`` blocks (0: all) over sequences of ``lengths``, without any padding."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    linear = 2 * (4 * width**2 + 2 * width * inner)
    per_block = sum(length * linear + 4 * width * length**2 for length in lengths)
    return float((layers or config["num_hidden_layers"]) * per_block)


def fitting_lengths(task: str, tokens: int) -> list[int]:
    """The first lengths that :func:`sample_lengths` gives, as many as fit in ``tokens``."""
    lengths = torch.tensor(sample_lengths(task, tokens))
    return lengths[lengths.cumsum(0) <= tokens].tolist()


def trained_tokenizer(source: Source, vocabulary: int) -> PreTrainedTokenizerBase:
    """A tokenizer of ``vocabulary`` pieces trained on the source's text, which leaves no file behind."""
    with tempfile.TemporaryDirectory(prefix="xlt-bench-") as folder:
        train_tokenizer((row.text for row in source.pretraining_text()), vocabulary, Path(folder))
        return load_tokenizer(folder)


def measure_lengths(source: Source, vocabulary: int) -> Lengths:
    """Count the tokens of the sequences of ``MEASURED`` in ``source``: English training rows, texts of retrieval."""
    tokenizer = trained_tokenizer(source, vocabulary)
    counted: dict[str, dict[int, int]] = {}
    for key in MEASURED:
        task = with_labels(get_task(key), source)
        split: Split = "train" if task.trains_on else "test"
        languages = (ENGLISH,) if task.trains_on else source.languages(task, split)
        rows = [row for language in languages for row in source.rows(task, split, language)]
        sequences = encode(rows, task, tokenizer, training=split == "train")
        lengths = (length for each in sequences for length in each.lengths or (len(each.input_ids),))
        counted[key] = dict(sorted(Counter(lengths).items()))
    return Lengths(source=source.name, vocabulary=vocabulary, tasks=counted)


@cache
def measured_lengths() -> Lengths:
    """What ``artifact/measured/lengths.json`` says.

    Raises:
        EnvironmentFault: it is missing or damaged.
    """
    try:
        return Lengths.model_validate(read_json("measured", "lengths.json"))
    except ValueError as error:
        raise EnvironmentFault(
            "'artifact/measured/lengths.json' cannot be read.", why=str(error), fix=RESTORE
        ) from error
