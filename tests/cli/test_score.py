"""``xlt score`` and ``xlt submit``: what they print, and that the one reads what the other writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.verify.built import ANSWER
from tests.verify.tiny_results import Results, plan_results, predictions, shifted, write_artifact
from xlt.errors import ExitCode
from xlt.evaluate.submission import BENCHMARKS, file_name, submission_text
from xlt.pipeline.store import prediction_name
from xlt.tasks.catalogue import get_task
from xlt.verify.judge import verify

TASKS = {"xnli": ("de", "en"), "xquad": ("de", "en"), "tatoeba": ("de",)}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """A complete results folder, whose source the commands open; the benchmark has what is in it."""
    monkeypatch.setenv("XLT_ARTIFACT", str(write_artifact(tmp_path / "artifact")))
    made = plan_results(tmp_path / "results").fill()
    monkeypatch.setattr("xlt.verify.stored.source_of", lambda results, data_root: made.source)
    return made


@pytest.fixture
def labels(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The gold labels of a benchmark of three tasks."""
    monkeypatch.setitem(BENCHMARKS, "xtreme", TASKS)  # type: ignore[arg-type]
    root = tmp_path / "labels"
    for key, languages in TASKS.items():
        for language in languages:
            task = get_task(key)
            rows = results.source.rows(task, "test", language)
            text = submission_text(task, rows, predictions(task, rows, len(rows)), None)
            if key == "xquad":
                qas = [{"id": row.id, "answers": [{"text": ANSWER}]} for row in rows]
                text = json.dumps({"data": [{"paragraphs": [{"qas": qas}]}]})
            path = root / key / file_name(key, language)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    return root


def test_what_is_submitted_scores_as_what_is_verified(
    invoke: Invoke, results: Results, labels: Path, tmp_path: Path
) -> None:
    output = tmp_path / "submission"
    submitted = invoke("submit", "--results", str(results.root), "--arm", "mnli", "--output", str(output), "--json")
    assert submitted.code == 0, submitted.err
    assert submitted.document["missing"] == {}
    assert submitted.document["written"]["tatoeba"] == ["de", "qaf"]
    scored = invoke("score", "--predictions", str(output), "--labels", str(labels), "--json").document
    assert set(scored) == {"format", "benchmark", "tasks", "score", "notes"}
    assert {task: tuple(each["languages"]) for task, each in scored["tasks"].items()} == TASKS
    verified = {
        (cell.task, cell.language): cell.metrics
        for cell in verify(results.root, results.source).cells
        if cell.arm == "mnli" and cell.split == "test"
    }
    for task, each in scored["tasks"].items():
        for language, metrics in each["languages"].items():
            assert metrics == pytest.approx(verified[task, language]), (task, language)
            assert 0 < min(metrics.values()) < 100
    for_people = invoke("score", "--predictions", str(output), "--labels", str(labels))
    assert f"{scored['tasks']['xnli']['score']:.2f}" in for_people.out
    assert for_people.out.splitlines()[-1].startswith("Total: ")


def test_tasks_and_languages_without_predictions_are_named(invoke: Invoke, results: Results, tmp_path: Path) -> None:
    outcome = invoke(
        "submit", "--results", str(results.root), "--arm", "baseline", "--output", str(tmp_path / "out"), "--json"
    )
    missing = outcome.document["missing"]
    assert set(missing) == set(BENCHMARKS["xtreme"])
    assert missing["bucc2018"] == ["de", "fr", "ru", "zh"]
    assert "de" not in missing["xnli"]
    assert "sw" in missing["xnli"]


def test_of_each_task_the_first_arm_that_has_it_is_submitted(invoke: Invoke, results: Results, tmp_path: Path) -> None:
    def submitted(*arms: str) -> dict[str, str]:
        output = tmp_path / "-".join(arms)
        given = [word for arm in arms for word in ("--arm", arm)]
        outcome = invoke(
            *("submit", "--results", str(results.root), "--output", str(output), "--benchmark", "xtreme-r"), *given
        )
        assert outcome.code == 0, outcome.err
        assert "Note: lareqa: no form of a submission is published for it." in outcome.out
        return {path.relative_to(output).as_posix(): path.read_text("utf-8") for path in output.glob("*/*")}

    results.fill(shifted(-9, arm="mnli"))
    one, other = submitted("baseline"), submitted("mnli")
    assert one != other
    assert submitted("baseline", "mnli") == one
    assert submitted("mnli", "baseline") == other


def test_what_cannot_be_submitted(invoke: Invoke, results: Results, tmp_path: Path) -> None:
    def fails(code: ExitCode, message: str, arm: str = "mnli", output: str = "out") -> None:
        outcome = invoke("submit", "--results", str(results.root), "--arm", arm, "--output", str(tmp_path / output))
        assert (outcome.code, message in outcome.err) == (code, True), outcome.err
        assert not (tmp_path / "out").exists()

    fails(ExitCode.USAGE, "not an empty folder", output="results")
    fails(ExitCode.USAGE, "--arm, one of: mnli, baseline", arm="qqp")
    results.source.change = "!"
    fails(ExitCode.DATA, "not what the run was scored on")
    (results.run("mnli.xnli") / prediction_name("xnli", "test", "de")).unlink()
    fails(ExitCode.INCOMPLETE, "not complete")


def test_a_folder_that_cannot_be_scored(invoke: Invoke, tmp_path: Path) -> None:
    outcome = invoke("score", "--predictions", str(tmp_path), "--labels", str(tmp_path), "--json")
    assert outcome.code == ExitCode.DATA
    assert "no task of xtreme in common" in outcome.document["error"]["what"]
    outcome = invoke("score", "--predictions", str(tmp_path), "--labels", str(tmp_path), "--benchmark", "glue")
    assert outcome.code == ExitCode.USAGE


def test_a_folder_of_a_strange_name_is_noted_and_steers_nothing(
    invoke: Invoke, results: Results, labels: Path, tmp_path: Path
) -> None:
    output = tmp_path / "submission"
    assert invoke("submit", "--results", str(results.root), "--arm", "mnli", "--output", str(output)).code == 0
    for name in (b"caf\xe9", b"\x1b[2J\n"):
        os.mkdir(os.fsencode(output) + b"/" + name)
    arguments = ("score", "--predictions", str(output), "--labels", str(labels))
    shown = invoke(*arguments)
    assert shown.code == 0, shown.err
    assert r"Note: caf\udce9: not scored; no task of xtreme." in shown.out
    assert "\x1b" not in shown.out
    notes = invoke(*arguments, "--json").document["notes"]
    assert notes == ["\x1b[2J\n: not scored; no task of xtreme.", "caf\udce9: not scored; no task of xtreme."]
