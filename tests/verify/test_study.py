"""The answer of a study: its numbers beside those of scipy, its decisions, and its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from xlt.artifact import artifact_root
from xlt.pipeline.spec import SourceSpec
from xlt.pipeline.studies import Analysis, Form, Study, read_study
from xlt.pipeline.tiers import Arm
from xlt.verify.study import StudyAnswer, answer, beforehand
from xlt.verify.study_numbers import Observed
from xlt.verify.study_page import render

DIFFERENCE = Analysis(
    about="a minus b", statistic="difference", arm="a", against="b", expected="above 0", tasks=["udpos", "panx"]
)
LANGUAGES = ("de", "sw", "ur", "th", "el")


def study(seeds: int, **tests: Analysis) -> Study:
    arms = {name: Arm(targets=["udpos", "panx"]) for name in ("a", "b", "c", "d", "e", "f", "base")}
    form = Form(seeds=[*range(seeds)], arms=arms, tests=tests)
    return Study(
        name="QT",
        question="Is it <b>so</b>?",
        hypothesis="It is.",
        decision="By a t test.",
        cannot_say=["Why."],
        forms={"smoke": form},
    )


def answered(seen: list[Observed], **tests: Analysis) -> StudyAnswer:
    return answer(study(len(seen), **tests), "smoke", SourceSpec(name="world"), seen)


def seed(number: int, gains: tuple[float, float], problems: tuple[str, ...] = ()) -> Observed:
    """Scores of 50 for ``b``, and so much more for ``a`` on two tasks; English is far off, and does not count."""
    scores = {("b", task, language): 50.0 for task in ("udpos", "panx") for language in LANGUAGES}
    for task, gain in zip(("udpos", "panx"), gains, strict=True):
        scores |= {("a", task, language): 50.0 + gain for language in LANGUAGES}
        scores |= {("a", task, "en"): 90.0, ("b", task, "en"): 10.0}
    return Observed(number, scores, {}, problems)


def test_a_test_without_its_scores_is_not_verifiable() -> None:
    found = answered(
        [Observed(0, {}, {}, ()), Observed(1, {}, {}, ())],
        one=Analysis(about="", statistic="arms", by={"a": 1, "b": 2, "c": 3, "d": 4}, expected="below 0"),
    )
    assert (found.tests[0].per_seed, found.tests[0].decision) == ({}, "not verifiable")


def test_arms_are_held_against_their_numbers_within_seeds() -> None:
    by = {"a": 100.0, "b": 200.0, "c": 400.0, "d": 800.0}
    order = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}

    def one(number: int, base: float, clean: dict[str, float]) -> Observed:
        scores = {(arm, "udpos", at): value for arm, value in clean.items() for at in LANGUAGES}
        lost = {(arm, "udpos", at): base + value for arm, value in order.items() for at in LANGUAGES}
        return Observed(number, scores, lost, ())

    test = Analysis(about="it", statistic="arms", measure="degradation", by=by, tasks=["udpos"], expected="below 0")
    given = test.model_copy(update={"given": "score", "expected": ""})
    # Seeds differ by far more than arms do: only the order within a seed counts.
    seen = [one(number, 40.0 * number, {"a": 50, "b": 60, "c": 55, "d": 52}) for number in range(4)]
    found, partial = answered(seen, rows=test, rows_given_score=given).tests
    assert (found.value, found.decision, found.per_seed) == (-1.0, "below 0", dict.fromkeys(range(4), -1.0))
    assert partial.decision == "below 0"
    # Where the clean score has the order of the rows, nothing is left of one beside the other; that is no relation.
    same = [one(number, 0.0, {"a": 1, "b": 2, "c": 3, "d": 4}) for number in range(4)]
    nothing = answered(same, rows_given_score=given).tests[0]
    assert (nothing.value, nothing.p, nothing.decision) == (0.0, 1.0, "not told from 0")
    assert nothing.per_seed == dict.fromkeys(range(4), 0.0)


def test_a_difference_is_the_mean_over_seeds_with_the_interval_of_a_t_test() -> None:
    gains = [(1.0, 3.0), (2.0, 2.5), (4.0, 3.0), (0.0, 2.0)]
    found = answered([seed(number, each) for number, each in enumerate(gains)], gain=DIFFERENCE).tests[0]
    by_seed = [sum(each) / 2 for each in gains]
    assert list(found.per_seed.values()) == pytest.approx(by_seed)
    wanted = stats.ttest_1samp(by_seed, 0)
    interval = wanted.confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(by_seed), interval.low, interval.high))
    assert found.p == pytest.approx(wanted.pvalue)
    assert found.decision == "above 0"
    # Of one test at 5 %, two-sided, the power of a t test of four seeds is 80 % at this number (DERIVED: simulated).
    draws = np.random.default_rng(0).normal(found.smallest, np.std(by_seed, ddof=1), (20000, 4))
    shown = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05) & (draws.mean(axis=1) > 0)
    assert shown.mean() == pytest.approx(0.8, abs=0.01)


def test_the_answer_follows_the_tests_that_expect_something() -> None:
    rising = [seed(number, (2.0 + number / 10, 2.0)) for number in range(5)]
    assert answered(rising, gain=DIFFERENCE).answer == "Supported: a minus b is above 0."
    below = DIFFERENCE.model_copy(update={"expected": "below 0"})
    assert answered(rising, gain=below).answer == "Contradicted: a minus b is above 0."
    torn = [seed(number, (gain, gain)) for number, gain in enumerate((3.0, -3.0, 1.0, -1.0))]
    assert answered(torn, gain=DIFFERENCE).answer == "Open: a minus b is not told from 0 by these seeds."
    describes = DIFFERENCE.model_copy(update={"expected": "", "about": "another"})
    assert answered(rising, gain=DIFFERENCE, other=describes).answer == "Supported: a minus b is above 0."
    assert answered(rising[:1], gain=DIFFERENCE).answer.startswith("Not answered: fewer than two seeds")
    # Seeds may be missing because of what is asked, and a test without scores hides none that lies on the other side.
    few = [*rising[:3], Observed(3, {}, {}, ()), Observed(4, {}, {}, ())]
    lacking = "By 3 of 5 seeds: what the others lack may itself be an effect."
    assert answered(few, gain=DIFFERENCE).answer == f"Supported: a minus b is above 0. {lacking}"
    unmade = DIFFERENCE.model_copy(update={"arm": "c"})
    assert answered(rising, gain=below, other=unmade).answer == "Contradicted: a minus b is above 0."


def test_tests_of_a_study_share_the_level() -> None:
    # p = 0.03 and 0.2 (found by scipy): alone the first is below 5 %, of two it is not below 2.5 %.
    gains = [(1.0, 2.2), (2.0, -1.4), (0.4, 0.3), (1.7, 3.6), (0.1, 1.7)]
    each = {task: DIFFERENCE.model_copy(update={"tasks": [task], "about": task}) for task in ("udpos", "panx")}
    p = [stats.ttest_1samp(column, 0).pvalue for column in zip(*gains, strict=True)]
    assert 0.025 < p[0] < 0.05 < p[1]
    seen = [seed(number, gain) for number, gain in enumerate(gains)]
    assert answered(seen, one=each["udpos"]).tests[0].decision == "above 0"
    both = answered(seen, one=each["udpos"], two=each["panx"]).tests
    assert [(test.decision, test.level) for test in both] == [("not told from 0", 0.025), ("not told from 0", 0.025)]


def test_a_test_without_seeds_makes_the_others_no_easier() -> None:
    seen = [seed(number, gain) for number, gain in enumerate([(1, 0), (2, 0), (0.4, 0), (1.7, 0), (0.1, 0)])]
    one = DIFFERENCE.model_copy(update={"tasks": ["udpos"]})
    lacking = DIFFERENCE.model_copy(update={"arm": "b", "against": "a", "tasks": ["xquad"]})
    assert answered(seen, one=one).tests[0].decision == "above 0"
    found = answered(seen, one=one, two=lacking).tests
    assert [(test.level, test.decision) for test in found] == [(0.025, "not told from 0"), (None, "not verifiable")]


def test_numbers_that_are_all_the_same_show_nothing() -> None:
    found = answered([seed(number, (2.0, 2.0)) for number in range(3)], gain=DIFFERENCE).tests[0]
    assert (found.value, found.decision) == (2.0, "not told from 0")


def test_a_seed_that_lacks_a_task_or_a_language_of_one_side_is_left_out() -> None:
    whole = [seed(number, (1.0, 2.0 + number)) for number in range(3)]
    lacks_task = Observed(3, {key: value for key, value in seed(3, (1, 2)).scores.items() if key[1] != "panx"}, {}, ())
    lacks_language = Observed(4, {**seed(4, (1, 2)).scores}, {}, ())
    del lacks_language.scores["a", "udpos", "ur"]
    gain = DIFFERENCE.model_copy(update={"tasks": []})  # all that both arms have
    found = answered([*whole, lacks_task, lacks_language], gain=gain).tests[0]
    assert (*found.per_seed,) == (0, 1, 2)


def test_a_seed_that_lacks_a_run_is_left_out_and_its_problem_is_told() -> None:
    lacking = Observed(3, {("b", "udpos", "de"): 1.0}, {}, ("seed 3: a run is damaged",))
    found = answered([seed(0, (1, 1)), seed(1, (1, 2)), seed(2, (2, 2)), lacking], gain=DIFFERENCE)
    assert (*found.tests[0].per_seed,) == (0, 1, 2)
    assert found.problems == ["seed 3: a run is damaged"]


def test_gains_are_held_against_how_badly_languages_fare() -> None:
    order = dict(zip(LANGUAGES, (80.0, 30.0, 50.0, 60.0, 70.0), strict=True))
    gain = dict(zip(LANGUAGES, (1.0, 9.0, 5.0, 4.0, 3.0), strict=True))
    scores = {("base", "udpos", at): value for at, value in order.items()}
    scores |= {("a", "udpos", at): 40.0 + gain[at] for at in LANGUAGES} | {("b", "udpos", at): 40.0 for at in LANGUAGES}
    worst = Analysis(about="", statistic="languages", order="base", arm="a", against="b", tasks=["udpos"])
    found = answered([Observed(0, scores, {}, ()), Observed(1, scores, {}, ())], worst=worst)
    # The lower a language scores, the more it gains (DERIVED: the two orders are each other's reverse).
    assert found.tests[0].per_seed == pytest.approx({0: -1.0, 1: -1.0})


def test_the_numbers_of_seeds_are_what_the_number_over_seeds_is_made_of() -> None:
    """Without ties the pooled correlation is the mean of the seeds'; what is not given is left out of both."""
    draw = np.random.default_rng(8)
    by = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}

    def one(number: int) -> Observed:
        clean, lost = draw.normal(50, 5, 4), draw.normal(10, 5, 4)
        places = [(arm, "udpos", at) for arm in by for at in LANGUAGES]
        scores, losses = (
            dict(zip(places, np.repeat(values, len(LANGUAGES)).tolist(), strict=True)) for values in (clean, lost)
        )
        wanted.append(float(stats.spearmanr([*by.values()], lost).statistic))
        return Observed(number, scores, losses, ())

    wanted: list[float] = []
    test = Analysis(about="", statistic="arms", measure="degradation", by=by, tasks=["udpos"])
    found = answered([one(number) for number in range(5)], plain=test).tests[0]
    assert [*found.per_seed.values()] == pytest.approx(wanted)
    assert found.value == pytest.approx(np.mean(wanted))


