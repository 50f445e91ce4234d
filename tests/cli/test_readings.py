"""``xlt retrieve --readings`` on the constructed world with a small random XLM-R."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from tests.cli.conftest import Invoke
from tests.plain_readings import accuracies, units
from xlt.data.rows import BitextRow
from xlt.data.source import Source
from xlt.data.tokenizer import load_tokenizer, train_tokenizer
from xlt.errors import ExitCode
from xlt.model.encoder import PackedModel
from xlt.pipeline import read_language
from xlt.pipeline.readings import Readings
from xlt.pipeline.sources import SourceOptions, open_source
from xlt.tasks.catalogue import get_task

LIMIT = 50
LANGUAGES = ("qaa", "qab")
WORLD = ("--source", "world", "--limit", str(LIMIT), "--language", "qaa", "--language", "qab")


@pytest.fixture(scope="module")
def world() -> Source:
    return open_source(SourceOptions(limit=LIMIT))


@pytest.fixture(scope="module")
def models(world: Source, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two folders with a random XLM-R each, of another seed."""
    task = get_task("tatoeba")
    rows = [row for language in LANGUAGES for row in world.rows(task, "test", language) if isinstance(row, BitextRow)]
    folders = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp("model")
        train_tokenizer([text for row in rows for text in (row.english, row.foreign)], 150, folder, threads=1)
        tokenizer = load_tokenizer(str(folder))
        torch.manual_seed(seed)
        shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
        # Wider weights than at the start of a training, where all vectors are nearly alike.
        PackedModel.fresh({"vocab_size": len(tokenizer), "initializer_range": 0.3, **shape}).save(folder)
        tokenizer.save_pretrained(str(folder))
        folders.append(str(folder))
    return folders


def _retrieve(invoke: Invoke, task: str, results: Path, *options: str) -> Any:
    return invoke("retrieve", task, "--results", str(results), *WORLD, *options)


