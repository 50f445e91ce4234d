"""Imports that wait until the module is used."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path

import pytest

from xlt.cli.lazy import lazily
from xlt.errors import package_fault


def test_a_module_is_loaded_when_a_name_in_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_room").mkdir()
    (tmp_path / "slow_room" / "__init__.py").touch()
    (tmp_path / "slow_room" / "door.py").write_text("WIDTH = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    with lazily():
        import slow_room  # type: ignore[import-not-found]
        from slow_room import door as entrance  # type: ignore[import-not-found]
    assert not {"slow_room", "slow_room.door"} & set(sys.modules)
    assert entrance.WIDTH == 3
    assert sys.modules["slow_room.door"].WIDTH == 3
    assert slow_room.door is sys.modules["slow_room.door"]
    # A test or a caller that changes the module is seen.
    monkeypatch.setattr("slow_room.door.WIDTH", 4)
    assert entrance.WIDTH == 4


def test_imports_are_as_ever_after_the_block_even_after_an_error() -> None:
    eager = builtins.__import__
    with pytest.raises(KeyError), lazily():
        raise KeyError
    assert builtins.__import__ is eager


def test_of_an_absent_package_the_module_that_uses_it_is_named() -> None:
    with lazily():
        import no_such_package  # type: ignore[import-not-found]
    space = {"__name__": "xlt.room", "package": no_such_package}
    with pytest.raises(ModuleNotFoundError) as caught:
        exec("package.thing", space)
    assert package_fault(caught.value).what.startswith("xlt.room needs the Python package 'no_such_package'")
