"""What is said beside the verdicts: numbers of agreement with the original, and what was the same."""

from __future__ import annotations

import pytest

from xlt.verify.claims import read_claims, read_literature
from xlt.verify.original import agreement, beside_paper, beside_recorded, coefficient_of_variation
from xlt.verify.paper import judge_paper
from xlt.verify.recorded import MeasuredCell, MeasuredMean, ReferenceRun
from xlt.verify.verdicts import Verdict

from .core_results import aimed, replicated, scores

PLATFORM = {"device": "cpu", "cpu": "AMD EPYC", "packages": {"torch": "2.13.0", "numpy": "2.4.6"}}


@pytest.mark.parametrize(
    ("values", "published"),
    [
        ([84.51, 84.50, 87.46, 85.60, 84.20, 86.61, 86.20], 1.562),
        ([30.65, 30.65, 29.13, 30.65, 29.96], 2.487),
        ([87.50, 80.75, 89.36, 88.10, 89.64, 88.80], 4.176),
        ([31.11, 30.28, 31.11, 29.12], 3.572),
    ],
)
def test_the_coefficient_of_variation_is_that_of_its_authors(values: list[float], published: float):
    """Table 4 of Belz, Popović and Mille (ACL 2022)."""
    assert coefficient_of_variation(values) == pytest.approx(published, abs=5e-4)


def test_two_equal_values_vary_by_nothing_and_one_or_a_mean_of_none_has_no_variation():
    assert coefficient_of_variation([80.0, 80.0]) == 0.0
    assert coefficient_of_variation([80.0]) is None
    assert coefficient_of_variation([0.0, 0.0]) is None


def test_correlations_are_of_values_and_of_ranks_and_need_three_cells():
    pairs = {"a": (1.0, 1.0), "b": (2.0, 4.0), "c": (3.0, 9.0)}
    found = agreement(pairs, {"a": 1.0, "b": 2.0})
    assert found is not None
    assert (found.cells, found.spearman, found.variation) == (3, 1.0, 1.5)
    assert found.pearson == pytest.approx(0.9897, abs=1e-4)
    assert agreement({"a": pairs["a"], "b": pairs["b"]}, {}) is None
    flat = agreement({name: (value, 5.0) for name, (value, _) in pairs.items()}, {})
    assert flat is not None
    assert (flat.pearson, flat.spearman, flat.variation) == (None, None, None)


def recorded(value: float = 60.0, execution: str = "there") -> ReferenceRun:
    tasks = {"xnli": value, "pawsx": 70.0, "udpos": 80.0}
    how = {"recipe": "r", "data": "d", "execution": execution, "chance": 1.0}
    cells = {}
    for task, score in tasks.items():
        metric = "f1" if task == "udpos" else "accuracy"
        metrics = {metric: score, "accuracy": score}
        cells[f"baseline/{task}/test/en"] = MeasuredCell(metrics=metrics, above_chance=True, predictions="p")
    return ReferenceRun(
        tier="smoke", source="world", seed=0, date="2026-11-20", platform=PLATFORM | {"commit": "a"},
        means={f"baseline/{task}/test": MeasuredMean(value=score, **how) for task, score in tasks.items()},
        cells=cells,
    )  # fmt: skip


def said(*values: float) -> list[Verdict]:
    tasks = zip(("xnli", "pawsx", "udpos"), values, strict=True)
    return [
        Verdict(arm="baseline", task=task, split="test", verdict="consistent", reason="", value=value, run="folder")
        for task, value in tasks
    ]


def test_a_run_is_compared_with_the_recorded_one_of_its_seed_mean_by_mean_and_condition_by_condition():
    platform = {"device": "cpu", "cpu": "Intel Xeon", "packages": {"torch": "2.13.0"}, "numerics": "portable"}
    made = {"folder": ("r", "another", "here")}
    found = beside_recorded(said(61.0, 70.0, 80.0), made, [recorded()], 0, platform)
    assert found is not None
    assert found.name == "the recorded run of seed 0 (AMD EPYC, 2026-11-20)"
    assert found.variation["baseline/pawsx/test"] == 0.0
    assert found.variation["baseline/xnli/test"] == pytest.approx(coefficient_of_variation([61.0, 60.0]))
    assert found.agreement["all means"].spearman == 1.0
    states = {each.name: each.state for each in found.conditions}
    assert states == {
        "recipe": "same", "data": "differs", "seed": "same", "device": "same", "cpu": "differs", "torch": "same",
        "numpy": "not known", "commit": "not known", "numerics": "not known",
    }  # fmt: skip
    assert "4 conditions are the same, 2 differ, 3 are not known; CV* is 0." in found.summary


def test_a_run_is_not_its_own_original():
    made = {"folder": ("r", "d", "there")}
    assert beside_recorded(said(60.0, 70.0, 80.0), made, [recorded()], 0, PLATFORM) is None
    assert beside_recorded(said(60.0, 70.0, 80.0), {"folder": ("r", "d", "")}, [recorded(execution="")], 0, {})
    assert beside_recorded(said(60.0, 70.0, 80.0), {"folder": ("r", "d", "here")}, [recorded()], 1, PLATFORM) is None


def test_beside_the_paper_stand_its_printed_cells_claims_and_what_is_known_of_it():
    found_scores = scores(replicated)
    paper = judge_paper(found_scores, read_claims().claims, read_literature().cells(), 14, "")
    found = beside_paper(paper, found_scores, "xlm-roberta-large", PLATFORM | {"precision": "bf16"}, {})
    values = [found_scores.value(seed, "baseline", "xnli", "test") for seed in (0, 1, 2)]
    assert found.variation["xtreme.baseline.xnli"] == pytest.approx(coefficient_of_variation([*values, 79.2]))
    # Without training the seeds repeat one measurement, which is the printed one here.
    assert found.variation["replication.baseline.tatoeba.af"] == pytest.approx(0.0, abs=1e-9)
    assert "main.baseline.xnli" not in found.variation
    assert found.agreement["C1"].cells == 4
    assert found.agreement["C1"].variation is None  # of gains it says nothing
    assert found.agreement["test"].pearson == pytest.approx(1.0, abs=0.02)
    assert "main" not in found.agreement
    by_name = {each.name: each for each in found.conditions}
    assert (by_name["model"].state, by_name["model"].here) == ("same", "xlm-roberta-large")
    assert (by_name["seeds"].here, by_name["packages"].here) == ("0, 1, 2", "torch 2.13.0, numpy 2.4.6")
    assert by_name["hyperparameters"].state == "not known"
    other = beside_paper(paper, scores(aimed), "xlm-roberta-base", PLATFORM, {})
    assert {each.name: each.state for each in other.conditions}["model"] == "differs"
