"""Tests of xlt.runtime: builds of DeepSpeed's operators whose process was killed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

from xlt.runtime import BuildLock, prepare_deepspeed

HOLD = """
import sys, time
from xlt.runtime import BuildLock
lock = BuildLock(sys.argv[1])
lock.try_acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_a_build_waits_for_another_but_not_for_one_that_was_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with open(f"{lock}.held", "w") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.kill()
    mine = BuildLock(str(lock))
    assert mine.try_acquire()
    mine.release()


def test_where_the_home_cannot_be_written_torch_builds_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").touch()  # a file: nothing can be made below it, by root either
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "home" / "extensions"))
    prepare_deepspeed()
    own = Path(os.environ["TORCH_EXTENSIONS_DIR"])
    assert own.is_dir()
    assert own.stat().st_mode & 0o77 == 0
    prepare_deepspeed()
    assert Path(os.environ["TORCH_EXTENSIONS_DIR"]) == own


def test_each_environment_compiles_into_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = set()
    for name in ("one", "other", "one"):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "")
        monkeypatch.setattr(torch, "__file__", f"/{name}/torch/__init__.py")
        prepare_deepspeed()
        folders.add(os.environ["TORCH_EXTENSIONS_DIR"])
    assert len(folders) == 2
    assert all(Path(folder).is_dir() and Path(folder).is_relative_to(tmp_path) for folder in folders)


def test_torch_finds_ninja_where_the_environment_is_not_activated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a machine without a ninja of its own, where `make reproduce` calls .venv/bin/xlt."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    with pytest.raises(RuntimeError, match="Ninja is required"):
        cpp_extension.verify_ninja_availability()
    prepare_deepspeed()
    cpp_extension.verify_ninja_availability()
    prepare_deepspeed()
    assert os.environ["PATH"] == f"{tmp_path}{os.pathsep}{sysconfig.get_path('scripts')}"


def test_torch_builds_although_a_killed_process_left_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_deepspeed()
    (tmp_path / "lock").touch()
    (tmp_path / "op.cpp").touch()
    built = []
    monkeypatch.setattr(cpp_extension, "_write_ninja_file_and_build_library", lambda **_: built.append("op"))
    monkeypatch.setattr(cpp_extension, "_import_module_from_library", lambda *_: built)
    assert cpp_extension.load("op", [str(tmp_path / "op.cpp")], build_directory=str(tmp_path)) == ["op"]
