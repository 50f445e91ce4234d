"""A tokenizer of the mini world and examples of known lengths."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from xlt.data.packing import Encoded
from xlt.data.source import Source
from xlt.data.tokenizer import load_tokenizer, train_tokenizer

LONGEST = 48


@pytest.fixture(scope="package")
def tokenizer(world: Source, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """Its padding token is 1, as in XLM-R."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([row.text for row in world.pretraining_text()], 400, folder)
    return load_tokenizer(str(folder))


@pytest.fixture(scope="package")
def sequences() -> list[Encoded]:
    """800 labelled examples of 4 to ``LONGEST`` tokens."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(4, LONGEST + 1, size=800)
    return [
        Encoded(f"e{number}", draw.integers(5, 60, size=length).astype(np.int32), (number % 3,))
        for number, length in enumerate(lengths)
    ]
