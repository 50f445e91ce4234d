"""Degradations: clean minus perturbed of the same rows, recomputed by hand, with paired intervals; and the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from xlt.data.perturb import Perturbation
from xlt.data.perturbed import PerturbedSource
from xlt.data.source import Source
from xlt.data.world import WorldSource
from xlt.pipeline.grid import Grid, GridBuilder
from xlt.pipeline.spec import RunSpec, SourceSpec
from xlt.pipeline.store import RunStore
from xlt.pipeline.tiers import read_tier
from xlt.verify.judge import join, recompute, with_perturbed
from xlt.verify.report import render
from xlt.verify.robustness import NO_INTERVAL, Degradation, degradations, models
from xlt.verify.singles import perturbed_grids, single_grids
from xlt.verify.stored import GridFile, read_grid, source_in

from .built import said, write_results
from .tiny_results import TinySource

Right = Callable[[int, str], int]  # of the number of a row and the language: 2 is right, 0 wrong
MODEL = "0123456789ab"


@pytest.fixture
def root(artifact: Path, tmp_path: Path) -> Path:
    """An empty results folder, for the tiny tier's settings."""
    return tmp_path / "results"


def wrapped(perturbation: str) -> PerturbedSource:
    return PerturbedSource(TinySource(), TinySource(), Perturbation.parse(perturbation), None)


def evaluated(root: Path, source: Source, right: Right, task: str = "xnli", parent: str = MODEL) -> RunSpec:
    """Write the run of an evaluation whose predictions have that quality."""
    perturbed = str(source.settings.get("perturb", "")).replace(":", "-")
    builder = GridBuilder(read_tier("tiny"), source, seed=0, precision="fp32")
    spec = builder.spec(
        "target", f"evaluate.{task}{perturbed}", task, evaluate=(task,), parent=parent, splits=("test",)
    )
    grid = Grid("tiny", spec.source, 0, (spec,))
    write_results(
        root,
        grid,
        source,
        lambda spec, task, split, language, rows: said(task, rows, [right(n, language) for n in range(len(rows))]),
        {"device": "cpu", "seconds": {"evaluate": 1.0}},
    )
    (root / "grid.json").unlink()
    return spec


def of(found: list[Degradation], language: str, case: str = "average") -> Degradation:
    (one,) = (each for each in found if (each.language, each.case) == (language, case))
    return one


def test_a_degradation_is_the_difference_of_two_scores_with_a_paired_interval(root: Path) -> None:
    clean = evaluated(root, TinySource(), lambda n, language: 2 * (n < 54))
    source = wrapped("letter-swap:1")
    run = evaluated(root, source, lambda n, language: 2 * (n < {"en": 54, "de": 40, "qaf": 60}[language]))
    found = degradations(RunStore(root), source, [run])
    assert [each.language for each in found] == ["en", "de", "qaf", "mean"]
    assert {(each.run, each.clean_run, each.split, each.perturbation) for each in found} == {
        (run.folder, clean.folder, "test", "letter-swap:1")
    }
    # The same rows are right before and after: nothing is lost, whatever rows are drawn.
    assert (of(found, "en").value, of(found, "en").low, of(found, "en").high) == (0, 0, 0)
    assert {each.language: each.no_interval for each in found} == {"en": "no change", "de": "", "qaf": "", "mean": ""}
    german = of(found, "de")
    assert (german.clean, german.perturbed) == (pytest.approx(100 * 54 / 60), pytest.approx(100 * 40 / 60))
    assert german.value == pytest.approx(100 * 14 / 60)
    # 14 of 60 rows are lost: the standard error of that share is 5.46 points.
    assert german.low == pytest.approx(german.value - 1.96 * 5.46, abs=1.5)
    assert german.high == pytest.approx(german.value + 1.96 * 5.46, abs=1.5)
    assert of(found, "qaf").value == pytest.approx(-10)
    assert of(found, "mean").value == pytest.approx((0 + 100 * 14 / 60 - 10) / 3)
    assert 0 < of(found, "mean").changed <= 100


