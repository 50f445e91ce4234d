"""The RO-Crate beside the report: its structure, and that it names what made the grid."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from xlt.verify.crate import CRATE, crate
from xlt.verify.judge import verify
from xlt.verify.report import write_report

PROJECT = Path(__file__).parents[2]
Entities = dict[str, dict[str, Any]]


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
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
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
    runs = [each for each in entities.values() if each["@type"] == "CreateAction"]
    assert len(runs) == len(results.grid.runs)
    for spec in results.grid.runs:
        action = entities[f"#{spec.hash}"]
        assert action["result"] == {"@id": f"runs/{spec.folder}/"}
        read = {entities[name].get("identifier") for name in references(action["object"])}
        assert {f"sha256:{value}" for value in spec.data.values()} <= read
        assert (spec.parent in read) == (spec.parent is not None)
        assert {"#xlt", "#torch-2.13.0", "#python-3.11"} == references(action["instrument"])


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
