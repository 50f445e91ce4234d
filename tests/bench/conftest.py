"""Examples of known lengths, a tiny model, and ceilings that take no time to measure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from xlt.bench import workload
from xlt.data.packing import Encoded
from xlt.model.encoder import PackedModel
from xlt.tasks.record import Kind

LONGEST = 48
CPU = torch.device("cpu")
KIND: Kind = "pair_classification"
CONFIG: dict[str, int | float] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": LONGEST + 2,
    "initializer_range": 0.2,
    # The benchmark takes dropout out itself: with it the parity check would stop every run.
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}


@pytest.fixture(autouse=True, scope="package")
def _small_ceilings() -> Iterator[None]:
    """The ceilings of the machine are measured on small tensors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload, "MATMUL", {"cpu": 64, "cuda": 64})
        patch.setattr(workload, "COPIED", {"cpu": 1 << 16, "cuda": 1 << 16})
        yield


@pytest.fixture(scope="package")
def sequences() -> list[Encoded]:
    """800 labelled examples of 4 to ``LONGEST`` tokens."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(4, LONGEST + 1, size=800)
    return [
        Encoded(f"e{number}", draw.integers(5, 60, size=length).astype(np.int32), (number % 3,))
        for number, length in enumerate(lengths)
    ]


@pytest.fixture
def model() -> PackedModel:
    """A tiny model without dropout, with a head for pairs of three classes."""
    torch.manual_seed(0)
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = PackedModel.fresh({**CONFIG, **no_dropout, "vocab_size": 60})
    model.drop_masked_lm_head()
    model.add_head(KIND, KIND, 3)
    return model
