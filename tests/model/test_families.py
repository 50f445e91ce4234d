"""Decoders and today's encoders: every state is the library's for the sequence alone, and heads read what has seen it
whole."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from tests import families
from tests.model.conftest import LONGEST, VOCABULARY
from xlt.errors import DataFault, UsageFault
from xlt.model.backbone import outline, positions
from xlt.model.encoder import PackedModel
from xlt.model.layout import seen_whole

LENGTHS = [5, 2, 30, 17, 2, 29, 11]
PADDED = {"gpt2", "deberta-v2"}
EVERY = pytest.mark.parametrize("family", [*families.DECODERS, *families.ENCODERS])
DECODERS = pytest.mark.parametrize("family", families.DECODERS)


@pytest.fixture
def stored(tmp_path):
    """Makes a folder with a random tiny model of a family."""
    return lambda family, **changes: families.store(tmp_path / family, family, **{"vocab_size": VOCABULARY, **changes})


def load(folder: Path) -> PackedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it runs padded
        return PackedModel.load(folder)


@EVERY
def test_every_layer_and_gradient_is_the_librarys_of_each_sequence_alone(stored, batch_of, family):
    folder = stored(family)
    model, library = load(folder), AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    assert (model.causal, model.packed) == (family in families.DECODERS, family not in PADDED)
    batch = batch_of(LENGTHS, first_position=model.first_position)
    alone = [library(ids[None], output_hidden_states=True).hidden_states for ids in batch.input_ids.split(LENGTHS)]
    every = model.all_hidden_states(batch)
    for layer, state in enumerate(every):
        expected = torch.cat([states[layer][0] for states in alone])
        torch.testing.assert_close(state, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(model.hidden_states(batch, layer), expected, rtol=0, atol=1e-5)
    weight = torch.randn(batch.tokens, 32)
    (model.hidden_states(batch, 3) * weight).sum().backward()
    (torch.cat([states[3][0] for states in alone]) * weight).sum().backward()
    theirs = {name: parameter.grad for name, parameter in library.named_parameters() if parameter.grad is not None}
    ours = {name: parameter.grad for name, parameter in model.backbone.named_parameters() if parameter.grad is not None}
    assert ours.keys() == theirs.keys()
    largest = max(float(grad.abs().max()) for grad in theirs.values())
    for name, grad in theirs.items():
        torch.testing.assert_close(ours[name], grad, rtol=0, atol=1e-5 * largest)


@EVERY
def test_a_trained_model_survives_being_stored(stored, batch_of, family, tmp_path):
    model = load(stored(family))
    model.add_head("task", "tagging", 5)
    batch = batch_of(LENGTHS, "tagging", scored_positions=torch.tensor([1, 8, 20]), first_position=model.first_position)
    model.save(tmp_path / "again")
    again = load(tmp_path / "again")
    assert (again.packed, again.causal) == (model.packed, model.causal)
    assert torch.equal(again(batch)[1], model(batch)[1])
    with pytest.raises(UsageFault, match="3 blocks"):
        again.hidden_states(batch, 4)


@DECODERS
@pytest.mark.parametrize("kind", ["pair_classification", "multiple_choice"])
def test_a_decoders_label_is_read_at_the_last_token_which_sees_all_of_them(stored, batch_of, family, kind):
    model = load(stored(family))
    model.add_head("task", kind, 3)
    batch = batch_of(LENGTHS, kind, first_position=model.first_position)
    scores = model(batch)[1]
    last = model.hidden_states(batch, 3)[batch.cu_seqlens[1:] - 1]
    expected = model.heads["task"](last, torch.arange(len(LENGTHS) + 1))
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)
    for place in (0, 4):  # the first and the last token of the first sequence
        batch.input_ids[place] += 1
        assert not torch.allclose(model(batch)[1][0], scores[0], rtol=0, atol=1e-4)


def test_a_label_of_bloom_is_read_where_the_librarys_own_classifier_reads_it(stored, batch_of):
    """BloomForSequenceClassification: one linear layer on the last token that is no padding."""
    folder = stored("bloom")
    library = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3).eval()
    model = load(folder)
    batch = batch_of([6], "pair_classification", first_position=0)
    read = model.hidden_states(batch, 3)[seen_whole(batch)][0]
    torch.testing.assert_close(library.score(read), library(batch.input_ids[None]).logits[0], rtol=0, atol=1e-5)


def test_first_and_last_token_change_places_and_nothing_else_does(batch_of):
    batch = batch_of([3, 1, 4], "span_qa", first_position=0)
    assert seen_whole(batch).tolist() == [2, 1, 0, 3, 7, 5, 6, 4]


def test_a_words_tag_is_read_from_its_last_piece(batch_of):
    # </s> a a b </s> | </s> c </s> | </s> d e e e </s>, and two positions that only fill a shape up.
    batch = batch_of([5, 3, 6], "tagging", scored_positions=torch.tensor([1, 3, 6, 9, 10, 0, 0]), first_position=0)
    read = seen_whole(batch).tolist()
    assert [read[place] for place in (1, 3, 6, 9, 10)] == [2, 3, 6, 9, 12]


@DECODERS
def test_a_piece_of_a_word_changes_its_tag_and_no_tag_before_it(stored, batch_of, family):
    model = load(stored(family))
    model.add_head("task", "tagging", 4)
    batch = batch_of([6], "tagging", scored_positions=torch.tensor([1, 3]), first_position=model.first_position)
    before = model(batch)[1]
    batch.input_ids[4] += 1  # the second piece of the second word
    after = model(batch)[1]
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-6)
    assert not torch.allclose(after[1], before[1], rtol=0, atol=1e-4)


@DECODERS
def test_no_answer_is_scored_by_what_has_seen_question_and_context(stored, batch_of, family):
    """In span QA "no answer" is the span of the first token alone, of which a decoder knows nothing there."""
    model = load(stored(family))
    model.add_head("task", "span_qa", 0)
    labels = torch.tensor([[0, 0], [2, 4]])
    batch = batch_of([7, 6], "span_qa", labels=labels, denominator=2.0, first_position=model.first_position)
    loss, scores = model(batch)
    head = model.heads["task"](model.hidden_states(batch, 3), batch.cu_seqlens)
    torch.testing.assert_close(scores[0], head[6], rtol=0, atol=1e-6)
    # The label is the last token's place there; that of an answer stays.
    log = [head[:7].log_softmax(0)[6].sum(), head[7:].log_softmax(0)[[2, 4], [0, 1]].sum()]
    torch.testing.assert_close(loss, -(log[0] + log[1]) / 4, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "changes", "most"),
    [
        *((family, {}, None) for family in ("bloom", "xglm", "qwen2", "modernbert", "deberta-v2", "gte")),
        ("gpt2", {"n_positions": 40}, 40),
        ("xlm-roberta", {"max_position_embeddings": 130}, 128),
    ],
)
def test_a_text_is_as_long_as_positions_reach_where_there_is_a_table_of_them(stored, family, changes, most, batch_of):
    folder = stored(family, **changes)
    model = load(folder)
    assert positions(model.backbone) == positions(outline(folder)) == most
    # It is no mere number: so long a text can be read.
    longest = most or 3 * LONGEST
    assert model.hidden_states(batch_of([longest], first_position=model.first_position), 3).isfinite().all()


def test_weights_that_are_missing_are_not_filled_with_random_ones(stored):
    folder = stored("bloom")
    config = (folder / "config.json").read_text("utf-8").replace('"n_layer": 3', '"n_layer": 4')
    (folder / "config.json").write_text(config, "utf-8")
    with pytest.raises(DataFault, match="missing"):
        load(folder)
