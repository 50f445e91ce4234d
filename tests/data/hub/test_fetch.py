"""Fetching from a hub on this machine, through the hub's own client."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from tests.conftest import PROJECT
from tests.hub_home import WEIGHTS, own_home, parquet
from tests.hub_server import SHA, Hub, serving
from xlt.data.hub import client as client_module
from xlt.data.hub import faults as faults_module
from xlt.data.hub.faults import SeveralFaults
from xlt.data.hub.fetch import FetchedRepository, Wanted, fetch, wanted_data, wanted_model
from xlt.data.hub.lock import LockedFile, LockedRepository, cached, read_lock
from xlt.data.hub.source import HubSource
from xlt.data.hub.table import HubModel, hub_model
from xlt.errors import DataFault, EnvironmentFault, ExitCode, IncompleteFault
from xlt.tasks.catalogue import get_task

TABLE = """
[xnli]
columns = { texts = ["premise", "hypothesis"], label = "label" }
labels = ["entailment", "neutral", "contradiction"]
test = [{ repository = "facebook/xnli", path = "{lang}/test-*.parquet", rows_in = { en = 90, sw = 90 } }]
"""
REPOSITORY = "datasets/facebook/xnli"
ENGLISH, SWAHILI = "en/test-00000-of-00001.parquet", "sw/test-00000-of-00001.parquet"


class Told:
    """What a fetch told; raises ``fault`` once so many bytes have come."""

    def __init__(self, fault: BaseException | None = None, after: int = 0) -> None:
        self.planned: list[tuple[int, int]] = []
        self.remarks: list[str] = []
        self.bytes = 0
        self._fault, self._after = fault, after

    def remark(self, text: str) -> None:
        self.remarks.append(text)

    def plan(self, files: int, here: int, missing: int, free: int) -> None:
        assert free > 0
        self.planned.append((files - here, missing))

    def start(self, name: str, missing: int) -> None:
        assert name

    def advance(self, count: int) -> None:
        self.bytes += count
        if self._fault and self.bytes >= self._after:
            raise self._fault


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own_home(tmp_path, monkeypatch)
    (tmp_path / "artifact" / "hub.toml").write_text(TABLE, encoding="utf-8")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return tmp_path


@pytest.fixture(params=[False, True], ids=["file by file", "snapshot"])
def hub(home: Path, request: pytest.FixtureRequest) -> Iterator[Hub]:
    def records(language: str) -> bytes:
        return parquet([{"premise": f"{language} {n} {n * n}", "hypothesis": "x", "label": n % 3} for n in range(90)])

    files = {ENGLISH: records("en"), SWAHILI: records("sw"), "README.md": b"no data", "ar/test-0.parquet": b"unasked"}
    model = {"config.json": b"{}", "model.safetensors": WEIGHTS, "pytorch_model.bin": b"x", "onnx/config.json": b"x"}
    with serving(Hub({REPOSITORY: files, "some/encoder": model}, heads=request.param)) as hub:
        yield hub


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is large enough to be resumed."""
    monkeypatch.setattr(client_module, "RESUMED_BYTES", 0)


def fetch_xnli(hub: Hub, told: Told | None = None, *, offline: bool = False) -> list[FetchedRepository]:
    return fetch(wanted_data([get_task("xnli")]), told or Told(), mirror=hub.address, offline=offline)


def lock_text(home: Path) -> str:
    return (home / "artifact" / "data.lock").read_text(encoding="utf-8")


