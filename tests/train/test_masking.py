"""Masked-LM masks: the shares of BERT, special tokens never, the same for the same generator."""

from __future__ import annotations

import numpy as np

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
