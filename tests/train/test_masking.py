"""Masked-LM masks: the shares of BERT, special tokens never, the same for the same generator. Next tokens of a decoder:
the loss of the library's own model on each text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import BloomConfig, BloomForCausalLM

from tests.train.test_graph import examples
from xlt.data.packing import Encoded
from xlt.model.encoder import PackedModel
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Recipe
from xlt.train.batches import BatchStream, StepShard
from xlt.train.masking import Vocabulary, choose_masks

VOCABULARY = Vocabulary(size=1000, mask_id=999, special_ids=(0, 1, 2, 3, 999))


def rows(count: int, length: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [np.concatenate([[0], random.integers(4, 999, size=length), [2]]).astype(np.int32) for _ in range(count)]


def test_shares_of_masked_random_and_kept_tokens() -> None:
    originals = rows(400, 100)
    masks = choose_masks(originals, VOCABULARY, 0.15, np.random.default_rng(7))
    chosen = sum(len(positions) for positions, _ in masks)
    pairs = [(o[p], s[p]) for o, (ps, s) in zip(originals, masks, strict=True) for p in ps]
    masked = sum(seen == 999 for _, seen in pairs)
    kept = sum(seen == original for original, seen in pairs)
    # 40,000 tokens: four standard deviations of each share are below these bounds.
    assert abs(chosen / 40_000 - 0.15) < 0.008
    assert abs(masked / chosen - 0.8) < 0.025
    assert abs(kept / chosen - 0.1) < 0.02


def test_only_chosen_tokens_change_and_special_ones_are_never_chosen() -> None:
    originals = rows(50, 20)
    for original, (positions, seen) in zip(
        originals, choose_masks(originals, VOCABULARY, 0.3, np.random.default_rng(1)), strict=True
    ):
        untouched = np.setdiff1d(np.arange(len(original)), positions)
        assert (original[untouched] == seen[untouched]).all()
        assert not {0, len(original) - 1} & set(positions.tolist())
        assert not set(seen[1:-1].tolist()) & {0, 1, 2, 3}


def test_every_sequence_with_an_ordinary_token_is_scored() -> None:
    masks = choose_masks(rows(20, 1), VOCABULARY, 0.01, np.random.default_rng(2))
    assert [len(positions) for positions, _ in masks] == [1] * 20


def test_a_sequence_of_special_tokens_has_nothing_to_score() -> None:
    ((positions, seen),) = choose_masks([np.array([0, 2], dtype=np.int32)], VOCABULARY, 0.9, np.random.default_rng(3))
    assert len(positions) == 0
    assert seen.tolist() == [0, 2]


@pytest.mark.parametrize("accumulation", [1, 3])
def test_next_tokens_are_those_of_the_own_sequence_alone(accumulation: int) -> None:
    """DERIVED: the cross entropy of the library's padded model in float64, text by text, over all tokens."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
    model = PackedModel.fresh(sizes, "bloom").double()
    library = BloomForCausalLM(BloomConfig(**sizes, attn_implementation="eager")).double()
    library.load_state_dict({f"transformer.{name}": each for name, each in model.backbone.state_dict().items()}, False)
    texts = [*examples("mlm", 8), Encoded("short", np.array([5], dtype=np.int32))]
    batches = BatchStream(texts, get_task("mlm"), Recipe(batch_size=9), seed=1, first_position=0)
    found = torch.zeros((), dtype=torch.float64)
    for batch in batches.micro_batches(0, StepShard(accumulation=accumulation)):
        loss, _ = model(batch)
        (loss / accumulation).backward()
        found += loss.detach() / accumulation
    longest = max(len(each.input_ids) for each in texts)
    padded = torch.tensor([[*each.input_ids, *[3] * (longest - len(each.input_ids))] for each in texts])
    mask = torch.tensor([[1] * len(each.input_ids) + [0] * (longest - len(each.input_ids)) for each in texts])
    logits = library(input_ids=padded, attention_mask=mask).logits
    parts = [
        F.cross_entropy(logits[row, place], padded[row, place + 1])
        for row, each in enumerate(texts)
        for place in range(len(each.input_ids) - 1)
    ]
    wanted = torch.stack(parts).mean()
    wanted.backward()
    # The library rounds attention weights to fp32, whatever the model's type.
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=0)
    theirs = {f"backbone.{name}": p.grad for name, p in library.transformer.named_parameters()}
    ours = {name: p.grad for name, p in model.named_parameters()}
    assert ours.keys() == theirs.keys()
    largest = max(float(each.abs().max()) for each in theirs.values() if each is not None)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=0, atol=1e-6 * largest)