def test_a_first_fetch_brings_what_is_wanted_locks_it_and_the_source_reads_it(hub: Hub, home: Path) -> None:
    told = Told()
    assert not (home / "artifact" / "data.lock").exists()
    done = fetch_xnli(hub, told)
    size = sum(len(hub.repositories[REPOSITORY][name]) for name in (ENGLISH, SWAHILI))
    assert done == [FetchedRepository("dataset", "facebook/xnli", SHA, 2, size, size)]
    assert (told.planned, told.bytes) == ([(2, size)], size)
    # A snapshot has the layout of the hub's cache, in which a file is a link to its content.
    assert cached("dataset", "facebook/xnli", SHA, ENGLISH).is_symlink() == hub.heads
    locked = json.loads(lock_text(home))["datasets"]["facebook/xnli"]
    assert (locked["revision"], list(locked["files"])) == (SHA, [ENGLISH, SWAHILI])
    assert len(HubSource().rows(get_task("xnli"), "test", "sw")) == 90
    assert hf_hub_download(
        "facebook/xnli",
        ENGLISH,
        repo_type="dataset",
        revision=SHA,
        cache_dir=constants.HF_HUB_CACHE,
        local_files_only=True,
    )


def test_a_second_fetch_asks_the_hub_nothing_and_works_offline(hub: Hub, home: Path) -> None:
    fetch_xnli(hub)
    before = lock_text(home)
    hub.requests.clear()
    assert fetch_xnli(hub, offline=True)[0].downloaded == fetch_xnli(hub)[0].downloaded == 0
    assert hub.requests == []
    assert lock_text(home) == before


def test_a_model_comes_without_other_formats_and_is_found_by_its_name_alone(hub: Hub) -> None:
    done = fetch([wanted_model("some/encoder")], Told(), mirror=hub.address)
    assert sorted(path for path, _ in hub.downloads()) == [
        f"some/encoder/resolve/{SHA}/{name}" for name in ("config.json", "model.safetensors")
    ]
    assert done[0].revision == SHA
    found = hf_hub_download(
        "some/encoder", "model.safetensors", cache_dir=constants.HF_HUB_CACHE, local_files_only=True
    )
    assert Path(found).read_bytes() == WEIGHTS


