"""Pieces of trainings made again: the same bits from the same platform, and what is forged is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.cli.conftest import Invoke
from tests.cli.conftest import invoke as invoke
from tests.pipeline.conftest import TinyGrid, Watcher
from tests.pipeline.conftest import tiny_grid as tiny_grid
from xlt.data.rows import Row
from xlt.data.source import Source
from xlt.errors import ExitCode
from xlt.numerics import fast_products
from xlt.pipeline.executor import Executor
from xlt.pipeline.sources import SourceOptions
from xlt.pipeline.store import RunStore, weight_digests, write_manifest
from xlt.pipeline.training import load_model
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split, Task
from xlt.train.engine import EngineSettings
from xlt.verify import replay
from xlt.verify.checks import Again, Replay
from xlt.verify.judge import Verification, verify

KEPT = 2
ALL = Again(stretches=100, stretch_seed=0)
ARMS = 'baseline = { targets = ["xnli"] }'


@dataclass
class Made:
    """A results folder with kept states: phase 1, and a training on English MNLI that scores XNLI."""

    root: Path
    source: Source
    files: Path

    def verify(self, again: Again = ALL) -> tuple[Verification, Replay]:
        found = verify(self.root, self.source, again=again)
        assert found.checks is not None
        assert found.checks.replay is not None
        return found, found.checks.replay

    @property
    def run(self) -> Path:
        return next(self.root.glob("runs/target/*"))

    def seal(self) -> None:
        """Write what a careful forger would: the weights' hashes into the provenance, and the manifest."""
        provenance = json.loads((self.run / "provenance.json").read_text("utf-8"))
        provenance["weights"] = weight_digests(self.run / "model")
        (self.run / "provenance.json").write_text(json.dumps(provenance), "utf-8")
        write_manifest(self.run)

    def problems(self) -> list[tuple[str, str]]:
        """Where training again contradicts the folder, and how."""
        found, _ = self.verify()
        assert {problem.kind for problem in found.problems} <= {"replay"}
        assert found.exit_code == (ExitCode.DEVIATES if found.problems else ExitCode.INCOMPLETE)
        return [(problem.where, problem.what) for problem in found.problems]


def make(grid: TinyGrid, root: Path, *, seed: int = 0, trained_on: Source | None = None) -> Made:
    """Train the grid; ``trained_on`` are other rows than those that the specs tell of."""
    options = SourceOptions(name="files", data_root=grid.files)
    settings = EngineSettings(keep_checkpoints=KEPT, checkpoint_seconds=1e9)
    Executor(trained_on or grid.source, options, RunStore(root), settings, Watcher(), threads=1).run_grid(
        grid.grid(seed)
    )
    return Made(root, grid.source, grid.files)


@pytest.fixture(scope="module")
def grid(tiny_grid: TinyGrid, tmp_path_factory: pytest.TempPathFactory) -> TinyGrid:
    return tiny_grid.with_arms(tmp_path_factory.mktemp("replay"), ARMS)


