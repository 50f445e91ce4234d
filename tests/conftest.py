"""Fixtures that several rooms use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from xlt.data.world.source import WorldSource

PROJECT = Path(__file__).parent.parent

TINY_TIER = """
name = "tiny"
about = "A few steps of everything"
targets = ["xnli", "xquad", "tatoeba"]

[arms]
baseline = []
mnli = ["mnli"]

[sources.world.backbone]
vocabulary = 1200
retrieval_layer = 1
config = { num_hidden_layers = 2, hidden_size = 32, num_attention_heads = 2, intermediate_size = 64, max_position_embeddings = 258, hidden_dropout_prob = 0.1, attention_probs_dropout_prob = 0.1 }

[sources.world.recipes]
mlm = { learning_rate = 1e-3, steps = 12, batch_size = 16, max_length = 64 }
mnli = { learning_rate = 5e-4, steps = 8, batch_size = 8, max_length = 128, evaluate_every = 0 }
xnli = { learning_rate = 5e-4, steps = 8, batch_size = 8, max_length = 128 }
xquad = { learning_rate = 5e-4, steps = 8, batch_size = 8, max_length = 192 }
squad = { max_length = 192, evaluate_every = 0 }
tatoeba = { max_length = 64 }
"""


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """Tests run on machines of two cores; a fixed number makes their sums the same everywhere."""
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real task files: ``XLT_DATA_ROOT``, else ``../shared/data`` beside the project."""
    root = Path(os.environ.get("XLT_DATA_ROOT") or PROJECT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip("no real task files: set XLT_DATA_ROOT or put them at ../shared/data")
    return root


@pytest.fixture(scope="session")
def world() -> WorldSource:
    """The mini world of seed 0."""
    return WorldSource(0)


@pytest.fixture(scope="session")
def tiny_tier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tier of a few steps on the world, as a file."""
    path = tmp_path_factory.mktemp("tier") / "tiny.toml"
    path.write_text(TINY_TIER, encoding="utf-8")
    return path
