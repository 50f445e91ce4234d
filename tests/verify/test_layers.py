"""Retrieval by layer: readings that lie beside the runs are shown, by the arm that their encoder was trained in."""

from __future__ import annotations

from pathlib import Path

from xlt.pipeline.readings import READINGS, LayerProfile, Readings
from xlt.pipeline.spec import Backbone, SourceSpec
from xlt.verify.layers import read_layers


def _write(results: Path, name: str, parent: str | None, best: float, *, languages: tuple[str, ...] = ("de",)) -> Path:
    rest = dict.fromkeys(set(LayerProfile.model_fields) - {"layer", "raw"}, 0.5)
    made = Readings(
        task="tatoeba",
        backbone=Backbone(name="some-encoder"),
        parent=parent,
        source=SourceSpec(name="files"),
        precision="fp32",
        max_length=128,
        data={f"tatoeba/test/{code}": "print" for code in languages},
        pairs={},
        languages=languages,
        readings=(),
        layers=(LayerProfile(layer=0, raw=1.0, **rest), LayerProfile(layer=1, raw=best, **rest)),
    )
    path = results / "readings" / name / READINGS
    path.parent.mkdir(parents=True)
    path.write_text(made.model_dump_json(), "utf-8")
    return path


def test_the_layers_before_and_after_phase_2_stand_in_one_chart_on_the_same_sentences(tmp_path: Path) -> None:
    _write(tmp_path, "tatoeba-a", "0123", 60.0)
    _write(tmp_path, "tatoeba-b", None, 70.0)
    _write(tmp_path, "tatoeba-c", None, 10.0, languages=("de", "sw"))
    same, other = sorted(read_layers(tmp_path, {"0123": "mnli"}).charts, key=lambda each: len(each.languages))
    assert same.encoders == ("before: some-encoder", "after mnli")
    assert [[each and each.raw for each in profiles] for _, profiles in same.rows] == [[1.0, 1.0], [70.0, 60.0]]
    assert all(svg.count("<polyline") == 2 for _, svg in same.charts)
    assert other.encoders == ("before: some-encoder",)


def test_without_readings_nothing_is_shown_and_a_broken_file_is_named(tmp_path: Path) -> None:
    assert not read_layers(tmp_path, {}).charts
    _write(tmp_path, "tatoeba-a", None, 60.0).write_text("{", "utf-8")
    found = read_layers(tmp_path, {})
    assert not found.charts
    assert found.unreadable == (f"readings/tatoeba-a/{READINGS}",)
