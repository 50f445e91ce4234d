"""Studies are data: their forms are tiers, and what cannot be is refused with the reason."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from xlt.artifact import artifact_root
from xlt.data.hub.table import read_table
from xlt.errors import UsageFault
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.pipeline.studies import read_study, study_names
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import TASKS, get_task
from xlt.tasks.record import ENGLISH
from xlt.verify.power import read_prior
from xlt.verify.study import StudyAnswer


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ``artifact`` with the tiers and studies of the project, to be changed."""
    root = tmp_path / "artifact"
    for name in ("tiers", "studies"):
        shutil.copytree(artifact_root() / name, root / name)
    monkeypatch.setenv("XLT_ARTIFACT", str(root))
    return root


def test_every_form_of_every_study_is_a_tier_on_each_of_its_sources() -> None:
    assert {"Q1", "Q2", "Q3", "Q4", "Q5"} <= {*study_names()}
    for name in study_names():
        study = read_study(name)
        assert study.name == name
        assert all(len(form.seeds) >= 5 for form in study.forms.values())
        for size, form in study.forms.items():
            tier = read_tier(f"{name}-{size}")
            assert (tier.name, tier.seeds, tier.golden) == (f"{name}-{size}", form.seeds, False)
            assert any(test.expected for test in form.tests.values())
            for source, plan in tier.sources.items():
                assert plan.arms.keys() == form.arms.keys()
                assert tier.chosen_parts(source, ()) == {*plan.parts}


def test_a_study_has_the_backbone_and_the_recipes_of_the_tier_with_its_own_changes() -> None:
    smoke, study = read_tier("smoke"), read_tier("Q3-smoke")
    assert study.plan("world").backbone == smoke.plan("world").backbone
    assert study.recipe("udpos", "world") == smoke.recipe("udpos", "world")
    arms = study.plan("world").arms
    of_sizes = [arm for name, arm in arms.items() if name.startswith("mnli-")]
    assert [study.recipe("mnli", "world", arm).train_examples for arm in of_sizes] == [300, 800, 2200, 6000]
    assert {study.recipe(*arm.intermediate, "world", arm).steps for arm in arms.values()} == {400}


def test_q1_is_asked_on_xtreme_r_all_of_it_where_the_official_files_are() -> None:
    wanted = {key for key, task in TASKS.items() if "xtreme-r" in task.benchmarks}
    assert len(wanted) == 10  # SEEN: XTREME-R's tasks
    whole, core = read_tier("Q1-xtreme-r"), read_tier("Q1-core")
    assert [*whole.sources] == ["files"]
    assert {key for arm in whole.plan("files").arms.values() for key in arm.targets} == wanted
    on_hub = {key for key in wanted if not read_table()[key].absent}
    for arm in core.plan("hub").arms.values():
        assert {*arm.targets} == on_hub
    # Every test compares what differs in the adversarial training alone.
    for tier in (whole, core):
        for source, plan in tier.sources.items():
            for test in read_study("Q1").form(tier.name.removeprefix("Q1-")).tests.values():
                arm, against = plan.arms[test.arm], plan.arms[test.against]
                assert (arm.intermediate, arm.targets) == (against.intermediate, against.targets)
                (key,) = arm.intermediate
                assert tier.recipe(key, source, arm).adversarial
                assert not tier.recipe(key, source, against).adversarial


def test_q3_holds_against_each_other_the_rows_that_tasks_have() -> None:
    study = read_study("Q3")
    rows = open_source(SourceOptions(name="world"))
    smoke = study.form("smoke")
    trained = {arm: smoke.arms[arm].intermediate[0] for arm in smoke.tests["tasks"].by}
    sizes = {arm: len(rows.rows(get_task(key), "train", ENGLISH)) for arm, key in trained.items()}
    assert smoke.tests["tasks"].by == sizes
    assert {*trained.values()} == {*read_tier("core").plan("hub").arms["multi"].intermediate}  # the paper's nine
    # All rows of NLI are one arm of both: verify takes what two models predict alike for copied.
    assert len(smoke.arms) == len(trained) + len(smoke.tests["rows"].by) - 1
    core = study.form("core").tests["tasks"].by
    assert {key: get_task(key).train_rows or core["anli_plus"] for key in core} == core  # of ANLI+ nobody has counted
    assert max(core, key=core.__getitem__) == "anli_plus"
    for size in ("smoke", "core"):
        form = study.form(size)
        over_tasks = {name for name, test in form.tests.items() if form.over_tasks(test)}
        assert over_tasks == {"tasks", "tasks-given-score"}
        assert not any(form.tests[name].expected for name in over_tasks)


