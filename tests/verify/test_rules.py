"""Each claim of the paper on constructed scores: held, not shown, broken, not run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xlt.verify.claims import read_claims, read_literature
from xlt.verify.comparison import VerdictWord, worst
from xlt.verify.rules import Part, judge_parts, judge_printed
from xlt.verify.scores import Scores

from .core_results import Aim, aimed, replicated, scores


def parts(claim_id: str, found: Scores) -> dict[str, Part]:
    claim = next(each for each in read_claims().claims if each.id == claim_id)
    cells = list(judge_printed(read_literature().cells(), found, 14, ""))
    return {part.name: part for part in judge_parts(claim, found, cells)}


def said(claim_id: str, found: Scores) -> VerdictWord:
    return worst([part.verdict for part in parts(claim_id, found).values() if part.decides])


def moved(arm: str, task: str, points: float, *, seeds: float = 0.0) -> Aim:
    """As constructed, but for one arm and task; ``seeds`` more with each seed."""

    def aim(given: str, key: str, split: str, language: str, seed: int) -> float:
        meant = given == arm and task in (key, "all")
        return aimed(given, key, split, language, seed) + (points + seeds * seed if meant else 0.0)

    return aim


@pytest.fixture(scope="module")
def faithful() -> Scores:
    return scores()


def test_the_constructed_results_hold(faithful):
    words = {number: said(f"C{number}", faithful) for number in (1, 2, 3, 4, 5, 7)}
    assert words == {
        1: "reproduced",
        2: "reproduced",
        3: "reproduced",
        4: "consistent",  # four of the nine single tasks
        5: "reproduced",
        7: "reproduced",
    }


def test_of_the_two_squads_the_higher_gain_counts_and_both_are_said(faithful):
    squad = parts("C1", faithful)["SQuAD"]
    assert squad.value == pytest.approx(8.2, abs=0.4)
    assert squad.reason.startswith("squad: ")
    assert "squad_v2: 7" in squad.reason


def test_a_gain_that_is_too_small_deviates_and_one_of_scattered_seeds_is_consistent():
    assert said("C1", scores(moved("mnli", "all", -4.0))) == "deviates"
    assert said("C1", scores(moved("mnli", "all", -0.5, seeds=0.5))) == "consistent"
    assert said("C1", scores(moved("mnli", "all", -4.0, seeds=4.0))) == "not verifiable"
    assert said("C1", scores(arms=("baseline", "squad", "hellaswag"))) == "not run"
    assert said("C1", scores(seeds=(0,))) == "not verifiable"


def test_eight_tasks_together_are_never_more_than_consistent(faithful):
    table = faithful.table.assign(arm=faithful.table["arm"].replace("multi", "multi8"))
    assert said("C2", replace(faithful, table=table)) == "consistent"


def test_the_order_of_the_best_is_reported_and_decides_nothing():
    found = parts("C2", scores(moved("squad", "all", 3.0)))
    assert found["all nine"].verdict == "reproduced"
    order = found["all nine is the best"]
    assert not order.decides
    assert "of being above squad" in order.reason
    assert order.value is not None
    assert order.value < 0


def test_another_task_that_gains_the_most_breaks_c3(faithful):
    arms = ("squad", "squad_v2", "mnli", "hellaswag")

    def aim(given: str, key: str, split: str, language: str, seed: int) -> float:
        return aimed(given, key, split, language, seed) + (25.0 if given in arms and key == "tydiqa" else 0.0)

    found = parts("C3", scores(aim))
    assert len(found) == 16
    assert found["bucc2018 gains more than tydiqa"].verdict == "deviates"
    assert found["bucc2018 gains"].verdict == "reproduced"


def test_signs_of_c4():
    hurt = dict.fromkeys(("squad", "squad_v2", "mnli"), -20.0)

    def worse(given: str, key: str, split: str, language: str, seed: int) -> float:
        return aimed(given, key, split, language, seed) + (hurt.get(given, 0.0) if key == "tydiqa" else 0.0)

    def benefits(given: str, key: str, split: str, language: str, seed: int) -> float:
        return aimed(given, key, split, language, seed) + (6.0 if given in hurt and key == "xnli" else 0.0)

    assert parts("C4", scores(worse))["tydiqa improves"].verdict == "deviates"
    assert parts("C4", scores(benefits))["xnli does not benefit"].verdict == "deviates"
    assert said("C4", scores(arms=("baseline",))) == "not run"


def test_the_own_baseline_is_reported_beside_the_printed_one(faithful):
    found = parts("C5", faithful)
    assert found["over the printed 68.1"].value == pytest.approx(5.4, abs=0.3)
    assert not found["over the own baseline"].decides
    assert "xquad: " in found["over the printed 68.1"].reason
    assert said("C5", scores(moved("baseline", "all", 5.0))) == "reproduced"


def test_variants_are_judged_where_there_are_some(faithful):
    assert said("C6", faithful) == "not verifiable"

    def with_variant(points: float) -> Scores:
        def aim(given: str, key: str, split: str, language: str, seed: int) -> float:
            arm = given.removesuffix("_mlm")
            return aimed(arm, key, split, language, seed) + (points if given.endswith("_mlm") else 0.0)

        return scores(aim, arms=("baseline", "mnli", "mnli_mlm"))

    assert said("C6", with_variant(0.0)) == "reproduced"
    assert said("C6", with_variant(5.0)) == "deviates"


def test_a_language_outside_the_margin_leaves_c8_consistent_and_is_named():
    within = scores(replicated, seeds=(0,))
    assert "replication.baseline.tatoeba.af" in parts("C8", within)

    def one_off(arm: str, task: str, split: str, language: str, seed: int) -> float:
        return {"bucc2018": 71.5}.get(task, {"af": 40.0, "ar": 23.0, "bg": 30.0}.get(language, 60.0))

    found = parts("C8", scores(one_off, seeds=(0,)))
    assert found["languages"].verdict == "consistent"
    assert "tatoeba.af" in found["languages"].reason
    assert said("C8", scores(moved("baseline", "tatoeba", 3.0), seeds=(0,))) == "deviates"


@pytest.mark.parametrize(
    ("words", "word"), [(("reproduced", "consistent"), "consistent"), (("not run", "deviates", "exact"), "deviates")]
)
def test_a_claim_is_its_worst_part(words: tuple[VerdictWord, ...], word: str):
    assert worst(words) == word
