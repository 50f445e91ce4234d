"""Counting the tokens of real files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from artifact.documents.tokens import count
from xlt.data.tokenizer import load_tokenizer
from xlt.pipeline.tokens import read_tokens


@pytest.mark.real_data
def test_the_recorded_lengths_are_those_of_the_files(xlm_r_tokenizer: Path, data_root: Path, tmp_path: Path) -> None:
    for folder in ("commonsenseqa", "mnli", "ccg"):
        (tmp_path / folder).symlink_to(data_root / folder)
    recorded = read_tokens()
    found = count(tmp_path, load_tokenizer(str(xlm_r_tokenizer)))
    # The training set of ANLI+ holds that of MNLI, but more beside it, which is not below this folder.
    assert found.keys() - {"anli_plus"} == {"commonsenseqa", "mnli", "ccg", "qqp"}
    for key in ("commonsenseqa", "mnli", "ccg", "qqp"):
        assert found[key] == recorded.tasks[key]
    content = (xlm_r_tokenizer / "tokenizer.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == recorded.sha256
