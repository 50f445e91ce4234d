"""Everything that reads files which others wrote, each with sound ones: hypothesis and a coverage-guided fuzzer damage
them, and only errors of ours may come out."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from safetensors.torch import save

from tests.data.files.test_files_mutations import INPUTS
from xlt.data.files.reading import FileFault
from xlt.data.files.source import FilesSource
from xlt.data.hub.archives import _members
from xlt.data.hub.lock import read_lock
from xlt.data.hub.parquet import read_rows
from xlt.data.hub.table import Archive, HubFiles, HubTask, read_table
from xlt.data.predictions import read_predictions
from xlt.data.rows import fingerprint, is_trainable
from xlt.errors import XltError
from xlt.evaluate.submission import _score_file, file_name
from xlt.pipeline.resume import RunCheckpoints
from xlt.pipeline.store import (
    METRICS,
    PROVENANCE,
    SPEC,
    check_folder,
    listed_weights,
    read_metrics,
    read_provenance,
    read_spec,
    write_manifest,
)
from xlt.pipeline.tiers import read_tier
from xlt.runtime import start_process_group
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split
from xlt.train.engine import EngineSettings
from xlt.train.loop import BestCheckpoint
from xlt.train.state import _generators
from xlt.verify.added import _unpack, read_added
from xlt.verify.claims import read_claims, read_given
from xlt.verify.stored import read_grid

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """A reader."""

    path: str
    """The file that it reads, below a folder of the test's own."""
    sound: bytes
    """A sound content of it."""
    read: Callable[[Path], object]
    """Reads what lies in that folder."""
    beside: Mapping[str, bytes]
    """What else lies there, by path."""
    unpacked: Callable[[bytes], bytes] = bytes
    """The text whose lines errors count."""


def attempt(target: Target, data: bytes, folder: Path) -> XltError | None:
    """Read ``data`` in the place of the sound content: the error that it ends with, which must be one of ours."""
    for name, content in {**target.beside, target.path: data}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    fault: XltError | None = None
    try:
        target.read(folder)
    except XltError as error:
        fault = error
    if fault is not None:
        assert fault.what
    if isinstance(fault, FileFault):
        assert fault.file in (target.path, *target.beside)
        if fault.line is not None and fault.file == target.path:
            text = target.unpacked(data)
            assert 1 <= fault.line <= 2 + text.count(b"\n") + text.count(b"\r")
    return fault


def _rows(key: str, split: Split, language: str, folder: Path) -> str:
    rows = FilesSource(folder).rows(get_task(key), split, language)
    return fingerprint(row for row in rows if is_trainable(row))


def _data_files() -> dict[str, Target]:
    found = {}
    for key, split, language, files in INPUTS:
        contents = {name: text.encode() for name, text in files.items()}
        for name, content in contents.items():
            beside = {other: its for other, its in contents.items() if other != name}
            read = partial(_rows, key, split, language)
            found[f"files/{name}"] = Target(name, content, read, beside)
    line = b"A\tB\tneutral\nC\tD\tentailment\n"
    name = "xnli/dev-de.tsv.gz"
    read = partial(_rows, "xnli", "dev", "de")
    found[f"files/{name}"] = Target(name, _packed(line), read, {}, unpacked=_unpacked)
    return found


def _unpacked(data: bytes) -> bytes:
    return gzip.decompress(data)


@cache
def _hub_table() -> dict[str, HubTask]:
    return read_table()


def parquet(records: list[dict[str, Any]], metadata: dict[bytes, bytes] | None = None) -> bytes:
    """A parquet file."""
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records).replace_schema_metadata(metadata), stream, compression="none")
    return stream.getvalue()


ANSWERS = {"text": ["Isar"], "answer_start": [21]}
CHOICES = {"text": ["in A", "in B"], "label": ["A", "B"]}
# By task: records of its files on the hub.
RECORDS: dict[str, list[dict[str, Any]]] = {
    "mnli": [{"premise": "A b.", "hypothesis": "C d.", "label": 1, "pairID": "7e"}],
    "squad": [{"id": "1", "question": "Wo?", "context": "München liegt an der Isar.", "answers": ANSWERS}],
    "hellaswag": [{"ctx_a": "He sits.", "ctx_b": "he", "endings": ["a.", "b."], "label": "1"}],
    "commonsenseqa": [{"question": "Where?", "choices": CHOICES, "answerKey": "B"}],
    "panx": [{"tokens": ["In", "Ulm"], "ner_tags": [0, 5]}],
    "tatoeba": [{"source_sentence": "eins", "target_sentence": "one"}],
    "bucc2018": [{"sentence1": ["Eins", "Zwei"], "sentence2": ["One", "Two"], "gold": [[1, 2]]}],
    "mlm": [{"id": "1", "text": "A text."}],
}
METADATA = {b"huggingface": json.dumps({"info": {"features": {"label": {"names": ["a", "b"]}}}}).encode()}


