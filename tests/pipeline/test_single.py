"""One run with a model of the user's choice: what it starts from, and what determines it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, XLMRobertaConfig

from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import DataFault, EnvironmentFault, UsageFault
from xlt.pipeline.single import SingleOptions, check_use, find_model, single_spec
from xlt.pipeline.sources import SourceOptions, open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved XLM-R with 66 positions, with its tokenizer."""
    train_tokenizer([f"word{n} other{n % 7} text" for n in range(90)], 50, tmp_path / "model", threads=1)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    size = len(load_tokenizer(str(tmp_path / "model")))
    config = XLMRobertaConfig(vocab_size=size, max_position_embeddings=66, **sizes)
    AutoModel.from_config(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def spec_hash(folder: Path, files: Path, task: str = "tatoeba") -> str:
    source = open_source(SourceOptions(name="files", data_root=files))
    return single_spec(None, task, source, find_model(str(folder)), SingleOptions(None, 0, "fp32"), train=False).hash


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_run_is_named_by_every_byte_of_its_model(folder: Path, tiny_files: Path, name: str) -> None:
    """A result may not be taken for that of another tokenizer, configuration or weights under the same name."""
    before = spec_hash(folder, tiny_files)
    assert spec_hash(folder, tiny_files) == before
    content = (folder / name).read_bytes()
    changes = {
        "config.json": lambda: json.dumps({**json.loads(content), "layer_norm_eps": 0.5}).encode(),
        "model.safetensors": lambda: content[:-1] + bytes([content[-1] ^ 1]),
    }
    (folder / name).write_bytes(changes.get(name, lambda: content + b"\n")())
    assert spec_hash(folder, tiny_files) != before
    (folder / name).write_bytes(content)
    (folder / "README.md").write_text("about the model", "utf-8")
    assert spec_hash(folder, tiny_files) == before


def test_texts_are_cut_where_the_model_has_no_more_positions(folder: Path, tiny_files: Path) -> None:
    source, start = open_source(SourceOptions(name="files", data_root=tiny_files)), find_model(str(folder))
    options = SingleOptions(None, 0, "fp32")
    assert single_spec(None, "tatoeba", source, start, options, train=False).max_lengths == {"tatoeba": 64}
    trained = single_spec(None, "xnli", source, start, options, train=True)
    assert trained.max_lengths == {"mnli": 64, "xnli": 64}
    assert trained.training_recipe().max_length == 64


def test_a_perturbed_evaluation_has_a_name_of_its_own(folder: Path, tiny_files: Path) -> None:
    start, options = find_model(str(folder)), SingleOptions(None, 0, "fp32")
    named = {
        perturb: single_spec(
            None,
            "xnli",
            open_source(SourceOptions(name="files", data_root=tiny_files, perturb=perturb)),
            start,
            options,
            train=False,
        )
        for perturb in ("", "case:0.10", "case:0.2", "case:0.2:4")
    }
    assert [spec.name for spec in named.values()] == [
        "evaluate.xnli", "evaluate.xnli.case-0.1", "evaluate.xnli.case-0.2", "evaluate.xnli.case-0.2-4",
    ]  # fmt: skip
    assert named["case:0.10"].source.settings == {"perturb": "case:0.1"}
    assert "perturb" not in named[""].canonical()
    assert len({spec.data["xnli/test/sw"] for spec in named.values()}) == 4


def test_a_model_without_weights_or_of_no_known_name_is_refused(folder: Path) -> None:
    with pytest.raises(DataFault, match="The model 'somebody/some-model' was not fetched") as fault:
        find_model("somebody/some-model")
    assert fault.value.fix == "xlt fetch --model somebody/some-model"
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataFault, match="no safetensors weights"):
        find_model(str(folder))


def test_what_cannot_be_done_with_a_task_is_said_before_the_model_is_looked_at() -> None:
    with pytest.raises(UsageFault, match="'tatoeba' has no training data"):
        check_use("tatoeba", has_model=True, train=True)
    with pytest.raises(UsageFault, match="'xnli' needs a model"):
        check_use("xnli", has_model=False, train=True)
    check_use("mlm", has_model=False, train=True)


DAMAGE = {
    "config.json": [b"{", b"[]", b"null", b'{"model_type": 5}', b'{"model_type": []}', b"[" * 100_000, b"\xff\xfe"],
    "tokenizer.json": [b"{", b"[]", b'{"model": 5}', b'{"version": "1.0", "model": {"type": "Unigram", "vocab": 3}}'],
    "tokenizer_config.json": [b"{", b"[]", b'{"tokenizer_class": 5}', b"[" * 100_000],
}


@pytest.mark.parametrize(("name", "content"), [(name, each) for name, contents in DAMAGE.items() for each in contents])
def test_a_damaged_model_of_others_is_one_clear_fault(
    folder: Path, tiny_files: Path, name: str, content: bytes
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises((DataFault, EnvironmentFault)) as fault:
        spec_hash(folder, tiny_files)
    assert fault.value.fix


@pytest.mark.parametrize(
    "changes", [{"hidden_size": -4}, {"hidden_size": "x"}, {"num_attention_heads": 0}, {"vocab_size": {}}]
)
def test_a_configuration_with_impossible_sizes_is_one_clear_fault(
    folder: Path, tiny_files: Path, changes: dict[str, object]
) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8")) | changes
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises((DataFault, EnvironmentFault)) as fault:
        spec_hash(folder, tiny_files)
    assert fault.value.fix
