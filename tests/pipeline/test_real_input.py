"""The main job on real input, shortened: phase 1 on real multilingual text, then every target in every language."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipeline.conftest import TinyGrid, Watcher
from xlt.data.files.source import FilesSource
from xlt.pipeline.executor import Executor
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.pipeline.store import RunStore
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import get_task
from xlt.train.engine import EngineSettings
from xlt.verify.judge import verify

LIMIT = 8


@pytest.mark.real_data
@pytest.mark.slow
def test_real_files_through_all_phases(data_root: Path, tiny_grid: TinyGrid, tmp_path: Path) -> None:
    options = SourceOptions(name="files", data_root=data_root, limit=LIMIT)
    source = open_source(options)
    tier = tmp_path / "tiny.toml"
    # Real text has more different characters than the made-up rows have pieces.
    text = tiny_grid.tier.read_text("utf-8").replace("vocabulary = 120", "vocabulary = 4000")
    tier.write_text(text.replace("max_length = 192", "max_length = 384").replace("= 258", "= 386"), encoding="utf-8")
    grid = GridBuilder(read_tier(str(tier)), source, seed=0, precision="fp32").grid()
    watcher = Watcher()
    store = RunStore(tmp_path)
    Executor(source, options, store, EngineSettings(), watcher).run_grid(grid)
    assert watcher.finished == [run.name for run in grid.runs]
    assert watcher.losses[11] < watcher.losses[0]

    languages = {key: source.languages(get_task(key), "test") for key in ("xnli", "xquad", "tatoeba")}
    assert [len(each) for each in languages.values()] == [15, 12, 36]
    for run in grid.runs:
        metrics = json.loads((store.path(run.folder) / "metrics.json").read_text("utf-8"))
        if run.phase == "target":
            (task,) = run.evaluate
            assert tuple(metrics[task]["test"]) == languages[task]

    verification = verify(tmp_path, source)
    # This tier has no recorded run and no claim: all is recomputed, nothing is judged.
    assert verification.exit_code == 5
    assert not verification.problems
    assert {cell.examples for cell in verification.cells} == {LIMIT}


@pytest.mark.real_data
def test_phase_1_reads_no_test_sentence(data_root: Path) -> None:
    source = FilesSource(data_root)
    lines = {" ".join(row.text.split()) for row in source.pretraining_text()}
    assert len(lines) > 10_000
    held_out: set[str] = set()
    for key in ("xnli", "tatoeba"):
        task = get_task(key)
        for language in source.languages(task, "test"):
            for row in source.rows(task, "test", language):
                texts = (row.text_a, row.text_b) if key == "xnli" else (row.foreign, row.english)  # type: ignore[union-attr]
                held_out.update(" ".join(text.split()) for text in texts)
    assert not lines & held_out
