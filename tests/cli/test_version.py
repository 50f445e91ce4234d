"""``xlt version``."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.conftest import PROJECT
from xlt import __version__
from xlt.pipeline import provenance


def test_version_commit_locks_and_image_are_told(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLT_IMAGE", raising=False)
    monkeypatch.delenv("XLT_VOLUME", raising=False)
    found = invoke("version", "--json").document
    assert (found["version"], found["image"]) == (__version__, "")
    for name, digest in found["locks"].items():
        assert digest == hashlib.sha256((PROJECT / "artifact" / "lock" / name).read_bytes()).hexdigest()
    assert "image          not in one" in invoke("version").out
    monkeypatch.setenv("XLT_VOLUME", str(PROJECT))
    assert "docker image inspect" in invoke("version").out
    monkeypatch.setenv("XLT_IMAGE", "sha256:0123")
    assert "image          sha256:0123" in invoke("version").out


@pytest.mark.skipif(not shutil.which("git"), reason="there is no git, and so no checkout")
def test_the_tag_is_that_of_the_commit_in_a_checkout_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = tmp_path / "xlt" / "pipeline" / "provenance.py"
    module.parent.mkdir(parents=True)
    module.touch()
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert provenance.tag() == ""
    for command in (
        "init -q",
        "-c user.name=n -c user.email=e commit -q --allow-empty -m m",
        "tag v0.1.0",
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command.split()], check=True)
    assert provenance.tag() == "v0.1.0"
