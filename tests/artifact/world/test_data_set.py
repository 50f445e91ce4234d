"""The shipped data set is what its generator makes, byte for byte, and is read as what was generated."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from artifact.world.generator.__main__ import about, compressed, contents, write
from artifact.world.generator.world import SIZES, World, languages
from tests.conftest import PROJECT
from xlt.data.world import WorldSource
from xlt.tasks.catalogue import TASKS
from xlt.tasks.record import Split

WORLD = PROJECT / "artifact" / "world"


@pytest.fixture(scope="module")
def generated(world: World) -> dict[str, str]:
    """The texts of all files of the generated data set."""
    return dict(contents(world))


def test_the_generator_reproduces_every_shipped_file(generated: dict[str, str]) -> None:
    data = WORLD / "data"
    shipped = {path.relative_to(data).as_posix(): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert {name.removesuffix(".gz") for name in shipped} == set(generated)
    for name, stored in shipped.items():
        # The packed bytes themselves depend on the version of zlib.
        assert gzip.decompress(stored) == generated[name.removesuffix(".gz")].encode(), name
        assert stored[:10] == compressed("")[:10], f"{name} holds a time stamp or a name"
    assert json.loads((WORLD / "world.json").read_text("utf-8")) == about(0, shipped)


def test_the_same_text_gives_the_same_bytes(generated: dict[str, str]) -> None:
    text = generated["xnli/test-qag.tsv"]
    assert compressed(text) == compressed(text)
    assert gzip.decompress(compressed(text)).decode() == text


@pytest.mark.parametrize(("key", "split"), [(key, split) for key, sizes in SIZES.items() for split in sizes])
def test_the_source_reads_the_generated_rows(world: World, key: str, split: Split) -> None:
    source = WorldSource()
    assert source.languages(TASKS[key], split) == languages(TASKS[key], split)
    for language in languages(TASKS[key], split):
        assert source.rows(TASKS[key], split, language) == world.rows(TASKS[key], split, language)


def test_the_source_reads_the_generated_text(world: World) -> None:
    assert WorldSource().pretraining_text() == world.text


def test_another_world_takes_the_place_of_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artifact.world.generator.__main__.contents", lambda world: [("xnli/dev-en.tsv", "a\tb\tc\n")])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "left-over").write_text("")
    write(7, tmp_path)
    assert [path.name for path in (tmp_path / "data").rglob("*") if path.is_file()] == ["dev-en.tsv.gz"]
    written = json.loads((tmp_path / "world.json").read_text("utf-8"))
    assert written["settings"] == {"seed": 7, "lines_per_language": 2500, "version": 3}
    assert list(written["sha256"]) == ["xnli/dev-en.tsv.gz"]
