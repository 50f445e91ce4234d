"""``xlt reproduce --study``: a study of a few steps, from its runs to its answer, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.conftest import unpacked
from tests.hub_home import own_home
from xlt.artifact import artifact_root
from xlt.data.files.source import FilesSource
from xlt.errors import ExitCode
from xlt.verify.study import StudyAnswer, observe

STUDY = """
name = "QT"
question = "Does SQuAD first make a model more robust?"
hypothesis = "It does."
decision = "By a t test over seeds."
cannot_say = ["Anything: these are a few steps."]
[forms.tiny]
seeds = [0, 1]
perturbations = ["letter-swap:0.5"]
perturbed = ["tatoeba"]
[forms.tiny.arms]
baseline = { targets = ["tatoeba"] }
squad = { intermediate = ["squad"], targets = ["tatoeba"] }
[forms.tiny.tests.robust]
about = "the degradation after SQuAD minus that of the baseline"
statistic = "difference"
measure = "degradation"
arm = "squad"
against = "baseline"
expected = "below 0"
[forms.tiny.tests.clean]
about = "the score after SQuAD minus that of the baseline"
statistic = "difference"
arm = "squad"
against = "baseline"
"""
HARD = """
[forms.tiny.tests.hard]
about = "difficulty with the gain where the baseline is worst"
statistic = "arms"
order = "baseline"
by_difficulty = ["squad", "a", "b", "c", "d", "e"]
"""


@pytest.fixture
def command(tiny_tier: Path, tiny_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of a study that another folder ``artifact`` has."""
    root = tmp_path / "artifact"
    for path in artifact_root().iterdir():
        if path.name not in ("tiers", "studies"):
            root.mkdir(exist_ok=True)
            (root / path.name).symlink_to(path)
    for name, file, text in (("tiers", "tiny", tiny_tier.read_text("utf-8")), ("studies", "QT", STUDY)):
        (root / name).mkdir()
        (root / name / f"{file}.toml").write_text(text, "utf-8")
    monkeypatch.setenv("XLT_ARTIFACT", str(root))
    given = ["reproduce", "--study", "QT", "--tier", "tiny", "--source", "files", "--data-root", str(tiny_files)]
    return [*given, "--processes", "1", "--results", str(tmp_path / "results")]


