"""The table of the small grid on real languages."""

from __future__ import annotations

import pytest

from artifact.documents import pocket as module
from artifact.documents.pocket import paired, pocket
from xlt.tasks.catalogue import TARGET
from xlt.verify.recorded import MeasuredCell, MeasuredMean, ReferenceRun, ReferenceSet

METRICS = {
    "accuracy": ("accuracy",),
    "tag_f1": ("f1",),
    "squad": ("exact_match", "f1"),
    "mlqa": ("exact_match", "f1"),
    "mining_f1": ("f1",),
}


def made(seed: int, gain: float, recipe: str = "r") -> ReferenceRun:
    """A record in which an arm is ``gain`` better than the baseline, and English 10 points better than German."""
    means, cells = {}, {}
    for arm, more in (("baseline", 0.0), ("mnli", gain)):
        for task in TARGET:
            name = f"{arm}/{task.key}/{'dev' if task.key == 'mlqa' else 'test'}"
            means[name] = MeasuredMean(value=45.0 + more, chance=20.0, recipe=recipe, data="d")
            for code, value in (("en", 50.0 + more), ("de", 40.0 + more)):
                metrics = dict.fromkeys(METRICS[task.metric], value)
                cells[f"{name}/{code}"] = MeasuredCell(metrics=metrics, above_chance=True, predictions="p")
    return ReferenceRun(
        tier="pocket", source="files", seed=seed, date="2026-01-01", platform={}, means=means, cells=cells
    )


def recorded(monkeypatch: pytest.MonkeyPatch, *runs: ReferenceRun) -> None:
    monkeypatch.setattr(module, "read_references", lambda tier, source: ReferenceSet(tier, source, None, runs))


def test_arms_beside_the_baseline_with_paired_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(monkeypatch, made(0, 1.0), made(1, 3.0), made(2, 2.0))
    page = pocket()
    assert page is not None
    assert page["arms"] == ["baseline", "mnli"]
    *rows, average = page["rows"]
    assert [row["task"].replace(" (dev)", "") for row in rows] == [task.name for task in TARGET]
    assert [row["task"] for row in rows if "(dev)" in row["task"]] == ["MLQA (dev)"]
    for row in (*rows, average):
        assert row["scores"] == {"baseline": [45.0] * 3, "mnli": [46.0, 48.0, 47.0]}
        # Mean 2, standard deviation 1 over 3 seeds: the 97.5 % quantile of t with 2 degrees is 4.3027.
        assert row["gains"]["mnli"] == pytest.approx({"mean": 2.0, "half": 4.3027 / 3**0.5}, abs=1e-4)
    assert {row["gap"] for row in rows} == {10.0}


def test_one_seed_has_no_interval_and_none_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paired([1.0], [3.0]) == {"mean": 2.0, "half": None}
    recorded(monkeypatch)
    assert pocket() is None


def test_seeds_of_two_recipes_are_not_put_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(monkeypatch, made(0, 1.0), made(1, 1.0, recipe="other"))
    with pytest.raises(ValueError, match="not all of one recipe"):
        pocket()
