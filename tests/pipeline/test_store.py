"""A run counts only when its manifest, written last, agrees with every file."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.pipeline.test_spec import SPEC
from xlt.errors import DataFault, EnvironmentFault, UsageFault
from xlt.files import write_text
from xlt.pipeline.store import MANIFEST, RunStore, check_folder, read_spec, write_manifest
from xlt.pipeline.store import SPEC as SPEC_FILE


def written(root: Path) -> tuple[RunStore, Path]:
    store = RunStore(root)
    with store.writing(SPEC) as folder:
        (folder / "metrics.json").write_text("{}", encoding="utf-8")
        (folder / "predictions").mkdir()
        (folder / "predictions" / "xnli.test.sw.jsonl.gz").write_bytes(b"abc")
    return store, folder


def test_a_finished_run_is_done_and_lists_every_file(tmp_path: Path) -> None:
    store, folder = written(tmp_path)
    assert store.check(SPEC).state == "done"
    files = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
    assert sorted(files) == ["metrics.json", "predictions/xnli.test.sw.jsonl.gz", "spec.json"]
    assert files["predictions/xnli.test.sw.jsonl.gz"]["size"] == 3
    assert read_spec(folder) == SPEC


def test_a_run_that_failed_midway_is_unfinished_and_made_afresh(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with pytest.raises(FileNotFoundError), store.writing(SPEC) as folder:
        (folder / "absent" / "file").write_text("x", encoding="utf-8")
    (folder / "left-over").touch()
    assert store.check(SPEC).state == "unfinished"
    written(tmp_path)
    assert store.check(SPEC).state == "done"
    assert not (folder / "left-over").exists()


def test_a_run_that_another_process_is_making_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with store.writing(SPEC) as folder:
        (folder / "half").touch()
        # Locks belong to the opened folder, so that one process can stand for two.
        with pytest.raises(EnvironmentFault, match="Another process is making the run"), store.writing(SPEC):
            pass
        assert (folder / "half").exists()
    assert store.check(SPEC).state == "done"


def test_an_absent_run(tmp_path: Path) -> None:
    assert RunStore(tmp_path).check(SPEC).state == "absent"


def test_every_kind_of_damage_is_named(tmp_path: Path) -> None:
    store, folder = written(tmp_path)
    prediction = folder / "predictions" / "xnli.test.sw.jsonl.gz"

    def problem() -> str:
        check = store.check(SPEC)
        assert check.state == "damaged"
        return check.problem

    prediction.write_bytes(b"abd")
    assert problem() == "predictions/xnli.test.sw.jsonl.gz was changed after the run"
    prediction.write_bytes(b"ab")
    assert problem() == "predictions/xnli.test.sw.jsonl.gz has 2 bytes, not 3"
    prediction.unlink()
    assert problem() == "predictions/xnli.test.sw.jsonl.gz is missing"
    prediction.write_bytes(b"abc")
    (folder / "extra").touch()
    assert problem() == "extra is not in the manifest"
    (folder / "extra").unlink()
    assert store.check(SPEC).state == "done"
    for broken in ("{", "[]", '{"files": []}', '{"format": 1, "files": {"a": 1}}', '{"format": 1, "files": {"a": {}}}'):
        (folder / MANIFEST).write_text(broken, encoding="utf-8")
        assert problem().startswith("MANIFEST.json cannot be read: ")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../b", "a//b", "./a", "a/", ".", ""])
def test_a_manifest_names_no_file_outside_its_folder_not_even_as_pruned(tmp_path: Path, name: str) -> None:
    store, folder = written(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    manifest["files"][name] = {"size": 1, "sha256": "0", "pruned": True}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    check = store.check(SPEC)
    assert check.state == "damaged"
    assert check.problem.startswith(f"MANIFEST.json cannot be read: files.{name}.")
    assert check.problem.endswith("it is no name of a file of the run")


def test_a_manifest_has_no_fields_that_nobody_reads(tmp_path: Path) -> None:
    store, folder = written(tmp_path)
    whole = json.loads((folder / MANIFEST).read_text("utf-8"))
    entry = {**whole["files"]["metrics.json"], "signature": "x"}
    for changed in ({**whole, "signature": "x"}, {**whole, "files": {**whole["files"], "metrics.json": entry}}):
        (folder / MANIFEST).write_text(json.dumps(changed), encoding="utf-8")
        assert store.check(SPEC).state == "damaged"
    (folder / MANIFEST).write_text(json.dumps(whole), encoding="utf-8")
    assert store.check(SPEC).state == "done"


def test_a_folder_of_another_spec_is_not_this_run(tmp_path: Path) -> None:
    _, folder = written(tmp_path)
    check = check_folder(folder, SPEC.model_copy(update={"seed": 9}))
    assert (check.state, check.problem) == ("damaged", "spec.json is not the one that names the folder")


def test_a_spec_of_a_time_when_it_had_fewer_fields_is_still_this_run(tmp_path: Path) -> None:
    store, folder = written(tmp_path)
    fields = json.loads((folder / SPEC_FILE).read_text("utf-8"))
    del fields["retry"], fields["translated"]
    (folder / SPEC_FILE).write_text(json.dumps(fields), encoding="utf-8")
    write_manifest(folder)
    assert store.check(SPEC).state == "done"
    (folder / SPEC_FILE).write_text("{}", encoding="utf-8")
    write_manifest(folder)
    assert store.check(SPEC).state == "damaged"


def test_a_run_is_collapsed_if_somebody_looked_and_its_provenance_says_so(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    watched = SPEC.model_copy(update={"collapse_after": 0.5})
    with store.writing(watched) as folder:
        assert not store.collapsed(watched)
        (folder / "provenance.json").write_text('{"collapsed": true}', encoding="utf-8")
    assert store.collapsed(watched)
    assert not store.collapsed(SPEC)
    for other in ('{"collapsed": false}', "{}", "{", "[]", '{"collapsed": "perhaps"}', "[" * 100_000):
        (folder / "provenance.json").write_text(other, encoding="utf-8")
        assert not store.collapsed(watched)


def test_a_pruned_file_may_be_missing(tmp_path: Path) -> None:
    store, folder = written(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    manifest["files"]["metrics.json"]["pruned"] = True
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "metrics.json").unlink()
    assert store.check(SPEC).state == "done"


def test_a_manifest_and_its_name_are_on_the_disk_before_the_run_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, Path]] = []
    replaces, syncs = Path.replace, os.fsync

    def replace(self: Path, target: Path) -> Path:
        events.append(("named", target))
        return replaces(self, target)

    def fsync(descriptor: int) -> None:
        events.append(("synced", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        syncs(descriptor)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(os, "fsync", fsync)
    _, folder = written(tmp_path)
    manifest = folder / MANIFEST
    # The content before the name appears, the name after it did; else a power cut leaves an empty file or none.
    assert events[-3:] == [
        ("synced", manifest.with_name(f"{MANIFEST}.tmp")),
        ("named", manifest),
        ("synced", folder),
    ]


def test_a_file_system_that_cannot_sync_a_folder_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number, syncs = errno.EINVAL, os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "no")
        syncs(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert written(tmp_path)[0].check(SPEC).state == "done"
    number = errno.ENOSPC
    with pytest.raises(EnvironmentFault, match="is full"):
        written(tmp_path / "other")


def test_a_run_that_another_process_has_made_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    store, folder = written(tmp_path)
    inode = (folder / MANIFEST).stat().st_ino
    with pytest.raises(EnvironmentFault, match="Another process has made the run"):
        written(tmp_path)
    assert store.check(SPEC).state == "done"
    assert (folder / MANIFEST).stat().st_ino == inode


@pytest.mark.parametrize("what", ["file", "link", "dangling link"])
def test_what_stands_in_the_place_of_a_run_is_no_run_and_makes_way(tmp_path: Path, what: str) -> None:
    store, elsewhere = RunStore(tmp_path / "results"), tmp_path / "elsewhere"
    place = store.path(SPEC.folder)
    place.parent.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "mine").touch()
    place.touch() if what == "file" else place.symlink_to(elsewhere if what == "link" else "nowhere")
    assert store.check(SPEC).state == ("damaged" if what == "link" else "absent")
    assert written(tmp_path / "results")[0].check(SPEC).state == "done"
    assert not place.is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["mine"]


def test_a_temporary_file_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine", "utf-8")
    (tmp_path / "grid.json.tmp").symlink_to("mine")
    write_text(tmp_path / "grid.json", "{}")
    assert (tmp_path / "grid.json").read_text("utf-8") == "{}"
    assert (tmp_path / "mine").read_text("utf-8") == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.json", "mine"]


@pytest.mark.parametrize(("number", "message"), [(errno.ENOSPC, "is full"), (errno.EROFS, "cannot be written")])
def test_a_full_or_read_only_disk_is_one_clear_message(tmp_path: Path, number: int, message: str) -> None:
    store = RunStore(tmp_path)
    with pytest.raises(EnvironmentFault, match=message) as caught, store.writing(SPEC):
        raise OSError(number, "no")
    assert caught.value.fix
    assert store.check(SPEC).state == "unfinished"


def test_a_file_in_the_way_of_the_results_folder(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    with pytest.raises(UsageFault, match="a file is in its way"):
        written(tmp_path / "results")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="is not a run of xlt"):
        read_spec(tmp_path)


def test_a_process_killed_at_any_moment_leaves_no_broken_file_and_no_run_that_counts_but_is_not_whole(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "tests.pipeline.kills", str(tmp_path), "1", "70"]
    made = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True, cwd=PROJECT)
    outcomes = [json.loads(line) for line in made.stdout.splitlines()]
    killed = [each for each in outcomes if each["killed"]]
    assert len(killed) >= 50
    # Never damaged: a run counts only with its manifest, which is written last and appears in one step.
    assert {each["state"] for each in killed} == {"absent", "unfinished", "done"}
    # The grid is the old one or the new one, whole.
    grids = [-1, *(each["grid"] for each in outcomes)]
    for number, (before, after) in enumerate(pairwise(grids)):
        assert after in (before, number)
    # What they left is in nobody's way.
    assert outcomes[-1] == {"killed": False, "state": "done", "grid": 70, "left": []}


def test_a_recipe_that_is_none_is_a_damaged_spec(tmp_path: Path) -> None:
    _, folder = written(tmp_path)
    for old, new in (('"learning_rate"', '"learning\\u001brate"'), ('"recipe": {', '"recipe": {"easiest": 0.5, ')):
        text = (folder / SPEC_FILE).read_text("utf-8")
        assert old in text
        other = tmp_path / f"other-{len(new)}"
        other.mkdir()
        (other / SPEC_FILE).write_text(text.replace(old, new, 1), "utf-8")
        with pytest.raises(DataFault, match="is not a run of xlt") as told:
            read_spec(other)
        assert str(told.value.why).startswith("Its recipe is none: ")
        assert str(told.value.why).isprintable()