@pytest.mark.usefixtures("large")
def test_an_interrupted_download_resumes_where_it_stopped(hub: Hub, home: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch_xnli(hub, Told(KeyboardInterrupt(), after=1000))
    hub.requests.clear()
    told = Told()
    fetch_xnli(hub, told)
    size = sum(len(hub.repositories[REPOSITORY][name]) for name in (ENGLISH, SWAHILI))
    assert hub.downloads()[0] == (f"{REPOSITORY}/resolve/{SHA}/{ENGLISH}", "bytes=500-")
    assert told.planned == [(2, size - 500)]
    assert len(HubSource().rows(get_task("xnli"), "test", "en")) == 90


@pytest.mark.usefixtures("large")
def test_a_connection_that_breaks_is_taken_up_again_and_at_last_reported(hub: Hub, home: Path) -> None:
    hub.cut_after = [500] + [0] * 6
    with pytest.raises(IncompleteFault, match="broke off") as caught:
        fetch_xnli(hub)
    assert "same command resumes" in caught.value.fix
    assert not (home / "artifact" / "data.lock").exists()
    hub.cut_after = [500]
    fetch_xnli(hub)
    assert [wanted for _, wanted in hub.downloads()[-3:]] == ["bytes=500-", "bytes=1000-", ""]


def test_a_file_other_than_the_hub_declares_is_refused_and_deleted(hub: Hub, home: Path) -> None:
    hub.declared[ENGLISH] = "0" * 64
    with pytest.raises(DataFault, match="another file than expected"):
        fetch_xnli(hub)
    assert not cached("dataset", "facebook/xnli", SHA, ENGLISH).exists()
    assert list(home.rglob("*.part")) == []
    assert list(json.loads(lock_text(home))["datasets"]["facebook/xnli"]["files"]) == [SWAHILI]


def test_the_lock_is_enforced(hub: Hub, home: Path) -> None:
    fetch_xnli(hub)
    local = cached("dataset", "facebook/xnli", SHA, ENGLISH)
    local.write_bytes(local.read_bytes()[:-1] + b"x")
    with pytest.raises(DataFault, match="not wholly here"):
        fetch_xnli(hub, offline=True)
    # Taken away as damaged, and brought again; the hub's own word no longer counts.
    assert fetch_xnli(hub)[0].downloaded == len(hub.repositories[REPOSITORY][ENGLISH])
    local.unlink()
    data = hub.repositories[REPOSITORY][ENGLISH]
    hub.repositories[REPOSITORY][ENGLISH] = data[:-1] + b"x"
    with pytest.raises(DataFault, match="another file than expected"):
        fetch_xnli(hub)


def test_the_locked_revision_is_taken_also_when_the_branch_has_moved_on(hub: Hub) -> None:
    fetch_xnli(hub)
    hub.commit = "d" * 40
    wanted = [Wanted("dataset", "facebook/xnli", patterns={"README.md": 0})]
    with pytest.raises(DataFault, match=f"no revision '{SHA}'"):
        fetch(wanted, Told(), mirror=hub.address)


def test_another_number_of_rows_than_expected_is_not_locked_and_all_else_is(hub: Hub, home: Path) -> None:
    (home / "artifact" / "hub.toml").write_text(TABLE.replace("sw = 90", "sw = 91"), encoding="utf-8")
    with pytest.raises(DataFault, match="has 90 rows, expected are 91"):
        fetch_xnli(hub)
    assert list(json.loads(lock_text(home))["datasets"]["facebook/xnli"]["files"]) == [ENGLISH]
    assert len(HubSource().rows(get_task("xnli"), "test", "en")) == 90
    with pytest.raises(DataFault, match="was not fetched"):
        HubSource().rows(get_task("xnli"), "test", "sw")
    # Nothing comes twice once the table is right.
    (home / "artifact" / "hub.toml").write_text(TABLE, encoding="utf-8")
    assert fetch_xnli(hub)[0].downloaded == 0
    assert len(HubSource().rows(get_task("xnli"), "test", "sw")) == 90


def test_one_repository_that_fails_keeps_no_other_from_being_fetched(hub: Hub, home: Path) -> None:
    (home / "artifact" / "hub.toml").write_text(TABLE.replace("sw = 90", "sw = 91"), encoding="utf-8")
    wanted = [Wanted("dataset", "no/such", patterns={"a": 0}), *wanted_data([get_task("xnli")])]
    wanted += [wanted_model("some/encoder"), Wanted("model", "some/encoder", patterns={"tf_model.h5": 0})]
    with pytest.raises(SeveralFaults, match="3 things could not be fetched") as caught:
        fetch(wanted, Told(), mirror=hub.address)
    for part in ("no repository no/such", "has 90 rows, expected are 91", "no file 'tf_model.h5'"):
        assert part in caught.value.why
    assert "Check the name" in caught.value.fix
    assert caught.value.exit_code == ExitCode.DATA
    lock = json.loads(lock_text(home))
    assert list(lock["datasets"]["facebook/xnli"]["files"]) == [ENGLISH]
    assert list(lock["models"]["some/encoder"]["files"]) == ["config.json", "model.safetensors"]


def test_what_is_absent_offline_is_named_by_repository(hub: Hub) -> None:
    fetch_xnli(hub)
    for name in (ENGLISH, SWAHILI):
        cached("dataset", "facebook/xnli", SHA, name).unlink()
    with pytest.raises(SeveralFaults, match="2 things") as caught:
        fetch([*wanted_data([get_task("xnli")]), wanted_model("some/encoder")], Told(), offline=True)
    assert [fault.what.partition(" ")[0] for fault in caught.value.faults] == ["some/encoder", "facebook/xnli"]
    with pytest.raises(SeveralFaults) as caught:  # what was never fetched needs no sentence of its own each
        fetch([wanted_model("some/encoder"), wanted_model("another/encoder")], Told(), offline=True)
    assert caught.value.why == "- Not wholly here, and the network may not be used: some/encoder, another/encoder."


def test_a_gated_repository_says_how_to_get_access(hub: Hub) -> None:
    hub.gated.add(REPOSITORY)
    with pytest.raises(DataFault, match="restricted") as caught:
        fetch_xnli(hub)
    assert "HF_TOKEN" in caught.value.fix
    assert f"{hub.address}/datasets/facebook/xnli" in caught.value.fix


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("dataset", "no/such", patterns={"a": 0}), "no repository no/such"),
        (Wanted("dataset", "facebook/xnli", "v9", {"a": 0}), "no revision 'v9'"),
        (Wanted("dataset", "facebook/xnli", patterns={"fr/*.parquet": 0}), "no file 'fr/"),
        (Wanted("model", "some/encoder", patterns={"tf_model.h5": 0}), "no file 'tf_model.h5'"),
        (Wanted("model", "not/a/name", patterns={"config.json": 0}), "'not/a/name' is not the name"),
    ],
)
def test_what_the_hub_lacks_is_named(hub: Hub, wanted: Wanted, message: str) -> None:
    with pytest.raises(DataFault, match=message):
        fetch([wanted], Told(), mirror=hub.address)