def _states(folder: str, texts: list[str]) -> list[dict[str, np.ndarray]]:
    """The vectors of each layer by pooling, from the library's model, sentence by sentence."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), load_tokenizer(folder)
    found: list[dict[str, list[np.ndarray]]] = []
    for text in texts:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        found = found or [{"mean": [], "mean without special tokens": [], "first": []} for _ in states]
        for layer, state in zip(found, states, strict=True):
            tokens = state[0].double().numpy()
            layer["mean"].append(tokens.mean(axis=0))
            layer["mean without special tokens"].append(tokens[1:-1].mean(axis=0))
            layer["first"].append(tokens[0])
    return [{pooling: np.array(vectors) for pooling, vectors in layer.items()} for layer in found]


def test_every_reading_is_what_the_librarys_vectors_give(
    invoke: Invoke, models: list[str], world: Source, tmp_path: Path
) -> None:
    document = _retrieve(invoke, "tatoeba", tmp_path, "--model", models[0], "--readings", "--json").document
    readings = {
        tuple(each[name] for name in ("split", "layer", "pooling", "vectors", "queries", "scoring")): each
        for each in document["found"]["readings"]
    }
    # Three layers of three poolings, but the first token's embedding, and of each three by two by two; dev and test.
    assert len(readings) == 2 * 8 * 3 * 2 * 2
    rows = [row for row in world.rows(get_task("tatoeba"), "test", "qab") if isinstance(row, BitextRow)]
    english, foreign = (_states(models[0], [getattr(row, side) for row in rows]) for side in ("english", "foreign"))
    exact = compared = 0
    for (split, layer, pooling, how, queries, scoring), reading in readings.items():
        if split == "test":
            wanted = accuracies(*units(foreign[layer][pooling], english[layer][pooling], how))[queries, scoring]
            given = reading["scores"][1]
            # Packed and alone, a sentence's vector differs in the last bit: one near tie may fall the other way.
            assert abs(given - wanted) <= 100 / len(rows) + 1e-9, (layer, pooling, how, queries, scoring)
            exact, compared = exact + (given == pytest.approx(wanted)), compared + 1
    assert compared == 96
    assert exact >= 90


def test_the_plain_reading_of_tatoeba_is_what_retrieve_gives(
    invoke: Invoke, models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ("--model", models[0], "--layer", "1")
    metrics = _retrieve(invoke, "tatoeba", tmp_path, *model, "--json").document["metrics"]["tatoeba"]
    document = _retrieve(invoke, "tatoeba", tmp_path, *model, "--readings", "--json").document
    plain = [each for each in document["found"]["readings"] if each["plain"]]
    assert [each["split"] for each in plain] == ["dev", "test"]
    for each in plain:
        assert each["scores"] == [metrics[each["split"]][language]["accuracy"] for language in LANGUAGES]
        assert each["mean"] == pytest.approx(np.mean(each["scores"]))
        assert each["mean_of_33"] is None
    assert document["found"]["layers"][1]["raw"] == pytest.approx(plain[1]["mean"])
    # The folder holds the same, as a record and as a table, and another command computes nothing again.
    folder = tmp_path / document["folder"]
    stored = Readings.model_validate_json((folder / "readings.json").read_text("utf-8"))
    assert json.loads(stored.model_dump_json()) == document["found"]
    with (folder / "readings.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["qaa"]) for row in rows] == [each["scores"][0] for each in document["found"]["readings"]]
    monkeypatch.setattr(read_language, "read_language", lambda *_: pytest.fail("it was there"))
    printed = f"{plain[1]['mean']:.1f}"
    shown = _retrieve(invoke, "tatoeba", tmp_path, *model, "--readings", "--printed", printed)
    assert shown.code == ExitCode.OK
    assert f"of 192 values round to {printed}" in shown.out
    assert "by chance" in shown.out
    assert shown.out.count("as xlt retrieve reads") == 2
    unknown = _retrieve(invoke, "tatoeba", tmp_path, *model, "--readings", "--printed", "mine")
    assert unknown.code == ExitCode.USAGE
    assert "Tables: replication" in unknown.err
    # The languages of the world are in no table: only the mean is compared.
    table = _retrieve(invoke, "tatoeba", tmp_path, *model, "--readings", "--printed", "replication", "--json").document
    assert (table["comparison"]["printed"], table["comparison"]["differences"]) == ("31.0", [])
    # Another layer or pooling is another plain reading of the same.
    other = _retrieve(invoke, "tatoeba", tmp_path, "--model", models[0], "--layer", "2", "--pooling", "first")
    document = _retrieve(
        *(invoke, "tatoeba", tmp_path, "--model", models[0], "--layer", "2", "--pooling", "first"),
        *("--readings", "--json"),
    ).document
    [accuracy] = [
        each["scores"][0] for each in document["found"]["readings"] if each["plain"] and each["split"] == "test"
    ]
    assert f"{accuracy:.1f}" in other.out
    without = _retrieve(invoke, "tatoeba", tmp_path, "--model", models[0], "--readings")
    assert "Sentence vectors are of block 2, the model's last: it has no block 14." in without.out
    assert without.out.count("as xlt retrieve reads") == 2


def test_readings_of_mining_hold_the_f1_of_retrieve(invoke: Invoke, models: list[str], tmp_path: Path) -> None:
    model = ("--model", models[0], "--layer", "2")
    metrics = _retrieve(invoke, "bucc2018", tmp_path, *model, "--json").document["metrics"]["bucc2018"]
    document = _retrieve(invoke, "bucc2018", tmp_path, *model, "--readings", "--json").document
    readings = document["found"]["readings"]
    plain = [each for each in readings if each["plain"]]
    assert [(each["split"], each["threshold"], each["scoring"]) for each in plain] == [
        ("dev", "dev", "margin"),
        ("test", "dev", "margin"),
    ]
    for each in plain:
        assert each["scores"] == [metrics[each["split"]][language]["f1"] for language in LANGUAGES]
    assert len(readings) == 8 * 3 * 2 * (1 + 2)
    # A threshold fitted on the split that it is judged on is never worse there.
    for split in ("dev", "scored split"):
        assert any(each["threshold"] == split for each in readings)
    test = [each for each in readings if each["split"] == "test"]
    pairs = zip(
        *([each for each in test if each["threshold"] == name] for name in ("dev", "scored split")), strict=True
    )
    assert all(fitted["mean"] >= given["mean"] for given, fitted in pairs)
    assert document["found"]["pairs"]["bucc2018/test/qaa"] > 0


def test_an_interrupted_reading_goes_on_after_its_last_language(
    invoke: Invoke, models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, made = read_language.read_language, []

    def stop(*arguments: Any) -> Readings:
        made.append(arguments[4])
        if len(made) == 2:
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(read_language, "read_language", stop)
    command = ("--model", models[0], "--readings", "--json")
    assert _retrieve(invoke, "tatoeba", tmp_path, *command).code == ExitCode.INCOMPLETE
    [part] = tmp_path.rglob("qaa.json")
    document = _retrieve(invoke, "tatoeba", tmp_path, *command).document
    assert made == ["qaa", "qab", "qab"]
    # A damaged part is made again, and one of other rows too.
    part.write_text(part.read_text("utf-8")[:-99], "utf-8")
    assert _retrieve(invoke, "tatoeba", tmp_path, *command).document == document
    assert made[3:] == ["qaa"]
    fresh = _retrieve(invoke, "tatoeba", tmp_path / "fresh", *command).document
    assert fresh == document


def test_little_memory_takes_more_passes_and_changes_nothing(
    invoke: Invoke, models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("--model", models[0], "--prefix", "query: ", "--readings", "--json")
    passes: list[range] = []
    embed = read_language.embed_layers
    monkeypatch.setattr(
        read_language, "embed_layers", lambda *given, **how: passes.append(how["layers"]) or embed(*given, **how)
    )
    whole = _retrieve(invoke, "bucc2018", tmp_path / "one", *command).document
    assert set(passes) == {range(3)}
    passes.clear()
    monkeypatch.setattr(read_language, "MEMORY_SHARE", 1 << 60)
    assert _retrieve(invoke, "bucc2018", tmp_path / "two", *command).document == whole
    assert set(passes) == {range(1), range(1, 2), range(2, 3)}
    # A prefix is another set of vectors, in a folder of its own.
    without = _retrieve(invoke, "bucc2018", tmp_path / "two", "--model", models[0], "--readings", "--json").document
    assert without["folder"] != whole["folder"]
    assert without["found"]["readings"] != whole["found"]["readings"]


def test_two_models_layer_by_layer(invoke: Invoke, models: list[str], tmp_path: Path) -> None:
    command = ("--model", models[1], "--before", models[0], "--layer", "1", "--readings")
    document = _retrieve(invoke, "tatoeba", tmp_path, *command, "--json").document
    shown = _retrieve(invoke, "tatoeba", tmp_path, *command).out
    now, then = (document[name]["layers"][1]["raw"] for name in ("found", "before"))
    assert now != then
    assert f"{then:.1f} → {now:.1f}" in shown
    assert f"Training changes block 1 by {now - then:+.1f} points as it is" in shown
    assert len(list(tmp_path.rglob("readings.json"))) == 2


def test_a_table_of_published_values_is_compared_in_the_languages_that_are_read(
    invoke: Invoke, models: list[str], tiny_files: Path, tmp_path: Path
) -> None:
    command = (
        *("retrieve", "tatoeba", "--model", models[0], "--layer", "1", "--source", "files"),
        *("--data-root", str(tiny_files), "--results", str(tmp_path), "--readings", "--printed", "replication"),
    )
    document = invoke(*command, "--json").document
    # The authors' own code gave 7.9 in Swahili and 41.2 in Chinese (31.0 in all 36 languages).
    assert (document["comparison"]["printed"], document["found"]["languages"]) == ("24.6", ["sw", "zh"])
    differences = [
        (abs(each["scores"][0] - 7.9) + abs(each["scores"][1] - 41.2)) / 2 for each in document["found"]["readings"]
    ]
    assert document["comparison"]["differences"] == pytest.approx(differences)
    shown = invoke(*command).out
    assert "Of 2 languages of the table, whose printed mean is 24.6." in shown
    assert f"{min(differences):.2f}" in shown
