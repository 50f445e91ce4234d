"""A grid runs to completion, resumes, and gives the same bits alone as in a shared process."""

from __future__ import annotations

import getpass
import gzip
import json
import re
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.pipeline.conftest import TinyGrid, Watcher
from xlt.data.files.source import FilesSource
from xlt.data.predictions import read_predictions
from xlt.errors import DataFault, EnvironmentFault, IncompleteFault, UsageFault
from xlt.evaluate.metrics import score
from xlt.files import locked
from xlt.pipeline.executor import Executor, current_attempt, held_parts, parent_model, refuse_another
from xlt.pipeline.grid import GridBuilder
from xlt.pipeline.run import execute_run
from xlt.pipeline.single import SingleOptions, find_model, single_spec
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.spec import SourceSpec
from xlt.pipeline.store import RunStore, read_metrics, read_provenance, read_spec
from xlt.pipeline.tiers import read_tier
from xlt.tasks.catalogue import get_task
from xlt.train.engine import DeepSpeedEngine, EngineName, EngineSettings
from xlt.train.graph import GraphEngine

Finished = tuple[RunStore, Watcher]


def predictions(folder: Path) -> dict[str, bytes]:
    return {path.name: gzip.decompress(path.read_bytes()) for path in sorted((folder / "predictions").iterdir())}


def test_every_run_is_made_in_order_and_whole(finished: Finished, tiny_grid: TinyGrid) -> None:
    store, watcher = finished
    grid = tiny_grid.grid()
    assert watcher.started == watcher.finished == [run.name for run in grid.runs]
    assert {store.check(run).state for run in grid.runs} == {"done"}
    assert json.loads((store.root / "grid.json").read_text("utf-8")) == json.loads(grid.text())


def test_a_run_holds_what_the_design_says(finished: Finished, tiny_grid: TinyGrid) -> None:
    store, _ = finished
    run = next(run for run in tiny_grid.grid().runs if run.name == "mnli.xnli")
    folder = store.path(run.folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "MANIFEST.json",
        "log.jsonl",
        "metrics.json",
        "model",
        "predictions",
        "provenance.json",
        "spec.json",
    ]
    assert sorted(predictions(folder)) == sorted(
        f"xnli.{split}.{language}.jsonl.gz" for split in ("dev", "test") for language in ("en", "sw", "zh")
    )
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in log] == list(range(1, 10))
    assert set(log[0]) == {"step", "task", "loss", "learning_rate", "tokens", "examples"}
    provenance = json.loads((folder / "provenance.json").read_text("utf-8"))
    assert provenance["world_size"] == 1
    assert provenance["packages"]["torch"]
    assert set(provenance["seconds"]) == {"train", "save", "evaluate"}


def test_stored_metrics_follow_from_stored_predictions(finished: Finished, tiny_grid: TinyGrid) -> None:
    store, _ = finished
    source = FilesSource(tiny_grid.files)
    for run in tiny_grid.grid().runs:
        metrics = json.loads((store.path(run.folder) / "metrics.json").read_text("utf-8"))
        for task, splits in metrics.items():
            for split, languages in splits.items():
                for language, values in languages.items():
                    name = f"predictions/{task}.{split}.{language}.jsonl.gz"
                    given = read_predictions(store.path(run.folder) / name)
                    assert score(get_task(task), source.rows(get_task(task), split, language), given) == values


def test_no_machine_or_user_is_named_anywhere(finished: Finished, tiny_grid: TinyGrid) -> None:
    store, _ = finished
    secrets = {str(tiny_grid.files), str(Path.home()), str(store.root)}
    # A short name would be found inside words of the vocabulary.
    secrets |= {name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 5}
    for path in store.root.rglob("*.json*"):
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in text], path


def test_the_same_call_again_makes_nothing(finished: Finished, tiny_grid: TinyGrid, tmp_path: Path) -> None:
    store, _ = finished
    watcher = Watcher()
    tiny_grid.run(store.root, watcher)
    assert watcher.started == []


def test_a_folder_of_another_seed_is_refused_and_stays_as_it_is(
    finished: Finished, tiny_grid: TinyGrid, tmp_path: Path
) -> None:
    shutil.copytree(finished[0].root, tmp_path / "results")
    store = RunStore(tmp_path / "results")
    before = (store.root / "grid.json").read_bytes()
    executor = Executor(
        tiny_grid.source, SourceOptions(name="files", data_root=tiny_grid.files), store, EngineSettings(), Watcher()
    )
    with pytest.raises(UsageFault, match="holds results of seed 0") as caught:
        executor.run_grid(tiny_grid.grid(seed=3))
    assert "--results DIR" in caught.value.fix
    fewer = replace(tiny_grid.grid(), source=SourceSpec(name="files", settings={"limit": 4}))
    with pytest.raises(UsageFault, match="holds results of limit 0"):
        executor.run_grid(fewer)
    assert (store.root / "grid.json").read_bytes() == before
    for damaged in (b"{", b"[]", b'{"tier": 1}'):
        (store.root / "grid.json").write_bytes(damaged)
        assert executor.run_grid(tiny_grid.grid()).made == 0


