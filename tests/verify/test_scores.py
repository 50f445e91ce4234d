"""Quantities from cells: means, groups, the best arm, pairs, and what is lacking."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xlt.verify.scores import BEST, NINE, Scores, ScoreUnavailable, tasks_of

from .core_results import BASE, GAINS, scores


def flat(arm: str, task: str, split: str, language: str, seed: int) -> float:
    return BASE[task] + GAINS.get(arm, {}).get(task, 0.0)


@pytest.fixture(scope="module")
def found() -> Scores:
    return scores(flat)


def test_a_group_is_the_mean_of_its_tasks_and_a_metric_stands_alone(found):
    assert found.value(0, "baseline", "sentence_pair", "test") == pytest.approx((79.2 + 86.4) / 2)
    assert found.value(0, "baseline", "xquad/f1", "test") == pytest.approx(68.7 + 7.7)
    assert found.value(0, "baseline", "xquad", "test") == pytest.approx(68.7)
    assert found.value(0, "baseline", "average", "test") == pytest.approx(sum(BASE.values()) / 9)
    assert found.value(0, "baseline", "xnli", "test", "ar") == pytest.approx(79.2)
    assert found.value(0, "baseline", "xnli", "test", column="chance") == pytest.approx(10.0)


def test_quantities_are_known_by_name():
    assert tasks_of("three_categories") == ("xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa")
    assert set(tasks_of("average")) == set(NINE)
    assert tasks_of("tydiqa/f1") == ("tydiqa",)


def test_the_best_arm_is_chosen_on_dev_for_each_seed_and_never_the_baseline():
    def aim(arm: str, task: str, split: str, language: str, seed: int) -> float:
        ahead = {0: "mnli", 1: "squad"}[seed]
        return 60 + (5 if (arm == ahead) == (split == "dev") else 0) + (20 if arm == "baseline" else 0)

    made = scores(aim, seeds=(0, 1))
    assert [made.best(seed, "xnli") for seed in (0, 1)] == ["mnli", "squad"]
    assert made.value(0, BEST, "xnli", "test") == pytest.approx(60.0)
    assert made.value(0, BEST, "tydiqa", "test") == pytest.approx(65.0)  # its one split is dev and test


def test_differences_are_paired_by_seed_and_language_and_averaged_over_arms(found):
    gains = found.gains((0, 2), ("squad", "mnli"), "baseline", "tatoeba", "dev")
    assert gains == [pytest.approx(36.0)] * 2
    assert found.gains((0,), ("multi",), "baseline", "average", "dev") == [
        pytest.approx(sum(GAINS["multi"].values()) / 9)
    ]


def test_what_is_missing_is_not_run_and_too_few_languages_are_not_verifiable(found):
    table = found.table
    place = (table["seed"] == 1) & (table["arm"] == "squad") & (table["task"] == "xnli") & (table["split"] == "dev")
    partial = replace(found, table=table[~place])
    usable = partial.usable(["squad"], ["xnli"], "dev")
    assert (usable.seeds, usable.collapsed) == ((0, 2), False)
    assert usable.left_out == ("'squad' has no scores on xnli dev with seed 1",)
    with pytest.raises(ScoreUnavailable, match="no scores on xnli dev with seed 1"):
        partial.value(1, "squad", "average", "dev")
    wide = replace(found, languages={**found.languages, "test": {**found.languages["test"], "xnli": "en ar sw ur"}})
    with pytest.raises(ScoreUnavailable, match="xnli test lacks languages of the mean: sw ur") as fault:
        wide.usable(["baseline"], ["average"], "test")
    assert fault.value.word == "not verifiable"
    strange = replace(found, excluded={("squad", ""): "'squad' was trained on qqp here"})
    assert "squad" not in strange.arms
    with pytest.raises(ScoreUnavailable, match="trained on qqp"):
        strange.value(0, "squad", "xnli", "dev")


def test_one_collapsed_seed_is_left_out_and_named_and_two_are_the_verdict():
    def aim(arm: str, task: str, split: str, language: str, seed: int) -> float:
        return 10.0 if (arm, task) == ("squad", "xnli") and seed in fallen else 60.0

    fallen: tuple[int, ...] = (1,)
    usable = scores(aim).usable(["squad"], ["average"], "dev")
    assert (usable.seeds, usable.left_out) == ((0, 2), ("'squad' is at chance on xnli with seed 1",))
    assert usable.collapsed
    fallen = (1, 2)
    with pytest.raises(ScoreUnavailable, match="'squad' is at chance on xnli with seed 1") as fault:
        scores(aim).usable(["squad"], ["average"], "dev")
    assert fault.value.word == "collapsed"
