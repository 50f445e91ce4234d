"""``xlt fetch``: what it says, its exit codes, and its document."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import random
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.cli.conftest import Invoke
from tests.hub_home import WEIGHTS, own_home, parquet
from tests.hub_server import SHA, Hub, serving
from xlt.cli import progress
from xlt.cli.progress import DownloadBars
from xlt.data.files.source import FilesSource
from xlt.data.hub import archives as archives_module
from xlt.errors import ExitCode
from xlt.tasks.catalogue import get_task

TABLE = """
[mnli]
note = "A note on the data."
columns = { texts = ["premise", "hypothesis"], label = "label", id = "pairID" }
labels = ["entailment", "neutral", "contradiction"]
dev = [{ repository = "some/nli", path = "data/dev-*.parquet", rows = 2 }]

[bucc2018]
absent = "Not there."
archives = [{ address = "ADDRESS/{lang}-en.sample.tar", take = "bucc2018/{lang}-en/{lang}-en.sample.*" }]
"""
PLAN = """
name = "little"
about = "One task on the hub"
[sources.hub.backbone]
name = "some/encoder"
[sources.hub.arms]
baseline = { targets = ["bucc2018"] }
mnli = { intermediate = ["mnli"], targets = ["bucc2018"] }
"""

PARTED = """
name = "parted"
about = "Two parts"
[sources.hub]
backbone = { name = "some/absent" }
parts.grid = { about = "what needs the other model" }
parts.A = { about = "one task with a model of its own", on_request = true }
[sources.hub.arms]
baseline = { part = "grid", targets = ["bucc2018"] }
own = { part = "A", intermediate = ["mnli"], targets = ["bucc2018"], backbone = { name = "some/encoder" } }
"""


def archives() -> dict[str, bytes]:
    """An archive of BUCC's form for each language, with a member that leads out of its folder and one too many."""
    made = {}
    for language in ("de", "fr", "ru", "zh"):
        stem = f"bucc2018/{language}-en/{language}-en.sample"
        contents = {f"{stem}.{language}": f"{language}-1\teins\n", f"{stem}.en": "en-1\tone\n"}
        contents[f"{stem}.gold"] = f"{language}-1\ten-1\n"
        others = {f"bucc2018/{language}-en/../{language}-en.sample.out": "x", "/README": "x", "../out": "x"}
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:bz2") as tar:
            for name, text in {**contents, **others}.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
        made[f"{language}-en.sample.tar"] = stream.getvalue()
    return made


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    own_home(tmp_path, monkeypatch)
    (tmp_path / "artifact" / "tiers" / "little.toml").write_text(PLAN, encoding="utf-8")
    (tmp_path / "artifact" / "tiers" / "parted.toml").write_text(PARTED, encoding="utf-8")
    records = [{"premise": "a", "hypothesis": "b", "label": n, "pairID": str(n)} for n in range(2)]
    model = {"config.json": b"{}", "model.safetensors": WEIGHTS}
    data = {"data/dev-00000-of-00001.parquet": parquet(records)}
    with serving(Hub({"datasets/some/nli": data, "some/encoder": model}, pages=archives())) as hub:
        table = TABLE.replace("ADDRESS", hub.address)
        (tmp_path / "artifact" / "hub.toml").write_text(table, encoding="utf-8")
        yield hub


def test_it_tells_licence_size_disk_and_result(invoke: Invoke, hub: Hub) -> None:
    outcome = invoke("fetch", "mnli", "--mirror", hub.address)
    assert outcome.code == ExitCode.OK, outcome.err
    for part in (
        "licence OANC",
        "A note on the data.",
        "To download: 1 file,",
        "Free on the disk",
        f"at {SHA}: 1 file,",
    ):
        assert part in outcome.out, part
    again = invoke("fetch", "mnli", "--offline")
    assert "Files: 1 needed, 1 of them here and unchanged." in again.out
    assert "To download" not in again.out


def test_with_json_standard_output_is_the_document(invoke: Invoke, hub: Hub) -> None:
    document = invoke("fetch", "mnli", "--model", "some/encoder", "--mirror", hub.address, "--json").document
    assert document["format"] == 1
    named = [(one["kind"], one["repository"], one["revision"], one["files"]) for one in document["repositories"]]
    assert named == [("dataset", "some/nli", SHA, 1), ("model", "some/encoder", SHA, 2)]


def test_a_tier_brings_its_tasks_and_its_backbone_and_says_what_the_hub_lacks(invoke: Invoke, hub: Hub) -> None:
    outcome = invoke("fetch", "--tier", "little", "--mirror", hub.address)
    assert outcome.code == ExitCode.OK, outcome.err
    assert "Not fetched: Not there. Add --data-root DIR." in outcome.out
    assert {path.partition("/resolve/")[0] for path, _ in hub.downloads()} == {"datasets/some/nli", "some/encoder"}


