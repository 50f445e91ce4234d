"""The verdicts on means by recorded seeds, and the seeds that are recorded."""

from __future__ import annotations

import datetime
import json
import math

import pandas as pd
import pytest
from scipy.stats import t

from tests.cli.conftest import invoke as invoke
from xlt.errors import EnvironmentFault, ExitCode, IncompleteFault, UsageFault
from xlt.verify.export import record, reference_run
from xlt.verify.judge import Verification, verify
from xlt.verify.recorded import (
    BandRule,
    MeasuredCell,
    MeasuredMean,
    ReferenceRun,
    ReferenceSet,
    RunMean,
    reference_path,
)
from xlt.verify.verdicts import Band, Verdict, count_verdicts, judge_means

from .tiny_results import shifted

DAY = datetime.date(2026, 1, 2)


def verdict(verification: Verification, arm: str, task: str, split: str = "test") -> Verdict:
    return next(v for v in verification.verdicts if v.key == (arm, task, split))


def run_mean(value: float, *, guess: float = 0.0, name: str = "xnli", above_chance: bool = True) -> RunMean:
    """A mean of one language, not English."""
    facts = {"language": "sw", "value": value, "chance": guess, "above_chance": above_chance, "predictions": "mine"}
    return RunMean(("baseline", name, "test"), pd.DataFrame([facts]), 0, "cpu", "r", "d", "run")


def reference_set(*values: float, floor: float = 2.0, tasks: tuple[str, ...] = ("xnli",)) -> ReferenceSet:
    """Recorded seeds with these means on each of the tasks."""
    runs = []
    for seed, value in enumerate(values, start=1):
        cells = {
            f"baseline/{task}/test/sw": MeasuredCell(
                metrics={"accuracy": value}, above_chance=True, predictions="theirs"
            )
            for task in tasks
        }
        means = {name.rpartition("/")[0]: MeasuredMean(value=value, chance=0.0, recipe="r", data="d") for name in cells}
        runs.append(
            ReferenceRun(tier="t", source="s", seed=seed, date="", platform={"device": "cpu"}, means=means, cells=cells)
        )
    rule = BandRule(
        format=1, family_error=0.02, overall_error=0.01, least_loss=0.5, minimum_seeds=4, floor=floor, reason="r"
    )
    return ReferenceSet("t", "s", rule, tuple(runs))


def band_of(*asked: RunMean, references: ReferenceSet) -> Band:
    (given, *_), _ = judge_means(asked, references)
    assert given.band is not None
    return given.band


def test_the_band_is_the_prediction_interval():
    band = band_of(run_mean(63), references=reference_set(60, 62, 64, 66))
    half = t.ppf(1 - 0.01 / 2, 3) * math.sqrt(20 / 3) * math.sqrt(1.25)
    assert (band.low, band.high) == (pytest.approx(63 - half), pytest.approx(63 + half))
    assert (band.mean, band.deviation, band.seeds) == (63, pytest.approx(math.sqrt(20 / 3)), (1, 2, 3, 4))
    assert not band.floored


def test_the_level_is_shared_among_all_that_is_looked_at():
    tasks = ("xnli", "pawsx", "tatoeba")
    references = reference_set(60, 62, 64, 66, tasks=tasks)
    half = t.ppf(1 - 0.01 / 6, 3) * math.sqrt(20 / 3) * math.sqrt(1.25)
    band = band_of(*(run_mean(63, name=task) for task in tasks), references=references)
    assert band.high == pytest.approx(min(100, 63 + half))
    # Holm: what is far outside leaves more of the level to the others.
    (first, *_, last), _ = judge_means(
        [run_mean(63, name=task) for task in tasks[:2]] + [run_mean(999, name="tatoeba")], references
    )
    assert last.verdict == "deviates"
    assert first.band is not None
    assert first.band.high == pytest.approx(63 + t.ppf(1 - 0.01 / 4, 3) * math.sqrt(20 / 3) * math.sqrt(1.25))


def test_the_half_width_has_a_floor_and_ends_at_100():
    band = band_of(run_mean(50), references=reference_set(50, 50, 50, 50))
    assert (band.low, band.high, band.floored) == (48, 52, True)
    assert band_of(run_mean(50), references=reference_set(*[99.5] * 4)).high == 100


@pytest.mark.parametrize(
    ("value", "word"), [(50.5, "reproduced"), (52.0, "reproduced"), (52.1, "deviates"), (47.9, "deviates")]
)
def test_seeds_that_are_all_equal_show_what_is_within_the_floor(value: float, word: str):
    (given,), _ = judge_means([run_mean(value)], reference_set(50, 50, 50, 50))
    assert given.verdict == word
    assert ("within 2 of the reference runs" in given.reason) == (word == "reproduced")


