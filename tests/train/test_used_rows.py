"""Training only the rows of the vocabulary that are read gives what training all of them gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.train.test_loop import batch_stream, fresh_model
from xlt.model.encoder import PackedModel
from xlt.runtime import start_process_group
from xlt.train import used_rows
from xlt.train.engine import EngineSettings
from xlt.train.loop import DevResult, train
from xlt.train.used_rows import RowsEmbedding, train_used_rows

SPECIAL = (0, 1, 2, 3)


@pytest.fixture(scope="module", autouse=True)
def _process_group() -> None:
    start_process_group()


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(used_rows, "WORTHWHILE", 1)


def trained(*, rows: bool, dev: bool = False, **recipe: Any) -> Any:
    model, stream = fresh_model(), batch_stream(learning_rate=1e-2, weight_decay=0.1, **recipe)
    used = train_used_rows(model, stream.sequences, SPECIAL) if rows else None
    assert (used is not None) == rows
    scores = iter((1.0, 3.0, 2.0, 0.0, 0.0, 0.0))
    found = train(
        model,
        stream,
        EngineSettings(),
        on_step=lambda record: None,
        dev_score=(lambda _: DevResult(next(scores))) if dev else None,
    )
    return model, used.restored(found, stream.recipe, stream.steps) if used else found


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("dev", [False, True], ids=["last", "best"])
def test_the_weights_are_those_of_training_all_rows(dev: bool) -> None:
    options = {"dev": dev, "steps": 12, **({"evaluate_every": 3} if dev else {})}
    (plain, all_rows), (model, some) = trained(rows=False, **options), trained(rows=True, **options)
    assert some.step == all_rows.step == (6 if dev else 12)
    assert some.weights.keys() == all_rows.weights.keys()
    for name, weight in all_rows.weights.items():
        assert torch.allclose(some.weights[name], weight, rtol=2e-5, atol=2e-6), name
    # The rows 7, 8 and 9 stand in no example: only weight decay moves them.
    name = "backbone.embeddings.word_embeddings.weight"
    before = fresh_model().state_dict()[name]
    assert (some.weights[name][7:10].abs() < before[7:10].abs()).all()
    # The model has all rows again, as it is stored and read.
    assert torch.equal(model.backbone.get_input_embeddings().weight, some.weights[name])
    assert [each for each, _ in model.named_parameters()] == [each for each, _ in plain.named_parameters()]


@pytest.mark.usefixtures("_small")
def test_an_optimizer_sees_only_the_rows_that_are_read() -> None:
    model, stream = fresh_model(), batch_stream()
    used = train_used_rows(model, stream.sequences, SPECIAL)
    assert used is not None
    read = {*SPECIAL, *(int(token) for each in stream.sequences for token in each.input_ids)}
    assert used.rows.tolist() == sorted(read)
    embedding = model.backbone.get_input_embeddings()
    assert (embedding.num_embeddings, embedding.padding_idx) == (len(read), 1)
    assert torch.equal(embedding(used.rows), used.whole(used.rows))


@pytest.mark.usefixtures("_small")
def test_a_token_that_no_example_has_is_an_error() -> None:
    model, stream = fresh_model(), batch_stream()
    train_used_rows(model, stream.sequences, SPECIAL)
    with pytest.raises(IndexError):
        model.backbone.get_input_embeddings()(torch.tensor([8]))


def test_a_small_vocabulary_and_masked_lm_keep_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, stream = fresh_model(), batch_stream()
    assert train_used_rows(model, stream.sequences, SPECIAL) is None
    monkeypatch.setattr(used_rows, "WORTHWHILE", 1)
    with_head = PackedModel.fresh(
        {"vocab_size": 60, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    )
    assert train_used_rows(with_head, stream.sequences, SPECIAL) is None
    assert not isinstance(with_head.backbone.get_input_embeddings(), RowsEmbedding)
