"""XLM-R Large with random weights on a GPU, in bf16 with every kernel, against the library's model; small on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from transformers import XLMRobertaForSequenceClassification

from xlt.bench.shapes import Size, fresh_model, random_sequences
from xlt.data.packing import PackedBatch, pack
from xlt.model.encoder import PackedModel
from xlt.train.seeding import deterministic

LARGE = pytest.param(
    "large",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")],
)
CLASSES = 3
# Both round every product and sum to the same type, at other places: the error of ours is of the size of theirs.
# Twice as large is what chance may do, a wrong mask or a lost term is off by orders.
FACTOR = 2.0


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    deterministic(True)
    yield
    deterministic(False)


def model_of(size: Size, dropout: float) -> PackedModel:
    model = fresh_model(size, dropout=dropout)
    model.drop_masked_lm_head()
    model.add_head("nli", "pair_classification", CLASSES)
    return model.to("cuda" if size == "large" else "cpu", torch.bfloat16 if size == "large" else torch.float32)


def batch_of(model: PackedModel, size: Size) -> PackedBatch:
    sequences = random_sequences("mnli", 32, size, classes=CLASSES)
    batch = pack(sequences, task="nli", kind="pair_classification", first_position=2, denominator=len(sequences))
    return batch.to(model.device)


def library_result(model: PackedModel, batch: PackedBatch, dtype: torch.dtype) -> list[Tensor]:
    """Loss and gradients of the library's padded model with the same weights, in the order of ours."""
    config = type(model.backbone.config)(**{**model.backbone.config.to_dict(), "num_labels": CLASSES})
    with torch.device(model.device):
        library = XLMRobertaForSequenceClassification._from_config(config, attn_implementation="sdpa", dtype=dtype)
    library.roberta.load_state_dict(model.backbone.state_dict())
    library.classifier.load_state_dict(model.heads["nli"].state_dict())
    rows = batch.input_ids.split(batch.cu_seqlens.diff().tolist())
    ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=1)
    library.train()(input_ids=ids, attention_mask=(ids != 1).long(), labels=batch.labels).loss.backward()
    loss = library.eval()(input_ids=ids, attention_mask=(ids != 1).long(), labels=batch.labels).loss.detach()
    theirs = {name: weight.grad for name, weight in library.named_parameters()}
    names = {"backbone.": "roberta.", "heads.nli.": "classifier."}
    found = [loss]
    for name, _ in model.named_parameters():
        prefix = next(prefix for prefix in names if name.startswith(prefix))
        gradient = theirs[names[prefix] + name.removeprefix(prefix)]
        assert gradient is not None
        found.append(gradient)
    return found


def our_result(model: PackedModel, batch: PackedBatch) -> list[Tensor]:
    model.zero_grad()
    loss = model.train()(batch)[0]
    loss.backward()
    gradients = [weight.grad for weight in model.parameters()]
    return [loss.detach(), *(gradient for gradient in gradients if gradient is not None)]


def error(found: list[Tensor], exact: list[Tensor]) -> tuple[float, float]:
    """Of the loss, and of all gradients as one vector, relative to their norms."""
    squares = [((a.double() - b).square().sum(), b.square().sum()) for a, b in zip(found, exact, strict=True)]
    gradients = torch.stack([torch.stack(pair) for pair in squares[1:]]).sum(0)
    return float((squares[0][0] / squares[0][1]).sqrt()), float((gradients[0] / gradients[1]).sqrt())


@pytest.mark.parametrize("size", ["small", LARGE])
def test_the_packed_model_is_as_close_to_exact_arithmetic_as_the_padded_library(size: Size) -> None:
    model = model_of(size, dropout=0.0)
    batch = batch_of(model, size)
    exact = library_result(model, batch, torch.float64)
    theirs = error(library_result(model, batch, model.backbone.dtype), exact)
    ours = error(our_result(model, batch), exact)
    floor = 1e-2 if size == "large" else 1e-6  # the loss is one number: its error can be 0 by chance
    assert ours[0] <= FACTOR * max(theirs[0], floor)
    assert ours[1] <= FACTOR * theirs[1]


@pytest.mark.parametrize("size", ["small", LARGE])
def test_two_steps_with_the_same_seed_have_the_same_bits(size: Size) -> None:
    model = model_of(size, dropout=0.1)
    batch = batch_of(model, size)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append([each.clone() for each in our_result(model, batch)])
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not torch.equal(results[0][0], results[2][0])