def test_a_spread_is_what_its_source_says_and_of_other_seeds() -> None:
    prior = read_prior()
    published = {prior.mean_of(1)[1] * math.sqrt(2), prior.task[1] * math.sqrt(2)}
    measured = 0
    forms = [(name, size, form) for name in study_names() for size, form in read_study(name).forms.items()]
    for name, size, form in forms:
        for key, test in form.tests.items():
            kind, _, where = test.spread_source.partition(": ")
            if kind.startswith("measured"):
                path, _, of = where.partition(", ")
                answer = StudyAnswer.model_validate_json((artifact_root().parent / path).read_bytes())
                (numbers,) = (each.per_seed for each in answer.tests if each.name == of)
                assert f"{np.std([*numbers.values()], ddof=1):.2g}" == f"{test.spread:g}", (name, size, key)
                assert (answer.study, answer.tier) != (name, size) or not {*numbers} & {*form.seeds}
                measured += 1
            elif kind:
                assert kind == "DERIVED"
                assert f"{test.spread:g}" in {f"{each:.2g}" for each in published}
    assert measured


@pytest.mark.parametrize(
    ("study", "old", "new", "reason"),
    [
        ("Q2", 'arm = "mnli"', 'arm = "mlni"', "needs the arm mlni"),
        ("Q2", 'against = "baseline"', "", "lacks its arms"),
        ("Q2", 'perturbations = ["letter-swap:0.2"', 'perturbations = ["letter-swop:0.2"', "is no perturbation"),
        ("Q2", 'perturbed = ["udpos", "panx"]', 'perturbed = ["updos"]', "updos"),
        ("Q2", "spread = 1.3\n", "", "a spread needs its source"),
        ("Q3", "mnli-800 = 800", "mnli-800 = 900", "the arm mnli-800 trains on 800 rows, not on 900"),
        ("Q3", "perturbations =", "noise =", "noise"),
        ("Q5", "first_pass = 200, easiest", "easiest", "first_pass goes with one share"),
        ("Q5", "easiest = 0.33", "easiest = 1.5", "between 0 and 1"),
        ("Q5", 'by_difficulty = ["anli_plus", ', "by_difficulty = [", "compares fewer than six tasks"),
        ("Q5", 'by_difficulty = ["anli_plus"', 'by_difficulty = ["baseline"', "has no intermediate task"),
        ("Q5", "by_difficulty = [", "by = { mnli = 1 }\nby_difficulty = [", "lacks its arms"),
        ("Q1", 'sources = ["files"]', 'sources = ["fales"]', "does not run on the source 'fales'"),
        ("Q1", 'method = "freelb"', 'method = "freebl"', "no adversarial method"),
    ],
)
def test_what_does_not_fit_is_refused(artifact: Path, study: str, old: str, new: str, reason: str) -> None:
    path = artifact / "studies" / f"{study}.toml"
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")
    with pytest.raises(UsageFault) as told:
        read_study(study)
    assert reason in f"{told.value.what} {told.value.why}"


def test_a_study_that_is_not_there_is_no_tier_either() -> None:
    with pytest.raises(UsageFault, match="There is no tier 'Q9-smoke'"):
        read_tier("Q9-smoke")
    with pytest.raises(UsageFault, match="There is no study 'Q9'"):
        read_study("Q9")
    with pytest.raises(UsageFault, match="has no form for the tier 'paper'"):
        read_study("Q2").form("paper")
