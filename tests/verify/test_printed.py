"""Verdicts on printed cells."""

from __future__ import annotations

import pytest

from xlt.verify.claims import Printed, read_literature
from xlt.verify.looks import CellVerdict
from xlt.verify.printed import judge_printed

from .core_results import BASE, Aim, aimed, replicated, scores


def judged(aim: Aim = aimed, *, seeds: tuple[int, ...] = (0, 1, 2), layer: int = 14) -> dict[str, CellVerdict]:
    found = judge_printed(read_literature().cells(), scores(aim, seeds), layer, "xlt reproduce")
    return {each.key: each for each in found}


def shifted(points: float, task: str, *, noise: float = 0.1) -> Aim:
    def aim(arm: str, key: str, split: str, language: str, seed: int) -> float:
        return BASE[key] + (points if key == task else 0) + noise * seed

    return aim


def test_a_cell_near_its_printed_value_is_reproduced_and_one_far_away_deviates_with_its_direction():
    near, far = judged(shifted(0.0, "pawsx")), judged(shifted(-8.0, "pawsx"))
    assert near["xtreme.baseline.pawsx"].verdict == "reproduced"
    assert (far["xtreme.baseline.pawsx"].verdict, far["xtreme.baseline.pawsx"].direction) == ("deviates", "below")
    assert far["xtreme.baseline.xnli"].verdict == "reproduced"
    assert far["xtreme.baseline.pawsx"].seeds == (0, 1, 2)
    assert "against 86.4 ± 2.3" in far["xtreme.baseline.pawsx"].reason


def test_seeds_that_lie_apart_are_consistent_and_one_seed_tells_nothing():
    assert judged(shifted(0.0, "pawsx", noise=2.0))["xtreme.baseline.pawsx"].verdict == "consistent"
    alone = judged(seeds=(0,))["xtreme.baseline.pawsx"]
    assert (alone.verdict, alone.value) == ("not verifiable", None)
    assert "one seed shows no spread" in alone.reason


def test_retrieval_is_compared_at_the_block_that_was_printed_only():
    at_14, at_20 = judged(), judged(layer=20)
    assert at_14["xtreme-retrieval.baseline.bucc2018"].reason == "printed for block 20, measured at block 14"
    assert "is not known" in at_14["xtreme-retrieval.baseline.tatoeba"].reason
    assert at_20["xtreme-retrieval.baseline.bucc2018"].verdict == "reproduced"
    assert at_20["replication.baseline.tatoeba"].verdict == "not verifiable"
    assert at_20["xtreme.baseline.xnli"].verdict == at_14["xtreme.baseline.xnli"].verdict


def test_what_needs_no_training_needs_no_second_seed():
    found = judged(replicated, seeds=(0,))
    assert found["replication.baseline.tatoeba.af"].verdict == "reproduced"
    assert found["replication.baseline.tatoeba.sw"].verdict == "not run"
    assert found["replication.baseline.tatoeba.sw"].fix == "xlt reproduce"


def test_a_value_that_nobody_read_says_what_it_needs():
    found = judged()
    assert found["main.mnli.xnli"].reason == "no value was read; needs the paper's main table"
    assert "first version" in found["test-mt5.best.xnli"].reason


@pytest.mark.parametrize(("value", "word"), [(12.0, "not verifiable"), (30.0, "consistent")])
def test_an_interval_that_a_guess_is_in_is_no_evidence(value: float, word: str):
    def aim(arm: str, key: str, split: str, language: str, seed: int) -> float:
        return value + 2 * seed

    cell = Printed(
        table="t", arm="baseline", quantity="tatoeba", split="test", layer=14, expected=value, source="s",
        trained=True, margin=1.0,
    )  # fmt: skip
    (found,) = judge_printed([cell], scores(aim), 14, "")
    assert found.verdict == word
