"""Where a run starts: a public model by the name that people use, as it was fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from tests.conftest import SYLLABLES
from tests.data.hub.test_fetch import Told
from tests.hub_home import own_home
from tests.hub_server import Hub, serving
from xlt.data.hub.fetch import fetch, wanted_model
from xlt.data.tokenizer import train_tokenizer
from xlt.data.world.source import WorldSource
from xlt.model.encoder import PackedModel
from xlt.pipeline.spec import Backbone, RunSpec
from xlt.pipeline.starting_point import starting_point

CONFIG = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
COMMIT = "a" * 40


def test_a_fetched_model_is_found_by_its_short_name_without_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: WorldSource
) -> None:
    own_home(tmp_path, monkeypatch)
    (tmp_path / "artifact" / "hub.toml").write_text(
        f'[models.encoder]\nrepository = "some/encoder"\nrevision = "{COMMIT}"\n', encoding="utf-8"
    )
    train_tokenizer((f"{one} {other}" for one in SYLLABLES for other in SYLLABLES), 60, tmp_path / "model")
    made = PackedModel.fresh({**CONFIG, "vocab_size": 70})
    made.save(tmp_path / "model")
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    with serving(Hub({"some/encoder": files}, commit=COMMIT)) as hub:
        fetch([wanted_model("encoder")], Told(), mirror=hub.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model, tokenizer = starting_point(RunSpec.model_construct(backbone=Backbone(name="encoder")), None, world, tmp_path)
    saved, loaded = made.state_dict(), model.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)
    assert tokenizer("ba")["input_ids"]