def test_a_hub_that_cannot_be_reached_is_a_data_error_that_names_the_mirror_option(home: Path) -> None:
    # Asked once, for however much.
    wanted = [*wanted_data([get_task("xnli")]), wanted_model("some/encoder")]
    with pytest.raises(DataFault, match="cannot be reached") as caught:
        fetch(wanted, Told(), mirror="http://127.0.0.1:9")
    assert "--mirror" in caught.value.fix


@pytest.mark.parametrize(
    ("answer", "fault", "message"),
    [
        ((200, b"<html>please log in</html>"), DataFault, "does not answer as a hub does"),
        ((429, b""), IncompleteFault, "asked too much at a time"),
        ((503, b""), DataFault, "cannot be reached"),
    ],
)
def test_a_hub_that_answers_otherwise_is_said(
    hub: Hub, answer: tuple[int, bytes], fault: type[Exception], message: str
) -> None:
    hub.listings = answer
    with pytest.raises(fault, match=message):
        fetch([*wanted_data([get_task("xnli")])], Told(), mirror=hub.address)


FILE = {"rfilename": "config.json", "size": 2, "blobId": "b" * 40}


@pytest.mark.parametrize(
    "listing",
    [
        *([], None, "x", {"sha": SHA, "siblings": [{}]}, {"sha": SHA, "siblings": [None]}),
        *({"sha": sha, "siblings": [FILE]} for sha in (None, "", "../../../../escaped", "main", SHA[:12], SHA + "\n")),
        *(
            {"sha": SHA, "siblings": [FILE | wrong]}
            for wrong in (
                *({"size": "big"}, {"size": -5}, {"blobId": 5}, {"blobId": "zz"}),
                *({"rfilename": name} for name in ("a\0.json", "/etc/passwd.json", "../config.json", "")),
                *({"lfs": lfs} for lfs in ({"size": 2}, {"sha256": None, "size": 2, "pointerSize": 1})),
            )
        ),
    ],
)
def test_what_is_no_listing_is_said_and_nothing_is_written(hub: Hub, home: Path, listing: Any) -> None:
    if isinstance(listing, dict):
        listing = {"id": "some/encoder", **listing}
    hub.listings = 200, json.dumps(listing).encode()
    before = sorted(home.parent.rglob("*"))
    with pytest.raises(DataFault, match="does not answer as a hub does"):
        fetch([wanted_model("some/encoder")], Told(), mirror=hub.address)
    assert sorted(home.parent.rglob("*")) == before


@pytest.mark.parametrize("damage", [b"", WEIGHTS[:-1], WEIGHTS + b"xx"])
def test_damaged_weights_are_not_locked_though_the_hub_declares_neither_size_nor_digest(
    hub: Hub, home: Path, damage: bytes
) -> None:
    files = [{"rfilename": name} for name in ("config.json", "model.safetensors")]
    hub.listings = 200, json.dumps({"id": "some/encoder", "sha": SHA, "siblings": files}).encode()
    hub.repositories["some/encoder"]["model.safetensors"] = damage
    with pytest.raises(DataFault, match="is damaged as the hub has it"):
        fetch([wanted_model("some/encoder")], Told(), mirror=hub.address)
    assert not (home / "artifact" / "data.lock").exists()
    hub.repositories["some/encoder"]["model.safetensors"] = WEIGHTS
    assert fetch([wanted_model("some/encoder")], Told(), mirror=hub.address)[0].files == 2


