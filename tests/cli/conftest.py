"""Running the command line inside the test's own process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from xlt.cli import app


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document it must be."""
        assert self.out, self.err
        return json.loads(self.out)


Invoke = Callable[..., Outcome]


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run ``xlt`` with the arguments given, its streams separated as in a process of its own."""
    # How this process computes is for all tests in it: a tier's wish would last.
    monkeypatch.setattr("xlt.numerics.request_fast", lambda: None)

    def run(*arguments: str) -> Outcome:
        code = app.run(list(arguments))
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
