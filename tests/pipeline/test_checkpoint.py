"""Public checkpoints: found by the name that people use, and named by their bytes and their revision."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import constants

from tests.conftest import SYLLABLES
from tests.data.hub.test_fetch import Told
from tests.hub_home import own_home
from tests.hub_server import Hub, serving
from xlt.data.hub.fetch import fetch, wanted_model
from xlt.data.hub.lock import cached, lock_path
from xlt.data.hub.table import TOKENIZER_FILES
from xlt.data.tokenizer import train_tokenizer
from xlt.data.world import WorldSource
from xlt.errors import DataFault
from xlt.model.encoder import PackedModel
from xlt.pipeline.checkpoint import checkpoint_folder, file_digests, identified, pinned
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.single import find_model
from xlt.pipeline.spec import Backbone, RunSpec
from xlt.pipeline.tiers import Arm, SourcePlan, Tier
from xlt.pipeline.training import starting_point

CONFIG = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
COMMIT = "a" * 40
Fetched = Callable[..., PackedModel]


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetched:
    """Fetches a small model as 'encoder', which hub.toml knows by its sizes, into a home of its own; then offline."""
    own_home(tmp_path, monkeypatch)

    def bring(*, commit: str = COMMIT, layers: int = 1, extra: dict[str, bytes] | None = None) -> PackedModel:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        (tmp_path / "artifact" / "hub.toml").write_text(
            f'[models.encoder]\nrepository = "some/encoder"\nrevision = "{commit}"\n'
            "config = { num_hidden_layers = 1 }\n",
            encoding="utf-8",
        )
        train_tokenizer((f"{one} {other}" for one in SYLLABLES for other in SYLLABLES), 60, tmp_path / "model")
        torch.manual_seed(0)
        made = PackedModel.fresh({**CONFIG, "vocab_size": 70, "num_hidden_layers": layers})
        made.save(tmp_path / "model")
        files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} | (extra or {})
        with serving(Hub({"some/encoder": files}, commit=commit)) as hub:
            fetch([wanted_model("encoder")], Told(), mirror=hub.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        return made

    return bring


def test_a_fetched_model_is_found_by_its_short_name_without_the_hub(
    fetched: Fetched, world: WorldSource, tmp_path: Path
) -> None:
    made = fetched()
    spec = RunSpec.model_construct(phase="target", train=(), seed=0, backbone=Backbone(name="encoder"), max_lengths={})
    model, tokenizer = starting_point(spec, None, world, tmp_path)
    saved, loaded = made.state_dict(), model.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)
    assert tokenizer("ba")["input_ids"]


def test_the_name_of_a_run_changes_with_the_bytes_and_the_revision_of_the_model(
    fetched: Fetched, tmp_path: Path
) -> None:
    fetched()
    first = identified(Backbone(name="encoder"))
    assert first.revision == COMMIT
    assert first.digest
    assert find_model("encoder").backbone == find_model("some/encoder").backbone.model_copy(update={"name": "encoder"})
    assert find_model("encoder").folder == checkpoint_folder("encoder")
    lock_path().unlink()
    fetched(commit="b" * 40)
    moved = identified(Backbone(name="encoder"))
    assert (moved.revision, moved.digest) == ("b" * 40, first.digest)
    lock_path().unlink()
    fetched(extra={"tokenizer_config.json": b'{"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 9}'})
    assert identified(Backbone(name="encoder")).digest != first.digest


def test_a_file_that_was_changed_after_the_fetch_is_refused(fetched: Fetched) -> None:
    fetched()
    config = cached("model", "some/encoder", COMMIT, "config.json")
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"layer_norm_eps": 0.5}), "utf-8")
    with pytest.raises(
        DataFault, match=r"'config.json' of the model 'encoder' was changed after it was fetched"
    ) as fault:
        identified(Backbone(name="encoder"))
    assert fault.value.fix == "xlt fetch --model encoder"


def test_a_checkpoint_of_another_size_under_a_known_name_is_refused(fetched: Fetched) -> None:
    fetched(layers=2)
    for name in ("encoder", "some/encoder"):
        with pytest.raises(
            DataFault, match=f"What was fetched as '{name}' is another model: its num_hidden_layers is 2, not 1"
        ):
            find_model(name)


def test_a_grid_names_its_runs_by_the_checkpoint_and_without_data_by_the_pin(
    fetched: Fetched, world: WorldSource
) -> None:
    """Verify compares with the second, on a machine that may not have the model."""
    tier = Tier(
        name="t",
        about="",
        sources={"world": SourcePlan(backbone=Backbone(name="encoder"), arms={"baseline": Arm(targets=["tatoeba"])})},
    )
    with pytest.raises(DataFault, match="The model 'encoder' was not fetched"):
        GridBuilder(tier, world, seed=0, precision="fp32")
    fetched()
    (run,) = GridBuilder(tier, world, seed=0, precision="fp32").grid().runs
    assert run.backbone == identified(Backbone(name="encoder"))
    (outline,) = GridBuilder(tier, world, seed=0, precision="fp32", fingerprints=False).grid().runs
    assert (outline.backbone.revision, outline.backbone.digest) == (COMMIT, "")
    assert pinned(Backbone(name="no/pin")) == Backbone(name="no/pin")


def test_every_file_of_every_tokenizer_is_fetched_and_part_of_the_digest() -> None:
    folder = Path(transformers.__file__).parent / "models"
    names = set()
    for module in folder.glob("*/tokenization_*.py"):
        found = re.search(r"VOCAB_FILES_NAMES\s*=\s*\{(.*?)\}", module.read_text("utf-8"), re.DOTALL)
        names |= set(re.findall(r":\s*\"([^\"]+)\"", found[1])) if found else set()
    assert {"sentencepiece.bpe.model", "bpe.codes", "vocab.txt", "merges.txt"} <= names
    assert [name for name in names if not any(fnmatch(name, pattern) for pattern in TOKENIZER_FILES)] == []


def test_the_digest_changes_with_each_file_that_a_tokenizer_reads(tmp_path: Path) -> None:
    (tmp_path / "bpe.codes").write_text("a b 1")
    before = file_digests(tmp_path)
    (tmp_path / "bpe.codes").write_text("b a 1")
    assert list(before) == ["bpe.codes"]
    assert file_digests(tmp_path) != before