@pytest.mark.usefixtures("large")
def test_two_fetches_at_once_take_turns(hub: Hub) -> None:
    waiting = threading.Event()

    class Second(Told):
        def remark(self, text: str) -> None:
            super().remark(text)
            waiting.set()

    second = Second()

    class First(Told):
        def advance(self, count: int) -> None:
            if not self.bytes:
                other.start()
                assert waiting.wait(timeout=30)
            super().advance(count)

    other = threading.Thread(target=fetch_xnli, args=(hub, second))
    first = First()
    fetch_xnli(hub, first)
    other.join(timeout=30)
    assert not other.is_alive()
    assert second.remarks == ["Another process is fetching facebook/xnli: waiting until it is done."]
    assert second.bytes == 0 < first.bytes
    assert fetch_xnli(hub, offline=True)[0].files == 2


@pytest.mark.usefixtures("large")
def test_a_server_that_knows_no_ranges_sends_the_whole_file_again(hub: Hub) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch_xnli(hub, Told(KeyboardInterrupt(), after=1000))
    hub.ranges = False
    fetch_xnli(hub)
    assert [wanted for _, wanted in hub.downloads()[-3:]] == ["bytes=500-", "", ""]


def test_a_cache_that_may_only_be_read_is_enough_once_everything_is_there(
    hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch([wanted_model("some/encoder")], Told(), mirror=hub.address)

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refused)
    assert fetch([wanted_model("some/encoder")], Told(), offline=True)[0].files == 2
    (Path(constants.HF_HUB_CACHE) / "models--some--encoder" / "refs" / "main").write_bytes(b"another")
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        fetch([wanted_model("some/encoder")], Told(), offline=True)


def test_a_mirror_that_has_another_revision_than_asked_for_is_refused(hub: Hub) -> None:
    (document,) = [json.dumps({"id": "facebook/xnli", "sha": "d" * 40, "siblings": []})]
    hub.listings = 200, document.encode()
    with pytest.raises(DataFault, match=f"gives {'d' * 40} of facebook/xnli where {SHA}"):
        fetch([Wanted("dataset", "facebook/xnli", SHA, {ENGLISH: 90})], Told(), mirror=hub.address)


def test_offline_without_an_earlier_fetch_is_a_data_error(hub: Hub) -> None:
    with pytest.raises(DataFault, match="network may not be used"):
        fetch_xnli(hub, offline=True)
    assert hub.requests == []


@pytest.mark.usefixtures("large")
def test_a_disk_that_runs_full_is_said_and_the_download_resumes_later(hub: Hub) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(EnvironmentFault, match="full") as caught:
        fetch_xnli(hub, Told(full, after=1000))
    assert "HF_HOME" in caught.value.fix
    fetch_xnli(hub)
    assert hub.downloads()[1][1] == "bytes=500-"


def test_too_small_a_disk_is_said_before_anything_is_downloaded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(EnvironmentFault, match="full"):
        fetch_xnli(hub)
    assert hub.downloads() == []


@pytest.mark.parametrize("page", [b"<html>please log in</html>", b"<!DOCTYPE html>" + b" " * 700, b'{"a": 1}'])
def test_what_answers_in_a_files_place_is_not_kept(hub: Hub, home: Path, page: bytes) -> None:
    config = b'{"hidden_size": 32, "vocab_size": 300}' + b" " * 500
    hub.repositories["some/encoder"]["config.json"] = config
    hub.instead["config.json"] = [page]
    with pytest.raises(DataFault, match=r"config\.json' of some/encoder gave another file than expected") as caught:
        fetch([wanted_model("some/encoder")], Told(), mirror=hub.address)
    assert ("web page" in caught.value.why) == page.startswith(b"<")
    assert list(home.rglob("*.part")) == []
    assert not (home / "artifact" / "data.lock").exists()
    hub.requests.clear()
    fetch([wanted_model("some/encoder")], Told(), mirror=hub.address)
    # Only what was missing, and from its beginning.
    assert hub.downloads() == [(f"some/encoder/resolve/{SHA}/config.json", "")]
    assert cached("model", "some/encoder", SHA, "config.json").read_bytes() == config