def test_tasks_are_held_against_how_hard_they_were_in_each_seed() -> None:
    """What a harder task gains lies more where the baseline fares worse, in one seed as in the other."""
    arms = ["a", "b", "c", "d", "e", "f"]
    base = dict(zip(LANGUAGES, (80.0, 70.0, 60.0, 50.0, 40.0), strict=True))
    # Gains in the order of the languages above: their correlations with the baseline's scores are 1, 0.9, ... (scipy).
    gains = [(5, 4, 3, 2, 1), (4, 5, 3, 2, 1), (3, 5, 4, 2, 1), (3, 2, 4, 1, 5), (2, 1, 3, 5, 4), (1, 2, 3, 4, 5)]
    tilts = [stats.spearmanr([*base.values()], each).statistic for each in gains]
    assert tilts == sorted(tilts, reverse=True)

    def one(number: int, difficulties: dict[str, float]) -> Observed:
        scores = {("base", "udpos", at): value for at, value in base.items()}
        for arm, gain in zip(arms, gains, strict=True):
            scores |= {(arm, "udpos", at): base[at] + more for at, more in zip(LANGUAGES, gain, strict=True)}
        return Observed(number, scores, {}, (), difficulties=difficulties)

    test = Analysis(about="it", statistic="arms", order="base", by_difficulty=arms, tasks=["udpos"], expected="below 0")
    rising = {arm: number / 10 for number, arm in enumerate(arms)}
    swapped = {**rising, "a": 0.15}  # the first two have changed places
    found = answered([one(0, rising), one(1, swapped)], tasks=test).tests[0]
    wanted = {n: stats.spearmanr([*each.values()], tilts).statistic for n, each in enumerate((rising, swapped))}
    assert found.per_seed == pytest.approx(wanted)
    assert (wanted[0], found.decision) == (pytest.approx(-1.0), "below 0")
    whole = answered([one(0, {**rising, "other": 1.0}), one(1, swapped)], tasks=test)
    assert whole.difficulties == {arm: {0: rising[arm], 1: swapped[arm]} for arm in arms}
    assert "<th>a</th><td>0.00</td><td>0.15</td>" in render(whole)
    assert 'id="difficulties"' not in render(answered([seed(0, (1, 1)), seed(1, (2, 1))], gain=DIFFERENCE))
    # A seed without the difficulty of one of them says nothing.
    lacking = {arm: value for arm, value in rising.items() if arm != "c"}
    assert answered([one(0, rising), one(1, lacking), one(2, rising)], tasks=test).tests[0].per_seed.keys() == {0, 2}


