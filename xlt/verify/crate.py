"""An RO-Crate (1.1) of a results folder: what was run, from which data, with which software, under which licence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
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
FILES = {
    "grid.json": "All runs of the grid, and which needs which",
    "report/index.html": "The report: every number and its verdict",
    "report/report.json": "The same as data",
    "report/cells.csv": "The table of scores: a row for each seed, arm, task, split, language and metric",
    "report/cells.parquet": "The same, with types",
}
FORMATS = {
    ".html": "text/html",
    ".json": "application/json",
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
}


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
            for entity in _run(run, results / "runs" / run.folder, places):
                entities.setdefault(entity["@id"], entity)
    people = list(_project())
    entities |= {each["@id"]: each for each in people}
    for name, what in FILES.items():
        entities[name] = _entity(name, "File", what, encodingFormat=FORMATS[Path(name).suffix])
    constructed = "CONSTRUCTED, no model made these results. " if "constructed" in verification.source.settings else ""
    root = _entity(
        "./",
        "Dataset",
        f"Results of xlt: the tier {verification.tier} on {verification.source.name}, seed {verification.seed}",
        description=f"{constructed}Made by: {verification.command}. Verdicts: {verification.summary}.",
        identifier=f"sha256:{verification.result_hash}",
        hasPart=_references(each for each in entities.values() if each["@type"] in ("Dataset", "File")),
        mentions=_references(each for each in entities.values() if each["@type"] == "CreateAction"),
    )
    times = [(results / "runs" / run.folder / MANIFEST).stat().st_mtime for run in whole]
    with suppress(ValueError, OverflowError):  # an archive may hold no times, or ones that no calendar has
        root["datePublished"] = datetime.fromtimestamp(max(filter(None, times)), UTC).date().isoformat()
    software = next((each for each in people if each["@id"] == "#xlt"), {})
    root |= {name: software[name] for name in ("license", "author") if name in software}
    standard = {"@id": "https://w3id.org/ro/crate/1.1"}
    descriptor = {"@id": CRATE, "@type": "CreativeWork", "conformsTo": standard, "about": {"@id": "./"}}
    return {"@context": f"{standard['@id']}/context", "@graph": [descriptor, root, *entities.values()]}


def _run(run: GridRun, folder: Path, places: dict[str, str]) -> Iterator[Entity]:
    """A run's folder, its manifest, what it read, what it ran with, and the action that ties them together."""
    spec, provenance = read_spec(folder), read_provenance(folder)
    here, manifest, title = places[run.hash], describe(folder / MANIFEST), f"{run.phase}: {spec.name}"
    inputs = [
        _entity(f"#{name}-{value[:12]}", "CreativeWork", f"rows of {name}", identifier=f"sha256:{value}")
        for name, value in spec.data.items()
    ]
    packages = [
        _entity(f"#{name}-{version}", "SoftwareApplication", name, softwareVersion=version)
        for name, version in {"python": provenance.python, **provenance.packages}.items()
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
    yield _entity(
        f"#{run.hash}",
        "CreateAction",
        f"{title}, seed {spec.seed}",
        description=f"device {provenance.device or 'unknown'}, commit {provenance.commit or 'unknown'}",
        instrument=[{"@id": "#xlt"}, *_references(packages)],
        object=[*_references(inputs), *parents],
        result={"@id": here},
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


def _references(entities: Iterable[Entity]) -> list[Entity]:
    return [{"@id": each["@id"]} for each in entities]