@pytest.mark.usefixtures("large")
def test_a_beginning_of_something_else_spoils_one_attempt_at_most(hub: Hub) -> None:
    config = b'{"hidden_size": 32}'
    hub.repositories["some/encoder"]["config.json"] = config
    partial = cached("model", "some/encoder", SHA, "x").parents[2] / "partial" / SHA / "config.json.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"<p>log in")
    # It has the right length then, and git's own name for the content tells that it is another.
    with pytest.raises(DataFault, match="git blob id"):
        fetch([wanted_model("some/encoder")], Told(), mirror=hub.address)
    fetch([wanted_model("some/encoder")], Told(), mirror=hub.address)
    assert cached("model", "some/encoder", SHA, "config.json").read_bytes() == config


def test_a_pinned_commit_is_taken_and_a_known_digest_enforced_before_anything_is_locked(hub: Hub, home: Path) -> None:
    old, data = "a" * 40, hub.repositories[REPOSITORY][SWAHILI]
    pins = f'[revisions]\n"facebook/xnli" = "{old}"\n[sha256."facebook/xnli"]\n"{SWAHILI}" = "%s"\n'
    table = home / "artifact" / "hub.toml"
    table.write_text(TABLE + pins % ("0" * 64), encoding="utf-8")
    with pytest.raises(DataFault, match=f"no revision '{old}'"):
        fetch_xnli(hub)
    hub.repositories[f"{REPOSITORY}@old"] = hub.repositories[REPOSITORY]
    hub.commits[f"{REPOSITORY}@old"] = old
    with pytest.raises(DataFault, match=f"{SWAHILI}' of facebook/xnli gave another file"):
        fetch_xnli(hub)
    table.write_text(TABLE + pins % hashlib.sha256(data).hexdigest(), encoding="utf-8")
    assert fetch_xnli(hub)[0].revision == old
    assert list(json.loads(lock_text(home))["datasets"]["facebook/xnli"]["files"]) == [ENGLISH, SWAHILI]


def test_a_converted_branch_stands_in_for_a_pinned_commit_that_is_gone_and_that_is_told(hub: Hub, home: Path) -> None:
    converted, gone = "refs/convert/parquet", "a" * 40
    table = (
        TABLE.replace('path = "', f'branch = "{converted}", path = "') + f'[revisions]\n"facebook/xnli" = "{gone}"\n'
    )
    (home / "artifact" / "hub.toml").write_text(table, encoding="utf-8")
    hub.repositories[f"{REPOSITORY}@{converted}"] = hub.repositories[REPOSITORY]
    hub.repositories[REPOSITORY] = {"xnli.py": b"import datasets"}
    hub.commits[f"{REPOSITORY}@{converted}"] = "b" * 40
    told = Told()
    assert fetch_xnli(hub, told)[0].revision == "b" * 40
    (remark,) = told.remarks
    for part in (gone, converted, "b" * 40):
        assert part in remark
    assert len(HubSource().rows(get_task("xnli"), "test", "sw")) == 90
    # A commit that was fetched once is never left for another.
    hub.commits[f"{REPOSITORY}@{converted}"] = "c" * 40
    (home / "artifact" / "hub.toml").write_text(table.replace("sw = 90", "sw = 90, fr = 1"), encoding="utf-8")
    with pytest.raises(DataFault, match=f"no revision '{'b' * 40}'"):
        fetch_xnli(hub)


