"""What is given to others: an archive to verify, the same bytes each time; and the RO-Crate of a grid."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke
from tests.cli.conftest import invoke as invoke
from tests.conftest import unpacked
from xlt.artifact import artifact_root
from xlt.data.hub.source import HubSource
from xlt.errors import ExitCode, IncompleteFault, UsageFault
from xlt.verify.checks import Again
from xlt.verify.crate import CRATE, crate
from xlt.verify.export import ship
from xlt.verify.judge import join, recompute, verify
from xlt.verify.report import write_report

from .core_results import ConstructedSource, write_core_artifact, write_core_results
from .tiny_results import Results

PROJECT = Path(__file__).parents[2]
Entities = dict[str, dict[str, Any]]


@pytest.fixture
def archive(results: Results, tmp_path: Path) -> Path:
    """The results with a model and a note in a run, shipped."""
    for name in ("model/config.json", "model/model.safetensors", "notes.txt"):
        path = results.run("mnli") / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"text": "de <b>3</b>"}', "utf-8")
    results.seal("mnli")
    ship(verify(results.root, results.source), (results.root,), tmp_path / "new" / "results.tar.gz")
    return tmp_path / "new" / "results.tar.gz"


def test_others_find_the_same_without_the_models(results: Results, archive: Path, tmp_path: Path):
    here = verify(results.root, results.source)
    place = unpacked(archive, tmp_path / "elsewhere")
    there = verify(place / "seed-0", results.source)
    assert (there.result_hash, there.cells, there.verdicts, there.problems) == (
        here.result_hash,
        here.cells,
        here.verdicts,
        (),
    )
    assert there.checks is not None
    assert any(each.startswith("models: those of ") for each in there.checks.not_checked)
    readme = (place / "README.txt").read_text("utf-8")
    assert here.result_hash in readme
    assert "xlt verify --results seed-0" in readme
    with pytest.raises(UsageFault, match="no model here to predict again"):
        recompute(place / "seed-0", results.source, again=Again(3))


def test_it_holds_no_model_no_text_and_no_path(results: Results, archive: Path, tmp_path: Path):
    files = [path for path in unpacked(archive, tmp_path / "elsewhere").rglob("*") if path.is_file()]
    assert {path.name.split(".")[0] for path in files if path.suffix == ".gz"} == {"xnli", "xquad", "tatoeba", "mnli"}
    assert not {"notes.txt", "config.json", "model.safetensors"} & {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert b"<b>" not in content  # as in every text of the source
        assert b"zeta" not in content
        assert str(tmp_path).encode() not in content


def test_the_bytes_do_not_depend_on_when_and_where(results: Results, archive: Path, tmp_path: Path):
    for path in results.root.rglob("*"):
        os.utime(path, (1, 1))
    found = verify(results.root, results.source)
    ship(found, (results.root,), tmp_path / "again.tar.gz")
    root = unpacked(archive, tmp_path / "elsewhere") / "seed-0"
    ship(verify(root, results.source), (root,), tmp_path / "third.tar.gz")
    assert archive.read_bytes() == (tmp_path / "again.tar.gz").read_bytes() == (tmp_path / "third.tar.gz").read_bytes()


def test_what_has_problems_is_not_shipped(results: Results, tmp_path: Path):
    (results.run("baseline.xnli") / "metrics.json").write_text("{}", "utf-8")
    with pytest.raises(IncompleteFault, match="can be shipped"):
        ship(verify(results.root, results.source), (results.root,), tmp_path / "x.tar.gz")
    assert not (tmp_path / "x.tar.gz").exists()


def test_the_command_ships_several_seeds(make, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = [make(str(seed), seed=seed).fill() for seed in (0, 1)]
    monkeypatch.setattr("xlt.verify.stored.source_of", lambda folder, root: made[0].source)
    archive = tmp_path / "both.tar.gz"
    folders = [part for each in made for part in ("--results", str(each.root))]
    assert invoke("report", *folders, "--ship", str(archive), "--json").document["archive"] == str(archive)
    place = unpacked(archive, tmp_path / "elsewhere")
    found = join([recompute(place / f"seed-{seed}", made[0].source) for seed in (0, 1)])
    assert [each.result_hash for each in (found, *found.further)] == [
        verify(each.root, each.source).result_hash for each in made
    ]


def test_without_the_data_of_the_hub_the_command_that_brings_it_is_named(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hub = artifact_root() / "hub.toml"
    source = ConstructedSource(most=1, settings={})
    artifact = write_core_artifact(tmp_path / "artifact", source)
    shutil.copy(hub, artifact)
    tier = artifact / "tiers" / "core.toml"
    text = tier.read_text("utf-8").replace('["bucc2018", "tatoeba", "xnli", ', '["xnli", "pawsx"]}#')
    others = ("mnli = ", "squad", "hellaswag = ", "multi = ")
    tier.write_text("\n".join(line for line in text.splitlines() if not line.startswith(others)), "utf-8")
    monkeypatch.setenv("XLT_ARTIFACT", str(artifact))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    root = write_core_results(tmp_path / "results", 0, source)
    monkeypatch.setattr("xlt.verify.stored.source_of", lambda folder, root: HubSource())
    shown = invoke("verify", "--no-golden", "--results", str(root))
    assert shown.code == ExitCode.DATA
    assert "→ xlt fetch xnli" in shown.out
    assert "→ xlt fetch pawsx" in shown.out


# The RO-Crate beside the report: its structure, and that it names what made the grid


@pytest.fixture
def entities(results, artifact: Path) -> Entities:
    shutil.copy(PROJECT / "CITATION.cff", artifact.parent)
    write_report(verify(results.root, results.source), results.root)
    document = json.loads((results.root / CRATE).read_text("utf-8"))
    assert document["@context"] == "https://w3id.org/ro/crate/1.1/context"
    listed = [each["@id"] for each in document["@graph"]]
    assert len(listed) == len(set(listed))
    return {each["@id"]: each for each in document["@graph"]}


def references(value: Any) -> set[str]:
    if isinstance(value, list):
        return {name for each in value for name in references(each)}
    return {value["@id"]} if isinstance(value, dict) else set()


def test_it_has_what_ro_crate_demands(results, entities: Entities):
    descriptor, root = entities[CRATE], entities["./"]
    assert "https://w3id.org/ro/crate/1.1" in references(descriptor["conformsTo"])
    assert descriptor["about"] == {"@id": "./"}
    assert {"name", "description", "datePublished", "license", "author"} <= set(root)
    assert len(root["datePublished"]) == len("2026-01-02")
    for entity in entities.values():
        assert entity["@type"]
        for name, value in entity.items():
            if name != "conformsTo":
                assert references(value) <= set(entities), (entity["@id"], name)
    for name in references(root["hasPart"]):
        assert (results.root / name).exists()


def test_every_run_has_its_inputs_its_software_and_its_result(results, entities: Entities):
    runs = [each for each in entities.values() if each["@type"] == "CreateAction" and each["@id"] != "#grid"]
    assert len(runs) == len(results.grid.runs)
    for spec in results.grid.runs:
        action = entities[f"#{spec.hash}"]
        assert action["result"] == {"@id": f"runs/{spec.folder}/"}
        read = {entities[name].get("identifier") for name in references(action["object"])}
        assert {f"sha256:{value}" for value in spec.data.values()} <= read
        assert (spec.parent in read) == (spec.parent is not None)
        assert {"#xlt", "pkg:pypi/torch@2.13.0", "pkg:generic/python@3.11"} == references(action["instrument"])


def test_it_has_what_the_profiles_of_workflow_runs_demand(results, entities: Entities):
    """SEEN: what roc-validator 0.13.0 asks for under REQUIRED in Process, Workflow and Provenance Run Crate 0.5."""
    root, workflow = entities["./"], entities["grid.json"]
    base = "https://w3id.org/ro/wfrun"
    assert {f"{base}/{name}/0.5" for name in ("process", "workflow", "provenance")} <= references(root["conformsTo"])
    assert all(entities[each]["@type"] == "CreativeWork" for each in references(root["conformsTo"]))
    assert root["mainEntity"] == {"@id": "grid.json"}
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow"} <= set(workflow["@type"])
    assert entities[workflow["programmingLanguage"]["@id"]]["@type"] == "ComputerLanguage"
    assert entities["#grid"]["instrument"] == {"@id": "grid.json"}

    def of(kind: str) -> set[str]:
        return {each["@id"] for each in entities.values() if each["@type"] == kind}

    assert references(workflow["step"]) == of("HowToStep")
    assert all(entities[step]["workExample"] == workflow["hasPart"] for step in of("HowToStep"))
    controls = [entities[each] for each in of("ControlAction")]
    assert {each["instrument"]["@id"] for each in controls} == of("HowToStep")
    assert {each["object"]["@id"] for each in controls} == of("CreateAction") - {"#grid"}
    (organised,) = (entities[each] for each in of("OrganizeAction"))
    assert references(organised["object"]) == of("ControlAction")
    assert organised["result"] == {"@id": "#grid"}
    assert organised["instrument"] != workflow["hasPart"]  # a tool is an instrument of actions of its own alone
    assert all("endTime" in entities[each] for each in of("CreateAction"))
    singles = [(each["@id"], name) for each in entities.values() for name in each if isinstance(each[name], list)]
    assert all(len(entities[id_][name]) != 1 for id_, name in singles)


def test_single_runs_are_a_process_run_crate_without_a_workflow(results, artifact: Path):
    shutil.copy(PROJECT / "CITATION.cff", artifact.parent)
    found = verify(results.root, results.source).model_copy(update={"tier": ""})
    listed = {each["@id"]: each for each in crate(found, results.root)["@graph"]}
    assert references(listed["./"]["conformsTo"]) == {"https://w3id.org/ro/wfrun/process/0.5"}
    assert "mainEntity" not in listed["./"]
    assert not {"grid.json", "#grid", "#reproduce"} & set(listed)


def test_author_and_licence_are_those_of_the_citation(entities: Entities, results, artifact: Path):
    software = entities["#xlt"]
    assert entities[software["license"]["@id"]]["name"] == "Apache-2.0"
    assert [entities[name]["name"] for name in references(software["author"])] == ["The xlt authors"]
    (artifact.parent / "CITATION.cff").unlink()
    bare = crate(verify(results.root, results.source), results.root)
    assert {"@id": "#xlt", "@type": "SoftwareApplication", "name": "xlt"} in bare["@graph"]


def test_runs_that_are_not_whole_are_left_out(results):
    results.remove("mnli.xnli")
    document = crate(verify(results.root, results.source), results.root)
    assert not any("mnli.xnli" in each["@id"] for each in document["@graph"])
