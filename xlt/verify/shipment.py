"""One archive with all that verify needs: ids, labels, spans, specs and logs; no models, no text of a data set."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from xlt.files import writable
from xlt.pipeline.store import MANIFEST, PROVENANCE, SPEC, prediction_name
from xlt.strict_json import read_json
from xlt.verify.judge import Verification
from xlt.verify.recording import check_whole

KEPT = (SPEC, "log.jsonl", "metrics.json", PROVENANCE)
_OBJECT = TypeAdapter(dict[str, Any])
README = """\
Results of xlt: the tier {tier} on the source '{source}'. Ids, labels and character offsets: no text of a data set, no
models. Made by: {command}

Verify them with your own copy of the data (xlt fetch, or --data-root DIR):
  xlt verify{results}
It recomputes every number from the predictions. What it cannot check without the models: whether they say the same
again (--recheck), and how large they were.

result_hash, if the same version of xlt verifies:
{hashes}
"""


def ship(verification: Verification, folders: tuple[Path, ...], archive: Path) -> None:
    """Write ``archive``, a gzipped tar with a folder ``seed-N`` for each of the results folders.

    The same results give the same bytes with the same zlib, whoever packs them and when. A file that is left out stays
    in its run's manifest, marked as pruned.

    Raises:
        IncompleteFault: a folder has problems or lacks runs.
    """
    parts = (verification, *verification.further)
    for each in parts:
        check_whole(each, "shipped")
    temporary = archive.with_name(archive.name + ".tmp")
    with writable(archive.parent):
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


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # of nobody, and of no time
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _readme(parts: tuple[Verification, ...]) -> str:
    first = parts[0]
    return README.format(
        tier=first.tier,
        source=first.source.name,
        command="; ".join(each.command for each in parts),
        results="".join(f" --results seed-{each.seed}" for each in parts),
        hashes="\n".join(f"  seed-{each.seed}  {each.result_hash}" for each in parts),
    )


def _files(verification: Verification, results: Path) -> Iterator[tuple[str, bytes]]:
    """Names below the results folder, and contents; of predictions, what was recomputed: the rest may be anything."""
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