@pytest.fixture(scope="module")
def honest(grid: TinyGrid, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(grid, tmp_path_factory.mktemp("honest"))


@pytest.fixture
def forged(honest: Made, tmp_path: Path) -> Made:
    """A copy of the honest folder, to be changed."""
    return replace(honest, root=Path(shutil.copytree(honest.root, tmp_path / "forged")))


@pytest.fixture
def same_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with portable numerics: this process computed what it verifies."""
    monkeypatch.setattr(replay, "difference", lambda made: "")


@pytest.mark.usefixtures("same_platform")
def test_every_stretch_of_an_honest_training_gives_the_stored_bits(honest: Made) -> None:
    found, done = honest.verify()
    assert not found.problems
    assert (done.stretches, done.of, done.identical, done.apart) == (6, 6, 6, 0.0)
    assert done.steps == sum(len((path / "log.jsonl").read_text("utf-8").splitlines()) for path in runs(honest))
    assert found.checks is not None
    assert any("6 of 6 stretches made again" in line and "6 bit for bit" in line for line in found.checks.checked)


def runs(made: Made) -> list[Path]:
    return list(made.root.glob("runs/*/*"))


def edit_steps(made: Made, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the log, and what the kept states tell of it."""
    for path in [made.run / "log.jsonl", *made.run.glob("checkpoints/*/state.json")]:
        text = path.read_text("utf-8")
        if path.name == "state.json":
            state = json.loads(text)
            change(state["records"])
            path.write_text(json.dumps(state) + "\n", "utf-8")
            write_manifest(path.parent)
        else:
            lines = [json.loads(line) for line in text.splitlines()]
            change(lines)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    made.seal()


@pytest.mark.usefixtures("same_platform")
def test_a_loss_that_was_edited_is_found(forged: Made) -> None:
    edit_steps(forged, lambda steps: len(steps) > 5 and steps[5].update(loss=steps[5]["loss"] * 0.999))
    ((where, what), *others) = forged.problems()
    assert where == "steps 4 to 6"
    assert what.startswith("By log.jsonl the loss of step 6 is ")
    assert all(each[0] == "steps 4 to 6" for each in others)


def test_a_log_that_its_kept_states_contradict_is_found_without_training(forged: Made) -> None:
    path = forged.run / "log.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    lines[0]["loss"] += 0.001
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    forged.seal()
    assert ("checkpoints/step-00000003", "The state that was kept tells of other steps than log.jsonl.") in (
        forged.problems()
    )


@pytest.fixture(scope="module")
def other_seed(grid: TinyGrid, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(grid, tmp_path_factory.mktemp("seed-1"), seed=1)


@pytest.fixture(params=["same platform", "another"])
def either_platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The second rounds otherwise, by oneDNN."""
    if request.param == "same platform":
        monkeypatch.setattr(replay, "difference", lambda made: "")
        yield
    else:
        with fast_products():
            yield


@pytest.mark.usefixtures("either_platform")
def test_weights_of_another_seed_are_found(forged: Made, other_seed: Made) -> None:
    shutil.copy(other_seed.run / "model" / "model.safetensors", forged.run / "model")
    forged.seal()
    ((where, what),) = forged.problems()
    assert where == "steps 7 to 9"
    # No threshold by a hair: ten times as far as what counts as the same.
    assert float(what.split("other weights, ")[1].split()[0]) > 10 * replay.WEIGHTS_APART


@pytest.mark.parametrize(
    ("changed", "left_out"),
    [({"accumulation": [1, 2]}, "what shared their work changed in the middle"), ({"device": ["a GPU", "cpu"]}, "")],
)
def test_what_changed_in_the_middle_of_a_training_is_told(changed: dict[str, Any], left_out: str, forged: Made) -> None:
    path = forged.run / "provenance.json"
    provenance = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(provenance | {"resumed": [{"step": 3, "changed": changed}]}), "utf-8")
    forged.seal()
    found, done = forged.verify()
    assert not found.problems
    assert found.checks is not None
    assert done.of == (3 if left_out else 6)
    assert any(left_out in line for line in found.checks.not_checked)
    assert left_out or "device" in done.platforms[-1]


@pytest.mark.usefixtures("same_platform")
def test_a_state_kept_at_the_end_does_not_stand_for_the_model(forged: Made, other_seed: Made) -> None:
    """Weights of another seed, beside a last state that is right."""
    last = shutil.copytree(forged.run / "checkpoints" / "step-00000006", forged.run / "checkpoints" / "step-00000009")
    state = json.loads((last / "state.json").read_text("utf-8"))
    lines = (forged.run / "log.jsonl").read_text("utf-8").splitlines()
    state["records"], state["step"] = [json.loads(line) for line in lines], 9
    (last / "state.json").write_text(json.dumps(state), "utf-8")
    shutil.copy(other_seed.run / "model" / "model.safetensors", forged.run / "model")
    forged.seal()
    ((where, what),) = forged.problems()
    assert (where, "they give other weights" in what) == ("steps 7 to 9", True)


@pytest.mark.usefixtures("same_platform")
def test_models_that_were_left_out_are_told_by_their_hashes_on_the_same_platform_alone(
    forged: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((forged.run / "MANIFEST.json").read_text("utf-8"))
    for name, entry in manifest["files"].items():
        if name.startswith("model/"):
            entry["pruned"] = True
            (forged.run / name).unlink()
    (forged.run / "MANIFEST.json").write_text(json.dumps(manifest), "utf-8")
    found, done = forged.verify()
    assert not found.problems
    assert done.identical == done.of == 6
    monkeypatch.setattr(replay, "difference", lambda made: "cpu")
    found, done = forged.verify()
    assert not found.problems
    assert done.of == 3
    assert found.checks is not None
    assert any(
        "training of 1 run, not made again: their models were left out" in line for line in found.checks.not_checked
    )


@pytest.mark.usefixtures("either_platform")
def test_a_training_with_fewer_steps_than_its_log_is_found(forged: Made) -> None:
    model, _ = load_model(forged.run / "model")
    early = load_file(forged.run / "checkpoints" / "step-00000006" / "engine.safetensors")
    model.save(forged.run / "model", state_dict={name: early[f"weight/{name}"] for name, _ in model.named_parameters()})
    forged.seal()
    ((where, what),) = forged.problems()
    assert where == "steps 7 to 9"
    # No threshold by a hair: ten times as far as what counts as the same.
    assert float(what.split("other weights, ")[1].split()[0]) > 10 * replay.WEIGHTS_APART


@dataclass
class OnTestData:
    """The rows of another source, and test data where its training data was."""

    source: Source

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        rows = self.source.rows(task, split, language)
        if split != "train":
            return rows
        tested = self.source.rows(get_task("xnli"), "test", "en")
        return [replace(test, id=row.id) for row, test in zip(rows, tested, strict=False)] + rows[len(tested) :]


@pytest.mark.usefixtures("either_platform")
def test_a_training_on_test_data_is_found(grid: TinyGrid, tmp_path: Path) -> None:
    made = make(grid, tmp_path / "cheat", trained_on=OnTestData(grid.source))
    problems = made.problems()
    assert {where for where, _ in problems} == {"steps 1 to 3", "steps 4 to 6", "steps 7 to 9"}


def test_another_platform_is_told_and_judged_by_a_distance(honest: Made) -> None:
    with fast_products():
        found, done = honest.verify()
    assert not found.problems
    assert 0 < done.apart < replay.WEIGHTS_APART / 10
    assert done.identical < done.stretches
    assert (done.platforms, done.only_begun) == (("cpu",), 0)


def test_on_another_platform_only_the_beginning_of_a_long_stretch_is_made(
    forged: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "CLOSE_STEPS", 2)
    with fast_products():
        found, done = forged.verify()
        assert not found.problems
        assert (done.only_begun, done.steps) == (done.of, 2 * done.of)
        edit_steps(forged, lambda steps: steps[1].update(loss=steps[1]["loss"] * 1.02))
        assert forged.problems()[0][1].startswith("By log.jsonl the loss of step 2 is ")


@pytest.mark.usefixtures("same_platform")
@pytest.mark.parametrize("name", ["engine.safetensors", "generators-0.safetensors", "state.json"])
def test_a_kept_state_that_is_no_state_is_a_problem_and_no_end(name: str, forged: Made) -> None:
    (forged.run / "checkpoints" / "step-00000003" / name).write_text('{"step": 3, "records": 7}', "utf-8")
    forged.seal()
    problems = dict(forged.problems())
    assert problems.pop("steps 4 to 6").startswith("They cannot be made again (")
    assert not {*problems} - {"steps 1 to 3", "checkpoints/step-00000003"}


def test_the_seed_draws_the_stretches(honest: Made, invoke: Invoke) -> None:
    command = ("verify", "--results", str(honest.root), "--data-root", str(honest.files), "--recheck", "0")
    shown = [invoke(*command, "--replay", "2", "--replay-seed", seed, "--json") for seed in ("5", "5", "6")]
    first, again, other = ([line for line in each.err.splitlines() if ": steps " in line] for each in shown)
    assert len(first) == 2
    assert first == again != other
    done = shown[0].document["checks"]["replay"]
    assert (done["stretches"], done["of"], done["seed"]) == (2, 6, 5)


@pytest.mark.usefixtures("same_platform")
def test_the_time_that_is_told_beforehand_is_that_of_the_steps(forged: Made) -> None:
    last = json.loads((forged.run / "provenance.json").read_text("utf-8"))
    assert 0 < last["seconds_per_step"] < last["seconds"]["train"]
    told = []
    for timed in (True, False):
        for run in runs(forged):
            made = json.loads((run / "provenance.json").read_text("utf-8")) | {"seconds_per_step": 2.5}
            if not timed:
                del made["seconds_per_step"]
                made["seconds"]["train"] = 10.0 * len((run / "log.jsonl").read_text("utf-8").splitlines())
            (run / "provenance.json").write_text(json.dumps(made), "utf-8")
            write_manifest(run)
        said: list[str] = []
        _, done = forged.verify(Again(stretches=1, stretch_seed=0, tell=said.append))
        told.append(said[0].removeprefix(f"Training 1 of 6 stretches again, {done.steps} steps: "))
    assert told == [
        f"{-(-done.steps * 5 // 2)} seconds where they were made, loading and compilation not counted.",
        f"{10 * done.steps} seconds where they were made, with their part of loading and compilation.",
    ]


def test_a_seed_without_stretches_is_a_mistake(invoke: Invoke) -> None:
    assert invoke("verify", "--replay-seed", "5").code == ExitCode.USAGE


# DERIVED: 1 - C(of - forged, drawn) / C(of, drawn), by hand.
@pytest.mark.parametrize(
    ("of", "drawn", "forged", "chance"),
    [(10, 1, 1, 0.1), (10, 10, 1, 1.0), (4, 2, 2, 5 / 6), (20, 5, 2, 1 - 8568 / 15504), (5, 2, 5, 1.0)],
)
def test_the_chance_of_finding_a_forged_stretch(of: int, drawn: int, forged: int, chance: float) -> None:
    assert replay.chance_of_finding(of, drawn, forged) == pytest.approx(chance)
