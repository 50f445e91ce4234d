"""The RO-Crate (1.1) of a results folder, in the profile of runs of a workflow (Provenance Run Crate 0.5).

It says what was run, from which data, with which software, under which licence. The workflow is ``grid.json``: all runs
and which needs which. Its steps are the runs; each has an action, and all of them one that carried the grid out. Single
runs have no grid: they are a Process Run Crate. Who ran it is written nowhere, so no action has an agent.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml  # type: ignore[import-untyped]

from xlt.artifact import artifact_root
from xlt.errors import DataFault
from xlt.pipeline.store import MANIFEST, describe, read_provenance, read_spec
from xlt.verify.judge import Verification
from xlt.verify.stored import GridRun

CRATE = "ro-crate-metadata.json"
Entity = dict[str, Any]
CRATE_FILES = {
    "grid.json": ("application/json", "All runs of the grid, and which needs which"),
    "report/index.html": ("text/html", "The report: every number and its verdict"),
    "report/report.json": ("application/json", "The same as data"),
    "report/cells.csv": (
        "text/csv",
        "The table of scores: a row for each seed, arm, task, split, language and metric. value: in percent; metric "
        "score: the one number of the paper's tables; guess: what the better of a random label and the most frequent "
        "one scores; n: the number of examples; variant: the pooled block in retrieval; above_chance: whether a guess "
        "exceeds the score in less than 1 % of cases; predictions: their SHA-256; run: the folder of the run",
    ),
    "report/cells.parquet": ("application/vnd.apache.parquet", "The same, with types"),
}
STANDARD = "https://w3id.org/ro/crate/1.1"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
GRID = "grid.json"
LANGUAGE = "#xlt-grid"
ENGINE = "#xlt-executor"


def crate(verification: Verification, results: Path) -> Entity:
    """The document ``ro-crate-metadata.json`` of the grid of one seed, dated by the newest run.

    Runs that are not whole are left out; first attempts that collapsed are in it.
    """
    whole: list[GridRun] = [run for run in verification.runs if run.state == "done"]
    whole += [run for run in verification.collapsed if (results / "runs" / run.folder / MANIFEST).is_file()]
    entities: dict[str, Entity] = {}
    places = {run.hash: f"runs/{quote(run.folder)}/" for run in whole}
    for run in whole:
        with suppress(DataFault):  # a first attempt that is damaged, which is among the problems
            for entity in _run_entities(run, results / "runs" / run.folder, places):
                entities.setdefault(entity["@id"], entity)
    people = list(_project())
    entities |= {each["@id"]: each for each in people}
    for name, (form, what) in CRATE_FILES.items():
        if name != GRID or verification.tier:
            entities[name] = _entity(name, "File", what, encodingFormat=form)
    profiles = list(PROFILES) if verification.tier else list(PROFILES)[:1]
    if verification.tier:
        entities |= {each["@id"]: each for each in _workflow(entities, whole)}
    for profile in profiles:
        version = profile.rpartition("/")[2]
        entities[profile] = _entity(profile, "CreativeWork", PROFILES[profile], version=version)
    root = _root(verification, results, whole, entities.values()) | {"conformsTo": _references(profiles)}
    software = next((each for each in people if each["@id"] == "#xlt"), {})
    root |= {name: software[name] for name in ("license", "author") if name in software}
    if publisher := next((each for each in people if each["@type"] == "Organization"), None):
        root["publisher"] = _references([publisher])
    conforms = [STANDARD, *(each for each in profiles if each.startswith("https://w3id.org/workflowhub/"))]
    descriptor = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "conformsTo": _references(conforms),
        "about": {"@id": "./"},
    }
    return {"@context": f"{STANDARD}/context", "@graph": [descriptor, root, *entities.values()]}


def _root(verification: Verification, results: Path, whole: Sequence[GridRun], entities: Iterable[Entity]) -> Entity:
    """The results folder as a whole, dated by its newest run."""
    constructed = "CONSTRUCTED, no model made these results. " if "constructed" in verification.source.settings else ""
    entities = list(entities)
    root = _entity(
        "./",
        "Dataset",
        f"Results of xlt: the tier {verification.tier} on {verification.source.name}, seed {verification.seed}",
        description=f"{constructed}Made by: {verification.command}. Verdicts: {verification.summary}.",
        identifier=f"sha256:{verification.result_hash}",
        hasPart=_references(each for each in entities if {"Dataset", "File"} & {*_types(each)}),
        mentions=_references(each for each in entities if each["@type"] == "CreateAction"),
        **({"mainEntity": {"@id": GRID}} if verification.tier else {}),
    )
    ends = filter(None, (_ended(results / "runs" / run.folder) for run in whole))
    if newest := max(ends, default=""):
        root["datePublished"] = newest.partition("T")[0]
    return root


def _ended(folder: Path) -> str:
    """When the last file of a run was written; empty where an archive holds no time, or one that no calendar has."""
    with suppress(ValueError, OverflowError):
        if written := (folder / MANIFEST).stat().st_mtime:
            return datetime.datetime.fromtimestamp(int(written), datetime.UTC).isoformat()
    return ""


def _workflow(entities: dict[str, Entity], runs: Sequence[GridRun]) -> Iterator[Entity]:
    """The grid as a workflow whose steps are the runs, and the actions that carried it out."""
    made = [run for run in runs if f"#{run.hash}" in entities]
    actions = [entities[f"#{run.hash}"] for run in made]
    steps = [
        _entity(f"{GRID}#{run.hash}", "HowToStep", action["name"], position=str(place), workExample={"@id": "#xlt"})
        for place, (run, action) in enumerate(zip(made, actions, strict=True), start=1)
    ]
    yield entities[GRID] | {
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
        "conformsTo": {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"},
        "programmingLanguage": {"@id": LANGUAGE},
        "version": "1",
        "hasPart": {"@id": "#xlt"},
        "step": _references(steps),
    }
    yield _entity(LANGUAGE, "ComputerLanguage", "the grid file of xlt", version="1")
    # Another entity than the tool: the profile has instruments of an OrganizeAction be no tool of the steps.
    yield entities["#xlt"] | {"@id": ENGINE, "name": "the executor of xlt"}
    yield from steps
    read = {each["@id"]: each for action in actions for each in _listed(action["object"])}
    files = [each for each in entities.values() if "File" in _types(each) and each["@id"].startswith("report/")]
    ends = [action["endTime"] for action in actions if "endTime" in action]
    yield _entity(
        "#grid",
        "CreateAction",
        "the whole grid",
        description="All runs of grid.json were made, and what they gave was verified and reported",
        instrument={"@id": GRID},
        object=[each for each in read.values() if each["@id"].startswith("#")],
        result=[*(action["result"] for action in actions), *_listed(_references(files))],
        **({"endTime": max(ends)} if ends else {}),
    )
    controls = [
        _entity(
            f"#control-{run.hash}",
            "ControlAction",
            f"makes the run {action['name']}",
            instrument={"@id": step["@id"]},
            object={"@id": action["@id"]},
        )
        for run, action, step in zip(made, actions, steps, strict=True)
    ]
    yield from controls
    yield _entity(
        "#reproduce",
        "OrganizeAction",
        "xlt reproduce",
        description="The executor makes each run when what it starts from is done",
        instrument={"@id": ENGINE},
        object=_references(controls),
        result={"@id": "#grid"},
        **({"endTime": max(ends)} if ends else {}),
    )


def _run_entities(run: GridRun, folder: Path, places: dict[str, str]) -> Iterator[Entity]:
    """A run's folder, its manifest, what it read, what it ran with, and the action that ties them together."""
    spec, provenance = read_spec(folder), read_provenance(folder)
    here, manifest, title = places[run.hash], describe(folder / MANIFEST), f"{run.phase}: {spec.name}"
    inputs = [
        _entity(f"#{name}-{value[:12]}", "CreativeWork", f"rows of {name}", identifier=f"sha256:{value}")
        for name, value in spec.data.items()
    ]
    packages = [
        _entity(f"pkg:{kind}/{name}@{version}", "SoftwareApplication", name, softwareVersion=version)
        for kind, name, version in (
            ("generic", "python", provenance.python),
            *(("pypi", name, version) for name, version in provenance.packages.items()),
        )
        if version and name != "xlt"
    ]
    listing = _entity(
        f"{here}{MANIFEST}",
        "File",
        "Size and SHA-256 of every file of the run",
        encodingFormat="application/json",
        contentSize=str(manifest["size"]),
        identifier=f"sha256:{manifest['sha256']}",
    )
    yield _entity(here, "Dataset", title, identifier=run.hash, hasPart=_references([listing]))
    yield from (listing, *inputs, *packages)
    parents = [{"@id": places[run.parent]}] if run.parent in places else []
    ended = _ended(folder)
    yield _entity(
        f"#{run.hash}",
        "CreateAction",
        f"{title}, seed {spec.seed}",
        description=f"device {provenance.device or 'unknown'}, commit {provenance.commit or 'unknown'}",
        instrument=[{"@id": "#xlt"}, *_listed(_references(packages))],
        object=_alone([*_listed(_references(inputs)), *parents]),
        result={"@id": here},
        **({"endTime": ended} if ended else {}),
    )


