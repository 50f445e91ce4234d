"""The model that a training starts from, what is refused before any work, and the training variants of the paper."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertTokenizer, XLMRobertaConfig

from tests.pipeline.conftest import TinyGrid, Watcher
from xlt.data.features import encode
from xlt.data.packing import pack
from xlt.data.rows import PairRow
from xlt.data.tokenizer import load_tokenizer, makes_segments, train_tokenizer
from xlt.errors import DataFault, UsageFault
from xlt.evaluate.predict import RepeatedPrediction
from xlt.model.encoder import PackedModel
from xlt.pipeline.training import EVALUATION_TOKENS, evaluation_tokens, load_model, longest_sequence
from xlt.tasks.catalogue import get_task

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TEXTS = [f"{name} sees the {thing} in {place}." for name in "Ana Ben Ida".split() for thing in "house lake dog".split()
         for place in "Bonn Rom Wien Oslo".split()]  # fmt: skip
ROWS = [PairRow(str(n), TEXTS[n], TEXTS[-n], "neutral") for n in range(6)]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of XLM-R's kind."""
    folder = tmp_path_factory.mktemp("pieces")
    train_tokenizer(TEXTS, 60, folder, threads=1)
    return folder


def stored(folder: Path, tokenizer: Path, config: type, **changes: int) -> Path:
    """A folder with the tokenizer and a random model."""
    shutil.copytree(tokenizer, folder)
    torch.manual_seed(0)
    size = len(load_tokenizer(str(tokenizer)))
    AutoModel.from_config(config(**{**SIZES, "vocab_size": size, "pad_token_id": 1, **changes})).save_pretrained(folder)
    return folder


def word_pieces(folder: Path) -> Path:
    """A folder with a tokenizer of BERT's kind."""
    folder.mkdir()
    words = sorted({word for text in TEXTS for word in text.lower().replace(".", "").split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words]), "utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("makes", [True, False])
@pytest.mark.parametrize("embedded", [1, 2])
def test_segments_are_those_of_the_tokenizer(
    pieces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded: int, makes: bool, packed: bool
) -> None:
    """Published encoders of BERT's layout with XLM-R's tokenizer (multilingual-e5, Multilingual-MiniLM) read all of a
    pair as one segment, whatever their number of embeddings; BERT's own tokenizer makes two."""
    made = word_pieces(tmp_path / "words") if makes else pieces
    padding = {"pad_token_id": 0} if makes else {}
    folder = stored(tmp_path / "model", made, BertConfig, type_vocab_size=embedded, **padding)
    if not packed:
        monkeypatch.setattr("xlt.model.backbone.PACKED_FAMILIES", frozenset())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it runs padded
        model, tokenizer = load_model(folder)
    both = makes and embedded == 2
    assert (makes_segments(tokenizer), model.segments, model.packed) == (makes, both, packed)
    task = get_task("mnli")
    sequences = encode(ROWS, task, tokenizer, training=False)
    batch = pack(sequences, task="mnli", kind=task.kind, first_position=model.first_position)
    states = model.hidden_states(batch, 2)
    library = AutoModel.from_pretrained(folder).eval()
    for number, row in enumerate(ROWS):
        # As a user of the library calls it: with all that the tokenizer gives, as far as there are embeddings for it.
        given = AutoTokenizer.from_pretrained(folder)(row.text_a, row.text_b, return_tensors="pt")
        if embedded == 1:
            given.pop("token_type_ids", None)
        begin, end = batch.cu_seqlens[number], batch.cu_seqlens[number + 1]
        theirs = library(**given).last_hidden_state[0]
        torch.testing.assert_close(states[begin:end], theirs, rtol=0, atol=2e-5)


def test_a_folder_without_a_tokenizer_is_refused(pieces: Path, tmp_path: Path) -> None:
    """The library would make one of five pieces, without a word."""
    folder = stored(tmp_path / "m", pieces, XLMRobertaConfig)
    for path in [*folder.glob("tokenizer*"), *folder.glob("*.model")]:
        path.unlink()
    for read in (load_model, longest_sequence):
        with pytest.raises(DataFault, match=r"'.*m' has no tokenizer"):
            read(folder)


def test_a_tokenizer_with_more_pieces_than_embeddings_is_refused(pieces: Path, tmp_path: Path) -> None:
    count = len(load_tokenizer(str(pieces)))
    folder = stored(tmp_path / "m", pieces, XLMRobertaConfig, vocab_size=count - 1)
    for read in (load_model, longest_sequence):
        with pytest.raises(DataFault, match=f"has {count} pieces, and the model {count - 1} embeddings"):
            read(folder)
    # More embeddings than pieces do no harm: many checkpoints round their number up.
    load_model(stored(tmp_path / "n", pieces, XLMRobertaConfig, vocab_size=count + 5))


