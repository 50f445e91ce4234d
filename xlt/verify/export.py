"""What verified results are given to others as: an archive that verify needs, a reference run, an RO-Crate (1.1).

An RO-Crate says what was run, from which data, with which software, under which licence.
"""

from __future__ import annotations

import datetime
import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from xlt.artifact import RESTORE, artifact_root
from xlt.errors import DataFault, IncompleteFault, UsageFault
from xlt.files import writable, write_text
from xlt.pipeline.store import MANIFEST, PROVENANCE, SPEC, describe, prediction_name, read_provenance, read_spec
from xlt.strict_json import read_json
from xlt.verify import recorded
from xlt.verify.comparison import mean
from xlt.verify.judge import Verification
from xlt.verify.scores import by_mean, table_of
from xlt.verify.siblings import other_seed
from xlt.verify.stored import GridRun

KEPT = (SPEC, "log.jsonl", "metrics.json", PROVENANCE)
_OBJECT = TypeAdapter(dict[str, Any])
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
README = """\
Results of xlt: {tier} on the source '{source}'. Ids, labels and character offsets: no text of a data set, no
models. Made by: {command}

Verify them with your own copy of the data (xlt fetch, or --data-root DIR):
  xlt verify{results}
It recomputes every number from the predictions. What it cannot check without the models: whether they say the same
again (--recheck), and how large they were.

result_hash, if the same version of xlt verifies:
{hashes}
"""


def check_whole(verification: Verification, purpose: str) -> None:
    """Refuse what is not fit to be given to others.

    Raises:
        IncompleteFault: runs are missing, damaged or edited, or nothing was scored.
    """
    if verification.problems or "not run" in verification.counts or not verification.cells:
        raise IncompleteFault(
            f"Only complete results without problems can be {purpose}.",
            why=" ".join([*(each.what for each in verification.problems[:1]), f"{verification.summary}."]),
            fix=verification.command,
        )


def record(verification: Verification, artifact: Path, *, today: datetime.date | None = None) -> Path:
    """Write a verification as a reference run below ``artifact/measured`` and return the file.

    Whatever the verdicts are: a series without its outliers would make the bands too narrow. A run that was recorded
    before is left as it is.

    Raises:
        IncompleteFault: runs are missing, damaged or edited, or nothing was scored.
        UsageFault: another run of the seed is recorded.
    """
    if not verification.tier:
        raise UsageFault("Single runs are no reference for a tier.", fix="xlt reproduce, then xlt verify --record")
    check_whole(verification, "recorded as a reference run")
    run = reference_run(verification, (today or datetime.datetime.now(datetime.UTC).date()).isoformat())
    path = recorded.reference_path(run, artifact)
    if path.exists():
        before = read_json(path, recorded.REFERENCE_RUN, fix=RESTORE)
        # The day on which the same run was recorded first is kept.
        if path.read_text("utf-8") != run.model_copy(update={"date": before.date}).text():
            raise UsageFault(
                f"The seed {run.seed} is already recorded, as artifact/{path.relative_to(artifact)}.",
                why=f"That run was made on {before.platform.get('cpu', before.device)} and recorded on {before.date}. "
                "What is recorded is never overwritten.",
                fix=f"Record a seed that has no file there: {other_seed(verification.command)}",
            )
        return path
    with writable(artifact, "", "the folder of recorded runs"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, run.text())
    return path


def reference_run(verification: Verification, date: str) -> recorded.ReferenceRun:
    """A whole verification as a reference run that was recorded on a day."""
    cells = recorded.measured_cells(verification.cells)
    values, rows = recorded.means_of(cells), by_mean(table_of(verification.cells, verification.seed))
    states = {state.folder: state for state in verification.runs}
    means = {}
    for each in verification.verdicts:
        state, name, guess = states[each.run], "/".join(each.key), round(mean(rows[each.key]["chance"]), 6)
        how = {"recipe": state.recipe, "data": state.data, "execution": state.execution}
        means[name] = recorded.MeasuredMean(value=values[name], chance=guess, **how)
    return recorded.ReferenceRun(
        tier=verification.tier,
        source=verification.source.name,
        seed=verification.seed,
        date=date,
        platform={**verification.platform, "device": recorded.device_of(verification.platform)},
        means=means,
        cells=cells,
    )


