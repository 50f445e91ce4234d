"""Text for masked-LM co-training from the hub: only the languages asked for, of each its first articles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.hub.test_fetch import Told
from tests.hub_home import own_home, parquet
from tests.hub_server import Hub, serving
from xlt.data.hub.fetch import fetch, wanted_data
from xlt.data.hub.table import read_pins
from xlt.data.rows import TextRow
from xlt.data.source import training_rows
from xlt.errors import UsageFault
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.tasks.catalogue import MASKED_LM, get_task

CORPUS = "datasets/wikimedia/wikipedia"


def shard(language: str, number: int = 0) -> str:
    return f"20231101.{language}/train-{number:05}-of-00002.parquet"


def articles(language: str, count: int) -> bytes:
    texts = [
        "A held out sentence. It stays.",
        *(f"Article {n} in {language}.\n\nThe end of {n}." for n in range(count)),
    ]
    return parquet([{"id": f"{n}", "url": "x", "title": "y", "text": text} for n, text in enumerate(texts)])


def test_the_wanted_languages_come_and_are_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_home(tmp_path, monkeypatch)
    nli = {"premise": "A held out sentence.", "hypothesis": "x", "label": 0}
    files = {shard(code, number): articles(code, 250) for code in ("de", "sw", "zh") for number in (0, 1)}
    repositories = {CORPUS: files, "datasets/facebook/xnli": {"en/test-00000-of-00001.parquet": parquet([nli] * 5010)}}
    told = Told()
    commits = {f"datasets/{name}": commit for name, commit in read_pins().revisions.items()}
    with serving(Hub(repositories, commits=commits)) as hub:
        fetch(wanted_data([MASKED_LM], ["sw", "de"]), told, mirror=hub.address)
        assert [path.rpartition("/")[2] for path, _ in hub.downloads()] == ["train-00000-of-00002.parquet"] * 2
        (xnli,) = wanted_data([get_task("xnli")])
        xnli.patterns = {"en/test-*.parquet": 5010}
        fetch([xnli], Told(), mirror=hub.address)
    assert told.planned == [(2, len(files[shard("de")]) + len(files[shard("sw")]))]
    locked = json.loads((tmp_path / "artifact" / "data.lock").read_text("utf-8"))["datasets"]["wikimedia/wikipedia"]
    assert list(locked["files"]) == [shard("de"), shard("sw")]

    found = training_rows(open_source(SourceOptions("hub")), MASKED_LM)
    # 200 articles of each language; the first is all but a sentence of a test set, and a text comes once.
    assert found[:2] == [TextRow("mlm.train.de-1", "It stays."), TextRow("mlm.train.de-2", "Article 0 in de.")]
    assert len(found) == 1 + 2 * 199 + 199
    assert not any("zh" in row.text or "199" in row.text for row in found if isinstance(row, TextRow))

    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "fi.txt").write_text("Oma lause.\n", encoding="utf-8")
    own = open_source(SourceOptions("hub", tmp_path)).pretraining_text()
    assert [row.text for row in own] == ["Oma lause."]


def test_all_languages_of_the_benchmark_are_there_and_no_other() -> None:
    (corpus,) = wanted_data([MASKED_LM])
    assert [pattern.partition("/")[0] for pattern in corpus.patterns] == [
        f"20231101.{code}" for code in get_task("panx").benchmarks["xtreme"].split()
    ]
    with pytest.raises(UsageFault, match="no language 'xx'"):
        wanted_data([MASKED_LM], ["xx"])