def test_arms_of_different_tasks_are_permuted_alike_in_all_seeds() -> None:
    """Five seeds that repeat one order of six tasks say what one of them says: 2 of 720 orders are so extreme."""
    by = {arm: float(number) for number, arm in enumerate("abcdef")}
    seen = []
    for number in range(5):
        lost = {(arm, "udpos", at): 10.0 - place for arm, place in by.items() for at in LANGUAGES}
        seen.append(Observed(number, dict.fromkeys(lost, 50.0), lost, ()))
    test = Analysis(about="", statistic="arms", measure="degradation", by=by, tasks=["udpos"])
    asked = study(5, tasks=test)
    form = asked.form("smoke")
    arms = {name: arm.model_copy(update={"intermediate": [name]}) for name, arm in form.arms.items()}
    of_tasks = asked.model_copy(update={"forms": {"smoke": form.model_copy(update={"arms": arms})}})
    one, other = (answer(each, "smoke", SourceSpec(name="world"), seen).tests[0] for each in (asked, of_tasks))
    assert (one.value, other.value) == (-1.0, -1.0)
    assert one.p == pytest.approx(0.0, abs=0.001)
    assert other.p == pytest.approx(2 / 720, abs=0.002)
    assert other.p > one.p


def test_what_seeds_can_show_is_said_beforehand_where_a_spread_is_known() -> None:
    known = DIFFERENCE.model_copy(update={"spread": 2.0, "spread_source": "somewhere"})
    made = study(5, one=known, two=DIFFERENCE).form("smoke")
    (one, smallest), (two, unknown) = beforehand(made)
    assert (one, two, unknown) == ("one", "two", None)
    draws = np.random.default_rng(1).normal(smallest, 2.0, (20000, 5))
    assert (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.025).mean() == pytest.approx(0.8, abs=0.01)