def test_of_a_part_only_its_tasks_and_its_own_model_are_fetched(invoke: Invoke, hub: Hub) -> None:
    outcome = invoke("fetch", "--tier", "parted", "--part", "A", "--mirror", hub.address, "--json")
    assert outcome.code == ExitCode.OK, outcome.err
    assert {each["repository"] for each in outcome.document["repositories"]} == {"some/nli", "some/encoder"}


def test_progress_says_how_much_has_come(invoke: Invoke, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0)
    outcome = invoke("fetch", "mnli", "--mirror", hub.address)
    assert re.search(r"download: .* of .*, (\d+:\d+|time) left", outcome.err)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], ExitCode.USAGE, "Nothing to fetch was named"),
        (["nonsense"], ExitCode.USAGE, "no task named"),
        (["--tier", "parted", "--part", "B"], ExitCode.USAGE, "has no part 'B'"),
        (["mnli", "--part", "A"], ExitCode.USAGE, "--part names a part of a tier"),
        (["--tier", "smoke"], ExitCode.USAGE, "takes nothing from the hub"),
        (["bucc2018"], ExitCode.DATA, "not taken from the hub"),
        (["mnli", "--offline"], ExitCode.DATA, "network may not be used"),
        (["mnli", "--mirror", "http://127.0.0.1:9"], ExitCode.DATA, "cannot be reached"),
    ],
)
def test_faults_end_with_their_exit_code(
    invoke: Invoke, hub: Hub, arguments: list[str], code: ExitCode, message: str
) -> None:
    outcome = invoke("fetch", *arguments)
    assert outcome.code == code
    assert message in outcome.err
    assert "Fix:" in outcome.err


def interrupted(after: int) -> Callable[[object, int], None]:
    """A progress that interrupts the fetch once so many bytes have come."""
    came = 0

    def advance(lines: object, count: int) -> None:
        nonlocal came
        if came >= after:
            raise KeyboardInterrupt
        came += count

    return advance


