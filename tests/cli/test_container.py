"""The warning of the image whose results would be lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xlt.cli.container import invocation, outlives_container, volume_warning

ROOT = "612 480 0:52 / / rw,relatime master:1 - overlay overlay rw,lowerdir=l,upperdir=u,workdir=w\n"
PROC = "613 612 0:55 / /proc rw,nosuid,nodev,noexec - proc proc rw\n"
HEX = "0123456789abcdef" * 4


def mounted(source: str, point: str = "/data") -> str:
    """A container's mounts, as the kernel lists them, with one more at ``point``."""
    return f"{ROOT}{PROC}640 612 259:2 {source} {point} rw,relatime - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize(
    ("mounts", "outlives"),
    [
        (ROOT + PROC, False),
        (mounted(f"/var/lib/docker/volumes/{HEX}/_data"), False),
        (mounted(f"/volumes/{HEX}/_data"), False),
        (mounted(f"/var/home/me/.local/share/docker/volumes/{HEX}/_data"), False),
        (mounted(f"/var/home/me/.local/share/containers/storage/volumes/{HEX}/_data"), False),
        (mounted("/var/lib/docker/volumes/xlt-data/_data"), True),
        (mounted("/var/home/me/.local/share/containers/storage/volumes/xlt-data/_data"), True),
        (mounted("/var/home/me/results"), True),
        (mounted("/"), True),
        (mounted("/var/home/me/results", "/database"), False),
        (mounted(f"/var/lib/docker/volumes/{HEX}/_data") + mounted("/var/home/me/results"), True),
    ],
    ids=[
        "nothing",
        "anonymous",
        "own-disk",
        "rootless",
        "podman",
        "named",
        "podman-named",
        "bind",
        "disk",
        "near",
        "over",
    ],
)
def test_only_a_named_volume_and_a_bind_mount_outlive_the_container(mounts: str, outlives: bool) -> None:
    assert outlives_container(Path("/data"), mounts) is outlives


def test_the_warning_names_the_folder_and_the_option_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(ROOT, encoding="utf-8")
    monkeypatch.delenv("XLT_VOLUME", raising=False)
    assert volume_warning(mountinfo) == ""
    monkeypatch.setenv("XLT_VOLUME", str(tmp_path))
    warning = volume_warning(mountinfo)
    assert warning.count("\n") == 1
    assert f"-v xlt-data:{tmp_path}" in warning


def test_a_mount_that_this_user_cannot_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(mounted("/var/home/me/results", str(tmp_path)), encoding="utf-8")
    monkeypatch.setenv("XLT_VOLUME", str(tmp_path))
    assert volume_warning(mountinfo) == ""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    warning = volume_warning(mountinfo)
    assert f"user {os.getuid()} cannot write" in warning
    assert "--user $(id -u):$(id -g)" in warning


def test_results_mounted_below_the_volume_outlive_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(mounted("/var/home/me/results", str(tmp_path / "results")), encoding="utf-8")
    monkeypatch.setenv("XLT_VOLUME", str(tmp_path))
    assert "nothing is mounted" in volume_warning(mountinfo)
    monkeypatch.setenv("XLT_RESULTS", str(tmp_path / "results"))
    assert volume_warning(mountinfo) == ""


def test_it_is_the_first_line_printed_and_never_part_of_the_result() -> None:
    command = [sys.executable, "-m", "xlt", "tasks", "show", "nonsense", "--json"]
    inside = os.environ | {"XLT_VOLUME": "/no-such-mount"}
    done = subprocess.run(command, env=inside, capture_output=True, text=True)
    assert done.stderr.startswith("Warning: nothing is mounted at /no-such-mount")
    assert done.stdout.startswith("{")


@pytest.mark.parametrize(
    ("variant", "line"),
    [
        ("", "xlt"),
        ("cpu", "docker run -v xlt-data:/data xlt:cpu"),
        ("gpu", "docker run --gpus all -v xlt-data:/data xlt:gpu"),
    ],
)
def test_in_the_image_the_first_screen_says_what_docker_is_told(
    variant: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLT_VOLUME", "/data")
    monkeypatch.setenv("XLT_VARIANT", variant)
    assert invocation() == line
    done = subprocess.run([sys.executable, "-m", "xlt"], capture_output=True, text=True, check=True)
    assert [name for name in ("doctor", "reproduce", "verify") if f"  {line} {name}\n" not in done.stdout] == []
