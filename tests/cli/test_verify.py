"""What ``xlt verify`` prints."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from xlt.cli import judged


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