def _project() -> Iterator[Entity]:
    """The software and its authors, as CITATION.cff names them; the bare name where the package lies without it."""
    path = artifact_root().parent / "CITATION.cff"
    if not path.is_file():
        yield _entity("#xlt", "SoftwareApplication", "xlt")
        return
    cited = yaml.safe_load(path.read_text("utf-8"))
    licence = _entity(f"https://spdx.org/licenses/{cited['license']}", "CreativeWork", cited["license"])
    authors = [
        _entity(f"#author-{number}", "Organization" if "name" in each else "Person", _name(each))
        for number, each in enumerate(cited["authors"], start=1)
    ]
    yield from (*authors, licence)
    yield _entity(
        "#xlt",
        "SoftwareApplication",
        cited["title"],
        softwareVersion=str(cited["version"]),
        license={"@id": licence["@id"]},
        author=_references(authors),
    )


def _name(author: dict[str, str]) -> str:
    return author.get("name") or f"{author.get('given-names', '')} {author.get('family-names', '')}".strip()


def _entity(id_: str, kind: str, name: str, **facts: Any) -> Entity:
    return {"@id": id_, "@type": kind, "name": name, **facts}


def _types(entity: Entity) -> list[str]:
    kinds = entity["@type"]
    return kinds if isinstance(kinds, list) else [kinds]


def _references(entities: Iterable[Entity | str]) -> Entity | list[Entity]:
    """References to entities, or to these ids; one alone is no list."""
    found = [{"@id": each if isinstance(each, str) else each["@id"]} for each in entities]
    return _alone(found)


def _alone(references: list[Entity]) -> Entity | list[Entity]:
    return references[0] if len(references) == 1 else references


def _listed(references: Entity | list[Entity]) -> list[Entity]:
    return references if isinstance(references, list) else [references]
