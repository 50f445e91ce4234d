"""Recomputed numbers, and the problem that each kind of damage or edit gives."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape

from xlt.data.predictions import read_predictions, write_predictions
from xlt.errors import DataFault, ExitCode, IncompleteFault, UsageFault
from xlt.verify.cells import Cell, collapsed_cells
from xlt.verify.judge import Verification, verify
from xlt.verify.report import render
from xlt.verify.scores import table_of
from xlt.verify.stored import Problem

from .tiny_results import RIGHT, TinySource


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after), "utf-8")


def only_problem(verification: Verification) -> Problem:
    assert len(verification.problems) == 1, verification.problems
    return verification.problems[0]


def words(verification: Verification) -> dict[tuple[str, str, str], str]:
    return {v.key: v.verdict for v in verification.verdicts}


def test_recomputed_values_are_the_known_ones(results):
    found = verify(results.root, results.source)
    assert found.problems == ()
    by_place = {(*cell.key, cell.language): cell for cell in found.cells}
    for language, right in RIGHT.items():
        cell = by_place["baseline", "xnli", "test", language]
        assert cell.metrics == {"accuracy": pytest.approx(100 * right / 60)}
        assert (cell.chance, cell.majority) == ({"accuracy": 100 / 3}, {"accuracy": pytest.approx(100 / 3)})
        assert (cell.examples, cell.above_chance) == (60, True)
    german = by_place["mnli", "xquad", "test", "de"]
    assert german.metrics == {"exact_match": pytest.approx(80), "f1": pytest.approx(80)}
    assert by_place["mnli", "tatoeba", "test", "qaf"].metrics == {"accuracy": pytest.approx(70)}
    means = {mean.key: mean.value for mean in found.means}
    assert means["baseline", "xnli", "dev"] == pytest.approx((90 + 80 + 70) / 3)
    assert means["mnli", "mnli", "dev"] == pytest.approx(90)
    assert means["baseline", "tatoeba", "test"] == pytest.approx((80 + 70) / 2)
    assert (len(means), len(found.verdicts)) == (9, 7)
    assert set(words(found).values()) == {"not verifiable"}
    assert (found.exit_code, found.nothing_judged) == (ExitCode.INCOMPLETE, found.verdicts[0].reason)


def test_the_mean_of_span_qa_is_that_of_f1_and_exact_match(results):
    name = "baseline.xquad"
    path = results.run(name) / "predictions" / "xquad.test.en.jsonl.gz"
    # "zeta four" against "zeta": F1 2/3, no exact match.
    text = gzip.decompress(path.read_bytes()).decode().replace("[8,12]", "[8,17]")
    path.write_bytes(gzip.compress(text.encode()))
    results.seal(name)
    found = verify(results.root, results.source)
    cell = next(c for c in found.cells if (c.arm, c.task, c.language) == ("baseline", "xquad", "en"))
    assert cell.metrics == {"exact_match": 0, "f1": pytest.approx(60)}
    assert cell.score == pytest.approx(30)
    assert not cell.above_chance


def test_above_chance_is_above_the_larger_of_chance_and_majority():
    """Uneven labels: of 1,000, always the most frequent one is right in 60 %, which 62.0 does not clearly exceed."""

    def cell(accuracy, majority):
        return Cell(
            arm="baseline",
            task="xnli",
            split="test",
            language="sw",
            predictions="",
            run="r",
            metrics={"accuracy": accuracy},
            chance={"accuracy": 100 / 3},
            majority=majority,
            examples=1000,
            n_trials=1000,
        )

    assert cell(62.0, None).above_chance
    assert not cell(62.0, {"accuracy": 60.0}).above_chance
    assert cell(64.0, {"accuracy": 60.0}).above_chance
    # 636 is the smallest n with P(X <= n) >= 0.99 for X ~ B(1000, 0.6).
    assert cell(64.0, {"accuracy": 60.0}).chance_p99 == pytest.approx(63.6)
    assert set(table_of([cell(62.0, {"accuracy": 60.0})], 0)["chance"]) == {60.0}


def test_a_number_in_metrics_json_is_not_believed(results):
    metrics = results.run("baseline.xnli") / "metrics.json"
    values = json.loads(metrics.read_text("utf-8"))
    values["xnli"]["test"]["de"]["accuracy"] = 99.0
    values["xnli"]["test"]["fr"] = {"accuracy": 50.0}
    metrics.write_text(json.dumps(values), "utf-8")
    results.seal("baseline.xnli")
    found = verify(results.root, results.source)
    assert [(p.kind, p.where) for p in found.problems] == [
        ("disagreement", "xnli.test.de.accuracy"),
        ("disagreement", "xnli.test.fr.accuracy"),
    ]
    assert "99.0" in found.problems[0].what
    assert "80.0" in found.problems[0].what
    assert found.exit_code == ExitCode.DEVIATES


@pytest.mark.parametrize(
    ("written", "found"), [(80.04, True), (79.999, True), (80.000001, True), (80.00000001, False), (80, False)]
)
def test_a_number_in_metrics_json_may_differ_by_rounding_alone(results, written: float, found: bool):
    metrics = results.run("baseline.xnli") / "metrics.json"
    values = json.loads(metrics.read_text("utf-8"))
    values["xnli"]["test"]["de"]["accuracy"] = written  # 48 of 60 are right: 80 %
    metrics.write_text(json.dumps(values), "utf-8")
    results.seal("baseline.xnli")
    problems = verify(results.root, results.source).problems
    assert [problem.where for problem in problems] == ["xnli.test.de.accuracy"] * found


def test_nothing_right_is_not_a_little_right(make):
    made = make().fill(lambda spec, task, split, language: 0)
    metrics = made.run("baseline.xquad") / "metrics.json"
    values = json.loads(metrics.read_text("utf-8"))
    assert values["xquad"]["test"]["de"]["exact_match"] == 0
    values["xquad"]["test"]["de"]["exact_match"] = 0.04
    metrics.write_text(json.dumps(values), "utf-8")
    made.seal("baseline.xquad")
    assert only_problem(verify(made.root, made.source)).where == "xquad.test.de.exact_match"


def test_tampered_predictions_are_damage_and_with_a_new_manifest_a_disagreement(results):
    name = "mnli.xnli"
    path = results.run(name) / "predictions" / "xnli.test.qaf.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).replace(b'"entailment"', b'"neutral"')
    path.write_bytes(gzip.compress(lines))
    damaged = verify(results.root, results.source)
    problem = only_problem(damaged)
    assert problem.kind == "run"
    assert "xnli.test.qaf" in problem.what
    assert words(damaged)["mnli", "xnli", "test"] == "not verifiable"
    assert next(v for v in damaged.verdicts if v.arm == "mnli" and v.task == "xnli").reason.startswith("The run")
    assert damaged.exit_code == ExitCode.DEVIATES
    results.seal(name)
    assert only_problem(verify(results.root, results.source)).kind == "disagreement"


def test_swapped_language_files_are_caught(results):
    name = "baseline.xnli"
    folder = results.run(name) / "predictions"
    german, other = folder / "xnli.test.de.jsonl.gz", folder / "xnli.test.qaf.jsonl.gz"
    first, second = german.read_bytes(), other.read_bytes()
    german.write_bytes(second)
    other.write_bytes(first)
    assert only_problem(verify(results.root, results.source)).kind == "run"
    results.seal(name)
    problems = verify(results.root, results.source).problems
    assert {(p.kind, p.where) for p in problems} == {
        ("disagreement", "xnli.test.de.accuracy"),
        ("disagreement", "xnli.test.qaf.accuracy"),
    }


def test_an_edited_spec_is_caught_even_with_a_new_manifest(results):
    spec = results.run("baseline.xnli") / "spec.json"
    edit(spec, '"learning_rate": 1e-05', '"learning_rate": 1e-06')
    assert only_problem(verify(results.root, results.source)).kind == "run"
    results.seal("baseline.xnli")
    found = verify(results.root, results.source)
    problem = only_problem(found)
    assert problem.kind == "spec"
    assert "not the spec that names the folder" in problem.what
    assert found.exit_code == ExitCode.DEVIATES
    spec.write_text("{}", "utf-8")
    results.seal("baseline.xnli")
    assert only_problem(verify(results.root, results.source)).kind == "spec"


def test_an_edited_grid_contradicts_the_specs(results):
    edit(results.root / "grid.json", '"seed": 0', '"seed": 1')
    found = verify(results.root, results.source)
    assert {problem.kind for problem in found.problems} == {"spec"}
    assert "disagree about: seed" in found.problems[0].what
    assert found.cells == ()
    assert found.exit_code == ExitCode.DEVIATES


@pytest.mark.parametrize("state", ["absent", "unfinished"])
def test_a_missing_run_is_not_run_with_the_command_that_makes_it(results, state):
    if state == "absent":
        results.remove("mnli.xquad")
    else:
        (results.run("mnli.xquad") / "MANIFEST.json").unlink()
    found = verify(results.root, results.source)
    assert state in only_problem(found).what
    verdict = next(v for v in found.verdicts if (v.arm, v.task) == ("mnli", "xquad"))
    assert (verdict.verdict, verdict.fix) == ("not run", "xlt reproduce --tier tiny --source tiny --results DIR")
    assert found.counts == {"not run": 1, "not verifiable": 6}
    assert found.summary == "1 of 7 not run, 6 of 7 not verifiable"
    assert found.exit_code == ExitCode.INCOMPLETE


def test_the_command_that_makes_a_run_again_has_the_options_that_were_given(results):
    results.remove("mnli.xquad")
    grid = json.loads((results.root / "grid.json").read_text("utf-8"))
    grid["options"] = {"keep-checkpoints": "2", "shard": ""}
    (results.root / "grid.json").write_text(json.dumps(grid), "utf-8")
    found = verify(results.root, results.source)
    fix = "xlt reproduce --tier tiny --source tiny --keep-checkpoints 2 --shard --results DIR"
    assert only_problem(found).fix == found.command == fix


@pytest.mark.parametrize("options", [{"shard": "; rm -r x"}, {"results": "x"}, {"shard; rm": ""}, {"zero": 1}])
def test_an_option_that_no_command_repeats_is_refused(options, results):
    grid = json.loads((results.root / "grid.json").read_text("utf-8")) | {"options": options}
    (results.root / "grid.json").write_text(json.dumps(grid), "utf-8")
    with pytest.raises(DataFault, match=r"grid\.json of the results folder cannot be read"):
        verify(results.root, results.source)


def test_a_run_that_diverged_has_collapsed(results):
    folder = results.run("mnli.xquad")
    shutil.rmtree(folder / "predictions")
    for name in ("metrics.json", "log.jsonl"):
        (folder / name).unlink(missing_ok=True)
    (folder / "provenance.json").write_text('{"diverged": "The loss of step 3 is nan."}', "utf-8")
    results.seal("mnli.xquad")
    found = verify(results.root, results.source)
    assert only_problem(found).what == "The run is diverged: The loss of step 3 is nan."
    assert words(found)["mnli", "xquad", "test"] == "collapsed"
    assert found.exit_code == ExitCode.DEVIATES


def say_always(results, name: str, what: str, answer: str | tuple[int, int]) -> None:
    """Have a run give one answer for all that it was asked, as a training that collapsed does."""
    folder = results.run(name)
    path = folder / "predictions" / f"{what}.jsonl.gz"
    write_predictions(path, [replace(each, prediction=answer) for each in read_predictions(path)])
    results.seal(name)


def test_a_model_that_gives_one_answer_for_all_of_english_is_said_to_have_collapsed(results):
    assert collapsed_cells(verify(results.root, results.source).cells) == []
    say_always(results, "baseline.xnli", "xnli.test.en", "neutral")  # what dev says counts
    say_always(results, "baseline.xnli", "xnli.dev.de", "neutral")
    assert collapsed_cells(verify(results.root, results.source).cells) == []
    say_always(results, "baseline.xnli", "xnli.dev.en", "neutral")
    say_always(results, "mnli.xquad", "xquad.test.en", (0, 0))
    found = verify(results.root, results.source)
    told = {cell.task: cell.collapse for cell in collapsed_cells(found.cells)}
    assert told["xnli"].endswith(
        ": xnli.dev.en: 'neutral' for all examples, where the labels differ; its scores are no result."
    )
    assert "xquad.test.en: '[0, 0]' for all examples" in told["xquad"]
    assert len(told) == 2
    page = " ".join(render(found, results.root).split())
    assert f"Collapsed to one answer.</strong> {escape(told['xnli'])}" in page


def test_a_run_taken_out_of_the_grid_is_still_promised_by_the_tier(results):
    grid = json.loads((results.root / "grid.json").read_text("utf-8"))
    grid["runs"] = [run for run in grid["runs"] if run["evaluate"] != ["xnli"]]
    (results.root / "grid.json").write_text(json.dumps(grid), "utf-8")
    found = verify(results.root, results.source)
    assert found.problems == ()
    assert words(found)["baseline", "xnli", "test"] == "not run"
    assert found.counts["not run"] == 2
    assert found.exit_code == ExitCode.INCOMPLETE


def test_other_gold_data_is_named_and_judges_nothing(results):
    found = verify(results.root, TinySource(change="!"))
    assert {problem.kind for problem in found.problems} == {"gold"}
    assert len(found.problems) == 23 + 5
    assert {problem.where for problem in found.problems[23:]} == {"mnli.train.en", "squad.train.en"}
    assert "not what the run was scored on" in found.problems[0].what
    assert set(words(found).values()) == {"not verifiable"}
    assert found.exit_code == ExitCode.DATA


def test_absent_gold_stops_only_its_own_language(results):
    found = verify(results.root, TinySource(absent=("qaf",)))
    assert {(p.kind, p.where) for p in found.problems} == {
        ("gold", f"{place}.qaf") for place in ("xnli.dev", "xnli.test", "xquad.test", "tatoeba.test")
    }
    assert {cell.language for cell in found.cells} == {"en", "de"}
    assert [mean.key for mean in found.means] == [("mnli", "mnli", "dev")]
    assert found.exit_code == ExitCode.DATA


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"{}\n"), gzip.compress(b"")],
    ids=["no gzip", "no prediction", "empty"],
)
def test_broken_predictions_are_a_problem_of_their_cell_alone(results, content):
    (results.run("baseline.tatoeba") / "predictions" / "tatoeba.test.de.jsonl.gz").write_bytes(content)
    results.seal("baseline.tatoeba")
    found = verify(results.root, results.source)
    problem = only_problem(found)
    assert (problem.kind, problem.where) == ("predictions", "tatoeba.test.de")
    assert words(found)["baseline", "tatoeba", "test"] == "not verifiable"
    assert len(found.cells) == 22
    assert found.exit_code == ExitCode.DEVIATES


def test_without_a_grid_nothing_was_run(tmp_path):
    with pytest.raises(IncompleteFault, match=r"grid\.json"):
        verify(tmp_path, TinySource())
    (tmp_path / "grid.json").write_text("[", "utf-8")
    with pytest.raises(DataFault, match="cannot be read"):
        verify(tmp_path, TinySource())


def test_another_source_or_limit_is_refused_with_the_right_command(results):
    with pytest.raises(UsageFault, match="made from the source 'tiny'") as caught:
        verify(results.root, TinySource(settings={"limit": 5}))
    assert caught.value.fix == "xlt verify --results DIR"
