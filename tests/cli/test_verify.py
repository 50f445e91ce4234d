"""What ``xlt verify`` prints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.conftest import Invoke
from tests.conftest import PROJECT, unpacked
from xlt.cli import judged
from xlt.errors import ExitCode


def verdict(word: str, arm: str, reason: str = "as recorded") -> SimpleNamespace:
    key = (arm, "xnli", "test")
    return SimpleNamespace(verdict=word, key=key, value=1.0, band=None, reason=reason, diagnostic=False)


def test_means_that_are_exact_share_a_line_and_failures_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged.tables, "diagnostics", lambda verification: {})
    words = ["exact", "consistent", "exact", "deviates"]
    found = SimpleNamespace(verdicts=[verdict(word, f"arm {place}") for place, word in enumerate(words)])
    rows = [row[:2] for row in judged._verdicts(found, by_cell=False)]
    assert rows == [("deviates", "arm 3"), ("consistent", "arm 1"), ("exact", "2 means")]
    assert [row[0] for row in judged._verdicts(found, by_cell=True)].count("exact") == 2


def test_files_that_no_source_reads_are_refused_before_anything_is_computed(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked(PROJECT / "artifact" / "measured" / "smoke-world" / "seed-0-portable.tar.gz", tmp_path)
    monkeypatch.setattr("xlt.cli.verify.recomputed", lambda *asked: pytest.fail("computed before it was refused"))
    refused = invoke("verify", "--results", str(tmp_path / "seed-0"), "--data-root", str(tmp_path), "--no-golden")
    assert refused.code == ExitCode.USAGE
    assert "does not read --data-root" in refused.err
