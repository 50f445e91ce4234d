"""What the smoke tier's statistical verdict would notice."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from artifact.documents import characteristics, expected
from xlt.verify.comparison import estimate
from xlt.verify.verdicts import Band, Verdict


@pytest.fixture(scope="module")
def series() -> characteristics.Series:
    return expected.read_series()


def test_every_mean_that_counts_would_show_the_loss_of_half_of_what_lies_above_a_guess(series):
    rows = expected.bands(series)
    judged = [row for row in rows if row["judged"]]
    assert len(rows) == 31
    assert judged
    for row in judged:
        band, guess = row["band"], row["chance"]
        assert band.low > guess + (band.mean - guess) / 2
        assert band.mean - band.low < row["noticed"] < band.mean - guess
    assert {row["noticed"] for row in rows if not row["judged"]} == {None}


def test_no_guess_is_nothing_in_the_judged_metric(series):
    """F1 of the most frequent tag is 0 in POS and NER: no bar at all."""
    guesses = series.table.groupby("task")["chance"].first()
    assert 30 < guesses["udpos"] < 50
    assert 10 < guesses["panx"] < 30
    assert guesses["xnli"] == pytest.approx(100 / 3, abs=0.1)


def test_worse_everywhere_is_noticed_together_before_any_band_fails(series):
    by_off = {row["off"]: row for row in characteristics.failures(series)}
    assert by_off[0.0]["either"] == 0
    assert by_off[1.5]["bands"] <= 2 < 13 < by_off[1.5]["together"]
    assert by_off[3.0]["together"] == 27
    counts = [row["either"] for row in by_off.values()]
    assert counts == sorted(counts)


def test_none_of_27_is_no_proof_of_one_percent():
    assert characteristics.upper_bound(0, 27) == pytest.approx(100 * (1 - 0.05 ** (1 / 27)))
    assert characteristics.upper_bound(0, 27) > 10
    assert characteristics.upper_bound(3, 3) == 100


def test_the_drop_noticed_is_outside_of_the_band_in_80_of_100_cases():
    rng, seeds, level = np.random.default_rng(0), 10, 0.01
    there = rng.normal(60, 3, seeds)
    half = estimate([60.0], there.tolist()).half_width(level / 2)
    middle, deviation = float(there.mean()), float(there.std(ddof=1))
    facts = {"mean": middle, "deviation": deviation, "seeds": tuple(range(seeds)), "floored": False}
    band = Band(low=middle - half, high=middle + half, **facts)
    drop = characteristics.noticed(Verdict(arm="a", task="t", split="test", verdict="consistent", reason="", band=band))
    noticed = 0
    for _ in range(4000):
        others, one = rng.normal(60, deviation, seeds), rng.normal(60 - drop, deviation)
        reach = estimate([60.0], others.tolist()).half_width(level / 2)
        noticed += one < others.mean() - reach
    assert noticed / 4000 == pytest.approx(0.8, abs=0.02)


def test_seeds_that_learn_or_do_not_are_named_as_not_normal(series):
    assert "mnli/mnli/dev" in dict(characteristics.not_normal(series))
    one = dataclasses.replace(series.references, runs=series.records)
    assert characteristics.not_normal(dataclasses.replace(series, references=one), level=0.0) == []
