"""Running the command line inside the test's own process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from xlt.cli import app, output


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
def invoke(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Run ``xlt`` with the arguments given."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["xlt", *arguments])
        monkeypatch.setattr(output, "settings", output.Settings())
        for module in (app, *(sys.modules[name] for name in list(sys.modules) if name.startswith("xlt.cli."))):
            if hasattr(module, "settings"):
                monkeypatch.setattr(module, "settings", output.settings)
        monkeypatch.setattr(output, "_results", sys.stdout)
        code = app._run()
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
