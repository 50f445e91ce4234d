"""The source ``world`` reads the shipped data set, and says what is wrong with an altered one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from xlt.artifact import RESTORE
from xlt.data import world
from xlt.data.rows import MiningRow, fingerprint
from xlt.data.world import WorldSource, languages
from xlt.errors import EnvironmentFault, UsageFault
from xlt.tasks.catalogue import TASKS, get_task
from xlt.tasks.record import Split


@pytest.fixture
def own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the data set that a test may alter."""
    copy = tmp_path / "artifact" / "world"
    shutil.copytree(PROJECT / "artifact" / "world", copy, ignore=shutil.ignore_patterns("generator"))
    monkeypatch.setenv("XLT_ARTIFACT", str(tmp_path / "artifact"))
    return copy


def test_settings_hold_what_determines_the_rows() -> None:
    assert WorldSource().settings == {"seed": 0, "lines_per_language": 2500, "version": 3}


def test_the_rows_are_those_of_the_recorded_runs() -> None:
    """The fingerprints of some of the rows on which the recorded results rest."""
    source = WorldSource()
    found = {
        "text": fingerprint(source.pretraining_text()),
        "anli_plus": fingerprint(source.rows(get_task("anli_plus"), "train", "en")),
        "cosmosqa": fingerprint(source.rows(get_task("cosmosqa"), "train", "en")),
        "bucc2018": fingerprint(source.rows(get_task("bucc2018"), "test", "qag")),
        "tatoeba": fingerprint(source.rows(get_task("tatoeba"), "dev", "qah")),
    }
    assert {name: value[:16] for name, value in found.items()} == {
        "text": "39fe3a4c67d6ba05",
        "anli_plus": "5a58c8d378be4710",
        "cosmosqa": "777de378ef47287c",
        "bucc2018": "5b3faa31d83b684a",
        "tatoeba": "ce31403bc25c0a41",
    }


def test_languages_have_a_name_and_a_distance() -> None:
    assert list(languages()) == ["en", "qaa", "qab", "qac", "qad", "qae", "qaf", "qag", "qah"]
    assert languages()["en"] == world.Language("English", 0.0)
    assert all(0 < each.distance <= 1 for code, each in languages().items() if code != "en")


def test_without_a_shipped_world_there_are_no_constructed_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLT_ARTIFACT", str(tmp_path))
    assert languages() == {}


def test_both_sides_of_mining_are_mixed(world: WorldSource) -> None:
    rows = world.rows(TASKS["bucc2018"], "dev", "qaa")
    sides = [row.english for row in rows if isinstance(row, MiningRow)]
    assert sides != sorted(sides)


@pytest.mark.parametrize(
    ("key", "split", "code"), [("mnli", "test", "en"), ("xnli", "test", "de"), ("hellaswag", "dev", "qaa")]
)
def test_what_is_absent_is_refused(world: WorldSource, key: str, split: Split, code: str) -> None:
    with pytest.raises(UsageFault) as fault:
        world.rows(TASKS[key], split, code)
    assert fault.value.why
    assert fault.value.fix


def test_a_world_of_another_seed_is_refused() -> None:
    assert WorldSource(0).settings["seed"] == 0
    with pytest.raises(UsageFault, match="world of seed 7 is not there") as fault:
        WorldSource(7)
    assert "python -m artifact.world.generator --seed 7" in fault.value.fix


def test_a_missing_or_altered_file_is_named(own_copy: Path) -> None:
    assert WorldSource().settings["seed"] == 0
    file = own_copy / "data" / "xnli" / "test-qaa.tsv.gz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(EnvironmentFault, match=r"'artifact/world/data/xnli/test-qaa.tsv.gz' is altered") as fault:
        WorldSource()
    assert fault.value.fix == RESTORE
    file.unlink()
    with pytest.raises(EnvironmentFault, match=r"xnli/test-qaa.tsv.gz' is missing"):
        WorldSource()


def test_another_world_is_read_with_its_own_settings(own_copy: Path) -> None:
    about = json.loads((own_copy / "world.json").read_text("utf-8"))
    about["settings"]["seed"] = 7
    (own_copy / "world.json").write_text(json.dumps(about))
    assert WorldSource().settings == WorldSource(7).settings == {"seed": 7, "lines_per_language": 2500, "version": 3}
