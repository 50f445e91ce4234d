"""Printed numbers among the values of many readings, and what can be known of a mean over 33 languages."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from statistics import fmean

import pytest

from xlt.artifact import artifact_root
from xlt.pipeline.readings import LayerProfile, Reading, Readings, all_readings, nearest_values, schema, values
from xlt.pipeline.spec import Backbone, RunSpec, SourceSpec
from xlt.tasks.catalogue import get_task

LANGUAGES = get_task("tatoeba").benchmarks["xtreme"].split()
PROFILE = dict.fromkeys(set(LayerProfile.model_fields) - {"layer"}, 0.5)


def _spec(languages: list[str]) -> RunSpec:
    return RunSpec(
        phase="target",
        name="evaluate.tatoeba",
        arm="",
        train=(),
        evaluate=("tatoeba",),
        backbone=Backbone(name="x", retrieval_layer=1),
        parent=None,
        source=SourceSpec(name="files"),
        data={f"tatoeba/test/{language}": language for language in languages},
        recipe={},
        seed=0,
        precision="fp32",
    )


def _part(spec: RunSpec, language: str, scores: list[float], pairs: int = 10) -> Readings:
    name = f"tatoeba/test/{language}"
    return Readings(
        task="tatoeba",
        backbone=spec.backbone,
        parent=None,
        source=spec.source,
        precision="fp32",
        max_length=9,
        data={name: spec.data[name]},
        pairs={name: pairs},
        languages=(language,),
        readings=tuple(
            Reading(
                layer=layer,
                pooling="mean",
                vectors="raw",
                queries="english",
                scoring="cosine",
                split="test",
                scores=(score,),
                mean=score,
                mean_over_pairs=score,
            )
            for layer, score in enumerate(scores)
        ),
        layers=(LayerProfile(layer=0, **PROFILE | {"raw": scores[0]}),),
    )


def test_means_over_languages_over_pairs_and_over_any_33(tmp_path: Path) -> None:
    spec = _spec(LANGUAGES)
    scores = {language: float(place**2 % 37) for place, language in enumerate(LANGUAGES)}
    size = {language: 10 if scores[language] else 1000 for language in LANGUAGES}
    found = all_readings(spec, tmp_path, lambda code: _part(spec, code, [scores[code], 50.0], size[code]))
    first, second = found.readings
    assert first.scores == tuple(scores.values())
    assert first.mean == pytest.approx(fmean(scores.values()))
    assert first.mean_over_pairs == pytest.approx(fmean(scores.values(), size.values()))
    assert first.mean_over_pairs < first.mean
    assert [(each.averaged, each.value) for each in values(found)].count(("pairs", first.mean_over_pairs)) == 1
    means = [(sum(scores.values()) - sum(left)) / 33 for left in combinations(scores.values(), 3)]
    assert first.mean_of_33 == (pytest.approx(min(means)), pytest.approx(max(means)))
    assert second.mean_of_33 == (50.0, 50.0)
    assert found.plain() == (second,)
    assert found.layers[0].raw == pytest.approx(first.mean)
    # Of other languages nothing is said: XTREME's table is of these.
    fewer = _spec(LANGUAGES[:35])
    some = all_readings(fewer, tmp_path, lambda code: pytest.fail("it is there"))
    assert {reading.mean_of_33 for reading in some.readings} == {None}


def test_a_printed_number_finds_its_readings_and_what_chance_would_find(tmp_path: Path) -> None:
    spec = _spec(["de"])
    scores = [31.04, 30.95, 30.94, 31.2, 28.6, 28.4, 33.4, 90.0]
    found = all_readings(spec, tmp_path, lambda code: _part(spec, code, scores))
    comparison, order = nearest_values(found, "31.0")
    assert [round(value.value, 2) for value in order[:3]] == [31.04, 30.95, 30.94]
    # Of one language both means are the same number, which counts once.
    assert {value.averaged for value in order} == {"languages"}
    # 30.95 may have been printed as 30.9 or as 31.0; within 2.5 points lie six readings.
    assert (comparison.values, comparison.hits, comparison.near, comparison.window) == (8, 2, 6, 2.5)
    assert comparison.by_chance == pytest.approx(6 * 0.1 / 5)
    whole = nearest_values(found, "31")[0]
    assert (whole.hits, whole.window) == (4, 25.0)
    assert [value.value for value in values(found)][:3] == [90.0, 33.4, 31.2]


def test_printed_languages_decide_between_readings_of_one_mean(tmp_path: Path) -> None:
    spec, scores = _spec(["de", "sw"]), {"de": [40.0, 60.0, 50.2], "sw": [60.0, 40.0, 50.2]}
    found = all_readings(spec, tmp_path, lambda code: _part(spec, code, scores[code]))
    comparison, order = nearest_values(found, "50.0", {"de": 59.0, "sw": 42.0, "th": 1.0})
    assert comparison.differences == pytest.approx((18.5, 1.5, 8.5))
    assert [(value.reading.layer, value.difference) for value in order] == [
        (1, pytest.approx(1.5)),
        (2, pytest.approx(8.5)),
        (0, pytest.approx(18.5)),
    ]
    assert comparison.hits == 2  # both languages have as many pairs


def test_the_published_schema_is_the_current_one() -> None:
    published = (artifact_root() / "schema" / "readings.schema.json").read_text("utf-8")
    assert published == schema(), "python -m xlt.pipeline.readings > artifact/schema/readings.schema.json"