def test_inside_the_band_is_consistent(make, recorded):
    made = make().fill(shifted(1))
    found = verify(made.root, made.source)
    assert found.counts == {"consistent": 7}
    assert found.exit_code == ExitCode.OK
    assert found.references == ("8 reference runs on 'cpu', seeds 1, 2, 3, 4, 5, 6, 7, 8",)
    band = verdict(found, "baseline", "xnli").band
    assert band is not None
    assert band.mean == pytest.approx(80 + 1.5 / 60 * 100)


def test_below_the_band_deviates_with_its_direction(make, recorded):
    made = make().fill(shifted(-20, "mnli", "xnli"))
    found = verify(made.root, made.source)
    given = verdict(found, "mnli", "xnli")
    assert (given.verdict, given.direction) == ("deviates", "below")
    assert given.value is not None
    assert given.band is not None
    assert given.value < given.band.low
    assert found.counts == {"deviates": 1, "consistent": 6}
    assert found.exit_code == ExitCode.DEVIATES


def test_above_the_band_deviates_too(make, recorded):
    made = make().fill(lambda spec, task, split, language: 60)
    given = verdict(verify(made.root, made.source), "baseline", "tatoeba")
    assert (given.verdict, given.direction) == ("deviates", "above")


def test_english_at_chance_is_a_collapse_even_inside_a_wide_band(make, recorded):
    made = make().fill(lambda spec, task, split, lang: 20 if (spec.arm, task) == ("mnli", "xnli") else 50)
    found = verify(made.root, made.source)
    given = verdict(found, "mnli", "xnli")
    assert given.verdict == "collapsed"
    assert "English is at chance" in given.reason
    statement = next(s for s in found.statements if s.key == ("mnli", "xnli", "test"))
    assert (statement.above_chance, statement.languages) == (0, 3)
    assert statement.at_chance == ("de", "en", "qaf")
    assert found.exit_code == ExitCode.DEVIATES


def test_at_chance_is_no_news_where_reference_runs_may_be_there_too(make, recorded):
    for number, path in enumerate(sorted(recorded.glob("seed-*.json"))):
        document = json.loads(path.read_text("utf-8"))
        cells = [cell for name, cell in document["cells"].items() if name.startswith("mnli/xnli/test/")]
        for cell in cells:
            cell["metrics"]["accuracy"] = 40.0 + 50 * (number % 2)
        document["means"]["mnli/xnli/test"]["value"] = cells[0]["metrics"]["accuracy"]
        path.write_text(json.dumps(document), "utf-8")
    made = make().fill(lambda spec, task, split, lang: 20 if (spec.arm, task) == ("mnli", "xnli") else 50)
    given = verdict(verify(made.root, made.source), "mnli", "xnli")
    assert (given.verdict, given.diagnostic) == ("not verifiable", True)


def test_below_the_band_with_a_loss_that_did_not_fall_is_a_collapse(make, recorded):
    made = make().fill(shifted(-20, "mnli", "xnli"))
    log = made.run("mnli.xnli") / "log.jsonl"
    lines = [{**json.loads(line), "loss": 1.1} for line in log.read_text("utf-8").splitlines()]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    made.seal("mnli.xnli")
    given = verdict(verify(made.root, made.source), "mnli", "xnli")
    assert (given.verdict, given.reason) == (
        "collapsed",
        "below the band, and the loss did not fall in training",
    )


@pytest.mark.parametrize(("right", "word"), [(1, "consistent"), (12, "deviates")])
def test_a_loss_that_did_not_fall_is_no_collapse_where_the_score_is_not_below(make, recorded, right: int, word: str):
    made = make().fill(shifted(right, "baseline", "xnli"))
    log = made.run("baseline.xnli") / "log.jsonl"
    lines = [json.loads(line) | {"loss": 2.0} for line in log.read_text("utf-8").splitlines()]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    made.seal("baseline.xnli")
    found = verify(made.root, made.source)
    given = verdict(found, "baseline", "xnli")
    assert (given.verdict, given.direction) == (word, None if right == 1 else "above")
    assert next(each for each in found.statements if (each.arm, each.task) == ("baseline", "xnli")).loss_fell is False


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"baseline/xnli/test/de"', '"baseline"', 1),
        lambda text: text.replace('"baseline/xnli/test/de"', '"baseline/nothing/test/de"', 1),
        lambda text: text.replace('"metrics": {"accuracy"', '"metrics": {"luck"', 1),
        lambda text: text.replace('"seed": 1', '"seed": 1, "seed": 2', 1),
        lambda text: "[" * 100_000,
        lambda text: "\ufeff" + text,
    ],
)
def test_a_record_that_cannot_be_read_is_a_fault_of_the_environment(results, recorded, change):
    path = recorded / "seed-1.json"
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    with pytest.raises(EnvironmentFault, match=r"seed-1\.json' cannot be used") as caught:
        verify(results.root, results.source)
    assert caught.value.why


