"""``python -m tests.without PACKAGE[,PACKAGE ...] MODULE [ARGUMENT ...]``: a module where these packages are absent.

``-`` for a module imports every one of xlt and prints those that fail.
"""

from __future__ import annotations

import importlib
import pkgutil
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Without:
    """The finders of this process, that find everything but some packages."""

    def __init__(self, *packages: str) -> None:
        self._packages, self._finders = packages, list(sys.meta_path)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder``."""
        if name.partition(".")[0] in self._packages:
            return None
        found = (finder.find_spec(name, path, target) for finder in self._finders)
        return next((spec for spec in found if spec), None)

    def find_distributions(self, context: Any) -> list[Any]:
        """See ``importlib.metadata.DistributionFinder``."""
        finders = [finder for finder in self._finders if hasattr(finder, "find_distributions")]
        found = [each for finder in finders for each in finder.find_distributions(context)]
        return [each for each in found if each.name not in self._packages]


def modules_that_fail() -> list[str]:
    """The modules of xlt that cannot be imported."""
    import xlt

    failed = []
    for module in pkgutil.walk_packages(xlt.__path__, "xlt."):
        if module.name == "xlt.__main__":
            continue
        try:
            importlib.import_module(module.name)
        except ImportError:
            failed.append(module.name)
    return failed


if __name__ == "__main__":
    _, absent, program, *arguments = sys.argv
    sys.meta_path[:] = [Without(*absent.split(","))]
    sys.argv = [program, *arguments]
    if program == "-":
        print(*modules_that_fail())
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
