"""The commands from end to end on the tiny tier: what they print and write, and that JSON is one document."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from xlt.data.files.source import FilesSource
from xlt.data.predictions import read_predictions, write_predictions
from xlt.errors import ExitCode
from xlt.evaluate.metrics import score
from xlt.pipeline.store import prediction_name, write_manifest
from xlt.runtime import PLACE
from xlt.tasks.catalogue import get_task


@pytest.fixture(scope="module")
def results(tiny_tier: Path, tiny_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of ``xlt reproduce`` in a process of its own, as a user starts it."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "xlt", "reproduce", "--tier", str(tiny_tier), "--source", "files"]
    command += ["--data-root", str(tiny_files), "--results", str(folder), "--json", "--checkpoint-seconds", "900"]
    # Not the place in a process group that other tests have left in this process; one thread: the models are tiny.
    environment = {name: value for name, value in os.environ.items() if name not in PLACE} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    # Nothing is expected of a tier that others wrote: that is said, and verify has an exit code for it.
    assert done.returncode == ExitCode.OK, done.stderr
    assert json.loads(done.stdout)["exit_code"] == ExitCode.INCOMPLETE
    verification = json.loads(done.stdout)
    recheck = verification["checks"]["recheck"]
    assert (recheck["cells"], recheck["agreement"], recheck["seed"]) == (recheck["of"], 100.0, None)
    assert verification["counts"] == {"not verifiable": 10}
    assert verification["command"].endswith(" --checkpoint-seconds 900 --results DIR")
    assert "Model: a small XLM-R, trained here from its first step (phase 1)." in done.stderr
    assert "Device:" in done.stderr
    return folder


def run_folder(results: Path, name: str) -> Path:
    (folder,) = results.glob(f"runs/*/{name}-*")
    return folder


def test_verify_recomputes_and_shows_chance(invoke: Invoke, results: Path, tiny_files: Path) -> None:
    given = ("--results", str(results), "--data-root", str(tiny_files), "--recheck", "3", "--all")
    outcome = invoke("verify", *given)
    assert outcome.code == ExitCode.INCOMPLETE
    assert "chance" in outcome.out
    assert "10 of 10 not verifiable" in outcome.out
    assert "Nothing was judged (exit code 5): no values are expected for the tier 'tiny'" in outcome.out
    (again,) = re.findall(
        r"predictions: 3 of \d+ cells predicted again .* drawn with --recheck-seed (\d+);", outcome.out
    )
    assert f"--recheck-seed {again};" in invoke("verify", *given, "--recheck-seed", again).out


def test_verify_says_in_few_short_lines_what_came_out_and_how_to_see_the_rest(
    invoke: Invoke, results: Path, tiny_files: Path
) -> None:
    shown = invoke("verify", "--results", str(results), "--data-root", str(tiny_files), "--recheck", "0").out
    lines = [line for line in shown.splitlines() if line[:1] not in "┏┃┡│└" and "COLLAPSED" not in line]
    summary = lines[next(place for place, line in enumerate(lines) if line.startswith("Tier tiny")) :]
    assert len(summary) <= 12
    assert all(len(line) <= 80 for line in summary[:-1])  # the last is a command, with the path of the folder
    assert "of 10 not verifiable" in summary[1]
    assert summary[-1].startswith("Every mean, claim and check: xlt verify --all --results ")
    assert "cells computed anew" not in shown


def test_verify_json_is_one_document_with_the_same_result_hash(invoke: Invoke, results: Path, tiny_files: Path) -> None:
    arguments = ("--results", str(results), "--data-root", str(tiny_files), "--json")
    first, second = (invoke(command, *arguments).document for command in ("verify", "report"))
    assert first["format"] == second["format"] == 1
    assert first["result_hash"] == second["result_hash"]
    assert {cell["language"] for cell in first["cells"] if cell["task"] == "xnli"} == {"en", "sw", "zh"}


def test_a_cell_of_no_task_here_is_refused_before_anything_is_computed(
    invoke: Invoke, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def computed(*_: object, **__: object) -> None:
        pytest.fail("scores were computed for a name with a typing error")

    monkeypatch.setattr("xlt.verify.judge.recompute", computed)
    outcome = invoke("verify", "--cell", "xnlu.sw", "--results", str(results))
    assert outcome.code == ExitCode.USAGE
    assert "There is no cell 'xnlu' here." in outcome.err
    assert "--cell xnli" in outcome.err
    for asked in (("--claim", "C3"), ("--table", "main")):
        outcome = invoke("verify", *asked, "--results", str(results))
        assert outcome.code == ExitCode.USAGE
        assert "has no claims of the paper" in outcome.err
    absent = invoke("verify", "--results", str(results), "--against", str(results / "absent"))
    assert absent.code == ExitCode.INCOMPLETE


def test_the_report_is_written(results: Path) -> None:
    page = (results / "report" / "index.html").read_text("utf-8")
    assert "xnli" in page.lower()
    assert json.loads((results / "report" / "report.json").read_text("utf-8"))["tier"] == "tiny"


def test_an_edited_prediction_is_found(invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    path = run_folder(copy, "baseline.xnli") / "predictions" / "xnli.test.sw.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    outcome = invoke("verify", "--results", str(copy), "--data-root", str(tiny_files))
    assert outcome.code == ExitCode.DEVIATES
    assert "xnli.test.sw.jsonl.gz" in outcome.out
    # Which languages the run had is not known now: the damage is told, and no name is refused.
    asked = invoke("verify", "--results", str(copy), "--data-root", str(tiny_files), "--cell", "xnli.zh")
    assert asked.code == ExitCode.DEVIATES
    assert "xnli.test.sw.jsonl.gz" in asked.out


def test_predictions_that_the_model_did_not_make_are_found_by_predicting_again(
    invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    arguments = ("verify", "--results", str(copy), "--data-root", str(tiny_files), "--json")
    assert invoke(*arguments).document["problems"] == []
    # A forger who keeps predictions, metrics and manifest in step.
    run, task = run_folder(copy, "baseline.xnli"), get_task("xnli")
    path = run / prediction_name("xnli", "test", "sw")
    labels = ("neutral", "entailment", "contradiction")
    made = read_predictions(path)
    forged = [replace(each, prediction=labels[n]) if n < 2 else each for n, each in enumerate(made)]
    assert sum(one != other for one, other in zip(made, forged, strict=True)) == 2
    write_predictions(path, forged)
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    metrics["xnli"]["test"]["sw"] = score(task, FilesSource(tiny_files).rows(task, "test", "sw"), forged)
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    write_manifest(run)
    assert invoke(*arguments, "--recheck", "0").document["problems"] == []
    found = invoke(*arguments)
    assert found.code == ExitCode.DEVIATES
    assert [(each["kind"], each["where"]) for each in found.document["problems"]] == [("recheck", "xnli.test.sw")]


@pytest.mark.parametrize(
    ("name", "pattern", "by"),
    [
        ("tokenizer.json", '"version"', '"versions"'),
        ("tokenizer.json", '"precompiled_charsmap": *"[^"]{9}', '"precompiled_charsmap": "'),
        ("tokenizer_config.json", '"cls_token": *"<s>"', '"cls_token": {}'),
        ("heads.json", '"labels": 3', '"labels": 10e9'),
    ],
)
def test_a_stored_model_that_cannot_predict_is_a_problem(
    invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path, name: str, pattern: str, by: str
) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    run = run_folder(copy, "baseline.xnli")
    text, count = re.subn(pattern, by, (run / "model" / name).read_text("utf-8"), count=1)
    assert count == 1
    (run / "model" / name).write_text(text, encoding="utf-8")
    write_manifest(run)
    found = invoke(
        *("verify", "--results", str(copy), "--data-root", str(tiny_files), "--recheck", "1000", "--json"),
    )
    assert found.code == ExitCode.DEVIATES
    (problem,) = found.document["problems"]
    assert (problem["kind"], problem["run"].rpartition("/")[2]) == ("recheck", run.name)
    assert problem["what"].startswith("The stored model cannot predict (")


def test_losses_that_the_weights_do_not_give_are_found(
    invoke: Invoke, tiny_tier: Path, tiny_files: Path, tmp_path: Path
) -> None:
    tier = tmp_path / "sure.toml"
    tier.write_text(tiny_tier.read_text("utf-8").replace("prob = 0.1", "prob = 0.0"), "utf-8")
    data = ("--data-root", str(tiny_files), "--results", str(tmp_path))
    training = ("--tier", str(tier), "--source", "files", "--steps", "3", *data)
    assert invoke("train", "mlm", *training).code == ExitCode.OK
    assert invoke("train", "mnli", "--model", str(run_folder(tmp_path, "train.mlm")), *training).code == ExitCode.OK
    sound = invoke("verify", *data, "--json").document
    assert sound["problems"] == []
    assert any(each.startswith("losses: the first and the last of 2 of 2") for each in sound["checks"]["checked"])
    run = run_folder(tmp_path, "train.mnli")
    first, *others = (run / "log.jsonl").read_text("utf-8").splitlines()
    first = json.dumps(json.loads(first) | {"loss": 0.5})
    (run / "log.jsonl").write_text("\n".join((first, *others)), encoding="utf-8")
    write_manifest(run)
    (problem,) = invoke("verify", *data, "--json").document["problems"]
    assert problem["kind"] == "log"
    assert problem["what"].startswith("By log.jsonl the loss of step 1 is 0.5; the weights that it starts from give ")


def test_a_training_that_ended_early_is_found(invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    run = run_folder(copy, "both")
    lines = (run / "log.jsonl").read_text("utf-8").splitlines(keepends=True)
    (run / "log.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    write_manifest(run)
    outcome = invoke("verify", "--results", str(copy), "--data-root", str(tiny_files), "--json")
    assert outcome.code == ExitCode.DEVIATES
    assert "log.jsonl ends with step 9; the recipe has 10 steps" in outcome.document["problems"][0]["what"]


def test_plan_says_what_is_done(
    invoke: Invoke, results: Path, tiny_tier: Path, tiny_files: Path, tmp_path: Path
) -> None:
    arguments = ("--tier", str(tiny_tier), "--source", "files", "--data-root", str(tiny_files), "--json")
    done = invoke("plan", "--results", str(results), *arguments).document
    assert {run["state"] for run in done["runs"]} == {"done"}
    assert done["data_absent"] == ""
    assert all(run["seconds"] > 0 for run in done["runs"])
    shown = invoke("plan", "--results", str(results), *arguments[:-1]).out
    assert f"for the {len(done['runs'])} runs that are done" in shown
    assert len(done["estimate"]["runs"]) == len(done["runs"])
    fresh = invoke("plan", "--results", str(tmp_path), *arguments).document
    assert {(run["state"], run["seconds"]) for run in fresh["runs"]} == {("absent", None)}
    assert [run["hash"] for run in fresh["runs"]] == [run["hash"] for run in done["runs"]]


def test_a_dry_run_of_a_tier_is_its_plan_and_makes_nothing(
    invoke: Invoke, tiny_tier: Path, tiny_files: Path, tmp_path: Path
) -> None:
    arguments = ("--tier", str(tiny_tier), "--source", "files", "--data-root", str(tiny_files), "--seed", "3", "--json")
    dry = invoke("reproduce", "--dry-run", "--results", str(tmp_path / "none"), *arguments)
    assert dry.code == ExitCode.OK
    assert dry.document == invoke("plan", "--results", str(tmp_path / "none"), *arguments).document
    assert not (tmp_path / "none").exists()


def test_a_dry_run_of_a_training_says_what_it_is_and_the_training_is_that(
    invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path
) -> None:
    model = run_folder(results, "mnli")
    asked = ("train", "mnli", "--model", str(model), "--data-root", str(tiny_files), "--steps", "3")
    asked = (*asked, "--batch-size", "4", "--results", str(tmp_path / "new"))
    dry = invoke(*asked, "--dry-run", "--json").document
    assert (dry["state"], dry["run"]["recipe"]["steps"], dry["estimate"]["runs"][0]["examples"]) == ("absent", 3, 12)
    assert not (tmp_path / "new").exists()
    shown = invoke(*asked, "--dry-run").out
    assert f"starts from      the model in {model / 'model'}" in shown
    assert "trains on        mnli, 12 examples in all; seed 0, fp32" in shown
    assert "steps 3, batch_size 4" in shown
    made = invoke(*asked, "--json").document
    assert (made["folder"], made["hash"]) == (dry["folder"], Path(dry["folder"]).name.rpartition("-")[2])
    assert invoke(*asked, "--dry-run", "--json").document["state"] == "done"


def test_evaluate_scores_a_stored_model_in_one_language(
    invoke: Invoke, results: Path, tiny_files: Path, tiny_tier: Path, tmp_path: Path
) -> None:
    trained = run_folder(results, "baseline.xnli")
    arguments = ("--source", "files", "--data-root", str(tiny_files), "--tier", str(tiny_tier), "--json")
    outcome = invoke(
        *("evaluate", "xnli", "--model", str(trained), "--language", "sw", "--split", "test"),
        *("--results", str(tmp_path), *arguments),
    )
    stored = json.loads((trained / "metrics.json").read_text("utf-8"))
    assert outcome.document["metrics"] == {"xnli": {"test": {"sw": stored["xnli"]["test"]["sw"]}}}
    again = invoke(
        *("evaluate", "xnli", "--model", str(trained), "--language", "sw", "--split", "test"),
        *("--results", str(tmp_path), *arguments),
    )
    assert again.document["found_complete"] is True
    folder = tmp_path / again.document["folder"]
    (folder / "metrics.json").write_text('{"xnli": 5}', encoding="utf-8")
    write_manifest(folder)
    damaged = invoke(
        *("evaluate", "xnli", "--model", str(trained), "--language", "sw", "--split", "test"),
        *("--results", str(tmp_path), *arguments),
    )
    assert damaged.code == ExitCode.DATA
    assert damaged.document["error"]["what"].startswith("metrics.json cannot be read as {task: ")
    assert damaged.document["error"]["fix"]


def test_evaluate_says_what_perturbed_text_costs(
    invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path
) -> None:
    data = ("--results", str(tmp_path), "--data-root", str(tiny_files))
    trained = str(run_folder(results, "baseline.xnli"))
    command = (
        "evaluate",
        "xnli",
        "--model",
        trained,
        "--language",
        "sw",
        "--split",
        "test",
        "--source",
        "files",
        *data,
    )
    kinds = ("letter-swap:0.3", "case:0.5:2", "case:0.5:6:search")
    found = invoke(*command, *(part for kind in kinds for part in ("--perturb", kind)), "--json").document
    names = [run["folder"].rpartition("-")[0].rpartition("/")[2] for run in found["runs"]]
    assert names == ["evaluate.xnli", *(f"evaluate.xnli.{kind.replace(':', '-')}" for kind in kinds)]
    clean, *perturbed = (run["metrics"]["xnli"]["test"]["sw"]["accuracy"] for run in found["runs"])
    costs = found["degradations"]
    cases = [(kinds[0], "average"), (kinds[1], "average"), (kinds[1], "worst"), (kinds[2], "worst")]
    assert [(each["perturbation"], each["case"]) for each in costs] == cases
    assert [costs[place]["perturbed"] for place in (0, 1, 3)] == pytest.approx(perturbed)
    assert costs[2]["perturbed"] <= costs[1]["perturbed"]
    assert costs[3]["perturbed"] <= costs[3]["clean"]
    assert all(each["clean"] == pytest.approx(clean) for each in costs)
    assert all(each["value"] == pytest.approx(each["clean"] - each["perturbed"]) for each in costs)
    # The clean run is the one that it is without.
    alone = invoke(*command, "--json").document
    assert (alone["found_complete"], alone["hash"]) == (True, found["runs"][0]["hash"])
    # What the search found is predicted again, from the ids of its predictions.
    shown = invoke("verify", *data)
    assert shown.code == ExitCode.OK, shown.out
    assert shown.out.count("Degradation: clean minus perturbed") == 3
    assert invoke("report", *data).code == ExitCode.OK
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    assert all(kind in page for kind in kinds)
    mixed = invoke(*command, "--perturb", "code-mixing")
    assert (mixed.code, "no lexicon for code-mixing in: sw" in mixed.err) == (ExitCode.DATA, True)
    refused = invoke(*command, "--perturb", "distraction")
    assert (refused.code, "Only span QA has a context" in refused.err) == (ExitCode.USAGE, True)


def test_mined_translations_lose_what_perturbed_sentences_lose(invoke: Invoke, results: Path, tmp_path: Path) -> None:
    command = ("evaluate", "bucc2018", "--model", str(run_folder(results, "mlm")), "--source", "world", "--limit", "12")
    where = ("--language", "qaa", "--results", str(tmp_path))
    outcome = invoke(*command, *where, "--perturb", "letter-swap:1", "--perturb", "code-mixing:1", "--json")
    assert outcome.code == ExitCode.OK, outcome.err
    costs, runs = outcome.document["degradations"], outcome.document["runs"]
    kinds = ("letter-swap:1", "code-mixing:1")
    assert [(each["perturbation"], each["split"]) for each in costs] == [
        (kind, split) for kind in kinds for split in ("dev", "test")
    ]
    clean, *perturbed = ([run["metrics"]["bucc2018"][split]["qaa"]["f1"] for split in ("dev", "test")] for run in runs)
    assert [each["clean"] for each in costs] == pytest.approx(clean * 2)
    assert [each["perturbed"] for each in costs] == pytest.approx([*perturbed[0], *perturbed[1]])
    # Every foreign sentence has letters to swap; the English ones are searched as they are, and count for nothing.
    assert [each["changed"] for each in costs[:2]] == [100, 100]
    shown = invoke("verify", "--results", str(tmp_path))
    assert shown.code == ExitCode.OK, shown.out
    assert shown.out.count("Degradation: clean minus perturbed") == 2


def test_languages_without_a_lexicon_are_named(invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for folder in tiny_files.iterdir():
        (root / folder.name).symlink_to(folder)
    (root / "lexicon").mkdir()
    (root / "lexicon/sw-en.txt").write_text("ba ball\n", "utf-8")
    command = ("evaluate", "xnli", "--model", str(run_folder(results, "baseline.xnli")), "--source", "files")
    where = ("--split", "test", "--data-root", str(root), "--results", str(tmp_path))
    found = invoke(*command, *where, "--perturb", "code-mixing", "--json").document
    assert found["without_lexicon"] == ["zh"]
    assert {each["language"] for each in found["degradations"]} == {"sw"}
    shown = invoke(*command, *where, "--perturb", "code-mixing")
    assert "Code-mixing left out, for want of lexicon/LANGUAGE-en.txt: zh." in shown.out + shown.err


def test_single_runs_are_verified_and_reported(invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path) -> None:
    data = ("--data-root", str(tiny_files), "--results", str(tmp_path))
    model = str(run_folder(results, "mlm"))
    made = (
        ("evaluate", "xnli", "--model", str(run_folder(results, "baseline.xnli")), "--language", "sw"),
        ("train", "mnli", "--model", model, "--steps", "3", "--batch-size", "4", "--seed", "2"),
        ("train", "mnli", "--model", model, "--steps", "4", "--batch-size", "4", "--seed", "2"),
    )
    for command in made:
        assert invoke(*command, *data, "--source", "files").code == ExitCode.OK
    shown = invoke("verify", *data, "--all")
    assert shown.code == ExitCode.OK, shown.out
    assert "Nothing is expected of single runs" in shown.out
    assert "predictions: 2 of 2 cells predicted again" in shown.out
    assert "Not checked: weights: 1 runs start from runs that are not verified with them." in shown.out
    first = invoke("verify", *data, "--json").document
    assert [(each["tier"], each["seed"]) for each in (first, *first["further"])] == [("", 0), ("", 2)]
    folders = sorted(tmp_path.glob("runs/*/train.mnli-*"))
    assert {each["arm"] for each in first["further"][0]["means"]} == {folder.name for folder in folders}
    page = Path(invoke("report", *data, "--recheck", "0", "--json").document["page"]).read_text("utf-8")
    assert "Single runs on the source" in page
    assert "not checked: predictions: the stored models were not asked again" in page
    alone = invoke("verify", "--results", str(folders[0]), "--data-root", str(tiny_files))
    assert (alone.code, "1 of 1 cell predicted again" in " ".join(alone.out.split())) == (ExitCode.OK, True)
    refused = invoke("report", "--results", str(folders[0]), "--data-root", str(tiny_files))
    assert refused.code == ExitCode.USAGE
    log = folders[0] / "log.jsonl"
    log.write_text(re.sub(r'"examples": "\w+', '"examples": "00', log.read_text("utf-8")), "utf-8")
    write_manifest(folders[0])
    assert invoke("verify", *data).code == ExitCode.DEVIATES


def test_evaluate_without_the_head_says_what_to_train(
    invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path
) -> None:
    outcome = invoke(
        *("evaluate", "xnli", "--model", str(run_folder(results, "mlm")), "--source", "files"),
        *("--data-root", str(tiny_files), "--results", str(tmp_path)),
    )
    assert outcome.code == ExitCode.USAGE
    assert "head" in outcome.err


def test_retrieve_with_a_layer_of_choice(invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path) -> None:
    outcome = invoke(
        *("retrieve", "tatoeba", "--model", str(run_folder(results, "mlm")), "--layer", "2"),
        *("--source", "files", "--data-root", str(tiny_files), "--results", str(tmp_path), "--json"),
    )
    assert set(outcome.document["metrics"]["tatoeba"]["test"]) == {"sw", "zh"}
    beyond = invoke(
        *("retrieve", "tatoeba", "--model", str(run_folder(results, "mlm")), "--layer", "3"),
        *("--source", "files", "--data-root", str(tiny_files), "--results", str(tmp_path)),
    )
    assert beyond.code == ExitCode.USAGE
    assert "There is no block 3: the model has 2." in beyond.err
    assert invoke("retrieve", "tatoeba", "--model", "x", "--layer", "0").code == ExitCode.USAGE
    # A saved folder says no layer: block 14, which XLM-R Large has, or the last one.
    saved = invoke(
        *("retrieve", "tatoeba", "--model", str(run_folder(results, "mlm") / "model")),
        *("--source", "files", "--data-root", str(tiny_files), "--results", str(tmp_path), "--json"),
    )
    assert saved.document["metrics"] == outcome.document["metrics"]
    assert "of block 2, the model's last: it has no block 14" in saved.err


def test_retrieve_as_the_encoder_was_trained_to_be_read(
    invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path
) -> None:
    data = ("--source", "files", "--data-root", str(tiny_files), "--results", str(tmp_path), "--json")
    plain = ("retrieve", "tatoeba", "--model", str(run_folder(results, "mlm")), *data)
    choices = ((), ("--prefix", ""), ("--pooling", "mean"), ("--prefix", "query: "), ("--pooling", "first"))
    usual, no_prefix, mean, prefixed, first = (invoke(*plain, *choice).document for choice in choices)
    # What is the default is no other run.
    assert usual["hash"] == no_prefix["hash"] == mean["hash"]
    assert len({each["hash"] for each in (usual, prefixed, first)}) == 3
    spec = json.loads((tmp_path / prefixed["folder"] / "spec.json").read_text("utf-8"))
    assert (spec["backbone"]["prefix"], spec["backbone"]["pooling"]) == ("query: ", "mean")
    scores = [
        tuple(read_predictions(tmp_path / each["folder"] / prediction_name("tatoeba", "test", "sw")))
        for each in (usual, prefixed, first)
    ]
    assert len(set(scores)) == 3


def test_train_from_a_saved_folder_of_the_hub_layout(
    invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path
) -> None:
    arguments = (
        *("train", "mnli", "--model", str(run_folder(results, "mlm") / "model"), "--steps", "3"),
        *("--batch-size", "4", "--source", "files", "--data-root", str(tiny_files)),
        *("--results", str(tmp_path), "--json"),
    )
    document = invoke(*arguments).document
    assert document["folder"].startswith("runs/intermediate/train.mnli-")
    assert set(document["metrics"]["mnli"]["dev"]) == {"en"}
    assert document["provenance"]["steps"] == 3
    assert str(tmp_path) not in (tmp_path / document["folder"] / "spec.json").read_text("utf-8")
    # Of a model that others made, only a sample is predicted again: it may be large.
    data = ("--data-root", str(tiny_files), "--results", str(tmp_path), "--recheck-seed", "7")
    checks = invoke("verify", *data, "--json").document["checks"]
    assert (checks["recheck"]["rows"], checks["recheck"]["seed"], checks["recheck"]["cells"]) == (100, 7, 1)
    assert any(each.startswith("losses of 1 trainings: ") for each in checks["not_checked"])


def test_train_in_another_language(invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path) -> None:
    files = Path(shutil.copytree(tiny_files, tmp_path / "data"))
    command = ("train", "xnli", "--model", str(run_folder(results, "mlm")), "--steps", "2", "--batch-size", "4")
    command += ("--data-root", str(files), "--results", str(tmp_path / "results"), "--source-language")
    refused = invoke(*command, "sw")
    assert refused.code == ExitCode.DATA
    assert "There is no training set of 'mnli' in the language 'sw'." in refused.err
    assert "translated/sw below the data root" in refused.err
    shutil.copytree(files / "mnli", files / "translated/sw/mnli")
    made = invoke(*command, "sw", "--json").document
    spec = json.loads((tmp_path / "results" / made["folder"] / "spec.json").read_text("utf-8"))
    assert spec["translated"] == ["sw"]
    assert "mnli/train/sw" in spec["data"]
    assert "mnli/train/en" not in spec["data"]
    assert {*made["metrics"]["xnli"]["test"]} == {"en", "sw", "zh"}


def test_masked_lm_on_a_model_without_its_head(
    invoke: Invoke, results: Path, tiny_files: Path, tiny_tier: Path, tmp_path: Path
) -> None:
    trained = run_folder(results, "baseline.xnli")
    arguments = ("--source", "files", "--data-root", str(tiny_files), "--tier", str(tiny_tier))
    outcome = invoke("train", "mlm", "--model", str(trained), "--results", str(tmp_path), *arguments)
    assert outcome.code == ExitCode.USAGE
    assert "no language-model head" in outcome.err


def test_tasks_and_doctor(invoke: Invoke, tiny_files: Path, tmp_path: Path) -> None:
    assert {task["key"] for task in invoke("tasks", "ls", "--json").document["tasks"]} >= {"xnli", "mlm"}
    assert invoke("tasks", "show", "xquad", "--json").document["task"]["metric"] == "squad"
    checked = invoke("tasks", "check", "--data-root", str(tiny_files), "--json").document
    assert checked["tasks"]["xnli"]["test"] == {"en": 18, "sw": 18, "zh": 18}
    assert checked["problems"] == []
    names = {check["name"] for check in invoke("doctor", "--json").document["checks"]}
    assert {"Python", "C++ compiler", "torch", "DeepSpeed", "FAISS", "GPU", "memory"} <= names


def test_a_broken_task_file_is_a_data_error_with_its_place(invoke: Invoke, tiny_files: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    shutil.copytree(tiny_files, broken)
    with (broken / "xnli" / "test-sw.tsv").open("a", encoding="utf-8") as stream:
        stream.write("only one column\n")
    outcome = invoke("tasks", "check", "--data-root", str(broken), "--json")
    assert outcome.code == ExitCode.DATA
    (problem,) = outcome.document["problems"]
    assert (problem["file"], problem["line"]) == ("xnli/test-sw.tsv", 19)


def test_a_named_model_asks_for_its_data_and_a_run_of_xlt_has_it(
    invoke: Invoke, results: Path, tiny_files: Path, tmp_path: Path
) -> None:
    """Else a public model would be trained on constructed languages that it does not know."""
    model = run_folder(results, "mnli")
    saved = shutil.copytree(model / "model", tmp_path / "saved")
    asked = invoke("evaluate", "xnli", "--model", str(saved), "--results", str(tmp_path))
    assert asked.code == ExitCode.USAGE
    assert "It is not known which data to use" in asked.err
    assert "--source hub" in asked.err
    # The run was made from files: their folder is asked for, not the constructed world taken.
    run = invoke("evaluate", "mnli", "--model", str(model), "--results", str(tmp_path))
    assert run.code == ExitCode.USAGE
    assert "Add --data-root DIR" in run.err
    found = invoke(
        *("evaluate", "mnli", "--model", str(model), "--results", str(tmp_path), "--data-root", str(tiny_files))
    )
    assert found.code == 0
