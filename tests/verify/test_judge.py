"""The result hash, the JSON form, and the rule that the project ships."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from xlt.verify.judge import Verification, verify
from xlt.verify.recorded import read_references

from .tiny_results import TinySource


def test_the_result_hash_does_not_depend_on_times(make):
    first, second = make("a").fill(seconds=1), make("b").fill(seconds=77)
    hashes = {verify(made.root, made.source).result_hash for made in (first, second)}
    assert len(hashes) == 1


def test_the_result_hash_depends_on_every_prediction_but_not_on_the_compression(results):
    before = verify(results.root, results.source).result_hash
    path = results.run("baseline.xnli") / "predictions" / "xnli.test.de.jsonl.gz"
    lines = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(lines, compresslevel=1))
    results.seal("baseline.xnli")
    assert verify(results.root, results.source).result_hash == before
    # The metrics stay the same: one wrong label for another.
    wrong = lines.replace(b'"id":"test-59","prediction":"entailment"', b'"id":"test-59","prediction":"neutral"')
    assert wrong != lines
    path.write_bytes(gzip.compress(wrong))
    results.seal("baseline.xnli")
    found = verify(results.root, results.source)
    assert found.problems == ()
    assert found.result_hash != before


def test_the_result_hash_says_of_which_grid_the_predictions_are(make):
    """Metrics and verdicts are the same in all three: the seed and the source's settings are not."""
    first, other_seed = make("a").fill(), make("b", seed=1).fill()
    limited = make("c", source=TinySource(settings={"limit": 60})).fill()
    found = [verify(made.root, made.source) for made in (first, other_seed, limited)]
    assert len({(each.means, tuple(each.counts)) for each in found}) == 1
    assert len({tuple(cell.predictions for cell in found[place].cells) for place in (0, 2)}) == 1
    assert len({each.result_hash for each in found}) == 3


def test_a_verification_survives_json(results):
    found = verify(results.root, results.source)
    again = Verification.model_validate_json(found.model_dump_json())
    assert again == found
    assert str(results.root) not in found.model_dump_json()


def test_the_shipped_rule_is_read_and_has_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XLT_ARTIFACT", raising=False)
    assert (Path(__file__).parents[2] / "artifact" / "expected" / "smoke-world.toml").is_file()
    rule = read_references("smoke", "world").rule
    assert rule is not None
    assert (rule.minimum_seeds, rule.floor, rule.family_error) == (8, 5.0, 0.01)
    assert "Holm" in rule.reason
    assert read_references("smoke", "files").rule is None