def test_the_same_seed_is_never_its_own_reference(make, recorded):
    made = make(seed=3).fill(shifted(1), seconds=2)
    found = verify(made.root, made.source)
    assert "seeds 1, 2, 4, 5, 6, 7, 8 (left out: 1 with the seed of this run)" in found.references[0]
    band = verdict(found, "mnli", "mnli", "dev").band
    assert band is not None
    assert 3 not in band.seeds


def test_too_few_seeds_verify_nothing(make, recorded):
    for seed in (1, 2, 5, 6):
        (recorded / f"seed-{seed}.json").unlink()
    made = make(seed=3).fill(shifted(-40), seconds=2)
    found = verify(made.root, made.source)
    assert found.counts == {"not verifiable": 7}
    assert found.references[0] == ("3 of at least 4 reference runs for 'cpu' (left out: 1 with the seed of this run)")
    assert found.exit_code == ExitCode.INCOMPLETE


def test_without_records_or_rule_the_reason_says_so(results, artifact):
    assert verify(results.root, results.source).references == ("no reference runs yet for 'cpu'",)
    (artifact / "expected" / "tiny-tiny.toml").unlink()
    assert "no values are expected" in verify(results.root, results.source).references[0]


def test_a_changed_recipe_makes_the_records_stale(make, recorded, artifact):
    tier = artifact / "tiers" / "tiny.toml"
    changed = tier.read_text("utf-8").replace("xnli = { ", "xnli = { learning_rate = 2e-5, ")
    tier.write_text(changed, "utf-8")
    made = make().fill(shifted(1))
    found = verify(made.root, made.source)
    assert found.counts == {"not verifiable": 2, "consistent": 5}
    given = verdict(found, "mnli", "xnli")
    assert given.reason == "no reference runs yet for 'cpu' (left out: 8 recorded with another recipe)"


def test_a_run_is_not_judged_if_what_it_starts_from_is_damaged(make, recorded):
    made = make().fill(shifted(1))
    (made.run("mnli") / "log.jsonl").write_text("", "utf-8")
    found = verify(made.root, made.source)
    assert found.counts == {"not verifiable": 4, "consistent": 3}
    assert verdict(found, "mnli", "tatoeba").reason == "the run that it starts from is not whole"
    assert verdict(found, "mnli", "mnli", "dev").reason.startswith("The run is damaged: log.jsonl")


def test_other_data_and_another_device_are_not_compared(make, recorded):
    made = make().fill(shifted(1), device="NVIDIA H200")
    found = verify(made.root, made.source)
    assert found.references[0] == "no reference runs yet for 'NVIDIA H200' (left out: 8 recorded on another device)"
    other = make("other")
    other.source.change = "!"
    other = make("other", source=other.source).fill(shifted(1))
    assert "8 recorded on other data" in verify(other.root, other.source).references[0]


def test_a_record_holds_raw_values_and_no_time_but_the_date(make, recorded):
    stored = json.loads((recorded / "seed-1.json").read_text("utf-8"))
    assert stored["date"] == "2026-01-02"
    assert stored["means"]["baseline/xnli/test"]["value"] == pytest.approx(80 + 100 / 60, abs=1e-6)
    assert stored["cells"]["baseline/xnli/test/en"]["metrics"] == {"accuracy": pytest.approx(91.666667)}
    assert stored["platform"]["commit"] == "c0ffee"
    assert "seconds" not in json.dumps(stored)
    assert str(recorded) not in json.dumps(stored)
    accelerated = make("gpu", seed=1).fill(device="NVIDIA H200")
    path = record(verify(accelerated.root, accelerated.source), recorded.parent.parent, today=DAY)
    assert path.name == "seed-1-nvidia-h200.json"
    portable = reference_run(verify(accelerated.root, accelerated.source), "2026-01-02")
    portable = portable.model_copy(update={"platform": {"device": "cpu", "numerics": "portable"}})
    assert reference_path(portable, path).name == "seed-1-portable.json"
    fast = portable.model_copy(update={"platform": {"device": "cpu", "numerics": "fast"}})
    assert reference_path(fast, path).name == "seed-1-fast.json"


def test_an_edited_record_contradicts_itself(make, recorded, results):
    path = recorded / "seed-2.json"
    stored = json.loads(path.read_text("utf-8"))
    stored["means"]["baseline/xnli/test"]["value"] = 1.0
    path.write_text(json.dumps(stored), "utf-8")
    with pytest.raises(EnvironmentFault, match=r"seed-2\.json"):
        verify(results.root, results.source)