def test_another_padding_token_is_refused_where_positions_are_counted_from_it(pieces: Path, tmp_path: Path) -> None:
    folder = stored(tmp_path / "m", pieces, XLMRobertaConfig, pad_token_id=3)
    for read in (load_model, longest_sequence):
        with pytest.raises(DataFault, match="By the model in 'm' token 3 is padding, by its tokenizer 1"):
            read(folder)
    # BERT counts from 0 whatever padding is.
    model, _ = load_model(stored(tmp_path / "n", pieces, BertConfig, pad_token_id=0))
    assert model.first_position == 0


def test_the_longest_sequence_needs_no_weights(pieces: Path, tmp_path: Path) -> None:
    folder = stored(tmp_path / "m", pieces, XLMRobertaConfig, max_position_embeddings=130)
    (folder / "model.safetensors").unlink()
    assert longest_sequence(folder) == 128
    config = json.loads((folder / "config.json").read_text("utf-8")) | {"is_encoder_decoder": True}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(UsageFault, match="cannot be a backbone"):
        longest_sequence(folder)


def test_a_large_gpu_reads_more_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluation_tokens() == EVALUATION_TOKENS["cpu"]
    monkeypatch.setattr("xlt.pipeline.training.device", lambda: torch.device("cuda", 0))
    for memory, tokens in ((24e9, 16_384), (141e9, 65_536)):
        card = SimpleNamespace(total_memory=memory)
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda _, card=card: card)
        assert evaluation_tokens() == tokens


def test_a_training_is_scored_on_as_many_dev_rows_as_its_recipe_says(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    arms = 'both = { intermediate = ["mnli", "squad"], targets = ["tatoeba"] }'
    recipe = "both = { steps = 4, batch_size = 8, evaluate_every = 2, dev_examples = 5 }"
    seen: list[tuple[str, int]] = []
    watched = RepeatedPrediction.predict

    def predict(self: RepeatedPrediction, *args: Any) -> Any:
        made = watched(self, *args)
        seen.append((self.task.key, len(made)))
        return made

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RepeatedPrediction, "predict", predict)
        variants = tiny_grid.with_arms(tmp_path, arms, recipe=recipe)
        store = variants.run(tmp_path / "results", Watcher())
    assert seen == [("mnli", 5), ("squad", 5)] * 2
    # Its results are of all rows.
    run = next(run for run in variants.grid().runs if run.name == "both")
    metrics = json.loads((store.path(run.folder) / "metrics.json").read_text("utf-8"))
    assert {"mnli", "squad"} <= {name.split(".")[0] for name in metrics}


ARMS = """
mixed = { intermediate = ["squad"], masked_lm = true, targets = ["tatoeba"] }
mnli_de = { intermediate = ["mnli"], translated = ["de"], targets = ["tatoeba"] }
"""


def test_masked_lm_and_translations_train_what_they_say(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    recipe = "mixed = { steps = 12, batch_size = 8, learning_rate = 5e-4 }"
    variants = tiny_grid.with_arms(tmp_path, ARMS, recipe=recipe)
    # The English training set is gone: what is trained can only be the translation.
    translation = variants.files / "translated/de/mnli/multinli_1.0_train.jsonl"
    translation.parent.mkdir(parents=True)
    (variants.files / "mnli/multinli_1.0_train.jsonl").rename(translation)
    store = variants.run(tmp_path / "results", Watcher())
    runs = {run.name: run for run in variants.grid().runs}

    assert (runs["mixed"].train, runs["mixed"].evaluate) == (("squad", "mlm"), ("squad",))
    assert (runs["mixed"].recipe["learning_rate"], runs["mixed"].recipe["steps"]) == (5e-4, 12)
    folder = store.path(runs["mixed"].folder)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    assert {line["task"] for line in log} == {"squad", "mlm"}
    before = PackedModel.load(str(store.path(runs["mlm"].folder) / "model"))
    after = PackedModel.load(str(folder / "model"))
    assert set(after.heads) == {"squad"}
    assert before.lm_head is not None
    assert after.lm_head is not None
    # It is the head of phase 1, trained a few steps more, not a new one.
    old, new = (dict(head.named_parameters())["dense.weight"] for head in (before.lm_head, after.lm_head))
    assert 0 < (old - new).norm() < 0.5 * old.norm()

    assert set(runs["mnli_de"].data) == {"mnli/train/de", "mnli/dev/en"}
    assert runs["mnli_de"].translated == ("de",)
    assert len((store.path(runs["mnli_de"].folder) / "log.jsonl").read_text("utf-8").splitlines()) == 8
