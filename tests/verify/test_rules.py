"""Each claim of the paper on constructed scores: held, not shown, broken, not run."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from xlt.verify import comparison
from xlt.verify.claims import read_claims, read_literature
from xlt.verify.comparison import VerdictWord, worst
from xlt.verify.looks import Part
from xlt.verify.paper import judge_paper
from xlt.verify.rules import judge_parts
from xlt.verify.scores import Scores

from .core_results import Aim, aimed, replicated, scores


def parts(claim_id: str, found: Scores) -> dict[str, Part]:
    claim = next(each for each in read_claims().claims if each.id == claim_id)
    return {part.name: part for part in judge_parts(claim, found, read_literature().cells(), 14)}


def said(claim_id: str, found: Scores) -> VerdictWord:
    return worst([part.verdict for part in parts(claim_id, found).values() if part.decides])


def moved(arm: str, task: str, points: float, *, seeds: float = 0.0) -> Aim:
    """As constructed, but for one arm and task; ``seeds`` more with each seed."""

    def aim(given: str, key: str, split: str, language: str, seed: int) -> float:
        meant = given == arm and task in (key, "all")
        return aimed(given, key, split, language, seed) + (points + seeds * seed if meant else 0.0)

    return aim


ARMS = next(each.arms for each in read_claims().claims if each.id == "C5")


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


def test_each_reading_of_squad_stands_by_itself_and_one_that_holds_suffices(faithful):
    found = parts("C1", faithful)
    assert found["SQuAD"].verdict == found["SQuAD as squad"].verdict == "reproduced"
    assert found["SQuAD as squad"].value == pytest.approx(8.2, abs=0.4)
    assert found["SQuAD as squad_v2"].value == pytest.approx(7.1, abs=0.4)
    assert not found["SQuAD as squad"].decides
    assert found["SQuAD"].value is None
    assert "SQuAD as squad_v2 7." in found["SQuAD"].reason


def test_the_other_reading_may_be_the_true_one_and_both_must_be_refuted():
    other = parts("C1", scores(moved("squad", "all", 4.0)))
    assert other["SQuAD as squad"].verdict == "deviates"
    assert other["SQuAD"].verdict != "deviates"
    true = parts(
        "C1", scores(lambda arm, *rest: moved("squad", "all", 4.0)("squad" if arm == "squad_v2" else arm, *rest))
    )
    assert true["SQuAD"].verdict == "deviates"

    def v2(arm: str, key: str, split: str, language: str, seed: int) -> float:
        return aimed(arm, key, split, language, seed) + {"squad": 4.0, "squad_v2": 1.1}.get(arm, 0.0)

    assert {name: part.verdict for name, part in parts("C1", scores(v2)).items() if "SQuAD" in name} == {
        "SQuAD": "reproduced",
        "SQuAD as squad": "deviates",
        "SQuAD as squad_v2": "reproduced",
    }


def test_one_reading_alone_reproduces_but_refutes_nothing_while_the_other_was_not_run():
    arms = ("baseline", "squad", "mnli", "hellaswag")
    assert parts("C1", scores(arms=arms))["SQuAD"].verdict == "reproduced"
    found = parts("C1", scores(moved("squad", "all", -6.0), arms=arms))
    assert (found["SQuAD as squad"].verdict, found["SQuAD"].verdict) == ("deviates", "not run")
    assert "'squad_v2' has no scores" in found["SQuAD"].reason


def test_eight_tasks_together_are_never_more_than_consistent(faithful):
    table = faithful.table.assign(arm=faithful.table["arm"].replace("multi", "multi8"))
    assert said("C2", replace(faithful, table=table)) == "consistent"
    assert parts("C2", replace(faithful, table=table))["all nine"].reason.startswith("multi8: ")


def test_the_order_of_the_best_is_reported_and_decides_nothing():
    found = parts("C2", scores(moved("squad", "all", 3.0)))
    assert found["all nine"].verdict == "reproduced"
    order = found["all nine is the best"]
    assert not order.decides
    assert "one-sided confidence 0.0" in order.reason
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


def test_c3_is_about_the_languages_of_xtreme_however_they_differ():
    """Two languages 30 points apart, and gains of the seeds that lie close: no spread of languages hides them."""

    def aim(given: str, key: str, split: str, language: str, seed: int) -> float:
        apart = 15.0 if language in ("de", "ar", "af") else -15.0
        return aimed(given, key, split, language, seed) + (apart if given != "baseline" else 0.0)

    found = parts("C3", scores(aim, most=2))
    assert {part.verdict for part in found.values()} == {"reproduced"}


@pytest.mark.parametrize(("points", "deviates"), [(0.9, False), (1.3, False), (4.0, True)])
def test_a_gain_on_xnli_deviates_where_it_is_shown_to_be_above_the_margin(points: float, deviates: bool):
    arms = tuple(arm for arm in ARMS if arm != "multi")

    def aim(given: str, key: str, split: str, language: str, seed: int) -> float:
        if key != "xnli":
            return aimed("baseline" if given == "baseline" else "squad", key, split, language, seed)
        return 79.0 + (points if given != "baseline" else 0.0) + Random(f"{given} {seed}").gauss(0, 0.4)

    part = parts("C4", scores(aim, arms=arms, seeds=tuple(range(10))))["xnli does not benefit"]
    assert (part.verdict == "deviates") == deviates


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
    assert said("C6", with_variant(0.95)) == "reproduced"
    assert said("C6", with_variant(5.0)) == "deviates"


def test_the_family_of_c7_spans_both_of_its_tables(monkeypatch: pytest.MonkeyPatch, faithful):
    families: list[int] = []
    monkeypatch.setattr(
        comparison, "verdicts", lambda found: families.append(len(found)) or ["consistent"] * len(found)
    )
    found = parts("C7", faithful)
    assert families == [14, 0]  # ten cells of the table test and four categories; no languages
    assert len([part for part in found.values() if part.decides]) == 14


def fallen(*seeds: int) -> Aim:
    """One training at chance with these seeds."""

    def aim(arm: str, task: str, split: str, language: str, seed: int) -> float:
        return 10.0 if (arm, task) == ("mnli", "tydiqa") and seed in seeds else aimed(arm, task, split, language, seed)

    return aim


def test_a_collapsed_seed_is_named_and_leaves_nothing_reproduced():
    found = parts("C1", scores(fallen(1)))
    assert (found["MNLI"].verdict, found["MNLI"].seeds) == ("consistent", (0, 2))
    assert "left out: 'mnli' is at chance on tydiqa with seed 1" in found["MNLI"].reason
    assert found["MNLI"].left_out == ("'mnli' is at chance on tydiqa with seed 1",)
    paper = judge_paper(scores(fallen(1)), read_claims().claims, read_literature().cells(), 14, "")
    assert "left out somewhere: 1 trainings or scores of single seeds" in paper.summary
    assert found["HellaSwag"].verdict == "reproduced"
    assert {part.verdict for part in parts("C3", scores(fallen(1))).values()} == {"consistent"}
    assert "left out" in parts("C4", scores(fallen(1)))["tydiqa improves"].reason
    assert said("C1", scores(fallen(0, 1))) == "collapsed"
    alone = parts("C1", scores(fallen(1), seeds=(0, 1)))["MNLI"]
    assert (alone.verdict, "left out: 'mnli' is at chance" in alone.reason) == ("not verifiable", True)


def test_a_seed_that_lacks_scores_is_named(faithful):
    table = faithful.table
    some = replace(
        faithful, table=table[~((table["seed"] == 2) & (table["arm"] == "multi") & (table["task"] == "xnli"))]
    )
    part = parts("C2", some)["all nine"]
    assert (part.verdict, part.seeds) == ("reproduced", (0, 1))
    assert "left out: 'multi' has no scores on xnli dev with seed 2" in part.reason


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
