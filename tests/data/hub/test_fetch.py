"""Fetching from a hub on this machine, through the hub's own client."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download

from tests.hub_home import own_home, parquet
from tests.hub_server import SHA, Hub, serving
from xlt.data.hub import fetch as fetch_module
from xlt.data.hub.fetch import FetchedRepository, Wanted, fetch, wanted_data, wanted_model
from xlt.data.hub.lock import cached
from xlt.data.hub.source import HubSource
from xlt.errors import DataFault, EnvironmentFault, IncompleteFault
from xlt.tasks.catalogue import get_task

TABLE = """
[xnli]
columns = { texts = ["premise", "hypothesis"], label = "label" }
labels = ["entailment", "neutral", "contradiction"]
test = [{ repository = "facebook/xnli", path = "{lang}/test-*.parquet", rows_in = { en = 90, sw = 90 } }]
"""
REPOSITORY = "datasets/facebook/xnli"
ENGLISH, SWAHILI = "en/test-00000-of-00001.parquet", "sw/test-00000-of-00001.parquet"
WEIGHTS = bytes(range(256)) * 12


class Told:
    """What a fetch told; raises ``fault`` once so many bytes have come."""

    def __init__(self, fault: BaseException | None = None, after: int = 0) -> None:
        self.planned: list[tuple[int, int]] = []
        self.bytes = 0
        self._fault, self._after = fault, after

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


@pytest.fixture
def hub(home: Path) -> Iterator[Hub]:
    def records(language: str) -> bytes:
        return parquet([{"premise": f"{language} {n} {n * n}", "hypothesis": "x", "label": n % 3} for n in range(90)])

    files = {ENGLISH: records("en"), SWAHILI: records("sw"), "README.md": b"no data", "ar/test-0.parquet": b"unasked"}
    model = {"config.json": b"{}", "model.safetensors": WEIGHTS, "pytorch_model.bin": b"x", "onnx/config.json": b"x"}
    with serving(Hub({REPOSITORY: files, "some/encoder": model})) as hub:
        yield hub


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
    assert [path for path, _ in hub.downloads()] == [
        f"some/encoder/resolve/{SHA}/{name}" for name in ("config.json", "model.safetensors")
    ]
    assert done[0].revision == SHA
    found = hf_hub_download(
        "some/encoder", "model.safetensors", cache_dir=constants.HF_HUB_CACHE, local_files_only=True
    )
    assert Path(found).read_bytes() == WEIGHTS


def test_an_interrupted_download_resumes_where_it_stopped(hub: Hub, home: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch_xnli(hub, Told(KeyboardInterrupt(), after=1000))
    hub.requests.clear()
    told = Told()
    fetch_xnli(hub, told)
    size = sum(len(hub.repositories[REPOSITORY][name]) for name in (ENGLISH, SWAHILI))
    assert hub.downloads()[0] == (f"{REPOSITORY}/resolve/{SHA}/{ENGLISH}", "bytes=1000-")
    assert told.planned == [(2, size - 1000)]
    assert len(HubSource().rows(get_task("xnli"), "test", "en")) == 90


def test_a_connection_that_breaks_is_taken_up_again_and_at_last_reported(hub: Hub, home: Path) -> None:
    hub.cut_after = [500] + [0] * 6
    with pytest.raises(IncompleteFault, match="broke off") as caught:
        fetch_xnli(hub)
    assert "same command resumes" in caught.value.mend
    assert not (home / "artifact" / "data.lock").exists()
    hub.cut_after = [500]
    fetch_xnli(hub)
    assert [wanted for _, wanted in hub.downloads()[-3:]] == ["bytes=500-", "bytes=1000-", ""]


def test_a_file_other_than_the_hub_declares_is_refused_and_deleted(hub: Hub, home: Path) -> None:
    hub.declared[ENGLISH] = "0" * 64
    with pytest.raises(DataFault, match="wrong sha256"):
        fetch_xnli(hub)
    assert not cached("dataset", "facebook/xnli", SHA, ENGLISH).exists()
    assert list(home.rglob("*.part")) == []
    assert not (home / "artifact" / "data.lock").exists()


def test_the_lock_is_enforced(hub: Hub, home: Path) -> None:
    fetch_xnli(hub)
    local = cached("dataset", "facebook/xnli", SHA, ENGLISH)
    local.write_bytes(local.read_bytes()[:-1] + b"x")
    with pytest.raises(DataFault, match="not wholly in the hub's cache"):
        fetch_xnli(hub, offline=True)
    # Taken away as damaged, and brought again; the hub's own word no longer counts.
    assert fetch_xnli(hub)[0].downloaded == len(hub.repositories[REPOSITORY][ENGLISH])
    local.unlink()
    data = hub.repositories[REPOSITORY][ENGLISH]
    hub.repositories[REPOSITORY][ENGLISH] = data[:-1] + b"x"
    with pytest.raises(DataFault, match="wrong sha256"):
        fetch_xnli(hub)


def test_the_locked_revision_is_taken_also_when_the_branch_has_moved_on(hub: Hub) -> None:
    fetch_xnli(hub)
    hub.commit = "d" * 40
    wanted = [Wanted("dataset", "facebook/xnli", patterns={"README.md": None})]
    with pytest.raises(DataFault, match=f"no revision '{SHA}'"):
        fetch(wanted, Told(), mirror=hub.address)


def test_another_number_of_rows_than_expected_is_not_locked(hub: Hub, home: Path) -> None:
    (home / "artifact" / "hub.toml").write_text(TABLE.replace("sw = 90", "sw = 91"), encoding="utf-8")
    with pytest.raises(DataFault, match="has 90 rows, expected are 91"):
        fetch_xnli(hub)
    assert not (home / "artifact" / "data.lock").exists()


def test_a_gated_repository_says_how_to_get_access(hub: Hub) -> None:
    hub.gated.add(REPOSITORY)
    with pytest.raises(DataFault, match="restricted") as caught:
        fetch_xnli(hub)
    assert "HF_TOKEN" in caught.value.mend
    assert f"{hub.address}/datasets/facebook/xnli" in caught.value.mend


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("dataset", "no/such", patterns={"a": None}), "no repository no/such"),
        (Wanted("dataset", "facebook/xnli", "v9", {"a": None}), "no revision 'v9'"),
        (Wanted("dataset", "facebook/xnli", patterns={"fr/*.parquet": None}), "no file 'fr/"),
        (Wanted("model", "some/encoder", patterns={"tf_model.h5": None}), "no file 'tf_model.h5'"),
    ],
)
def test_what_the_hub_lacks_is_named(hub: Hub, wanted: Wanted, message: str) -> None:
    with pytest.raises(DataFault, match=message):
        fetch([wanted], Told(), mirror=hub.address)


def test_a_hub_that_cannot_be_reached_is_a_data_error_that_names_the_mirror_option(home: Path) -> None:
    with pytest.raises(DataFault, match="cannot be reached") as caught:
        fetch_xnli(Hub(address="http://127.0.0.1:9"))
    assert "--mirror" in caught.value.mend


def test_offline_without_an_earlier_fetch_is_a_data_error(hub: Hub) -> None:
    with pytest.raises(DataFault, match="may not be asked"):
        fetch_xnli(hub, offline=True)
    assert hub.requests == []


def test_a_disk_that_runs_full_is_said_and_the_download_resumes_later(hub: Hub) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(EnvironmentFault, match="full") as caught:
        fetch_xnli(hub, Told(full, after=1000))
    assert "HF_HOME" in caught.value.mend
    fetch_xnli(hub)
    assert hub.downloads()[1][1] == "bytes=1000-"


def test_too_small_a_disk_is_said_before_anything_is_downloaded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "free_space", lambda folder: 10)
    with pytest.raises(EnvironmentFault, match="full"):
        fetch_xnli(hub)
    assert hub.downloads() == []


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
    with pytest.raises(DataFault, match="wrong sha256"):
        fetch_xnli(hub)