def ship(verification: Verification, folders: tuple[Path, ...], archive: Path) -> None:
    """Write ``archive``, a gzipped tar with a folder ``seed-N`` for each of the results folders.

    The same results give the same bytes with the same zlib, at any time and on any machine. A file that is left out
    stays in its run's manifest, marked as pruned.

    Raises:
        IncompleteFault: a folder has problems or lacks runs.
    """
    parts = verification.seeds
    for each in parts:
        check_whole(each, "shipped")
    temporary = archive.with_name(archive.name + ".tmp")
    with writable(archive.parent, "--ship", "the folder of the archive"):
        archive.parent.mkdir(parents=True, exist_ok=True)
        with (
            temporary.open("wb") as file,
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
            tarfile.open(mode="w", fileobj=packed) as tar,
        ):
            _add(tar, "README.txt", _readme(parts).encode())
            for each, results in zip(parts, folders, strict=True):
                for name, content in _files(each, results):
                    _add(tar, f"seed-{each.seed}/{name}", content)
        temporary.replace(archive)


def ship_one(verification: Verification, results: Path) -> Path:
    """Write the archive of one seed into its results folder, named by seed and result hash, and return it.

    Raises:
        IncompleteFault: there are problems, or runs are missing.
    """
    name = f"{verification.tier}-{verification.source.name}-seed-{verification.seed}-{verification.result_hash[:12]}"
    ship(verification, (results,), results / f"{name}.tar.gz")
    return results / f"{name}.tar.gz"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # no owner and no time: the bytes must not depend on them
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _readme(parts: tuple[Verification, ...]) -> str:
    first = parts[0]
    return README.format(
        tier=f"the tier {first.tier}" if first.tier else "single runs",
        source=first.source.name,
        command="; ".join(dict.fromkeys(each.command for each in parts)),
        results="".join(f" --results seed-{seed}" for seed in dict.fromkeys(each.seed for each in parts)),
        hashes="\n".join(f"  seed-{each.seed}  {each.result_hash}" for each in parts),
    )


def _files(verification: Verification, results: Path) -> Iterator[tuple[str, bytes]]:
    """Names below the results folder, and contents; of predictions, what was recomputed: the rest may be anything."""
    if verification.tier:  # single runs have none
        yield "grid.json", (results / "grid.json").read_bytes()
    for run in (*verification.runs, *verification.collapsed):
        folder = results / "runs" / run.folder
        if not (folder / MANIFEST).is_file():
            continue  # a first attempt that was cleared away
        cells = [cell for cell in verification.cells if cell.run == run.folder]
        kept = {*KEPT, *(prediction_name(cell.task, cell.split, cell.language) for cell in cells)}
        manifest = read_json(folder / MANIFEST, _OBJECT)
        for name, entry in sorted(manifest["files"].items()):
            if name in kept:
                yield f"runs/{run.folder}/{name}", (folder / name).read_bytes()
            else:
                entry["pruned"] = True
        yield f"runs/{run.folder}/{MANIFEST}", (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


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
        if name == "grid.json" and not verification.tier:
            continue
        entities[name] = _entity(name, "File", what, encodingFormat=form)
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
        newest = datetime.datetime.fromtimestamp(max(filter(None, times)), datetime.UTC)
        root["datePublished"] = newest.date().isoformat()
    software = next((each for each in people if each["@id"] == "#xlt"), {})
    root |= {name: software[name] for name in ("license", "author") if name in software}
    standard = {"@id": "https://w3id.org/ro/crate/1.1"}
    descriptor = {"@id": CRATE, "@type": "CreativeWork", "conformsTo": standard, "about": {"@id": "./"}}
    return {"@context": f"{standard['@id']}/context", "@graph": [descriptor, root, *entities.values()]}


def _run_entities(run: GridRun, folder: Path, places: dict[str, str]) -> Iterator[Entity]:
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
