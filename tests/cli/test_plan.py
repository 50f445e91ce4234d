"""``xlt plan`` where the data of a tier is absent: the graph and what it costs are still shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.conftest import PROJECT
from tests.hub_home import own_home
from xlt.pipeline.hours import PARTS
from xlt.tasks.catalogue import INTERMEDIATE

INTERMEDIATE_KEYS = [task.key for task in INTERMEDIATE]


def test_without_data_the_graph_is_shown_and_how_to_get_the_data(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_home(tmp_path, monkeypatch)
    arguments = ("plan", "--tier", "core", "--results", str(tmp_path / "results"))
    outcome = invoke(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert (document["source"], document["seed"], document["seeds"]) == ("hub", 0, [0, 1, 2, 3, 4])
    assert document["fetch"] == "xlt fetch --tier core --data-root DIR"
    assert "The model 'xlm-roberta-large' was not fetched" in document["data_absent"]
    runs = {run["name"]: run for run in document["runs"]}
    assert runs["squad.tydiqa"]["starts_from"] == "squad"
    assert {(run["state"], run["hash"], run["folder"]) for run in runs.values()} == {("unknown", "", "")}
    assert document["estimate"]["hours"] == {}
    assert {"mteb/BUCC", "nyu-mll/multi_nli"} <= set(document["estimate"]["unknown_downloads"])
    # Without CCGbank eight tasks are trained together, and the plan says so.
    assert "multi" not in runs
    assert runs["multi8"]["train"] == [key for key in INTERMEDIATE_KEYS if key != "ccg"]
    assert list(document["left_out"]) == ["multi"]
    assert "ccg, which is licensed; trained on the other 8 tasks as multi8" in document["left_out"]["multi"]

    text = invoke(*arguments).out
    parts = ["as multi8", "Data is absent, so it is not known which runs are done"]
    parts += [
        "not measured here yet",
        "87 GB for 39 models",
        "an estimate for qqp, panx",
        "seeds: 0, 1, 2",
    ]
    assert not [part for part in parts if part not in text]


def test_what_kept_states_cost_is_said_before_anything_is_kept(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_home(tmp_path, monkeypatch)
    shutil.copytree(PROJECT / "artifact" / "expected", tmp_path / "artifact" / "expected")
    arguments = ("plan", "--tier", "core", "--keep-checkpoints", "1", "--results", str(tmp_path / "results"))
    document = invoke(*arguments, "--json").document
    kept, hours = document["kept"], document["estimate"]["hours"]
    # DERIVED: 558,840,832 weights of XLM-R Large in fp32, four times over, of each of 39 trainings.
    assert (kept["checkpoints"], kept["bytes"], kept["stretches"]) == (1, 39 * 4 * 4 * 558_840_832, 78)
    assert kept["stretch_hours"] == {on: pytest.approx(took["training"] / 78) for on, took in hours.items()}
    text = invoke(*arguments).out
    assert "18 GB in a training" in text
    assert "1 of each training, 349 GB: 78 stretches, on average " in text


def test_what_the_seeds_can_show_is_said_before_anything_is_fetched(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_home(tmp_path, monkeypatch)
    shutil.copy(PROJECT / "artifact" / "claims.toml", tmp_path / "artifact")
    shutil.copytree(PROJECT / "artifact" / "expected", tmp_path / "artifact" / "expected")
    arguments = ("plan", "--tier", "core", "--power", "--results", str(tmp_path / "results"))
    whole = invoke(*arguments, "--json").document
    document, hours = whole["power"], whole["estimate"]["hours"]
    assert list(hours) == ["NVIDIA H200, graph engine, predicted", "NVIDIA H200, deepspeed engine, predicted"]
    assert all(each["measured"] == [] and each["training"] > each["floor"] > 0 for each in hours.values())
    claims = {line["claim"] for line in document["lines"]}
    assert claims == {"", "C1", "C2", "C3", "C4", "C5", "C7", "C8", "A2", "A5"}, "C6 is of the tier paper"
    assert all(each["source"].startswith("https://") for each in document["prior"]["sets"])
    assert document["sizes_unknown"] == ["bucc2018", "tydiqa"]
    text = invoke(*arguments).out
    assert not [
        part for part in ("all nine − baseline", "nothing is trained", "* predicted from the assum") if part not in text
    ]
    assert invoke(*arguments[:3], *arguments[4:], "--json").document["power"] is None


def test_a_study_costs_its_seeds_and_its_perturbed_rows(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_home(tmp_path, monkeypatch)
    shutil.copytree(PROJECT / "artifact" / "expected", tmp_path / "artifact" / "expected")
    shutil.copytree(PROJECT / "artifact" / "studies", tmp_path / "artifact" / "studies")
    arguments = ("plan", "--study", "Q3", "--tier", "core", "--results", str(tmp_path / "results"))
    document = invoke(*arguments, "--json").document
    study, hours = document["study"], document["estimate"]["hours"]
    # Four sizes of NLI and seven tasks, two perturbations, four tasks. Each is on fewer rows than the arm's targets on
    # clean ones, which are scored in English too, and where there is a dev set on that.
    assert (study["seeds"], study["evaluations"]) == ([0, 1, 2, 3, 4], (4 + 7) * 2 * 4)
    targets = zip(document["runs"], document["estimate"]["runs"], strict=True)
    clean = sum(kind["rows"] for run, size in targets if run["phase"] == "target" for kind in size["scored"].values())
    assert 0.4 * clean < study["rows"] / 2 < clean
    # More than the runs on clean rows alone, whose parts the table tells.
    alone = {on: sum(took[part] for part in PARTS) for on, took in hours.items()}
    assert alone
    assert all(1.05 * alone[on] < took < 3 * alone[on] for on, took in study["hours"].items())
