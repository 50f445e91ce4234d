"""Imports that wait: a command line is read before torch is loaded, which takes seconds.

with lazily():
    from xlt.pipeline import executor, store
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any


class _Later(ModuleType):
    """Stands for a module, and imports it as soon as a name in it is asked for."""

    def __getattr__(self, name: str) -> Any:
        __tracebackhide__ = True  # if a package is absent, the module that asks for it here is what needs it
        return getattr(import_module(self.__name__), name)


@contextmanager
def lazily() -> Iterator[None]:
    """Let ``import a`` and ``from a import module`` in the block name modules without loading them.

    Type checkers and the import contract see plain imports. Python 3.15 has a statement for this (PEP 810).
    """

    def later(name: str, variables: Any = None, local: Any = None, names: tuple[str, ...] = (), level: int = 0) -> Any:
        if names:
            return SimpleNamespace(**{each: _Later(f"{name}.{each}") for each in names})
        return _Later(name)

    # Not by sys.modules, as importlib.util.LazyLoader does: inspect looks at every module there, which would load it.
    eager = builtins.__import__
    builtins.__import__ = later  # type: ignore[assignment]
    try:
        yield
    finally:
        builtins.__import__ = eager