def test_a_model_is_fetched_by_its_short_name_at_its_pinned_commit(hub: Hub, home: Path) -> None:
    models = '[models.encoder]\nrepository = "some/encoder"\nrevision = "%s"\nconfig = { hidden_size = 32 }\n'
    (home / "artifact" / "hub.toml").write_text(TABLE + models % ("a" * 40), encoding="utf-8")
    hub.repositories["some/encoder@old"] = hub.repositories["some/encoder"]
    hub.commits["some/encoder@old"] = "a" * 40
    for name in ("encoder", "some/encoder"):
        assert hub_model(name) == HubModel(repository="some/encoder", revision="a" * 40, config={"hidden_size": 32})
        (done,) = fetch([wanted_model(name)], Told(), mirror=hub.address)
        assert (done.repository, done.revision) == ("some/encoder", "a" * 40)
    assert list(json.loads(lock_text(home))["models"]) == [hub_model("encoder").repository]
    assert hub_model("another/one") == HubModel(repository="another/one", revision="main", config={})


def test_a_token_comes_from_the_environment_only(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "token").write_text("from-a-file", encoding="utf-8")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    fetch([wanted_model("some/encoder")], Told(), mirror=hub.address)
    monkeypatch.setenv("HF_TOKEN", "from-the-environment")
    fetch_xnli(hub)
    assert hub.tokens == {"", "Bearer from-the-environment"}


def test_the_lock_goes_where_the_environment_says_and_the_projects_own_has_precedence(
    hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLT_DATA_LOCK", str(home / "elsewhere" / "lock"))
    fetch_xnli(hub)
    own = json.loads((home / "elsewhere" / "lock").read_text())
    assert not (home / "artifact" / "data.lock").exists()
    own["datasets"]["facebook/xnli"]["files"][ENGLISH]["sha256"] = "0" * 64
    (home / "artifact" / "data.lock").write_text(json.dumps(own), encoding="utf-8")
    with pytest.raises(DataFault, match="another file than expected"):
        fetch_xnli(hub)


@pytest.mark.parametrize("kind", ["datasets", "models"])
def test_two_locks_are_merged(home: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def entry(revision: str, **files: str) -> dict[str, Any]:
        return {"revision": revision, "files": {name: {"size": 1, "sha256": sha256} for name, sha256 in files.items()}}

    own = {"same": entry("r1", a="x", b="x"), "moved": entry("r1", a="x"), "own": entry("r1", a="x")}
    project = {"same": entry("r1", b="y", c="y"), "moved": entry("r2", c="y"), "theirs": entry("r1", c="y")}
    (home / "user.lock").write_text(json.dumps({kind: own}), encoding="utf-8")
    (home / "artifact" / "data.lock").write_text(json.dumps({kind: project}), encoding="utf-8")
    monkeypatch.setenv("XLT_DATA_LOCK", str(home / "user.lock"))
    merged = {
        "same": ("r1", {"a": "x", "b": "y", "c": "y"}),
        "moved": ("r2", {"c": "y"}),
        "own": ("r1", {"a": "x"}),
        "theirs": ("r1", {"c": "y"}),
    }
    assert getattr(read_lock(), kind) == {
        name: LockedRepository(
            revision=revision, files={path: LockedFile(size=1, sha256=sha256) for path, sha256 in files.items()}
        )
        for name, (revision, files) in merged.items()
    }


def test_a_lock_that_only_pins_a_revision_leaves_what_was_fetched_usable(
    hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = {"datasets": {"facebook/xnli": {"revision": SHA}}}
    (home / "artifact" / "data.lock").write_text(json.dumps(pin), encoding="utf-8")
    monkeypatch.setenv("XLT_DATA_LOCK", str(home / "user.lock"))
    fetch_xnli(hub)
    assert len(HubSource().rows(get_task("xnli"), "test", "sw")) == 90
    assert fetch_xnli(hub, offline=True)[0].downloaded == 0


def test_the_http_library_is_that_of_the_hubs_client() -> None:
    """huggingface_hub has changed from httpx to httpx2: xlt imports neither."""
    sources = [path.read_text("utf-8") for path in (PROJECT / "xlt").rglob("*.py")]
    assert len(sources) > 100
    assert not [source for source in sources if re.search(r"^\s*(import|from) httpx", source, re.MULTILINE)]
    assert faults_module.HTTPError in HfHubHTTPError.__mro__
    assert faults_module.HTTPError.__module__.startswith("httpx")
