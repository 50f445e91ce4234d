"""The verdict on all means together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import t

from xlt.errors import ExitCode
from xlt.verify.judge import verify
from xlt.verify.overall import distance, judge_together, spread
from xlt.verify.recorded import MeasuredCell, MeasuredMean, ReferenceRun, ReferenceSet
from xlt.verify.verdicts import judge_means

from .test_verdicts import reference_set, run_mean
from .tiny_results import shifted

TASKS = ("xnli", "pawsx", "tatoeba", "hellaswag", "commonsenseqa", "cosmosqa", "ccg", "qqp")
RECORDED = np.random.default_rng(0).normal(60, 3, (20, len(TASKS)))


def recorded_seeds() -> ReferenceSet:
    """Twenty seeds whose means are independent draws with a standard deviation of 3 points."""
    runs = []
    for seed, values in enumerate(RECORDED, start=1):
        cells = {
            f"baseline/{task}/test/sw": MeasuredCell(metrics={"accuracy": value}, above_chance=True, predictions="x")
            for task, value in zip(TASKS, np.round(values, 6).tolist(), strict=True)
        }
        means = {
            name.rpartition("/")[0]: MeasuredMean(value=cell.metrics["accuracy"], chance=0.0, recipe="r", data="d")
            for name, cell in cells.items()
        }
        facts = {"tier": "t", "source": "s", "date": "", "platform": {"device": "cpu"}}
        runs.append(ReferenceRun(seed=seed, means=means, cells=cells, **facts))
    return dataclasses.replace(reference_set(1, 2, 3, 4), runs=tuple(runs))


def test_what_is_a_little_worse_everywhere_lies_in_every_band_and_deviates_together():
    references = recorded_seeds()
    asked = [run_mean(60 - 1.5 * 3, name=task) for task in TASKS]
    verdicts, _ = judge_means(asked, references)
    assert {each.verdict for each in verdicts} == {"consistent"}
    found = judge_together(asked, references, verdicts)
    assert found is not None
    assert (found.verdict, found.means, len(found.seeds)) == ("deviates", 8, 20)
    assert found.p is not None
    assert found.p < 0.01
    assert "standard deviations below the 20 recorded seeds" in found.reason
    sound = judge_together([run_mean(60.5, name=task) for task in TASKS], references, verdicts)
    assert sound is not None
    assert sound.verdict == "consistent"


def test_the_reference_distribution_is_that_of_each_seed_by_all_others():
    by_others = [distance(row, np.delete(RECORDED, n, axis=0), 0.1) for n, row in enumerate(RECORDED)]
    assert spread(RECORDED, 0.1) == pytest.approx(np.sqrt(np.square(by_others).sum() / 19))
    references, asked = recorded_seeds(), [run_mean(58.0, name=task) for task in TASKS]
    found = judge_together(asked, references, judge_means(asked, references)[0])
    assert found is not None
    scale = spread(np.round(RECORDED, 6), 2.0)
    assert found.reach == pytest.approx(t.ppf(1 - 0.01 / 2, 19) * scale)
    assert found.p == pytest.approx(2 * t.sf(abs(found.value) / scale, 19))


def test_sound_runs_deviate_as_seldom_as_the_rule_says():
    rng, off = np.random.default_rng(1), 0
    for _ in range(400):
        there, here = rng.normal(60, 3, (12, 8)), rng.normal(60, 3, 8)
        off += abs(distance(here, there, 0.1)) > t.ppf(0.975, 11) * spread(there, 0.1)
    assert 8 <= off <= 34  # 5 % of 400 are 20: fewer or more happen in one of a thousand cases


def test_one_mean_alone_is_a_matter_of_its_band():
    there = np.array([[50.0, 60.0], [52.0, 61.0], [51.0, 62.0]])
    assert distance(np.array([51.0, 0.0]), there, 1.0) == -2  # four standard deviations at most, over two means
    # Seeds that do not differ at all: up to the floor, no mean adds more than that either.
    assert distance(np.array([55.0, 60.0]), np.full((3, 2), 60.0), 5.0) == -2


def test_where_half_of_what_was_learnt_could_be_lost_nothing_is_consistent():
    references = recorded_seeds()
    asked = [run_mean(60.0, name=task, guess=59.0) for task in TASKS]
    found = judge_together(asked, references, judge_means(asked, references)[0])
    assert found is not None
    assert found.verdict == "not verifiable"


def test_it_decides_the_exit_code_and_is_exact_where_every_mean_is(make, recorded, artifact):
    rule = artifact / "expected" / "tiny-tiny.toml"  # few seeds that go up and down together: one percent shows nothing
    rule.write_text(rule.read_text("utf-8").replace("= 0.01", "= 0.21").replace("= 0.005", "= 0.2"), "utf-8")
    low = make("low").fill(shifted(-3))
    found = verify(low.root, low.source)
    assert found.counts == {"consistent": 7}
    assert found.overall.verdict == "deviates"
    assert found.exit_code == ExitCode.DEVIATES
    assert found.summary == "7 of 7 consistent; all means together deviates"
    same = make("same", seed=3).fill(shifted(3), seconds=2)
    assert verify(same.root, same.source).overall.verdict == "exact"


def test_it_needs_as_many_seeds_as_a_band(results, artifact):
    overall = verify(results.root, results.source).overall
    assert (overall.verdict, overall.seeds) == ("not verifiable", ())
    assert "0 of at least 4" in overall.reason
    (artifact / "expected" / "tiny-tiny.toml").unlink()
    assert verify(results.root, results.source).overall is None
