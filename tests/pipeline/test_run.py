"""Mining in a run: whichever engine searches, how far it is told, and what an interruption leaves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from tests.pipeline.conftest import TinyGrid, Watcher
from xlt.data import encodings
from xlt.data.rows import MiningRow
from xlt.data.source import Source
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import UsageFault
from xlt.model.encoder import PackedModel
from xlt.pipeline.provenance import environment
from xlt.pipeline.run import execute_run, score_run
from xlt.pipeline.single import SingleOptions, StartingModel, single_spec
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.pipeline.spec import Backbone, RunSpec
from xlt.pipeline.store import RunStore
from xlt.retrieval import mining as bucc_mining
from xlt.retrieval.search import SearchEngine
from xlt.tasks.catalogue import get_task
from xlt.train.engine import EngineSettings


class Mining:
    """A run that mines with a tiny model, and what it said."""

    def __init__(self, source: Source, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        self.source, self.tokenizer = source, tokenizer
        self.model = PackedModel.fresh(
            {
                "vocab_size": len(tokenizer),
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
            }
        )
        languages = source.languages(get_task("bucc2018"), "test")[:1]
        self.model.save(folder)
        start = StartingModel(folder, Backbone(name="folder:tiny", digest="tiny", retrieval_layer=1))
        options = SingleOptions(None, 0, "fp32", {}, languages=languages)
        self.spec: RunSpec = single_spec(None, "bucc2018", source, start, options, train=False)
        self.told: list[str] = []
        self.passes = 0
        self.model.backbone.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.passes += 1

    def run(self, folder: Path) -> dict[str, bytes]:
        folder.mkdir(exist_ok=True)
        score_run(self.spec, self.model, self.tokenizer, self.source, folder, lambda *cell: self.told.append(cell[2]))
        return {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()}


@pytest.mark.parametrize(("model", "kept"), [("", None), ("xlm-roberta-large", "folder")])
def test_tokenized_rows_are_kept_of_a_public_model_alone_and_only_in_the_run(
    tiny_grid: TinyGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, kept: str | None
) -> None:
    monkeypatch.setenv("XLT_ENCODINGS", "folder")
    seen = []

    def stopped(*_: object) -> None:
        seen.append(encodings._folder)
        raise InterruptedError

    monkeypatch.setattr("xlt.pipeline.run.train_run", stopped)
    spec = tiny_grid.grid().runs[0]
    spec = spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"name": model})})
    with pytest.raises(InterruptedError):
        execute_run(spec, None, tiny_grid.source, RunStore(tmp_path), EngineSettings(), Watcher())
    assert seen == [Path(kept) if kept else None]
    assert encodings._folder is None


@pytest.fixture(scope="module")
def mining(tmp_path_factory: pytest.TempPathFactory) -> Mining:
    source = open_source(SourceOptions(limit=60))
    folder = tmp_path_factory.mktemp("tokenizer")
    task = get_task("bucc2018")
    rows = source.rows(task, "test", source.languages(task, "test")[0])
    train_tokenizer([row.text for row in rows if isinstance(row, MiningRow)] * 5, 120, folder, threads=1)
    return Mining(source, load_tokenizer(str(folder)), folder)


@pytest.mark.parametrize("engine", ["torch", "mutual"])
def test_the_engine_changes_no_prediction_and_no_spec_and_is_written_down(
    mining: Mining, engine: SearchEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XLT_SEARCH", raising=False)
    wanted = mining.run(tmp_path / "faiss")
    monkeypatch.setenv("XLT_SEARCH", engine)
    assert mining.run(tmp_path / "other") == wanted
    assert len(wanted) == 2
    assert environment()["switches"]["XLT_SEARCH"] == engine
    assert engine not in mining.spec.canonical()


def test_an_unknown_engine_is_refused_before_anything_is_computed(
    mining: Mining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLT_SEARCH", "annoy")
    before = mining.passes
    with pytest.raises(UsageFault, match="no search engine 'annoy'") as fault:
        mining.run(tmp_path / "run")
    assert "faiss, faiss-cpu, torch, mutual" in fault.value.why
    assert mining.passes == before


def test_how_far_mining_is_is_told_with_the_language(mining: Mining, tmp_path: Path) -> None:
    mining.told.clear()
    mining.run(tmp_path / "run")
    language = mining.told[0]
    assert mining.told.count(language) == 2
    first = mining.told[1 : mining.told.index(language, 1)]
    assert all(line.startswith(f"{language}: ") for line in first)
    for part in ("foreign sentences embedded", "English sentences embedded", "sentences searched"):
        done, of = [line.split()[1:4:2] for line in first if line.endswith(part)][-1]
        assert done == of


def test_what_was_embedded_before_an_interruption_is_not_embedded_again(
    mining: Mining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlt.pipeline.run.evaluation_tokens", lambda: 200)
    folder, before = tmp_path / "run", mining.passes
    wanted = mining.run(tmp_path / "whole")
    whole = mining.passes - before
    counts = Counter[str]()
    mine = bucc_mining.mine

    def killed(*given: object, **options: object) -> object:
        counts["mined"] += 1
        if counts["mined"] == 2:
            raise KeyboardInterrupt
        return mine(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bucc_mining, "mine", killed)
    with pytest.raises(KeyboardInterrupt):
        mining.run(folder)
    assert len(list((tmp_path / "run.vectors").iterdir())) == 4
    before = mining.passes
    assert mining.run(folder) == wanted
    # Of each side of each split, the last batch, to see that the model gives the same.
    assert mining.passes - before == 4 < whole
    assert not (tmp_path / "run.vectors").exists()
