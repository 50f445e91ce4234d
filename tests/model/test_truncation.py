"""The output of one block, with nothing above it computed."""

from __future__ import annotations

import pytest
import torch
from transformers import XLMRobertaModel

from xlt.errors import UsageFault

LENGTHS = [4, 30, 1, 9]


@pytest.mark.parametrize("layer", range(4))
def test_every_layer_equals_the_librarys_hidden_state(tiny, batch_of, padded, layer):
    model, batch = tiny(), batch_of(LENGTHS)
    config = type(model.backbone.config)(**model.backbone.config.to_dict())
    library = XLMRobertaModel._from_config(config, attn_implementation="eager").eval()
    library.load_state_dict(model.backbone.state_dict(), strict=False)
    other = padded(batch)
    states = library(**other.inputs, output_hidden_states=True).hidden_states
    # Rounding only, as in test_parity.
    torch.testing.assert_close(
        model.hidden_states(batch, layer), states[layer].flatten(0, 1)[other.flat], rtol=0, atol=2e-5
    )


def test_nothing_above_the_layer_runs(tiny, batch_of):
    model = tiny()
    ran = []
    for index, block in enumerate(model.backbone.encoder.layer, start=1):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    model.hidden_states(batch_of(LENGTHS), 2)
    assert ran == [1, 2]


def test_the_layers_come_back_even_after_an_error(tiny, batch_of):
    model, batch = tiny(), batch_of(LENGTHS)
    layers = model.backbone.encoder.layer
    names = list(model.state_dict())
    hook = layers[0].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.hidden_states(batch, 1)
    hook.remove()
    assert model.backbone.encoder.layer is layers
    assert list(model.state_dict()) == names
    assert model.hidden_states(batch, 3).shape == (sum(LENGTHS), 32)


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_that_is_not_there_is_an_error(tiny, batch_of, layer):
    with pytest.raises(UsageFault, match="3 blocks"):
        tiny().hidden_states(batch_of(LENGTHS), layer)
