"""Constructed results of the core tier from files to verdicts, over several seeds, whole and in part."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.conftest import invoke as invoke
from xlt.data.hub.table import hub_model
from xlt.errors import ExitCode, UsageFault
from xlt.verify.judge import Verification, join, recompute, verify
from xlt.verify.selection import select

from .core_results import ConstructedSource, write_core_artifact, write_core_results

SOURCE = ConstructedSource(most=2)
ARMS = ("baseline", "mnli", "squad")
GIVEN = """
format = 1
[[rows]]
table = "main"
arm = "baseline"
source = "Table 2, page 5"
values = { xnli = 80.0 }
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact folder with a core tier of three arms, and results of it with the seeds 0 and 1."""
    root = tmp_path_factory.mktemp("core")
    tier = write_core_artifact(root / "artifact", SOURCE) / "tiers" / "core.toml"
    lines = tier.read_text("utf-8").splitlines()
    others = ("squad_v2 = ", "hellaswag = ", "multi = ")
    tier.write_text("\n".join(line for line in lines if not line.startswith(others)), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLT_ARTIFACT", str(root / "artifact"))
        for seed in (0, 1):
            write_core_results(root / str(seed), seed, SOURCE)
    return root


@pytest.fixture(autouse=True)
def artifact(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLT_ARTIFACT", str(place / "artifact"))


@pytest.fixture(scope="module")
def seeds(place: Path) -> list[Verification]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLT_ARTIFACT", str(place / "artifact"))
        return [recompute(place / str(seed), SOURCE) for seed in (0, 1)]


def words(verification: Verification) -> dict[str, str]:
    assert verification.paper is not None
    return {each.claim.id: each.verdict for each in verification.paper.claims}


def test_claims_are_judged_over_all_seeds_failures_first(seeds):
    found = join(seeds)
    assert found.problems == found.further[0].problems == ()
    assert found.paper is not None
    assert found.paper.seeds == (0, 1)
    said = words(found)
    assert {said[name] for name in ("C1", "C2", "C3")} == {"not run"}  # arms that this tier lacks
    assert said["C4"] == "consistent"
    assert [each.verdict for each in found.paper.claims][:3] == ["not run"] * 3
    assert found.exit_code == ExitCode.INCOMPLETE
    lacking = next(each for each in found.paper.claims if each.claim.id == "C3")
    assert lacking.fix.startswith("xlt reproduce --tier core --source hub")
    assert " --seed N, 3 seeds, each into a folder of its own (each: " in lacking.fix
    assert "not measured yet" in lacking.fix
    assert Verification.model_validate_json(found.model_dump_json()) == found
    assert found.result_hash == seeds[0].result_hash


def test_one_seed_alone_judges_what_needs_no_training_only(seeds):
    assert words(join(seeds[:1]))["C4"] == "not verifiable"
    cells = {each.key: each.verdict for each in join(seeds[:1]).paper.cells}
    assert cells["replication.baseline.tatoeba"] == "reproduced"
    assert cells["xtreme.baseline.xnli"] == "not verifiable"


def test_folders_that_are_not_seeds_of_one_thing_are_refused(seeds):
    with pytest.raises(UsageFault, match="of one seed"):
        join([seeds[0], seeds[0]])
    run = seeds[1].runs[0].model_copy(update={"recipe": "another"})
    other = seeds[1].model_copy(update={"runs": (run, *seeds[1].runs[1:])})
    with pytest.raises(UsageFault, match="not another seed"):
        join([seeds[0], other])


def test_copies_of_one_seed_are_refused_whole_or_in_one_training(seeds):
    first, second = seeds
    copy = first.model_copy(update={"seed": 7, "result_hash": "another"})
    with pytest.raises(UsageFault, match="seed 7 are a copy of those of seed 0"):
        join([first, second, copy])
    run = next(run.folder for run in second.runs if run.evaluate == ("pawsx",) and run.arm == "mnli")
    copied = {(*each.key, each.language): each.predictions for each in first.cells}
    cells = [
        each.model_copy(update={"predictions": copied[(*each.key, each.language)]}) if each.run == run else each
        for each in second.cells
    ]
    with pytest.raises(UsageFault, match="copy") as fault:
        join([first, second.model_copy(update={"cells": tuple(cells)})])
    assert run in str(fault.value)
    # Two trainings that collapsed to the same answer say the same, and are no copies.
    of_run = {(*each.key, each.language) for each in cells if each.run == run}
    one_answer = {"only_answer": "paraphrase"}
    collapsed = [
        tuple(each.model_copy(update=one_answer) if (*each.key, each.language) in of_run else each for each in of_seed)
        for of_seed in (first.cells, cells)
    ]
    both = [each.model_copy(update={"cells": new}) for each, new in zip((first, second), collapsed, strict=True)]
    assert join(both).further
    # What no training is behind is the same with every seed: the baseline's retrieval.
    same = {each.predictions for each in first.cells} & {each.predictions for each in second.cells}
    assert same == {each.predictions for each in first.cells if (each.arm, each.task[:4]) == ("baseline", "bucc")} | {
        each.predictions for each in first.cells if (each.arm, each.task) == ("baseline", "tatoeba")
    }
    assert join(seeds).paper is not None


def test_only_what_is_reproduced_is_counted_so_and_a_printed_cell_decides_where_it_is_asked_for(seeds):
    found = join(seeds)
    assert found.paper is not None
    assert found.paper.summary.startswith("claims: reproduced ")
    assert ", not told apart " in found.paper.summary
    far = [
        each.model_copy(update={"verdict": "deviates"}) if each.key == "xtreme.baseline.xnli" else each
        for each in found.paper.cells
    ]
    worse = found.model_copy(update={"paper": found.paper.model_copy(update={"cells": tuple(far)})})
    assert select(worse, tables=("xtreme",)).exit_code == select(worse, cells=("xnli",)).exit_code == ExitCode.DEVIATES
    one = select(worse, claims=("C8",))
    assert one.exit_code == ExitCode.OK
    assert one.paper is not None
    assert one.paper.summary.startswith("claims: reproduced 0, not told apart 1, not verifiable 0, deviates 0 (")


def test_what_is_not_xlm_r_large_or_not_whole_is_never_judged(seeds):
    first = seeds[0]
    assert first.backbone is not None
    base = first.model_copy(update={"backbone": first.backbone.model_copy(update={"name": "xlm-roberta-base"})})
    assert set(words(join([base])).values()) == {"not verifiable"}
    limited = first.source.model_copy(update={"settings": {"limit": 5}})
    found = join([first.model_copy(update={"source": limited})])
    assert found.paper.claims[0].reason == "the results are of the first 5 rows of each split (--limit)"
    prefixed = join([first.model_copy(update={"backbone": first.backbone.model_copy(update={"prefix": "query: "})})])
    assert "prefix 'query: '" in prefixed.paper.claims[0].reason


def test_runs_of_another_recipe_are_not_passed_off_as_the_tier(place, tmp_path):
    artifact = tmp_path / "artifact"
    shutil.copytree(place / "artifact", artifact)
    tier = artifact / "tiers" / "core.toml"
    changed = tier.read_text("utf-8").replace("[sources.hub.arms]", "pawsx = { steps = 7 }\n[sources.hub.arms]")
    tier.write_text(changed, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLT_ARTIFACT", str(artifact))
        found = verify(place / "0", SOURCE)
        said = {each.task: each.reason for each in found.verdicts}
        claim = select(found, claims=("C4",))
    assert {run.rpartition("-")[0] for run in found.tier_mismatches} == {f"target/{arm}.pawsx" for arm in ARMS}
    assert said["pawsx"] == "not made as the tier 'core' says: in recipe"
    assert "not made as the tier" not in said["xnli"]
    cells = {each.key: each for each in found.paper.cells}
    assert (cells["xtreme.baseline.pawsx"].verdict, words(found)["C8"]) == ("not verifiable", "consistent")
    assert "not made as the tier" in cells["xtreme.baseline.pawsx"].reason
    assert found.exit_code == claim.exit_code == ExitCode.DEVIATES  # not 0, as for what cannot be known
    assert verify(place / "0", SOURCE).tier_mismatches == {}


def test_another_revision_of_the_checkpoint_than_the_pinned_one_is_not_passed_off_as_the_tier(place, tmp_path):
    """But whose bytes they are is not compared: whoever verifies predictions may not have the model."""
    artifact = tmp_path / "artifact"
    shutil.copytree(place / "artifact", artifact)
    table = artifact / "hub.toml"
    text = table.read_text("utf-8")
    pin = hub_model("xlm-roberta-large").revision
    table.write_text(text.replace(pin, "f" * 40), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLT_ARTIFACT", str(artifact))
        found = verify(place / "0", SOURCE)
    assert len(found.tier_mismatches) == len(found.runs)
    assert set(found.tier_mismatches.values()) == {"not made as the tier 'core' says: in backbone"}


def test_an_arm_of_another_training_is_left_out(seeds):
    def retrained(verification: Verification) -> Verification:
        runs = [
            run.model_copy(update={"train": ("qqp",)}) if (run.phase, run.arm) == ("intermediate", "squad") else run
            for run in verification.runs
        ]
        return verification.model_copy(update={"runs": tuple(runs)})

    found = join([retrained(each) for each in seeds])
    claim = next(each for each in found.paper.claims if each.claim.id == "C4")
    assert "1 of 9 arms were run" in claim.reason


def test_a_part_is_judged_by_itself(seeds):
    whole = join(seeds)
    claim = select(whole, claims=("C4",))
    assert (list(words(claim)), claim.verdicts, claim.exit_code) == (["C4"], (), ExitCode.OK)
    table = select(whole, tables=("xtreme",))
    assert {each.cell.table for each in table.paper.cells} == {"xtreme"}
    cell = select(whole, cells=("xnli.ar",))
    assert {(each.task, each.language) for each in (*cell.cells, *cell.further[0].cells)} == {("xnli", "ar")}
    assert {each.task for each in cell.verdicts} == {"xnli"}
    printed = select(whole, cells=("xnli", "tatoeba.af")).paper
    assert {each.cell.quantity for each in printed.cells} == {"xnli", "tatoeba"}
    assert {each.cell.language for each in printed.cells if each.cell.quantity == "tatoeba"} == {"af"}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"claims": ("C9",)}, "There is no claim 'C9'"),
        ({"tables": ("mian",)}, "There is no table 'mian'"),
        ({"cells": ("xnli.qq",)}, "There is no cell 'xnli.qq'"),
    ],
)
def test_what_is_not_there_is_named(seeds, wanted: dict[str, tuple[str, ...]], message: str):
    with pytest.raises(UsageFault, match=message):
        select(join(seeds), **wanted)


def test_a_tier_without_claims_says_so(seeds):
    assert seeds[0].backbone is not None
    small = join([seeds[0].model_copy(update={"backbone": seeds[0].backbone.model_copy(update={"name": ""})})])
    assert small.paper is None
    with pytest.raises(UsageFault, match="has no claims"):
        select(small, claims=("C1",))


def test_the_command_judges_seeds_claims_and_given_values(
    invoke: Invoke, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("xlt.verify.stored.source_of", lambda folder, root: SOURCE)
    both = ("verify", "--no-golden", "--results", str(place / "0"), "--results", str(place / "1"))
    shown = invoke(*both, "--all")
    assert shown.code == ExitCode.INCOMPLETE
    assert "The paper: " in shown.out
    assert "The paper: claims: reproduced " in " ".join(shown.out.split())
    assert shown.out.index("Seed 0") < shown.out.index("Seed 1") < shown.out.index("The paper's claims")
    given = tmp_path / "given.toml"
    given.write_text(GIVEN, "utf-8")
    part = ("--claim", "C4", "--table", "main", "--expected", str(given), "--json")
    only = invoke(*both, *part)
    assert only.code == ExitCode.OK
    assert [each["claim"]["id"] for each in only.document["paper"]["claims"]] == ["C4"]
    added = only.document["paper"]["cells"]
    judged = {each["key"]: each for each in added}["main.baseline.xnli"]
    assert (judged["cell"]["source"], judged["cell"]["expected"]) == ("Table 2, page 5", 80.0)
    assert judged["verdict"] in ("reproduced", "consistent")
