"""``xlt bench``: one JSON document with the promised keys, a table for people, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from xlt.cli.bench import _backbone
from xlt.errors import ExitCode

SMALL = ("--steps", "2", "--batch-size", "4", "--max-length", "32", "--hidden", "32", "--layers", "1")


def test_json_is_one_document_with_the_promised_keys(invoke: Invoke) -> None:
    outcome = invoke("bench", "train", *SMALL, "--threads", "1", "--json")
    document = outcome.document
    assert document["format"] == 1
    assert document["threads"] == 1
    assert document["device"]
    assert {"torch", "transformers"} <= document["versions"].keys()
    assert (document["model"]["layers"], document["model"]["hidden"]) == (1, 32)
    assert (document["batch_size"], document["max_length"]) == (4, 32)
    names = {row["name"] for row in document["rows"]}
    assert names == {"dynamic padding", "fixed padding", "length grouping"}
    for row in document["rows"]:
        assert {"name", "ours_s", "peer_s", "ratio", "slots_per_token"} <= row.keys()
        assert row["steps"] == 2


def test_people_see_the_expected_ratio_beside_the_measured_one(invoke: Invoke) -> None:
    outcome = invoke("bench", "train", *SMALL)
    assert outcome.code == 0
    header = next(line for line in outcome.out.splitlines() if "ours, ms" in line)
    assert header.index("peer / ours") < header.index("expected (slots/token)")
    for name in ("dynamic padding", "fixed padding", "length grouping"):
        assert name in outcome.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--hidden", "200"], ExitCode.USAGE, "--hidden 192"),
        (["--source", "files"], ExitCode.USAGE, "--data-root"),
        (["--task", "squad"], ExitCode.USAGE, "does not classify pairs"),
    ],
)
def test_what_cannot_be_timed_is_one_clear_message(
    invoke: Invoke, arguments: list[str], code: ExitCode, message: str
) -> None:
    outcome = invoke("bench", "train", *arguments)
    assert outcome.code == code, outcome.err
    assert message in outcome.err
    assert "ours, ms" not in outcome.out


def test_too_few_examples(invoke: Invoke, tiny_files: Path) -> None:
    outcome = invoke("bench", "train", *SMALL[2:], "--steps", "99", "--source", "files", "--data-root", str(tiny_files))
    assert outcome.code == ExitCode.USAGE
    assert "99 steps were asked for" in outcome.err


def test_another_width_keeps_the_proportions_of_xlm_r() -> None:
    config = _backbone("world", 1024, 24).config
    assert (config["num_attention_heads"], config["intermediate_size"], config["num_hidden_layers"]) == (16, 4096, 24)