def test_an_interruption_ends_with_5_and_keeps_what_came(
    invoke: Invoke, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(DownloadBars, "advance", interrupted(100))
        assert invoke("fetch", "mnli", "--mirror", hub.address).code == ExitCode.INCOMPLETE
    assert invoke("fetch", "mnli", "--mirror", hub.address).code == ExitCode.OK
    assert hub.downloads()[1][1].startswith("bytes=")


def test_official_archives_are_unpacked_for_the_source_files_and_locked(
    invoke: Invoke, hub: Hub, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    outcome = invoke("fetch", "bucc2018", "--data-root", str(root), "--json")
    assert outcome.code == ExitCode.OK, outcome.err
    task = get_task("bucc2018")
    assert [row.id for row in FilesSource(root).rows(task, "dev", "fr")] == ["fr-1", "en-1"]
    assert sum(map(len, outcome.document["archives"].values())) == 12
    assert not [path for path in tmp_path.rglob("*") if path.name in ("README", "out", "de-en.sample.out")]
    assert "de-en.sample.tar" in (tmp_path / "artifact" / "data.lock").read_text()
    hub.requests.clear()
    assert invoke("fetch", "bucc2018", "--data-root", str(root), "--offline").code == ExitCode.OK
    assert hub.requests == []


def test_an_interrupted_archive_resumes_and_another_one_than_locked_is_refused(
    invoke: Invoke, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("fetch", "bucc2018", "--data-root", str(tmp_path / "root"))
    with monkeypatch.context() as patch:
        patch.setattr(DownloadBars, "advance", interrupted(100))
        assert invoke(*arguments).code == ExitCode.INCOMPLETE
    assert invoke(*arguments).code == ExitCode.OK
    hub.pages = {name: data + b"\0" for name, data in hub.pages.items()}
    outcome = invoke("fetch", "bucc2018", "--data-root", str(tmp_path / "other"))
    assert outcome.code == ExitCode.DATA
    assert "another file than expected" in outcome.err


@pytest.mark.parametrize(
    ("page", "most", "message"),
    [
        (b"<html>", 10**6, "It is a web page"),
        (b"BZh91AY&SY", 10**6, "not a sound archive"),
        (b"", 10, "unpacks to more"),
        (None, 10**6, "has no file 'de-en.sample.tar'."),
    ],
)
def test_an_archive_that_is_none_or_too_large_or_gone_is_a_data_error_and_not_locked(
    invoke: Invoke,
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    page: bytes | None,
    most: int,
    message: str,
) -> None:
    monkeypatch.setattr(archives_module, "MOST_UNPACKED", most)
    if page is None:
        hub.pages = {}
    elif page:
        hub.pages = dict.fromkeys(hub.pages, page)
    outcome = invoke("fetch", "bucc2018", "--data-root", str(tmp_path / "root"))
    assert outcome.code == ExitCode.DATA
    assert message in outcome.err
    assert not (tmp_path / "artifact" / "data.lock").exists()
    assert "HF_TOKEN" not in outcome.err
    assert not (tmp_path / "root" / "bucc2018").exists()


def pinned(hub: Hub, tmp_path: Path) -> None:
    """Writes size and sha256 of the archives into the table."""
    table = tmp_path / "artifact" / "hub.toml"
    lines = [
        f'"{hub.address}/{name}" = {{ size = {len(data)}, sha256 = "{hashlib.sha256(data).hexdigest()}" }}'
        for name, data in hub.pages.items()
    ]
    table.write_text("\n".join([table.read_text("utf-8"), "[archives]", *lines, ""]), encoding="utf-8")


def test_what_fails_keeps_nothing_else_from_being_fetched(invoke: Invoke, hub: Hub, tmp_path: Path) -> None:
    pinned(hub, tmp_path)
    hub.pages["de-en.sample.tar"] = b"<!DOCTYPE html><title>Moved</title>"
    del hub.pages["ru-en.sample.tar"]
    (tmp_path / "artifact" / "hub.toml").write_text(
        (tmp_path / "artifact" / "hub.toml").read_text("utf-8").replace("rows = 2", "rows = 3"), encoding="utf-8"
    )
    root = tmp_path / "root"
    outcome = invoke(
        "fetch", "mnli", "bucc2018", "--model", "some/encoder", "--mirror", hub.address, "--data-root", str(root)
    )
    assert outcome.code == ExitCode.DATA
    for part in ("3 things", "has 2 rows, expected are 3", "de-en.sample.tar gave another", "no file 'ru-en.sample"):
        assert part in outcome.err
    lock = json.loads((tmp_path / "artifact" / "data.lock").read_text("utf-8"))
    assert list(lock["models"]) == ["some/encoder"]
    assert [address.rpartition("/")[2][:2] for address in lock["archives"]] == ["fr", "zh"]
    assert FilesSource(root).languages(get_task("bucc2018"), "dev") == ("fr", "zh")
    assert not list(root.rglob("de-en*"))


def test_a_known_archive_resumes_where_it_broke_off(
    invoke: Invoke, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned(hub, tmp_path)
    arguments = ("fetch", "bucc2018", "--data-root", str(tmp_path / "root"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    with monkeypatch.context() as patch:
        patch.setattr(DownloadBars, "advance", interrupted(100))
        assert invoke(*arguments).code == ExitCode.INCOMPLETE
    hub.requests.clear()
    assert invoke(*arguments).code == ExitCode.OK
    assert hub.requests[0] == ("de-en.sample.tar", "bytes=100-")
    assert not list((tmp_path / "root" / ".fetched").glob("*.part"))


def test_of_a_damaged_archive_nothing_is_left(invoke: Invoke, hub: Hub, tmp_path: Path) -> None:
    stream = io.BytesIO()
    text = random.Random(0).randbytes(2_000_000)
    with tarfile.open(fileobj=stream, mode="w:bz2") as tar:
        for name in ("de", "en", "gold"):
            member = tarfile.TarInfo(f"bucc2018/de-en/de-en.sample.{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    sound = hub.pages["de-en.sample.tar"]
    # Past the first member, whose blocks are sound.
    damaged = bytearray(stream.getvalue())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 1000] = bytes(1000)
    hub.pages["de-en.sample.tar"] = bytes(damaged)
    root = tmp_path / "root"
    outcome = invoke("fetch", "bucc2018", "--data-root", str(root))
    assert outcome.code == ExitCode.DATA
    assert "de-en.sample.tar is not a sound archive" in outcome.err
    assert not list(root.rglob("*de-en*"))
    hub.pages["de-en.sample.tar"] = sound
    assert invoke("fetch", "bucc2018", "--data-root", str(root)).code == ExitCode.OK
    assert FilesSource(root).languages(get_task("bucc2018"), "dev") == ("de", "fr", "ru", "zh")


def test_a_full_disk_stops_at_once_and_keeps_the_archive(
    invoke: Invoke, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    arguments = ("fetch", "bucc2018", "--data-root", str(tmp_path / "root"))
    pinned(hub, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(archives_module.shutil, "copyfileobj", full)
        outcome = invoke(*arguments)
    assert outcome.code == ExitCode.ENVIRONMENT
    assert "The disk is full" in outcome.err
    assert "--data-root" in outcome.err
    assert [path for path, _ in hub.requests] == ["de-en.sample.tar"]
    hub.requests.clear()
    assert invoke(*arguments).code == ExitCode.OK
    assert "de-en.sample.tar" not in [path for path, _ in hub.requests]
