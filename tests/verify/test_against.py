"""Two results folders beside each other: what differs, by how much, and over what that is told."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from scipy import stats

from tests.cli.conftest import Invoke
from tests.cli.conftest import invoke as invoke
from xlt.errors import ExitCode
from xlt.verify.against import Against, Difference, compare

from .tiny_results import EXAMPLES, Results, TinySource, shifted

Make = Callable[..., Results]


@pytest.fixture(autouse=True)
def _tiny_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlt.verify.against.source_in", lambda grid, root: TinySource())


def mean_of(found: Against, arm: str, task: str) -> Difference:
    (mean,) = (each for each in found.means if (each.arm, each.task, each.split) == (arm, task, "test"))
    return mean


def test_a_copy_has_the_same_predictions_and_settings(make: Make) -> None:
    found = compare([make("a").fill().root], [make("b").fill().root])
    assert all(each.same_predictions and each.value == 0 and each.low is None for each in found.means)
    assert len(found.means) == 9  # per arm three targets on test, XNLI on dev too; MNLI on dev
    assert (found.settings, found.problems, found.only_here, found.only_there) == ((), (), (), ())


def test_the_difference_of_one_arm_is_told_with_an_interval_of_the_rows(make: Make) -> None:
    found = compare([make("a").fill(shifted(6, "mnli", "xnli")).root], [make("b").fill().root])
    mean = mean_of(found, "mnli", "xnli")
    assert (mean.value, mean.over, mean.same_predictions) == (pytest.approx(10.0), "rows", False)
    # DERIVED: 6 of 60 rows differ in each of three languages, others in each, and rows are drawn alike for all three:
    # the mean is a third of the share of 18 rows in 60, a binomial's.
    half = 1.96 * 100 * math.sqrt(0.3 * 0.7 / EXAMPLES) / 3
    assert mean.low == pytest.approx(10 - half, abs=0.5)
    assert mean.high == pytest.approx(10 + half, abs=0.5)
    assert mean_of(found, "baseline", "xnli").same_predictions


def test_rows_that_are_all_alike_give_no_interval(make: Make) -> None:
    """One of no width would look like certainty."""
    mean = mean_of(compare([make("a").fill(shifted(60)).root], [make("b").fill(shifted(-60)).root]), "mnli", "xnli")
    assert (mean.value, mean.low, mean.over) == (pytest.approx(100), None, "")


def test_seeds_that_both_have_are_compared_in_pairs(make: Make) -> None:
    levels, gains = (0, 3, 1), (4, 5, 6)  # rows of 60, of either side
    here = [
        make(f"a{n}", seed=n).fill(shifted(level + gain)).root
        for n, (level, gain) in enumerate(zip(levels, gains, strict=True))
    ]
    there = [make(f"b{n}", seed=n).fill(shifted(level)).root for n, level in enumerate(levels)]
    mean = mean_of(compare(here, there), "baseline", "tatoeba")
    # DERIVED: 100 / 60 points a row; English is none of its languages, so that no number of rows reaches 60.
    values = [100 * gain / EXAMPLES for gain in gains]
    low, high = stats.t.interval(0.95, 2, loc=stats.tmean(values), scale=stats.sem(values))
    assert (mean.over, mean.value) == ("pairs of seeds", pytest.approx(stats.tmean(values)))
    assert (mean.low, mean.high) == (pytest.approx(low), pytest.approx(high))


def test_other_seeds_are_compared_as_two_groups(make: Make) -> None:
    here = [make(f"a{n}", seed=n).fill(shifted(n)).root for n in (0, 1)]
    there = [make(f"b{n}", seed=n).fill(shifted(n)).root for n in (2, 4)]
    mean = mean_of(compare(here, there), "mnli", "tatoeba")
    one, two = ([100 * n / EXAMPLES for n in side] for side in ((0, 1), (2, 4)))
    low, high = stats.ttest_ind(one, two).confidence_interval(0.95)
    assert mean.over == "seeds"
    assert (mean.low, mean.high) == (pytest.approx(low), pytest.approx(high))


def test_settings_and_machines_that_differ_are_named(make: Make, artifact) -> None:
    here = make("a").fill()
    tier = artifact / "tiers" / "tiny.toml"
    tier.write_text(tier.read_text().replace("batch_size = 16", "batch_size = 8"))
    found = compare([here.root], [make("b", seed=1).fill(device="a GPU").root])
    named = {each.what: (each.here, each.there, each.runs) for each in found.settings}
    assert named["recipe.batch_size"] == ("16", "8", 2)  # the runs of XNLI in both arms
    assert named["device"][:2] == ("cpu", "a GPU")
    assert named["seed"][:2] == ("0", "1")


def test_rows_that_are_not_the_same_give_no_interval(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = make("a").fill(), make("b", source=TinySource(change="!")).fill(shifted(2))
    opened = iter((TinySource(), TinySource(change="!")))
    monkeypatch.setattr("xlt.verify.against.source_in", lambda grid, root: next(opened))
    found = compare([here.root], [other.root])
    assert mean_of(found, "mnli", "xnli").over == ""
    assert any(each.what.startswith("rows of xnli/test/") for each in found.settings)


def test_what_people_see_fits_80_columns_and_a_judging_option_is_refused(make: Make, invoke: Invoke) -> None:
    here, there = make("a").fill(shifted(6, "mnli", "xnli")), make("b").fill()
    given = ("verify", "--results", str(here.root), "--against", str(there.root))
    shown = invoke(*given)
    assert shown.code == ExitCode.OK
    assert "9 means are in both; 7 have the same predictions." in shown.out
    assert "+10.0" in shown.out
    assert all(len(line) <= 80 for line in shown.out.splitlines() if str(here.root.parent) not in line)
    assert invoke(*given, "--all").out.count(" same  ") == 7
    document = invoke(*given, "--json").document
    assert (document["format"], len(document["means"])) == (1, 9)
    assert invoke(*given, "--cell", "xnli").code == ExitCode.USAGE
    (there.run("mnli.xnli") / "metrics.json").write_text("{}")
    assert invoke(*given).code == ExitCode.DEVIATES


def test_results_that_are_given_twice_are_refused(make: Make, invoke: Invoke) -> None:
    one, other = str(make("a").fill().root), str(make("b").fill().root)
    refused = invoke("verify", "--results", one, "--against", other, "--against", f"{other}/../b")
    assert refused.code == ExitCode.USAGE
    assert "are given twice" in refused.err