def test_incomplete_results_are_not_recorded(results, artifact):
    results.remove("mnli.xnli")
    with pytest.raises(IncompleteFault, match="Only complete results"):
        record(verify(results.root, results.source), artifact)
    assert not (artifact / "measured").exists()


@pytest.mark.parametrize(("inside", "word"), [(0.1, "not verifiable"), (-0.1, "consistent")])
def test_a_mean_counts_if_the_loss_of_half_of_what_lies_above_a_guess_leaves_its_band(inside: float, word: str) -> None:
    references = reference_set(60, 62, 64, 66)
    half_lost = band_of(run_mean(63), references=references).low + inside
    (given,), _ = judge_means([run_mean(63, guess=2 * half_lost - 63)], references)
    assert given.verdict == word
    assert given.diagnostic == (word == "not verifiable")
    assert count_verdicts([given]) == ({} if given.diagnostic else {"consistent": 1})


@pytest.mark.parametrize("value", [63.0, 5.0, 99.0])
def test_whether_a_mean_counts_does_not_depend_on_its_value_and_what_does_not_takes_no_level(value: float) -> None:
    references = reference_set(60, 62, 64, 66, tasks=("xnli", "pawsx"))
    asked = [run_mean(value, guess=50), run_mean(63, name="pawsx")]
    (shown, judged), _ = judge_means(asked, references)
    assert (shown.verdict, shown.diagnostic, shown.direction) == ("not verifiable", True, None)
    assert judged.band == band_of(run_mean(63), references=reference_set(60, 62, 64, 66))


def test_the_same_predictions_as_the_recorded_run_of_the_same_seed_are_exact(make, recorded):
    same = make("same", seed=3).fill(shifted(3), seconds=2)
    found = verify(same.root, same.source)
    assert found.counts == {"exact": 7}
    assert found.exit_code == ExitCode.OK
    given = verdict(found, "baseline", "xnli")
    assert given.band is not None
    assert 3 not in given.band.seeds
    other = make("other", seed=3).fill(shifted(2))
    assert verify(other.root, other.source).counts == {"consistent": 7}


def test_a_run_is_no_reference_for_itself_wherever_its_folder_lies(make, recorded):
    itself = make("copied", seed=3).fill(shifted(3))
    found = verify(itself.root, itself.source)
    assert found.counts == {"consistent": 7}
    others = "1, 2, 4, 5, 6, 7, 8"
    assert found.references == (f"7 reference runs on 'cpu', seeds {others} (left out: 1 recorded from this very run)",)


def test_a_run_that_alone_is_recorded_is_judged_by_nothing(results, artifact):
    record(verify(results.root, results.source), artifact)
    found = verify(results.root, results.source)
    assert found.counts == {"not verifiable": 7}
    assert "left out: 1 recorded from this very run" in verdict(found, "baseline", "xnli").reason


def test_a_record_without_the_execution_it_came_from_is_of_another_run(make, recorded):
    path = recorded / "seed-3.json"
    stored = json.loads(path.read_text("utf-8"))
    for mean in stored["means"].values():
        del mean["execution"]
    path.write_text(json.dumps(stored), "utf-8")
    same = make("same", seed=3).fill(shifted(3))
    assert verify(same.root, same.source).counts == {"exact": 7}


@pytest.mark.parametrize("other", [{"seconds": 2}, {"quality": shifted(1)}])
def test_nothing_recorded_is_overwritten(make, recorded, invoke, monkeypatch, other):
    path = recorded / "seed-3.json"
    before, artifact = path.read_bytes(), recorded.parent.parent
    again = make("again", seed=3).fill(**{"quality": shifted(3), **other})
    monkeypatch.setattr("xlt.verify.stored.source_of", lambda folder, root: again.source)
    with pytest.raises(UsageFault, match="The seed 3 is already recorded, as artifact/measured/tiny-"):
        record(verify(again.root, again.source), artifact)
    outcome = invoke("verify", "--results", str(again.root), "--record", "--json")
    assert outcome.code == ExitCode.USAGE
    assert "recorded on 2026-01-02" in outcome.document["error"]["why"]
    assert path.read_bytes() == before


def test_to_record_a_run_again_changes_nothing(make, recorded, invoke, monkeypatch):
    path = recorded / "seed-3.json"
    before = path.read_bytes(), path.stat().st_mtime_ns
    same = make("same", seed=3).fill(shifted(3))
    monkeypatch.setattr("xlt.verify.stored.source_of", lambda folder, root: same.source)
    outcome = invoke("verify", "--results", str(same.root), "--record")
    assert outcome.code == ExitCode.OK
    assert "Recorded as artifact/measured/tiny-tiny/seed-3.json" in outcome.out
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
