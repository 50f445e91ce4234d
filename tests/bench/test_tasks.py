"""The table of tasks: rows and tokens of what is there, scores that are those of stored runs, and what is absent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.pipeline.conftest import Watcher
from xlt.bench.tasks import EVERY, TaskTable, bench_tasks
from xlt.data.files.source import FilesSource
from xlt.data.predictions import read_predictions
from xlt.errors import UsageFault
from xlt.evaluate.metrics import score, task_score
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.store import RunStore
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import get_task

Made = tuple[TaskTable, RunStore, Watcher, Path]


@pytest.fixture(scope="module")
def root(tiny_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data with entities in a folder of another name, and a QA task without what it trains on."""
    root = Path(shutil.copytree(tiny_files, tmp_path_factory.mktemp("tasks") / "data"))
    (root / "ner").mkdir()
    for split in ("train", "dev"):
        (root / f"ner/{split}-en.tsv").write_text("ba\tB-PER\nde\tO\nko\tO\n\nmu\tO\nta\tO\n\n" * 6, encoding="utf-8")
    shutil.copytree(root / "squad", root / "squad_v2")
    (root / "squad_v2/dev-v1.1.json").rename(root / "squad_v2/dev-v2.0.json")
    return root


def make(root: Path, tier: Path, results: Path, steps: int, keys: tuple[str, ...] = ()) -> Made:
    watcher, store = Watcher(), RunStore(results)
    options = SourceOptions("files", root)
    table = bench_tasks(read_tier(str(tier)), options, store, watcher, steps=steps, phase_1_steps=3, keys=keys)
    return table, store, watcher, results


@pytest.fixture(scope="module")
def made(root: Path, tiny_tier: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(root, tiny_tier, tmp_path_factory.mktemp("results"), steps=2)


def test_every_task_is_listed_with_its_rows_or_the_reason(made: Made) -> None:
    rows = {row.task: row for row in made[0].tasks}
    assert tuple(rows) == EVERY
    assert len(EVERY) == 18
    assert rows["xnli"].rows == {split: dict.fromkeys(("en", "sw", "zh"), 18) for split in ("dev", "test")}
    assert (rows["panx"].rows, rows["panx"].folders) == ({"train": {"en": 12}, "dev": {"en": 12}}, ["ner"])
    assert {row.task for row in rows.values() if row.scores} == {"mnli", "squad", "xnli", "xquad", "panx", "tatoeba"}
    assert rows["qqp"].missing.startswith("there is no qqp/train.tsv")
    assert (rows["qqp"].rows, rows["qqp"].load_s) == ({}, None)
    assert rows["squad_v2"].missing == "there is no training data of squad_v2"
    assert all(row.tokens > 0 and row.tokenise_s and row.load_s for row in rows.values() if row.rows)


def test_scores_are_those_of_stored_predictions_beside_chance(made: Made, root: Path) -> None:
    table, store, _, _ = made
    source, seen = FilesSource(root), 0
    for row in table.tasks:
        for each in row.scores:
            found = []
            for language in each.languages:
                (path,) = store.root.glob(f"runs/target/*/predictions/{row.task}.{each.split}.{language}.jsonl.gz")
                task, seen = get_task(row.task), seen + 1
                gold = source.rows(task, each.split, language)
                found.append(task_score(task, score(task, gold, read_predictions(path), language)))
            assert each.score == pytest.approx(sum(found) / len(found))
    assert seen == 8
    scores = {(row.task, each.split): each for row in table.tasks for each in row.scores}
    assert scores["xnli", "test"].chance == pytest.approx(100 / 3)
    assert scores["tatoeba", "test"].chance == pytest.approx(100 / 15)
    assert (scores["tatoeba", "test"].languages, scores["tatoeba", "test"].rows) == (["sw", "zh"], 30)
    assert scores["panx", "dev"].majority == scores["panx", "dev"].chance == 0
    assert (scores["xnli", "dev"].majority or 0) >= 100 / 3
    assert str(root) not in table.model_dump_json()


def test_a_training_set_is_trained_on_once_and_the_same_call_resumes(made: Made, root: Path, tiny_tier: Path) -> None:
    table, _, watcher, results = made
    assert watcher.finished == ["mlm", "mnli+xnli", "squad+xquad", "panx", "tatoeba"]
    again, _, second, _ = make(root, tiny_tier, results, steps=2)
    assert second.started == []
    assert [row.scores for row in again.tasks] == [row.scores for row in table.tasks]


def test_without_steps_only_reading_is_timed(root: Path, tiny_tier: Path, tmp_path: Path) -> None:
    table, _, watcher, _ = make(root, tiny_tier, tmp_path, 0, ("xquad", "tatoeba"))
    assert (watcher.started, list(tmp_path.iterdir()), table.phase_1_steps) == ([], [], 0)
    assert [(row.task, row.scores[0].score) for row in table.tasks] == [("xquad", None), ("tatoeba", None)]
    assert all(row.tokens > 100 and row.scores[0].chance > 0 for row in table.tasks)
    with pytest.raises(UsageFault, match="no task named"):
        make(root, tiny_tier, tmp_path, 0, ("nonsense",))