def test_the_page_has_the_answer_and_escapes_what_it_is_given() -> None:
    found = answered([seed(number, (2.0 + number / 10, 2.0)) for number in range(5)], gain=DIFFERENCE)
    page = render(found)
    assert page == render(found)
    assert "Supported: a minus b is above 0." in page
    assert "Is it &lt;b&gt;so&lt;/b&gt;?" in page
    assert "<svg" in page
    assert "nothing of real languages" in page
    real = render(found.model_copy(update={"source": "files", "limit": 40}))
    assert "nothing of real languages" not in real
    assert "the first 40 rows were used" in real
    assert "rows were used" not in page


@pytest.mark.parametrize(
    "path", sorted((artifact_root() / "measured" / "studies").glob("*.json")), ids=lambda path: path.stem
)
def test_recorded_answers_are_of_the_studies_that_ask_and_of_their_own_numbers(path: Path) -> None:
    said = StudyAnswer.model_validate_json(path.read_bytes())
    study = read_study(said.study)
    form = study.form(said.tier)
    assert path.stem == f"{said.study}-{said.tier}"
    assert (said.question, said.hypothesis, said.decision_rule) == (study.question, study.hypothesis, study.decision)
    assert (said.seeds, [test.name for test in said.tests]) == (form.seeds, [*form.tests])
    for test in said.tests:
        numbers = [*test.per_seed.values()]
        if form.tests[test.name].statistic == "arms" or len(numbers) < 2:
            continue  # made of ranks within seeds, which only the predictions give
        found = stats.ttest_1samp(numbers, 0.0)
        low, high = found.confidence_interval(0.95)
        assert (test.value, test.p, test.low, test.high) == pytest.approx((np.mean(numbers), found.pvalue, low, high))
    # A seed is missing from a test only where a model's scores are no result.
    assert all(len(test.per_seed) == len(said.seeds) for test in said.tests) or said.left_out
