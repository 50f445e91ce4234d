"""Every family of backbones equals the library's own padded model: packed where it can be, padded where it cannot."""

from __future__ import annotations

import warnings

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from tests import families
from tests.model.conftest import CONFIG, LONGEST, NO_DROPOUT, PAD
from xlt.errors import UsageFault
from xlt.model.backbone import PACKED_FAMILIES
from xlt.model.encoder import PackedModel

LENGTHS = [5, 2, 30, 17, 2, 29, 11]
# Neither has an attention that can be replaced: DeBERTa has positions inside it, DistilBERT another layout.
PADDED_FAMILIES = ("deberta-v2", "distilbert")
# What some families call otherwise.
OTHER_NAMES = {"deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}}
# Those of other layouts are tested in test_families.
BERT_LIKE = sorted({"xlm-roberta", *PACKED_FAMILIES} - {*families.DECODERS, "modernbert", "gte"})
FAMILIES = pytest.mark.parametrize("family", [*BERT_LIKE, *PADDED_FAMILIES])


@pytest.fixture
def stored(tmp_path):
    """Makes a folder with a random tiny model of a family, with its masked-LM head or without."""

    def make(family, auto=AutoModel):
        torch.manual_seed(0)
        options = {**CONFIG, **NO_DROPOUT, "pad_token_id": PAD, **OTHER_NAMES.get(family, {})}
        if family == "distilbert":
            options |= {"dropout": 0.0, "attention_dropout": 0.0, "max_position_embeddings": LONGEST}
        auto.from_config(AutoConfig.for_model(family, **options)).save_pretrained(tmp_path)
        return tmp_path

    return make


def load(folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PackedModel.load(folder, **options)


def inputs_of(batch, padded, library):
    other = padded(batch)
    has_segments = (getattr(library.config, "type_vocab_size", None) or 0) > 1
    return other.inputs | ({"token_type_ids": other.segments} if has_segments else {}), other.flat


@FAMILIES
def test_every_layer_and_every_gradient_is_the_librarys(stored, batch_of, padded, family):
    folder = stored(family)
    model, library = load(folder), AutoModel.from_pretrained(folder).eval()
    assert model.packed is (family in PACKED_FAMILIES)
    batch = batch_of(LENGTHS, first_position=model.first_position)
    inputs, flat = inputs_of(batch, padded, library)
    states = library(**inputs, output_hidden_states=True).hidden_states
    for layer, state in enumerate(states):
        # Rounding only, as in test_parity.
        torch.testing.assert_close(model.hidden_states(batch, layer), state.flatten(0, 1)[flat], rtol=0, atol=2e-5)
    weight = torch.randn(len(flat), 32)
    (model.hidden_states(batch, 3) * weight).sum().backward()
    (states[3].flatten(0, 1)[flat] * weight).sum().backward()
    theirs = {name: parameter.grad for name, parameter in library.named_parameters() if parameter.grad is not None}
    ours = {name: parameter.grad for name, parameter in model.backbone.named_parameters() if parameter.grad is not None}
    assert ours.keys() == theirs.keys()
    largest = max(float(grad.abs().max()) for grad in theirs.values())
    for name, grad in theirs.items():
        torch.testing.assert_close(ours[name], grad, rtol=0, atol=2e-5 * largest)


@FAMILIES
def test_a_sequence_gives_the_same_alone_and_among_others(stored, batch_of, family):
    model = load(stored(family))
    model.add_head("task", "pair_classification", 3)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 1])
    many = batch_of(LENGTHS, "pair_classification", labels=labels, denominator=7.0, first_position=model.first_position)
    loss, scores = model(many)
    assert loss.isfinite()
    alone = batch_of([30], "pair_classification", first_position=model.first_position)
    alone.input_ids.copy_(many.input_ids[7:37])
    torch.testing.assert_close(model(alone)[1][0], scores[2], rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", PADDED_FAMILIES)
def test_what_runs_padded_says_so_and_survives_being_stored(stored, batch_of, family, tmp_path):
    with pytest.warns(UserWarning, match=f"{family} cannot run packed: it runs padded"):
        model = PackedModel.load(stored(family))
    model.add_head("task", "tagging", 5)
    batch = batch_of(LENGTHS, "tagging", scored_positions=torch.tensor([1, 8, 20]))
    model.save(tmp_path / "again")
    again = load(tmp_path / "again")
    assert again.packed is False
    assert torch.equal(again(batch)[1], model(batch)[1])
    with pytest.raises(UsageFault, match="3 blocks"):
        again.hidden_states(batch, 4)


def test_a_masked_lm_head_of_one_module_works_padded(stored, batch_of, padded):
    folder = stored("deberta-v2", AutoModelForMaskedLM)
    model, library = load(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    batch = batch_of(LENGTHS, "masked_lm", labels=torch.tensor([7, 9]), scored_positions=torch.tensor([1, 20]))
    inputs, flat = inputs_of(batch, padded, library)
    logits = library(**inputs).logits.flatten(0, 1)[flat[[1, 20]]]
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([7, 9]), reduction="sum")
    torch.testing.assert_close(model(batch)[0], expected, rtol=0, atol=2e-4)


def test_a_masked_lm_head_of_several_modules_is_left_behind_unless_asked_for(stored):
    folder = stored("distilbert", AutoModelForMaskedLM)
    assert load(folder).lm_head is None
    with pytest.raises(UsageFault, match="no single language-model head"):
        load(folder, masked_lm=True)
