"""Every kind of tampering with a results folder, done, and the message that it is caught with.

Whoever tampers here is careful: the manifest is written again, so that it is not the manifest alone that catches them.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from xlt.data.rows import PairRow, Row
from xlt.errors import ExitCode, UsageFault
from xlt.tasks.record import Split, Task
from xlt.verify.export import record
from xlt.verify.judge import Verification, verify

from .tiny_results import TIER, Results, TinySource

RUN = "baseline.xnli"
GRAPH = {"engine": "graph", "precision": "bf16"}


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), "utf-8")


def predictions(results: Results, language: str = "de", split: str = "test") -> Path:
    return results.run(RUN) / "predictions" / f"xnli.{split}.{language}.jsonl.gz"


def lines(results: Results, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path = predictions(results)
    path.write_bytes(gzip.compress(b"".join(change(gzip.decompress(path.read_bytes()).splitlines(keepends=True)))))


def swap(first: Path, second: Path) -> None:
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def set_deep(keys: tuple[str, ...], value: object, document: dict[str, Any]) -> dict[str, Any]:
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return document


def metrics(results: Results) -> None:
    rewrite(results.run(RUN) / "metrics.json", partial(set_deep, ("xnli", "test", "de", "accuracy"), 99.0))


def spec(results: Results) -> None:
    rewrite(results.run(RUN) / "spec.json", partial(set_deep, ("seed",), 5))


def grid(keys: tuple[str, ...], value: object, results: Results) -> None:
    rewrite(results.root / "grid.json", partial(set_deep, keys, value))


def another_run(results: Results) -> None:
    """The files of the run of another phase-2 model under this one's name."""
    shutil.rmtree(results.run(RUN))
    shutil.copytree(results.run("mnli.xnli"), results.run(RUN))


def second_attempt(results: Results) -> None:
    """A second attempt in the place of a first one that nobody is told of."""
    retried = results.grid.retry(next(run for run in results.grid.runs if run.name == RUN))
    document = retried.as_json()
    del document["collapsed"]
    (results.root / "grid.json").write_text(json.dumps(document), "utf-8")
    old = results.run(RUN)
    results.grid = retried
    old.rename(results.run(RUN))
    (results.run(RUN) / "spec.json").write_text(next(r for r in retried.runs if r.name == RUN).canonical(), "utf-8")


def smaller_model(results: Results) -> None:
    folder = results.run("mnli") / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 2}), "utf-8")
    results.seal("mnli")


def log_pruned(results: Results) -> None:
    """As an archive without models leaves them out."""
    (results.run("baseline.xquad") / "log.jsonl").unlink()
    rewrite(results.run("baseline.xquad") / "MANIFEST.json", partial(set_deep, ("files", "log.jsonl", "pruned"), True))


@dataclass(frozen=True)
class Case:
    do: Callable[[Results], object]
    said: str
    sealed: bool = True


TAMPERED = {
    "prediction edited": Case(
        lambda r: lines(r, lambda x: [x[0].replace(b"entail", b"Entail"), *x[1:]]),
        "1 examples of 'xnli' predict something else than a label",
    ),
    "predictions edited, manifest kept": Case(
        lambda r: lines(r, lambda x: x[::-1]), "The run is damaged: predictions/xnli.test.de.jsonl.gz", sealed=False
    ),
    "right answers put in": Case(
        lambda r: lines(r, lambda x: [each.replace(b'"neutral"', b'"entailment"') for each in x]),
        "metrics.json says 80.0; from the predictions it is ",
    ),
    "example dropped": Case(lambda r: lines(r, lambda x: x[1:]), "1 gold rows have no prediction: test-0."),
    "example duplicated": Case(lambda r: lines(r, lambda x: [x[0], *x]), "1 ids are predicted more than once: test-0."),
    "languages swapped": Case(
        lambda r: swap(predictions(r), predictions(r, "qaf")),
        "That is what xnli.test.qaf has: files were swapped or copied.",
    ),
    "splits swapped": Case(
        lambda r: swap(predictions(r), predictions(r, split="dev")), "60 predictions have an unknown id: dev-0, "
    ),
    "predictions removed": Case(lambda r: predictions(r).unlink(), "There is no predictions file"),
    "metric edited": Case(metrics, "metrics.json says 99.0; from the predictions it is 80.0"),
    "metrics missing": Case(lambda r: (r.run(RUN) / "metrics.json").write_text("{}"), "metrics.json says None"),
    "spec edited": Case(spec, "it is not the spec that names the folder"),
    "manifest edited": Case(
        lambda r: rewrite(r.run(RUN) / "MANIFEST.json", partial(set_deep, ("files", "log.jsonl", "sha256"), "0")),
        "log.jsonl was changed after the run",
        sealed=False,
    ),
    "file added": Case(lambda r: (r.run(RUN) / "more").touch(), "more is not in the manifest", sealed=False),
    "file removed": Case(lambda r: (r.run(RUN) / "log.jsonl").unlink(), "log.jsonl is missing", sealed=False),
    "run of another arm": Case(another_run, "it is not the spec that names the folder"),
    "other seed claimed": Case(partial(grid, ("seed",), 7), "grid.json and spec.json disagree about: seed."),
    "smaller data passed off": Case(
        lambda r: (grid(("source", "settings"), {"limit": 9}, r), r.source.settings.update(limit=9)),
        "grid.json and spec.json disagree about: source.",
    ),
    "smaller model passed off": Case(
        smaller_model, "The stored model has num_hidden_layers 2; the backbone of the run has 4."
    ),
    "training cut short": Case(
        lambda r: (r.run("mnli") / "log.jsonl").write_text(""), "log.jsonl ends with step 0; the recipe has 40 steps."
    ),
    "log left out": Case(log_pruned, "log.jsonl ends with step 0; the recipe has 40 steps.", sealed=False),
    "first attempt hidden": Case(second_attempt, "grid.json names no first one that collapsed"),
}