def test_a_study_runs_its_seeds_and_answers_and_the_same_command_finds_all_of_it(
    invoke: Invoke, command: list[str], tmp_path: Path, tiny_files: Path
) -> None:
    made = invoke(*command)
    assert made.code == ExitCode.OK, made.err
    assert "How much it varies between seeds nobody knows beforehand." in made.out
    results = tmp_path / "results"
    found = StudyAnswer.model_validate_json((results / "study.json").read_bytes())
    assert (found.seeds, [test.name for test in found.tests]) == ([0, 1], ["robust", "clean"])
    assert all({*test.per_seed} == {0, 1} for test in found.tests)
    assert found.answer in made.out
    assert found.answer.startswith(("Open", "Supported", "Contradicted"))
    # What noise costs is what xlt evaluate --perturb says of the same runs: the mean over other languages than English.
    by_arm = {(row.arm, row.task): row.degradation for row in found.arms}
    assert {arm for arm, _ in by_arm} == {"baseline", "squad"}
    again = invoke(*command, "--json")
    assert again.document == json.loads((results / "study.json").read_text("utf-8"))
    assert "0 to do" in again.err
    verify = (
        "verify",
        "--data-root",
        str(tiny_files),
        "--results",
        str(results / "seed-0"),
        "--recheck",
        "0",
        "--json",
    )
    verified = invoke(*verify)
    assert verified.code == ExitCode.INCOMPLETE, verified.err  # of this tier nothing is judged
    assert (verified.document["tier"], verified.document["problems"]) == ("QT-tiny", [])
    checked = " ".join(verified.document["checks"]["checked"])
    assert {each["run"].partition(".letter")[0] for each in verified.document["robustness"]} == {
        "target/baseline.evaluate.tatoeba",
        "target/squad.evaluate.tatoeba",
    }
    assert not [each for each in verified.document["checks"]["not_checked"] if "other runs" in each]
    assert "the numbers of seed 0 in study.json, computed anew for 2 tests" in checked
    # How hard SQuAD was for this model: the share of what there is above guessing that it lacks on English dev rows.
    (cell,) = [each for each in verified.document["cells"] if (each["task"], each["split"]) == ("squad", "dev")]
    score, guess = (sum(cell[kind][name] for name in ("exact_match", "f1")) / 2 for kind in ("metrics", "chance"))
    lacking = (100 - score) / (100 - guess)
    source = FilesSource(tiny_files)
    assert observe(results / "seed-0", source, []).difficulties == pytest.approx({"squad": lacking})
    # A number in the answer that the predictions do not give is found, and so is a prediction that was changed.
    path = results / "study.json"
    told = json.loads(whole := path.read_text("utf-8"))
    told["tests"][0]["per_seed"]["0"] += 0.1
    path.write_text(json.dumps(told), "utf-8")
    tampered = invoke(*verify)
    assert tampered.code == ExitCode.DEVIATES
    (problem,) = tampered.document["problems"]
    assert (problem["kind"], problem["where"]) == ("disagreement", "study.json")
    assert "For the test 'robust' it has the number" in problem["what"]
    path.write_text(whole, "utf-8")
    (run,) = (results / "seed-0").glob("runs/target/squad.evaluate.tatoeba*")
    metrics = (run / "metrics.json").read_text("utf-8")
    (run / "metrics.json").write_text(metrics.replace("accuracy", "exact"), "utf-8")
    assert f"target/{run.name}" in {each["run"] for each in invoke(*verify).document["problems"]}
    (run / "metrics.json").write_text(metrics, "utf-8")
    # How hard a task was is held against the phase-2 model's predictions, here in an answer that asks for it.
    others = "".join(f'{arm} = {{ intermediate = ["squad"], targets = ["tatoeba"] }}\n' for arm in "abcde")
    asking = STUDY.replace("[forms.tiny.tests.robust]", others + HARD + "[forms.tiny.tests.robust]")
    (results / "study.toml").write_text(asking, "utf-8")
    told = {**json.loads(whole), "difficulties": {"squad": {"0": lacking}}}
    path.write_text(json.dumps(told), "utf-8")
    assert invoke(*verify).document["problems"] == []
    told["difficulties"]["squad"]["0"] -= 0.1
    path.write_text(json.dumps(told), "utf-8")
    (problem,) = invoke(*verify).document["problems"]
    assert f"For the difficulty of 'squad' it has the number {lacking - 0.1:.6g} of seed 0" in problem["what"]
    path.write_text(whole, "utf-8")
    (run,) = (results / "seed-0").glob("runs/intermediate/squad-*")
    metrics = json.loads(stored := (run / "metrics.json").read_text("utf-8"))
    metrics["squad"]["dev"]["en"]["f1"] += 1
    (run / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    assert f"intermediate/{run.name}" in {each["run"] for each in invoke(*verify).document["problems"]}
    (run / "metrics.json").write_text(stored, "utf-8")
    (results / "study.toml").write_text(STUDY, "utf-8")
    of_all = invoke("submit", "--arm", "squad", "--output", str(tmp_path / "new"), "--results", str(results))
    assert of_all.code == ExitCode.USAGE
    assert "holds a study: each of its 2 seeds is a results folder" in of_all.err
    # Another model than the seeds were made with is refused, and so is what was changed once there are results.
    model = invoke(*command, "--model", "bert-base-multilingual-cased")
    assert model.code == ExitCode.USAGE
    assert "asked for is model bert-base-multilingual-cased" in model.err
    path = tmp_path / "artifact" / "studies" / "QT.toml"
    path.write_text(STUDY.replace("below 0", "above 0"), "utf-8")
    changed = invoke(*command)
    assert changed.code == ExitCode.USAGE
    assert "is not what it was when the first run" in changed.err


def test_the_tests_of_a_study_are_made_anew_where_all_of_its_seeds_are_given(
    invoke: Invoke, command: list[str], tmp_path: Path, tiny_files: Path
) -> None:
    results = tmp_path / "results"
    asked = ["verify", "--data-root", str(tiny_files), "--recheck", "0", "--json", "--results", str(results)]
    assert invoke(*command).code == ExitCode.OK
    path, kept = results / "study.json", results / "study.toml"
    told = json.loads(whole := path.read_text("utf-8"))
    same = invoke(*asked)
    assert same.code == ExitCode.OK, same.err  # the answer was judged
    assert (same.document["study_answer"], same.document["problems"]) == (told["answer"], [])
    assert [each["seed"] for each in same.document["further"]] == [1]
    # Each of these says something that no seed's numbers contradict.
    edits = {"decision": "above 0", "p": 0.001}
    for key, value in edits.items():
        edited = json.loads(whole)
        assert edited["tests"][0][key] != value
        edited["tests"][0][key] = value
        path.write_text(json.dumps(edited), "utf-8")
        found = invoke(*asked)
        assert found.code == ExitCode.DEVIATES, key
        assert [each["where"] for each in found.document["problems"]] == ["study.json"]
        assert found.document["problems"][0]["what"].startswith(f"For tests.0 (robust).{key} it has {value}")
        assert found.document["study_answer"] == ""
    path.write_text(json.dumps({**told, "answer": "Supported."}), "utf-8")
    assert "For answer it has Supported.; the predictions" in invoke(*asked).document["problems"][0]["what"]
    twice = json.loads(whole)
    twice["tests"].insert(0, {**twice["tests"][0], "decision": "below 0", "about": "another"})
    path.write_text(json.dumps(twice), "utf-8")
    assert any("tests.0 (robust).about it has another" in each["what"] for each in invoke(*asked).document["problems"])
    path.write_text(json.dumps({**told, "problems": ["seed 0: nothing is right"]}), "utf-8")
    (problem,) = invoke(*asked).document["problems"]
    assert problem["what"] == "It names problems where there are none: seed 0: nothing is right"
    path.write_text(whole.replace('"answer"', '"answer": "Supported.", "answer"', 1), "utf-8")
    assert invoke(*asked).document["problems"][0]["what"] == "It cannot be read."
    # An answer to another hypothesis than that of the project's study is none.
    kept.write_text(STUDY.replace("below 0", "above 0"), "utf-8")
    edited = json.loads(whole)
    edited["tests"][0]["expected"] = "above 0"
    path.write_text(json.dumps(edited), "utf-8")
    other = invoke(*asked)
    assert other.code == ExitCode.INCOMPLETE
    why = "the answer of the study, since study.toml does not ask what QT of this version asks"
    assert why in other.document["checks"]["not_checked"]
    # What cannot be said may be put otherwise later: it decides nothing.
    kept.write_text(STUDY.replace("a few steps", "few steps"), "utf-8")
    path.write_text(json.dumps({**told, "cannot_say": ["Anything: these are few steps."]}), "utf-8")
    assert invoke(*asked).code == ExitCode.OK
    # Runs that were not made as the study says are told, as those of a tier are.
    of_project = tmp_path / "artifact" / "studies" / "QT.toml"
    faster = STUDY.replace("[forms.tiny.arms]", "recipes = { squad = { learning_rate = 0.0123 } }\n[forms.tiny.arms]")
    for each in (of_project, kept):
        each.write_text(faster, "utf-8")
    path.write_text(whole, "utf-8")
    mislabelled = invoke(*asked)
    assert mislabelled.code == ExitCode.DEVIATES
    assert any(
        "not made as the tier 'QT-tiny' says" in each for each in mislabelled.document["tier_mismatches"].values()
    )
    of_project.write_text(STUDY, "utf-8")
    kept.write_text(STUDY, "utf-8")
    path.write_text(whole, "utf-8")
    # What is handed over of it says the same, without models.
    archive = tmp_path / "study.tar.gz"
    assert invoke("report", *asked[1:], "--ship", str(archive)).code == ExitCode.OK
    there = invoke(*asked[:-1], str(unpacked(archive, tmp_path / "there")))
    assert (there.code, there.document["study_answer"]) == (ExitCode.OK, told["answer"])
    assert "xlt verify --results .\n" in (tmp_path / "there" / "README.txt").read_text("utf-8")
    assert not [*(tmp_path / "there").glob("**/model")]
    # Nor has a seed the place of another one.
    (results / "seed-1").rename(results / "seed-7")
    misplaced = invoke(*asked)
    assert misplaced.code == ExitCode.DEVIATES
    what = "It is of the tier QT-tiny and seed 1, in the place of seed 7 of the study QT."
    assert what in str(misplaced.document)
    (results / "seed-7").rename(results / "seed-1")
    # Without the study's file nobody knows what was asked.
    kept.unlink()
    unknown = invoke(*asked)
    assert unknown.code == ExitCode.DEVIATES
    assert all("study.toml" in each["where"] for each in unknown.document["problems"])
    kept.write_text(STUDY, "utf-8")
    # One of its seeds alone answers nothing.
    alone = invoke(*asked[:-1], str(results / "seed-1"))
    assert (alone.code, alone.document["study_answer"]) == (ExitCode.INCOMPLETE, "")
    assert any("need all of its seeds, also 0: --results" in each for each in alone.document["checks"]["not_checked"])
    assert alone.document["command"].startswith("xlt reproduce --study QT --tier tiny --source files")
    # Nor is anything else that lies there one of its seeds.
    (results / "seed-0-old").mkdir()
    assert invoke(*asked).code == ExitCode.OK


def test_a_folder_of_other_runs_is_refused_before_any_work(
    invoke: Invoke, command: list[str], tmp_path: Path, tiny_files: Path
) -> None:
    results = tmp_path / "results"
    (results / "seed-0").mkdir(parents=True)
    (results / "study.toml").write_text('name = "Q2"', "utf-8")
    other = invoke(*command)
    assert other.code == ExitCode.USAGE
    assert "holds the study Q2; asked for is QT" in other.err
    # The folder of one seed is no folder of a study.
    (results / "seed-0" / "grid.json").write_text("{}", "utf-8")
    of_seed = invoke(*command[:-1], str(results / "seed-0"))
    assert of_seed.code == ExitCode.USAGE
    assert "seed-0' holds the runs of one seed of a study" in of_seed.err
    assert f"--results {results}" in of_seed.err
    assert {path.name for path in results.rglob("*")} == {"seed-0", "study.toml", "grid.json"}


def test_a_study_is_planned_with_what_it_scores_perturbed(invoke: Invoke, command: list[str], tmp_path: Path) -> None:
    asked = ["plan", *(each for each in command[1:] if each not in ("--processes", "1"))]
    planned = invoke(*asked, "--json").document
    # Two arms, one task, one perturbation.
    assert planned["study"] == {"seeds": [0, 1], "evaluations": 2, "rows": None, "hours": {}}
    assert [run["state"] for run in planned["runs"]] == ["absent"] * 4
    assert "With its 2 evaluations on perturbed rows a seed of the study takes:" in invoke(*asked).out


def test_without_data_a_study_names_the_command_that_fetches_all_of_it(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = artifact_root() / "studies"
    own_home(tmp_path, monkeypatch)
    shutil.copytree(studies, tmp_path / "artifact" / "studies")
    refused = invoke("reproduce", "--study", "Q1", "--tier", "core", "--results", str(tmp_path / "results"))
    assert refused.code == ExitCode.DATA
    assert not (tmp_path / "results").exists()
    command = "xlt fetch --tier Q1-core --data-root DIR"
    assert f"Fix: {command}\n" in refused.err
    assert invoke("plan", "--study", "Q1", "--tier", "core", "--json").document["fetch"] == command
    # That command asks for the data of all targets, XCOPA's training set among them, and for the model.
    fetched = invoke(*command.removeprefix("xlt ").removesuffix(" --data-root DIR").split(), "--offline")
    assert fetched.code == ExitCode.DATA
    for each in ("cambridgeltl/xcopa", "aps/super_glue", "facebook/xnli", "FacebookAI/xlm-roberta-large"):
        assert each in fetched.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--study", "Q9"], "There is no study 'Q9'"),
        (["--study", "Q3", "--tier", "paper"], "has no form for the tier 'paper'"),
        (["--study", "Q3", "--seed", "1"], "A study has its own seeds"),
        (["--study", "Q3", "--executor", "slurm", "--gpus", "1"], "its runs are made on this machine"),
        (["--study", "Q3", "--nodes", "2"], "are for jobs of SLURM"),
    ],
)
def test_what_a_study_cannot_do_is_refused(invoke: Invoke, options: list[str], message: str) -> None:
    outcome = invoke("reproduce", *options)
    assert outcome.code == ExitCode.USAGE
    assert message in outcome.err
