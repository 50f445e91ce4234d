"""Retrieval by layer, before and after phase 2: what ``xlt retrieve --readings`` has left beside the runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from xlt.errors import DataFault
from xlt.strict_json import read_json
from xlt.tasks.catalogue import get_task
from xlt.verify.charts import line_chart

if TYPE_CHECKING:
    from xlt.pipeline.readings import LayerProfile, Readings

SHOWN = {
    "raw": "Score of the vectors as they are",
    "centred": "Score of mean-centred vectors",
    "english": "Mean cosine of two English sentences (isotropic: 0)",
}


@dataclass(frozen=True, slots=True)
class LayerCharts:
    """The layers of several encoders on one task, on the same sentences: a line for each encoder in each chart."""

    task: str
    languages: tuple[str, ...]
    encoders: tuple[str, ...]
    charts: tuple[tuple[str, str], ...]
    """A title and an SVG each."""
    rows: tuple[tuple[int, tuple[LayerProfile | None, ...]], ...]
    """The same as numbers: by layer what each encoder has."""


@dataclass(frozen=True, slots=True)
class Layers:
    """What was read below one folder of results, and what could not be."""

    charts: tuple[LayerCharts, ...]
    unreadable: tuple[str, ...]


def read_layers(results: Path, arms: Mapping[str, str]) -> Layers:
    """The readings below ``results``; ``arms`` names the phase-2 models by the hash of the run that trained them."""
    paths = sorted(results.glob("readings/*/readings.json"))
    if not paths:
        return Layers((), ())
    # Here, not above: it brings the encoders' packages, which a report of runs alone does without.
    from xlt.pipeline.readings import Readings

    found: dict[tuple[str, tuple[str, ...], str], dict[str, Readings]] = {}
    unreadable = []
    for path in paths:
        try:
            each = read_json(path, TypeAdapter(Readings))
        except DataFault:
            unreadable.append(path.relative_to(results).as_posix())
            continue
        fingerprints = " ".join(sorted(each.data.values()))
        name = (
            f"after {arms.get(each.parent, each.parent)}"
            if each.parent
            else f"before: {each.backbone.name or 'phase 1'}"
        )
        found.setdefault((each.task, each.languages, fingerprints), {})[name] = each
    return Layers(
        tuple(_charts(task, languages, its) for (task, languages, _), its in found.items()), tuple(unreadable)
    )


def _charts(task: str, languages: tuple[str, ...], found: Mapping[str, Readings]) -> LayerCharts:
    ordered = dict(sorted(found.items(), key=lambda item: (item[1].parent is not None, item[0])))
    return LayerCharts(
        get_task(task).name,
        languages,
        tuple(ordered),
        tuple((title, _chart(ordered, field)) for field, title in SHOWN.items()),
        tuple(_rows(list(ordered.values()))),
    )


def _chart(found: Mapping[str, Readings], field: str) -> str:
    lines = {name: [(float(each.layer), getattr(each, field)) for each in its.layers] for name, its in found.items()}
    return line_chart(lines, x_label="layer", y_label="cosine" if field == "english" else "score", y_from=0)


def _rows(found: Sequence[Readings]) -> Iterator[tuple[int, tuple[LayerProfile | None, ...]]]:
    by_layer = [{each.layer: each for each in its.layers} for its in found]
    for layer in sorted({layer for its in by_layer for layer in its}):
        yield layer, tuple(its.get(layer) for its in by_layer)