def test_of_several_draws_the_worst_is_what_a_search_finds(root: Path) -> None:
    evaluated(root, TinySource(), lambda n, language: 2 * (n < 54))
    source = wrapped("letter-swap:0.9:3")
    # Copy 0 of every row is right, copy 1 of the first 30 rows, copy 2 of every second row.
    run = evaluated(root, source, lambda n, language: 2 * (True, n // 3 < 30, n // 3 % 2 == 0)[n % 3])
    found = degradations(RunStore(root), source, [run])
    average, worst = of(found, "de"), of(found, "de", "worst")
    assert average.perturbed == pytest.approx(100 * (60 + 30 + 30) / 180)
    assert worst.perturbed == pytest.approx(100 * 15 / 60)
    assert (average.clean, worst.clean) == (pytest.approx(90), pytest.approx(90))
    assert worst.value == pytest.approx(90 - 25)


def test_a_language_whose_text_has_no_place_for_the_noise_is_not_in_the_mean(root: Path) -> None:
    evaluated(root, TinySource(), lambda n, language: 2)
    source = wrapped("homoglyphs:1")  # qaf and <b> have one: a, b has none
    run = evaluated(root, source, lambda n, language: 0)
    found = degradations(RunStore(root), source, [run])
    assert {each.language: each.changed for each in found} == {"en": 100, "de": 100, "qaf": 100, "mean": 100}
    none = wrapped("diacritics:1")
    run = evaluated(root, none, lambda n, language: 2)
    found = degradations(RunStore(root), none, [run])
    assert {each.language: (each.changed, each.value) for each in found} == {"en": (0, 0), "de": (0, 0), "qaf": (0, 0)}


def test_an_interval_without_width_is_explained(root: Path) -> None:
    builder = GridBuilder(read_tier("tiny"), TinySource(), seed=0, precision="fp32")
    spec = builder.spec("target", "evaluate.xnli", "xnli", evaluate=("xnli",), parent=MODEL, splits=("test",))
    source = wrapped("letter-swap:1")
    builder = GridBuilder(read_tier("tiny"), source, seed=0, precision="fp32")
    run = builder.spec("target", "evaluate.xnli.letter", "xnli", evaluate=("xnli",), parent=MODEL, splits=("test",))

    def lost(clean: Right, perturbed: Right) -> Degradation:
        for its, rows, right in ((spec, TinySource(), clean), (run, source, perturbed)):
            shutil.rmtree(RunStore(root).path(its.folder), ignore_errors=True)
            write_results(
                root,
                Grid("tiny", its.source, 0, (its,)),
                rows,
                lambda spec, task, split, language, its, right=right: [
                    replace(each, prediction="neutral") if right(n, language) == 1 else each
                    for n, each in enumerate(said(task, its, [2 * (right(n, language) > 0) for n in range(len(its))]))
                ],
                {"device": "cpu", "seconds": {"evaluate": 1.0}},
            )
        return of(degradations(RunStore(root), source, [run]), "mean")

    same = lost(lambda n, language: 1, lambda n, language: 1)
    assert (same.no_interval, same.value, same.low, same.high) == ("one answer", 0, 0, 0)
    assert lost(lambda n, language: 2, lambda n, language: 2).no_interval == "no change"
    every = lost(lambda n, language: 2, lambda n, language: 0)
    assert (every.no_interval, every.value) == ("all alike", 100)
    assert lost(lambda n, language: 2, lambda n, language: 2 * (n > 0)).no_interval == ""
    assert "the model gives every row the same answer" in NO_INTERVAL[same.no_interval]


def test_spans_and_retrieval_lose_what_they_lose(root: Path) -> None:
    for task, halved in (("xquad", 100 * (60 * 1.0) / 120), ("tatoeba", 50)):
        evaluated(root, TinySource(), lambda n, language: 2, task)
        source = wrapped("letter-swap:0.5")
        run = evaluated(root, source, lambda n, language: 2 * (n % 2), task)
        found = degradations(RunStore(root), source, [run])
        assert of(found, "de").clean == 100
        assert of(found, "de").value == pytest.approx(halved)


def test_without_the_clean_run_of_the_same_model_nothing_is_said(root: Path) -> None:
    source = wrapped("letter-swap:0.5")
    run = evaluated(root, source, lambda n, language: 2)
    assert degradations(RunStore(root), source, [run]) == []
    evaluated(root, TinySource(), lambda n, language: 2, parent="ba9876543210")
    assert degradations(RunStore(root), source, [run]) == []
    clean = evaluated(root, TinySource(), lambda n, language: 2)
    assert [each.clean_run for each in degradations(RunStore(root), source, [run])] == [clean.folder] * 4
    assert degradations(RunStore(root), TinySource(), [run]) == []
    path = RunStore(root).path(clean.folder) / "predictions" / "xnli.test.de.jsonl.gz"
    path.write_bytes(path.read_bytes() + b"x")
    assert degradations(RunStore(root), source, [run]) == []


def test_verify_and_report_recompute_perturbed_runs_like_others(root: Path) -> None:
    evaluated(root, TinySource(), lambda n, language: 2 * (n < 54))
    source = wrapped("letter-swap:1")
    run = evaluated(root, source, lambda n, language: 2 * (n < 40))
    _, grids = single_grids(root)
    sources: list[Source] = [source if "perturb" in grid.source.settings else TinySource() for grid in grids]
    found = [recompute(root, each, grid=grid) for grid, each in zip(grids, sources, strict=True)]
    (perturbed,) = (each for each in found if "perturb" in each.source.settings)
    assert not perturbed.problems
    assert [cell.metrics["accuracy"] for cell in perturbed.cells] == [pytest.approx(100 * 40 / 60)] * 3
    assert [each.run for each in perturbed.robustness] == [run.folder] * 4
    page = render(join(found), root, root)
    assert "letter-swap:1" in page
    assert "23.3" in page
    # The rows are those that the run was scored on, or it is said.
    other = wrapped("letter-swap:0.5")
    other.settings = source.settings
    (grid,) = (grid for grid in grids if "perturb" in grid.source.settings)
    assert {problem.kind for problem in recompute(root, other, grid=grid).problems} == {"gold"}


def test_perturbed_evaluations_beside_a_tiers_runs_are_verified_with_them(root: Path) -> None:
    clean = evaluated(root, TinySource(), lambda n, language: 2 * (n < 54))
    source = wrapped("letter-swap:1")
    run = evaluated(root, source, lambda n, language: 2 * (n < 40))
    tier = Grid("tiny", clean.source, 0, (clean,))
    (root / "grid.json").write_text(json.dumps(tier.as_json()), "utf-8")
    grid = read_grid(root)
    found = recompute(root, TinySource())
    (noisy,) = perturbed_grids(root, grid)
    assert [each.folder for each in noisy.runs] == [run.folder]
    # It is no stranger there.
    assert not [line for line in found.checks.not_checked if "other runs in this folder" in line]  # type: ignore[union-attr]
    both = with_perturbed(found, recompute(root, source, grid=noisy))
    assert [each.run for each in both.robustness] == [run.folder] * 4
    assert (both.result_hash, both.verdicts, both.exit_code) == (found.result_hash, found.verdicts, found.exit_code)
    assert models(both.robustness) == {clean.folder: "evaluate.xnli"}
    page = render(join([both]), root)
    assert "letter-swap:1" in page
    # What is edited in them fails the results.
    path = RunStore(root).path(run.folder) / "predictions" / "xnli.test.de.jsonl.gz"
    path.write_bytes(path.read_bytes() + b"x")
    sound = found.model_copy(update={"problems": (), "exit_code": 0})
    edited = with_perturbed(sound, recompute(root, source, grid=noisy))
    assert (edited.exit_code, {each.run for each in edited.problems}) == (1, {run.folder})


def test_the_source_of_perturbed_runs_is_opened_from_what_they_say() -> None:
    settings = {**WorldSource().settings, "limit": 5, "perturb": "case:0.2:3"}
    grid = GridFile(format=1, tier="", source=SourceSpec(name="world", settings=settings), seed=0, runs=())
    source = source_in(grid, None)
    assert isinstance(source, PerturbedSource)
    assert source.settings == settings
    document = json.loads(grid.model_dump_json())
    document["source"]["settings"]["perturb"] = "typos"
    with pytest.raises(ValidationError, match="'typos' is no perturbation"):
        GridFile.model_validate(document)
