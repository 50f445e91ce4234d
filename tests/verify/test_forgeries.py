"""Forgeries in which manifests, metrics and the hashes of specs are kept in step, and what still contradicts them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xlt.errors import DataFault, ExitCode
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import write_manifest
from xlt.verify.judge import Verification, verify
from xlt.verify.stored import read_grid

from .tiny_results import Results

RUN = "mnli.xnli"


def respell(results: Results, change: Callable[[RunSpec], RunSpec]) -> None:
    """Change the specs of all runs; hashes, parents, folders, manifests and the grid file follow."""
    renamed: dict[str, str] = {}
    runs = []
    for old in results.grid.runs:
        new = change(old.model_copy(update={"parent": renamed.get(old.parent or "", old.parent)}))
        renamed[old.hash] = new.hash
        folder = results.store.path(old.folder).rename(results.store.path(new.folder))
        (folder / "spec.json").write_text(new.canonical(), "utf-8")
        write_manifest(folder)
        runs.append(new)
    results.grid = replace(results.grid, runs=tuple(runs), seed=runs[0].seed)
    (results.root / "grid.json").write_text(results.grid.text(), "utf-8")


def found_in(results: Results) -> tuple[Verification, list[tuple[str, str]]]:
    found = verify(results.root, results.source)
    return found, [(problem.kind, problem.what) for problem in found.problems]


def edit_log(results: Results, change: Callable[[list[dict[str, Any]]], object], run: str = RUN) -> None:
    path = results.run(run) / "log.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    results.seal(run)


@pytest.mark.parametrize(
    ("change", "kind", "what"),
    [
        (lambda log: log.__delitem__(slice(0, -1)), "spec", "does not count its steps from 1 on"),
        (lambda log: log[7].update(step=3), "spec", "does not count its steps from 1 on"),
        (lambda log: log[7].update(examples="0" * 16), "log", "step 8 has other examples than spec, seed and data"),
        (lambda log: log[7].pop("examples"), "log", "step 8 has other examples than spec, seed and data"),
        (lambda log: log[7].update(task="xnli"), "log", "step 8 is of 'xnli'; by spec and seed it is of 'mnli'"),
        (lambda log: log[7].update(learning_rate=1e-3), "log", "step 8 has the learning rate 0.001, not "),
        (lambda log: log[7].pop("learning_rate"), "log", "step 8 has the learning rate nan, not "),
        (lambda log: log[7].update(dev_score=99.0), "log", "Step 8 of log.jsonl has a dev score"),
        (lambda log: log[7].update(loss=float("nan")), "spec", "log.jsonl ends with step 0; the recipe has 40 steps"),
    ],
)
def test_a_log_that_its_spec_does_not_make_is_a_problem(
    results: Results, change: Callable[[list[dict[str, Any]]], object], kind: str, what: str
):
    edit_log(results, change)
    found, (problem,) = found_in(results)
    assert problem[0] == kind
    assert what in problem[1]
    assert found.exit_code == ExitCode.DEVIATES


def test_results_under_another_seed_contradict_their_logs(results: Results):
    respell(results, lambda spec: spec.model_copy(update={"seed": 7}))
    found, problems = found_in(results)
    assert found.exit_code == ExitCode.DEVIATES
    assert {kind for kind, _ in problems} == {"log"}
    assert problems[0][1] == "By log.jsonl step 1 has other examples than spec, seed and data give it."
    logs = [each for each in results.root.glob("runs/*/*/log.jsonl") if each.stat().st_size]
    # The tokenizer for question answering is not here, and one line of text has no other order.
    assert len(problems) == len([each for each in logs if "xquad" not in each.parent.name and "mlm" not in str(each)])


def test_languages_that_are_left_out_are_missed(results: Results):
    lacking = "xnli/test/qaf"
    respell(
        results,
        lambda spec: spec.model_copy(
            update={"data": {key: value for key, value in spec.data.items() if key != lacking}}
        ),
    )
    for name in (RUN, "baseline.xnli"):
        metrics = json.loads((results.run(name) / "metrics.json").read_text("utf-8"))
        del metrics["xnli"]["test"]["qaf"]
        (results.run(name) / "metrics.json").write_text(json.dumps(metrics), "utf-8")
        (results.run(name) / "predictions" / f"{lacking.replace('/', '.')}.jsonl.gz").unlink()
        results.seal(name)
    found, problems = found_in(results)
    assert problems == [("gold", "The run was not scored on 1 cell that the source has: xnli.test.qaf.")] * 2
    assert found.exit_code == ExitCode.DATA


def test_predictions_of_another_model_are_no_second_result(results: Results):
    mine, theirs = results.run("baseline.tatoeba"), results.run("mnli.tatoeba")
    for name in ("predictions", "metrics.json"):
        shutil.move(mine / name, mine / "old")
        (shutil.copytree if name == "predictions" else shutil.copy)(theirs / name, mine / name)
        shutil.rmtree(mine / "old") if name == "predictions" else (mine / "old").unlink()
    results.seal("baseline.tatoeba")
    found, ((kind, what),) = found_in(results)
    assert (kind, found.exit_code) == ("predictions", ExitCode.DEVIATES)
    assert what.endswith("which is another model: they were copied.")


def chained(results: Results) -> None:
    """Weights and provenance as a training writes them."""
    for run in results.grid.runs:
        folder = results.store.path(run.folder)
        provenance = json.loads((folder / "provenance.json").read_text("utf-8"))
        if run.train:
            (folder / "model").mkdir()
            (folder / "model" / "model.safetensors").write_text(run.hash, "utf-8")
            write_manifest(folder)
            listed = json.loads((folder / "MANIFEST.json").read_text("utf-8"))["files"]
            provenance["weights"] = {"model.safetensors": listed["model/model.safetensors"]["sha256"]}
        if run.parent:
            parent = results.store.path(results.grid.find(run.parent).folder)
            made = json.loads((parent / "provenance.json").read_text("utf-8"))
            provenance["parent_weights"] = made["weights"]
        (folder / "provenance.json").write_text(json.dumps(provenance), "utf-8")
        write_manifest(folder)


def test_runs_are_tied_to_the_weights_they_started_from(results: Results):
    chained(results)
    found, problems = found_in(results)
    assert problems == []
    assert found.checks is not None
    assert any(each.startswith("weights: 7 runs start from") for each in found.checks.checked)
    # What two arms made is exchanged; the specs stay, so that each is called what the other is.
    mine, other = results.run("baseline.tatoeba"), results.run("mnli.tatoeba")
    for name in ("predictions", "metrics.json", "provenance.json"):
        (mine / name).rename(mine / "old")
        (other / name).rename(mine / name)
        (mine / "old").rename(other / name)
    results.seal("baseline.tatoeba")
    results.seal("mnli.tatoeba")
    found, problems = found_in(results)
    assert len(problems) == 2
    assert all(
        kind == "run" and what.endswith(" when its weights were others than they are now.") for kind, what in problems
    )
    assert found.exit_code == ExitCode.DEVIATES


def test_a_model_that_a_run_did_not_write_is_a_problem(results: Results):
    chained(results)
    (results.run("mnli.xquad") / "model" / "model.safetensors").write_text("another", "utf-8")
    results.seal("mnli.xquad")
    assert found_in(results)[1] == [("run", "By its provenance its own weights are others than they are now.")]


@pytest.mark.parametrize("level", ["runs", "runs/target", "grid.json"])
def test_results_that_lie_elsewhere_are_not_these_results(results: Results, tmp_path: Path, level: str):
    path = results.root / level
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    if level == "grid.json":
        with pytest.raises(DataFault, match="is a link"):
            read_grid(results.root)
        return
    found, problems = found_in(results)
    assert found.exit_code == ExitCode.DEVIATES
    assert {what for _, what in problems} == {
        f"The run is damaged: the folder '{path.name}' is a link: its runs lie elsewhere."
    }


def test_a_tier_that_nobody_knows_judges_nothing_and_is_no_success(results: Results):
    grid = json.loads((results.root / "grid.json").read_text("utf-8"))
    (results.root / "grid.json").write_text(json.dumps(grid | {"tier": "unknown"}), "utf-8")
    found, problems = found_in(results)
    assert (problems, found.exit_code) == ([], ExitCode.INCOMPLETE)
    assert found.nothing_judged == "no values are expected for the tier 'unknown' on the source 'tiny'"