@pytest.fixture
def artifact(artifact: Path) -> Path:
    """The tiny tier with a model of known shape and a training of known length."""
    text = TIER.replace("vocabulary = 100", "vocabulary = 100\nconfig = { num_hidden_layers = 4 }")
    (artifact / "tiers" / "tiny.toml").write_text(text + "mnli = { steps = 40, epochs = 0 }\n", "utf-8")
    return artifact


@pytest.mark.parametrize("name", TAMPERED)
def test_it_is_caught_with_its_own_message(results: Results, name: str):
    case = TAMPERED[name]
    case.do(results)
    if case.sealed:
        results.seal("mnli")
        results.seal(RUN)
    problems = verify(results.root, results.source).problems
    assert any(case.said in problem.what for problem in problems), problems
    assert all(problem.fix for problem in problems)


def test_the_folder_that_is_tampered_with_is_sound(results: Results):
    found = verify(results.root, results.source)
    assert (found.problems, found.tier_mismatches) == ((), {})


class Placeholders(TinySource):
    """XNLI whose test labels are all the same."""

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        made = super().rows(task, split, language)
        return [
            PairRow(row.id, row.text_a, row.text_b, "neutral") if isinstance(row, PairRow) and split == "test" else row
            for row in made
        ]


def test_placeholder_labels_are_no_gold_whether_the_run_had_them_or_not(make, results: Results):
    bad = make("bad", source=Placeholders()).fill()
    for found in (verify(bad.root, bad.source), verify(results.root, Placeholders())):
        first = found.problems[0]
        assert first.kind == "gold"
        assert first.what.startswith("All 60 gold labels of xnli.test.")
        assert first.fix == "Give the labelled files: xlt tasks show xnli"


def passed_off(results: Results, artifact: Path, old: str, new: str) -> Verification:
    """The results under the name of a tier that differs in one thing."""
    text = (artifact / "tiers" / "tiny.toml").read_text("utf-8").replace(old, new)
    (artifact / "tiers" / "big.toml").write_text(text.replace('"tiny"', '"big"'), "utf-8")
    grid(("tier",), "big", results)
    return verify(results.root, results.source)


def test_a_run_of_another_tier_is_caught_and_not_judged(results: Results, artifact: Path):
    record(verify(results.root, results.source).model_copy(update={"tier": "big"}), artifact)
    results.fill(seconds=2)
    shutil.copy(artifact / "expected" / "tiny-tiny.toml", artifact / "expected" / "big-tiny.toml")
    found = passed_off(results, artifact, "batch_size = 16", "batch_size = 8")
    folder = f"target/{results.run(RUN).name}"
    assert found.problems[0].what == "The run is not made as the tier 'big' says: in recipe."
    assert {problem.run for problem in found.problems} == {folder, f"target/{results.run('mnli.xnli').name}"}
    assert found.exit_code == ExitCode.DEVIATES
    words = {each.task: each.verdict for each in found.verdicts if each.arm == "baseline"}
    assert (words["xnli"], words["tatoeba"]) == ("not verifiable", "exact")
    assert all(each.value for each in found.verdicts)


def test_what_starts_from_a_run_of_another_tier_is_not_judged(results: Results, artifact: Path):
    found = passed_off(results, artifact, "mnli = { steps = 40", "mnli = { steps = 80")
    phase_2 = f"intermediate/{results.run('mnli').name}"
    assert [problem.run for problem in found.problems] == [phase_2]
    reasons = {each.arm: each.reason for each in found.verdicts if each.task == "tatoeba"}
    assert reasons["mnli"] == f"starts from {phase_2}, not made as the tier 'big' says: in recipe"
    assert "not made" not in reasons["baseline"]


def test_a_run_under_a_name_that_the_tier_lacks_is_caught(results: Results, artifact: Path):
    what = [problem.what for problem in passed_off(results, artifact, '["xnli", ', "[").problems]
    assert what == ["The run is not made as the tier 'big' says: it has no such run."] * 2


def test_the_engine_and_the_numeric_type_are_no_part_of_a_tier(results: Results):
    grid = replace(
        results.grid, runs=tuple(run.model_copy(update=GRAPH) for run in results.grid.runs if not run.parent)
    )
    made = Results(results.root.with_name("graph"), grid, results.source).fill()
    assert verify(made.root, made.source).tier_mismatches == {}


def test_the_mark_of_constructed_results_cannot_be_taken_off(make, artifact: Path):
    made = make(source=TinySource(settings={"constructed": "yes"})).fill()
    with pytest.raises(UsageFault, match="made from the source 'tiny' \\(constructed yes\\)"):
        verify(made.root, TinySource())
    grid(("source", "settings"), {}, made)
    problems = verify(made.root, TinySource()).problems
    assert {problem.what for problem in problems} == {"grid.json and spec.json disagree about: source."}
    assert len(problems) == len(made.grid.runs)