def read_parquet(key: str, folder: Path) -> list[Any]:
    """The rows of a parquet file of that task."""
    task, entry = get_task(key), _hub_table()[key]
    name = entry.columns.get("id", ("",))[0]
    part = HubFiles(repository="a/b", path="x.parquet", id=name, language="de")
    rows = list(read_rows([folder / "x.parquet"], task.kind, entry, part, "x"))
    fingerprint(row for row in rows if is_trainable(row))
    return rows


def _parquet_files() -> dict[str, Target]:
    return {
        f"parquet/{key}": Target("x.parquet", parquet(records, METADATA), partial(read_parquet, key), {})
        for key, records in RECORDS.items()
    }


LINE = b'{"id":"1","prediction":"neutral","score":0.5}\n{"id":"2","prediction":[8,12],"score":-1}\n'
RUN = {SPEC: b"{}", METRICS: b'{"xnli":{"test":{"de":{"accuracy":50.0}}}}', PROVENANCE: b'{"python":"3.11"}'}
SPECIFIED = {
    "phase": "intermediate",
    "name": "mnli",
    "arm": "mnli",
    "train": ["mnli"],
    "backbone": {"config": {"num_hidden_layers": 4}, "vocabulary": 100},
    "parent": "0123456789ab",
    "source": {"name": "world", "settings": {"limit": 3}},
    "data": {"mnli/train/en": "0" * 16},
    "recipe": {"steps": 3},
    "seed": 0,
    "precision": "fp32",
}


def _sealed(run: Mapping[str, bytes]) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        for file, content in run.items():
            (Path(name) / file).write_bytes(content)
        write_manifest(Path(name))
        return (Path(name) / "MANIFEST.json").read_bytes()


def _checked(folder: Path) -> object:
    assert check_folder(folder / "run").state in ("done", "damaged", "unfinished")
    return listed_weights(folder / "run")


def _results() -> dict[str, Target]:
    files = {f"run/{name}": content for name, content in RUN.items()}
    grid = {"format": 1, "tier": "smoke", "seed": 0, "source": {"name": "world", "settings": {}}, "runs": []}
    return {
        "predictions": Target(
            "x.jsonl.gz", _packed(LINE), lambda folder: read_predictions(folder / "x.jsonl.gz", 1000), {}
        ),
        "predictions/lines": Target("x.jsonl", LINE, _lines, {}),
        "manifest": Target("run/MANIFEST.json", _sealed(RUN), _checked, files),
        "spec": Target(SPEC, json.dumps(SPECIFIED).encode(), read_spec, {}),
        "metrics": Target(METRICS, RUN[METRICS], read_metrics, {}),
        "provenance": Target(PROVENANCE, RUN[PROVENANCE], read_provenance, {}),
        "grid": Target("grid.json", json.dumps(grid).encode(), read_grid, {}),
    }


def _lines(folder: Path) -> object:
    (folder / "x.jsonl.gz").write_bytes(_packed((folder / "x.jsonl").read_bytes()))
    return read_predictions(folder / "x.jsonl.gz", 1000)


GIVEN = b"""format = 1
[[rows]]
table = "xtreme"
arm = "baseline"
source = "somewhere"
values = { xnli = 79.2 }
"""


def _settings() -> dict[str, Target]:
    artifact = {
        f"artifact/expected/{name}": (PROJECT / "artifact/expected" / name).read_bytes()
        for name in ("paper.toml", "anchors.toml")
    }
    lock = {"format": 1, "datasets": {"a/b": {"revision": "0" * 40, "files": {"x": {"size": 1, "sha256": "0" * 64}}}}}
    tier = (PROJECT / "artifact/tiers/smoke.toml").read_bytes()
    claims = (PROJECT / "artifact/claims.toml").read_bytes()
    return {
        "tier": Target("own.toml", tier, lambda folder: read_tier(str(folder / "own.toml")), {}),
        "claims": Target("artifact/claims.toml", claims, partial(_in_artifact, read_claims), artifact),
        "given": Target("given.toml", GIVEN, lambda folder: read_given(folder / "given.toml"), {}),
        "lock": Target("artifact/data.lock", json.dumps(lock).encode(), partial(_in_artifact, read_lock), artifact),
    }


def _in_artifact(read: Callable[[], object], folder: Path) -> object:
    before = os.environ.get("XLT_ARTIFACT")
    os.environ["XLT_ARTIFACT"] = str(folder / "artifact")
    try:
        return read()
    finally:
        if before is None:
            del os.environ["XLT_ARTIFACT"]
        else:
            os.environ["XLT_ARTIFACT"] = before


def archive(members: Mapping[str, bytes]) -> bytes:
    """A tar file of these members."""
    stream = io.BytesIO()
    with tarfile.open(mode="w", fileobj=stream) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _inside(folder: Path, unpack: Callable[[Path], object]) -> None:
    """Unpack into a folder, and look whether anything stands outside of it or leads there."""
    place = folder / "in" / "place"
    shutil.rmtree(folder / "in", ignore_errors=True)
    place.mkdir(parents=True)
    before = {path.name for path in folder.iterdir()}
    try:
        unpack(place)
    finally:
        assert {path.name for path in folder.iterdir()} == before
        assert [path.name for path in (folder / "in").iterdir()] == ["place"]
        for path in place.rglob("*"):
            assert not path.is_symlink()
            assert path.is_dir() or path.stat().st_nlink == 1


