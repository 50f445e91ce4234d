"""Damaged results by the hundred: every command ends in a verdict or a fault of ours, and nothing changed is sound.

``XLT_FUZZ=FIRST:COUNT`` tries those seeds instead of the few that each run of the tests does.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.cli.conftest import Invoke
from tests.cli.conftest import invoke as invoke
from xlt.errors import ExitCode
from xlt.pipeline.executor import plan_grid, with_retries
from xlt.pipeline.grid import Grid
from xlt.pipeline.spec import RunSpec
from xlt.pipeline.store import RunStore
from xlt.tasks.catalogue import NLI_LABELS
from xlt.tasks.record import Recipe
from xlt.verify.export import record
from xlt.verify.judge import verify

from .mutations import mutate, seal
from .tiny_results import EXAMPLES, TIER, Results, TinySource, plan_results, write_artifact

FIRST, COUNT = map(int, os.environ.get("XLT_FUZZ", "0:200").split(":"))
BLOCK = 25
ENDS = {ExitCode.OK, ExitCode.DEVIATES, ExitCode.USAGE, ExitCode.DATA, ExitCode.INCOMPLETE}
SMALL = TIER.replace('["xnli", "xquad", "tatoeba"]', '["xquad", "tatoeba"]', 1)
SMALL = SMALL.replace('targets = ["xnli", "xquad", "tatoeba"]', 'targets = ["xnli"]')
SMALL = SMALL.replace("vocabulary = 100", "vocabulary = 100\nconfig = { num_hidden_layers = 4 }")


@dataclass(frozen=True)
class Sound:
    """The results before any damage, which are a recorded run too, and what is said of them."""

    root: Path
    grid: Grid
    document: dict[str, Any]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sound]:
    place = tmp_path_factory.mktemp("sound")
    artifact = write_artifact(place / "artifact")
    (artifact / "tiers" / "tiny.toml").write_text(SMALL.replace("[sources.tiny.arms]", COLLAPSE, 1), "utf-8")
    for name in ("claims.toml", "expected/paper.toml"):
        shutil.copy(Path(__file__).parents[2] / "artifact" / name, artifact / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLT_ARTIFACT", str(artifact))
        patch.setattr("xlt.verify.stored.source_of", lambda results, data_root: TinySource())
        first = plan_results(place / "results").fill()
        collapsed = next(run for run in first.grid.runs if run.name == "mnli")
        (first.run("mnli") / "provenance.json").write_text('{"collapsed": true}', "utf-8")
        seal(first.run("mnli"))
        first.remove("mnli.xnli")
        results = Results(first.root, first.grid.retry(collapsed), first.source).fill()
        model = results.run("mnli") / "model"
        model.mkdir()
        (model / "config.json").write_text('{"num_hidden_layers": 4, "model_type": "xlm-roberta"}', "utf-8")
        (model / "heads.json").write_text('{"mnli": {"kind": "pair_classification", "labels": 3}}', "utf-8")
        seal(results.run("mnli"))
        found = verify(results.root, results.source)
        assert (found.problems, found.exit_code) == ((), ExitCode.INCOMPLETE)
        record(found, artifact)
        for (
            run
        ) in results.grid.runs:  # as a repetition, which takes another time; the run that is recorded tells nothing
            path = results.store.path(run.folder) / "provenance.json"
            path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "seconds": {"train": 9.0}}), "utf-8")
            seal(path.parent)
        document = verify(results.root, results.source).model_dump(mode="json")
        assert document["counts"] == {"exact": 4}
        yield Sound(results.root, results.grid, document)


COLLAPSE = "[sources.tiny]\ncollapse_after = 0.5\n[sources.tiny.arms]"


@pytest.mark.parametrize("block", range(FIRST, FIRST + COUNT, BLOCK))
def test_damaged_results_are_no_internal_error_and_what_changed_is_not_sound(
    sound: Sound, invoke: Invoke, tmp_path: Path, block: int
) -> None:
    for seed in range(block, min(block + BLOCK, FIRST + COUNT)):
        root = tmp_path / "results"
        shutil.copytree(sound.root, root, copy_function=os.link)
        what, renamed = mutate(root, Random(seed))
        told = f"seed {seed}: {what}"
        document = verified(invoke, root, told, seed)
        others(sound, invoke, root, tmp_path, told, seed)
        if document is not None and document.get("exit_code") == 0 and not renamed:
            check_nothing_changed(sound, root, document, told)
        for made in (root, tmp_path / "submission"):
            shutil.rmtree(made, ignore_errors=True)


def verified(invoke: Invoke, root: Path, told: str, seed: int) -> dict[str, Any] | None:
    """What ``xlt verify`` says as JSON, or None where this seed looks at the page for people."""
    json_too = ("--json",) if seed % 4 else ()
    outcome = invoke("verify", "--results", str(root), *json_too)
    assert outcome.code in ENDS, f"{told}\n{outcome.err}"
    for text in (outcome.out, outcome.err):
        assert all(each.isprintable() or each == "\n" for each in text), told
    if not json_too:
        return None
    document: dict[str, Any] = outcome.document
    assert document.get("exit_code", outcome.code) == outcome.code, told
    if "error" in document:
        assert document["error"]["fix"], told
    else:
        assert all(problem["what"] and problem["fix"] for problem in document["problems"]), told
    return document


def others(sound: Sound, invoke: Invoke, root: Path, place: Path, told: str, seed: int) -> None:
    """What plans, reports, ships and submits ends in order too."""
    store = RunStore(root)
    assert len(plan_grid(with_retries(sound.grid, store), store)) == len(sound.grid.runs), told
    if seed % 4 == 1:
        outcome = invoke("report", "--results", str(root), "--ship", str(place / "x.tar.gz"))
        assert outcome.code in ENDS, f"{told}\n{outcome.err}"
    if seed % 4 == 2:
        arm = ("baseline", "mnli")[seed // 4 % 2]
        outcome = invoke("submit", "--results", str(root), "--arm", arm, "--output", str(place / "submission"))
        assert outcome.code in ENDS, f"{told}\n{outcome.err}"


def check_nothing_changed(sound: Sound, root: Path, document: dict[str, Any], told: str) -> None:
    """Exit code 0 means: the same numbers from the same examples, in files of one meaning.

    What an unsigned folder cannot show is not asked for: another device or other losses, or another wrong answer in
    the place of a wrong one. But then the predictions are no longer those of the recorded run.
    """
    before = sound.document
    assert document["problems"] == [], told
    assert [numbers(cell) for cell in document["cells"]] == [numbers(cell) for cell in before["cells"]], told
    assert document["means"] == before["means"], told
    assert [run["folder"] for run in document["runs"]] == [run["folder"] for run in before["runs"]], told
    changed = {place(cell) for cell in document["cells"] if cell not in before["cells"]}
    for verdict in document["verdicts"]:
        assert verdict["verdict"] in ("exact", "not verifiable"), told
        assert place(verdict) not in changed or verdict["verdict"] != "exact", told
    same_tier = document["tier"] == before["tier"]
    words = [verdict["verdict"] for verdict in document["verdicts"]] == ["exact"] * 4
    assert (document["result_hash"] == before["result_hash"]) == (same_tier and not changed and words), told
    for run in sound.grid.runs:
        here, there = root / "runs" / run.folder, sound.root / "runs" / run.folder
        assert same_metrics(strict(here / "metrics.json"), strict(there / "metrics.json")), told
        assert whole(RunSpec.model_validate(strict(here / "spec.json"))) == whole(run), told
        for path in sorted(there.glob("predictions/*")):
            assert right_ones(here / "predictions" / path.name) == right_ones(path), told


def place(each: dict[str, Any]) -> tuple[str, str, str]:
    return each["arm"], each["task"], each["split"]


def whole(spec: RunSpec) -> RunSpec:
    """A spec with all values of its recipe: those that are left out are the usual ones."""
    return spec.model_copy(update={"recipe": asdict(Recipe()) | spec.recipe})


def numbers(cell: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in cell.items() if name != "predictions"}


def strict(path: Path) -> Any:
    """A JSON file by the standard library's reader, in which no name may repeat."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs), path
        return dict(pairs)

    return json.loads(path.read_text("utf-8"), object_pairs_hook=once)


def same_metrics(here: Any, there: Any) -> bool:
    if isinstance(there, dict):
        # An object without numbers says nothing.
        return set(there) <= set(here) and all(
            same_metrics(value, there[name]) if name in there else value in ({}, {"a": {}})
            for name, value in here.items()
        )
    return type(here) in (int, float) and abs(here - there) <= 1e-9 * max(1, abs(there))


def right_ones(path: Path) -> list[str]:
    """The ids that are answered rightly, by how ``tiny_results`` makes rows."""
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert len({line["id"] for line in lines}) == len(lines) == EXAMPLES
    right = []
    for line in lines:
        label = NLI_LABELS[int(line["id"].rpartition("-")[2]) % 3]
        wanted = {"xquad": [8, 12], "tatoeba": line["id"]}.get(path.name.partition(".")[0], label)
        right += [line["id"]] if line["prediction"] == wanted else []
    return sorted(right)