def test_a_first_command_that_failed_locks_no_folder(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "pretrain" / "mlm-0123456789ab"
    folder.mkdir(parents=True)
    first = replace(tiny_grid.grid(), model="somebody/wrong", parts=("A1",))
    (tmp_path / "grid.json").write_text(first.text(), "utf-8")
    asked = ("tiny", first.source, 0, "somebody/right")
    refuse_another(tmp_path, *asked)
    assert held_parts(tmp_path) == []
    (folder / "MANIFEST.json").write_text("{}", "utf-8")
    with pytest.raises(UsageFault, match="of model somebody/wrong; asked for is model somebody/right"):
        refuse_another(tmp_path, *asked)
    assert held_parts(tmp_path) == ["A1"]


def test_a_killed_grid_continues_where_it_was(finished: Finished, tiny_grid: TinyGrid, tmp_path: Path) -> None:
    whole, _ = finished
    results = tmp_path / "results"
    first = Watcher(stop_at="baseline.xquad")
    with pytest.raises(KeyboardInterrupt):
        tiny_grid.run(results, first)
    assert first.finished == ["mlm", "mnli", "both", "baseline.xnli"]
    second = Watcher()
    store = tiny_grid.run(results, second)
    assert second.states["baseline.xquad"] == "unfinished"
    assert second.started[0] == "baseline.xquad"
    assert "mlm" not in second.started
    for run in tiny_grid.grid().runs:
        if run.evaluate:
            assert predictions(store.path(run.folder)) == predictions(whole.path(run.folder)), run.name


def test_alone_and_in_the_shared_process_predictions_are_the_same_bits(
    finished: Finished, tiny_grid: TinyGrid, tmp_path: Path
) -> None:
    """The runs of ``finished`` shared one process; here one of them runs without its predecessors."""
    shared, _ = finished
    alone = RunStore(tmp_path)
    grid = tiny_grid.grid()
    for name in ("mnli.xquad", "baseline.xnli"):
        run = next(run for run in grid.runs if run.name == name)
        parent = parent_model(grid, run, shared)
        execute_run(run, parent, tiny_grid.source, alone, EngineSettings(), Watcher())
        assert predictions(alone.path(run.folder)) == predictions(shared.path(run.folder))
        logs = [(store.path(run.folder) / "log.jsonl").read_bytes() for store in (alone, shared)]
        assert logs[0] == logs[1]


@pytest.mark.slow
def test_two_runs_at_a_time_with_the_graph_engine_have_the_bits_of_one(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    small = tiny_grid.with_arms(tmp_path, 'baseline = { targets = ["xnli", "xquad"] }')
    alone, together = (
        small.run(tmp_path / str(count), Watcher(), parallel_runs=count, engine="graph") for count in (1, 2)
    )
    for run in small.grid(engine="graph").runs:
        assert read_provenance(together.path(run.folder)).engine == "graph"
        assert predictions(alone.path(run.folder)) == predictions(together.path(run.folder)), run.name


@pytest.mark.slow
def test_in_parallel_every_file_has_the_bits_of_one_process(
    finished: Finished, tiny_grid: TinyGrid, tmp_path: Path
) -> None:
    whole, _ = finished
    watcher = Watcher()
    store = tiny_grid.run(tmp_path, watcher, parallel_runs=2)
    runs = tiny_grid.grid().runs
    # A run starts when its parent is complete, one that others wait for before the rest.
    assert sorted(watcher.started) == sorted(watcher.finished) == sorted(run.name for run in runs)
    assert watcher.started[:3] == ["mlm", "mnli", "both"]
    for run in runs:
        listed, expected = (
            json.loads((s.path(run.folder) / "MANIFEST.json").read_text("utf-8")) for s in (store, whole)
        )
        for files in (listed["files"], expected["files"]):
            del files["provenance.json"]
        assert listed == expected, run.name


def test_a_damaged_run_is_made_again_and_its_children_stay(
    finished: Finished, tiny_grid: TinyGrid, tmp_path: Path
) -> None:
    whole, _ = finished
    results = tmp_path / "results"
    shutil.copytree(whole.root, results)
    store = RunStore(results)
    run = next(run for run in tiny_grid.grid().runs if run.name == "mnli")
    (store.path(run.folder) / "log.jsonl").write_text("", encoding="utf-8")
    watcher = Watcher()
    tiny_grid.run(results, watcher)
    assert watcher.states["mnli"] == "damaged"
    assert watcher.started == ["mnli"]


def test_a_collapsed_run_is_marked_kept_and_made_once_more(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    # No tiny model finds an answer span in a few steps: the second attempt collapses too, and stands.
    arm = 'squad = { intermediate = ["squad"], targets = ["tatoeba"] }'
    grid = tiny_grid.with_arms(tmp_path, arm, plan="collapse_after = 0.5")
    watcher = Watcher()
    store = grid.run(tmp_path, watcher)
    assert watcher.finished == ["mlm", "squad", "squad", "squad.tatoeba"]
    assert watcher.failed == ["", *["it collapsed: it is at chance on English dev"] * 2, ""]
    document = json.loads((tmp_path / "grid.json").read_text("utf-8"))
    first, second = document["collapsed"][0], document["runs"][1]
    assert [run["parent"] for run in document["runs"]] == [None, document["runs"][0]["hash"], second["hash"]]
    logs = []
    for run in (first, second):
        folder = store.path(run["folder"])
        assert json.loads((folder / "provenance.json").read_text("utf-8"))["collapsed"] is True
        assert (folder / "predictions" / "squad.dev.en.jsonl.gz").is_file()
        logs.append([json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()])
        assert [line.get("at_chance") for line in logs[-1]] == [None, None, None, True]
    assert [line["examples"] for line in logs[0]] != [line["examples"] for line in logs[1]]
    assert read_spec(store.path(second["folder"])).seed == read_spec(store.path(first["folder"])).seed

    again = Watcher()
    grid.run(tmp_path, again)
    assert (again.started, json.loads((tmp_path / "grid.json").read_text("utf-8"))) == ([], document)


def test_a_single_run_that_collapses_is_made_once_more(finished: Finished, tiny_grid: TinyGrid, tmp_path: Path) -> None:
    tier = tiny_grid.with_arms(tmp_path, "baseline = {}", plan="collapse_after = 0.5").tier
    start = find_model(str(finished[0].path(tiny_grid.grid().runs[0].folder)))
    spec = single_spec(
        None, "squad", tiny_grid.source, start, SingleOptions(read_tier(str(tier)), 0, "fp32", {"steps": 4}), train=True
    )
    watcher, store = Watcher(), RunStore(tmp_path / "results")
    options = SourceOptions("files", tiny_grid.files)
    executor = Executor(tiny_grid.source, options, store, EngineSettings(), watcher)
    assert not executor.run_single(spec, start.folder)
    assert watcher.finished == ["train.squad", "train.squad"]
    second = current_attempt(spec, store)
    assert second == current_attempt(second, store) == spec.model_copy(update={"retry": 1})
    assert store.check(spec).state == store.check(second).state == "done"
    assert executor.run_single(spec, start.folder)
    assert len(watcher.finished) == 2


def test_a_training_that_diverges_is_recorded_made_once_more_and_no_result(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    arms = 'baseline = { targets = ["tatoeba"] }\nhot = { intermediate = ["mnli"], targets = ["xquad"] }'
    grid = tiny_grid.with_arms(tmp_path, arms, recipe="mnli = { learning_rate = 1e30 }")
    watcher = Watcher()
    store = grid.run(tmp_path, watcher)
    # What starts from the second attempt, which diverges too, is not made; all else is.
    assert watcher.finished == ["mlm", "hot", "baseline.tatoeba", "hot"]
    assert [re.sub(r"\d+", "N", why) for why in watcher.failed] == [
        *("", "it diverged: The loss of step N is nan", "", "it diverged: The loss of step N is nan")
    ]
    document = json.loads((tmp_path / "grid.json").read_text("utf-8"))
    second = next(run for run in document["runs"] if run["phase"] == "intermediate")
    for run in (*document["collapsed"], second):
        folder = store.path(run["folder"])
        found = store.check(read_spec(folder))
        assert found.state == "diverged"
        assert found.problem == read_provenance(folder).diverged
        last = int(re.fullmatch(r"The loss of step (\d+) is nan\.", found.problem)[1]) - 1  # type: ignore[index]
        assert [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text("utf-8").splitlines()] == [
            *range(1, last + 1)
        ]
        assert sorted(path.name for path in folder.iterdir()) == [
            *("MANIFEST.json", "log.jsonl", "provenance.json", "spec.json")
        ]
    assert not [*tmp_path.glob("runs/*/*.checkpoints")]

    again = Watcher()
    grid.run(tmp_path, again)
    assert (again.started, json.loads((tmp_path / "grid.json").read_text("utf-8"))) == ([], document)
    with pytest.raises(DataFault, match="has no usable model"):
        find_model(str(store.path(second["folder"])))


def test_a_second_grid_in_one_results_folder_is_refused_at_once(
    finished: Finished, tiny_grid: TinyGrid, tmp_path: Path
) -> None:
    results, watcher = tmp_path / "results", Watcher()
    shutil.copytree(finished[0].root, results)
    with locked(results), pytest.raises(EnvironmentFault, match="Another process is at work") as caught:
        tiny_grid.run(results, watcher)
    assert "when that process has ended" in caught.value.fix
    # Of a lock whose process ended, however it ended, nothing is left.
    tiny_grid.run(results, watcher)
    assert watcher.started == []


@pytest.mark.parametrize("engine", ["deepspeed", "graph"])
def test_a_device_without_memory_computes_smaller_parts_of_the_same_steps(
    engine: EngineName, tiny_grid: TinyGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tiny_grid.grid(engine=engine).runs[0]
    spec = start.model_copy(update={"recipe": {**start.recipe, "steps": 6, "warmup": 0.0}})

    def made(settings: EngineSettings, name: str) -> tuple[list[dict[str, object]], dict[str, object], Path]:
        store = RunStore(tmp_path / name)
        execute_run(spec, None, tiny_grid.source, store, settings, Watcher())
        folder = store.path(spec.folder)
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
        return log, json.loads((folder / "provenance.json").read_text("utf-8")), folder

    asked, _, plain = made(EngineSettings(accumulation=4), "asked") if engine == "deepspeed" else ([], {}, tmp_path)
    whole, _, _ = made(EngineSettings(), "whole")
    for kind in (DeepSpeedEngine, GraphEngine):
        monkeypatch.setattr(kind, "step", out_of_memory_beyond(4, kind.step))
    with pytest.warns(UserWarning, match="out of memory: each step is computed in 4 parts"):
        log, provenance, folder = made(EngineSettings(), "short")
    assert (provenance["accumulation"], provenance["accumulation_asked"]) == (4, 1)
    assert [line["examples"] for line in log] == [line["examples"] for line in whole]
    # Dropout draws otherwise: near, and no more.
    assert [line["loss"] for line in log] == pytest.approx([line["loss"] for line in whole], abs=0.05)
    if asked:
        assert log == asked
        assert read_provenance(folder).weights == read_provenance(plain).weights


def out_of_memory_beyond(size: int, step: Any) -> Any:
    """A step on a device that, from the third step on, has the memory for micro-batches of so many examples."""

    def limited(self: Any, batches: Any) -> Any:
        if self._done >= 2 and any(len(batch.cu_seqlens) - 1 > size for batch in batches):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(self, batches)

    return limited


def test_one_example_that_does_not_fit_is_an_error_with_advice(
    tiny_grid: TinyGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeepSpeedEngine, "step", out_of_memory_beyond(0, DeepSpeedEngine.step))
    with (
        pytest.warns(UserWarning, match="16 parts"),
        pytest.raises(EnvironmentFault, match="with 16 micro-batches") as caught,
    ):
        tiny_grid.run(tmp_path, Watcher())
    assert "CUDA out of memory" in caught.value.why
    assert "--zero 3_offload" in caught.value.fix


def test_a_run_without_its_parent_says_so(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    grid = tiny_grid.grid()
    with pytest.raises(IncompleteFault, match="starts from is absent"):
        parent_model(grid, grid.runs[1], RunStore(tmp_path))


def test_a_bf16_run_trains_stores_full_weights_and_scores(tiny_grid: TinyGrid, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    grid = GridBuilder(read_tier(str(tiny_grid.tier)), tiny_grid.source, seed=0, precision="bf16").grid()
    pretraining, xnli = grid.runs[0], next(run for run in grid.runs if run.name == "baseline.xnli")
    execute_run(pretraining, None, tiny_grid.source, store, EngineSettings(), Watcher())
    parent, folder = store.path(pretraining.folder) / "model", store.path(xnli.folder)
    execute_run(xnli, parent, tiny_grid.source, store, EngineSettings(), Watcher())
    assert read_provenance(folder).precision == "bf16"
    assert set(read_metrics(folder)["xnli"]["test"]) == {"en", "sw", "zh"}
    weights = load_file(folder / "model" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