def _archives() -> dict[str, Target]:
    want = Archive(address="https://example.org/x.tar.bz2", take=("bucc/de/*.gold", "bucc/de/*.de"))

    def release(folder: Path) -> None:
        _inside(folder, lambda place: _members(folder / "x.tar", want, place))

    def results(folder: Path) -> None:
        _inside(folder, lambda place: _unpack(folder / "x.tar.gz", place))

    members = archive({"bucc/de/a.gold": b"de-1\ten-1\n", "bucc/de/b.de": b"de-1\tEins\n"})
    packed = {"tar": members, "bz2": bz2.compress(members), "xz": lzma.compress(members), "gz": _packed(members)}
    found = {f"release/{name}": Target("x.tar", content, release, {}) for name, content in packed.items()}
    shipped = archive({"one/grid.json": b"{}", "other": b"x"})
    found["shipped"] = Target("x.tar.gz", _packed(shipped), results, {})
    # What was packed again, so that its headers can be changed behind the sums of the compression.

    def packed_again(folder: Path) -> None:
        (folder / "x.tar.gz").write_bytes(_packed((folder / "x.tar").read_bytes()))
        results(folder)

    return found | {"shipped/members": Target("x.tar", shipped, packed_again, {})}


def _packed(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def _record() -> bytes:
    path = sorted((PROJECT / "artifact/measured/smoke-world").glob("seed-*.json"))[0]
    document = json.loads(path.read_bytes())
    return json.dumps(document, separators=(",", ":")).encode()


SUBMITTED = {
    "xnli": b"neutral\nentailment\n",
    "udpos": b"NOUN\nVERB\n\nNOUN\n\n",
    "xquad": b'{"1": "Isar", "2": ""}',
    "tatoeba": b"0\n1\n",
    "bucc2018": b"de-1\ten-1\n",
    "xcopa": b'{"label": 0}\n{"label": 1}\n',
    "mewslix": b'{"1": ["Q1", "Q2"]}',
}
GOLD = SUBMITTED | {
    "xquad": b'{"data": [{"paragraphs": [{"qas": [{"id": "1", "answers": [{"text": "Isar"}]}]}]}]}',
    "mewslix": b'{"1": ["Q1"]}',
}


def _scored(key: str, folder: Path) -> object:
    name = file_name(key, "de")
    return _score_file(key, folder / "given" / name, folder / "gold" / name, "de", "0.0.12", [])


def _submissions() -> dict[str, Target]:
    found = {}
    for key, content in SUBMITTED.items():
        given, gold = f"given/{file_name(key, 'de')}", f"gold/{file_name(key, 'de')}"
        found[f"score/{key}"] = Target(given, content, partial(_scored, key), {gold: GOLD[key]})
        found[f"score/{key}/labels"] = Target(gold, GOLD[key], partial(_scored, key), {given: content})
    return found


class NoEngine:
    """Stands for an engine whose states are sound."""

    def load(self, folder: Path, step: int) -> None:
        """Nothing."""


def _resumed(folder: Path) -> object:
    place = folder / "step-00000001"
    write_manifest(place)
    start_process_group()
    return RunCheckpoints(folder, EngineSettings()).resume(NoEngine(), BestCheckpoint(1, 0.0))  # type: ignore[arg-type]


def _heads(folder: Path) -> object:
    from tests.train.test_graph import fresh

    return fresh("mlm")._load_heads(folder)


def _trained() -> dict[str, Target]:
    record = {"step": 1, "task": "mnli", "loss": 1.0, "learning_rate": 0.1, "tokens": 9, "examples": "0" * 16}
    best = {"score": 50.0, "step": 1, "at_chance": False, "worse": 0}
    made_by = {
        "world_size": 1,
        "zero": "0",
        "engine": "deepspeed",
        "accumulation": 1,
        "commit": "0" * 40,
        "device": "cpu",
        "numerics": "native",
        "cpu_threads": 1,
        "packages": {"torch": "2"},
    }
    files = {
        "state.json": json.dumps({"step": 1, "best": best, "records": [record]}).encode(),
        "made-by.json": json.dumps(made_by).encode(),
        "generators-0.safetensors": save(_generators()),
    }
    files = {f"step-00000001/{name}": content for name, content in files.items()}
    found = {
        f"checkpoint/{Path(name).name}": Target(
            name, content, _resumed, {other: its for other, its in files.items() if other != name}
        )
        for name, content in files.items()
    }
    heads = json.dumps({"mnli": {"kind": "pair_classification", "labels": 3}}).encode()
    return found | {"heads": Target("heads.json", heads, _heads, {"heads.safetensors": _head_weights()})}


def _head_weights() -> bytes:
    from tests.train.test_graph import fresh

    return save(fresh("mnli").heads.state_dict())


@cache
def targets() -> dict[str, Target]:
    """All readers by name."""
    record = Target("run.json", _record(), lambda folder: read_added(folder / "run.json"), {})
    found = _data_files() | _parquet_files() | _results() | _settings() | _archives() | _submissions() | _trained()
    return found | {"record": record}
