"""What is given to others to verify: whole without models, without texts, the same bytes each time."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.conftest import invoke as invoke
from xlt.artifact import artifact_root
from xlt.data.hub.source import HubSource
from xlt.errors import ExitCode, IncompleteFault, UsageFault
from xlt.verify.export import ship
from xlt.verify.judge import join, recompute, verify

from .core_results import ConstructedSource, write_core_artifact, write_core_results
from .tiny_results import Results


def unpacked(archive: Path, place: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(place, filter="data")
    return place


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
    assert there.unchecked.startswith("The models of ")
    readme = (place / "README.txt").read_text("utf-8")
    assert here.result_hash in readme
    assert "xlt verify --results seed-0" in readme
    with pytest.raises(UsageFault, match="no model here to predict again"):
        recompute(place / "seed-0", results.source, again=3)


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
    shown = invoke("verify", "--results", str(root))
    assert shown.code == ExitCode.DATA
    assert "→ xlt fetch xnli" in shown.out
    assert "→ xlt fetch pawsx" in shown.out
