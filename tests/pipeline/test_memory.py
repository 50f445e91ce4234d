"""How much memory is free, containers included, and how much a run took."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from xlt.pipeline import memory

MIB = 2**20


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc of 8 GiB that are available, and a process in the control group /pod/box."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "groups" / "pod" / "box").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:  16777216 kB\nMemAvailable:  8388608 kB\n", "utf-8")
    (tmp_path / "proc" / "self" / "cgroup").write_text("4:memory:/old\n0::/pod/box\n", "utf-8")
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "groups")
    return tmp_path


def limit(folder: Path, most: str, used: int, inactive: int) -> None:
    (folder / "memory.max").write_text(f"{most}\n", "utf-8")
    (folder / "memory.current").write_text(f"{used}\n", "utf-8")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n", "utf-8")


def test_what_is_free_is_what_the_machine_has_or_what_a_container_leaves(machine: Path) -> None:
    assert memory.free_memory() == 8192 * MIB
    limit(machine / "groups" / "pod" / "box", "max", 512 * MIB, 0)
    assert memory.free_memory() == 8192 * MIB
    # A group is limited by those that it lies in; files that were read once do not count.
    limit(machine / "groups" / "pod", str(4096 * MIB), 1024 * MIB, 256 * MIB)
    assert memory.free_memory() == (4096 - 1024 + 256) * MIB
    limit(machine / "groups", str(64 * MIB), 80 * MIB, 0)
    assert memory.free_memory() == 0


@pytest.mark.parametrize("path", ["0::/", "0::/../../elsewhere", "4:memory:/old"])
def test_a_container_that_sees_the_path_of_its_host_has_the_limit_of_the_root(machine: Path, path: str) -> None:
    (machine / "proc" / "self" / "cgroup").write_text(f"{path}\n", "utf-8")
    limit(machine / "groups", str(1024 * MIB), 24 * MIB, 0)
    assert memory.free_memory() == 1000 * MIB


def test_where_nothing_says_what_is_free_it_is_not_known_and_the_peak_is_that_of_the_process(machine: Path) -> None:
    (machine / "proc" / "meminfo").unlink()
    (machine / "proc" / "self" / "cgroup").unlink()
    assert memory.free_memory() is None
    memory.reset_peak()
    assert memory.peak_memory()["resident_bytes"] > 50 * MIB


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no high-water mark that can be reset")
def test_the_peak_is_that_of_the_run_and_not_of_an_earlier_one() -> None:
    memory.reset_peak()
    before = memory.peak_memory()["resident_bytes"]
    many = np.ones(300 * MIB, np.uint8)
    assert memory.peak_memory()["resident_bytes"] > before + 290 * MIB
    del many
    memory.release()
    assert memory.peak_memory()["resident_bytes"] > before + 290 * MIB
    memory.reset_peak()
    assert memory.peak_memory()["resident_bytes"] < before + 200 * MIB
