"""``xlt retrieve --readings``: the tables that people see of all readings of a retrieval task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.progress import MofNCompleteColumn

from xlt.cli.lazy import lazily
from xlt.cli.options import DataOptions, ScoringOptions
from xlt.cli.output import Shown, emit, say, table
from xlt.cli.single_run import plan_run
from xlt.errors import UsageFault

with lazily():
    from xlt import files, runtime
    from xlt.cli import progress
    from xlt.model import encoder
    from xlt.pipeline import read_language, training
    from xlt.pipeline import readings as pipeline
    from xlt.train import seeding
    from xlt.verify import claims

# All of them are in the CSV.
MOST_ROWS = 25
NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class ReadingsReport:
    """What all readings of a task by one encoder come to."""

    folder: str
    """Their folder below RESULTS."""
    found: pipeline.Readings
    """All of them."""
    comparison: pipeline.Comparison | None
    """How they compare with the number given as --printed."""
    before: pipeline.Readings | None
    """Those of the model given as --before."""


def show_readings(
    task: str,
    model: str,
    data: DataOptions,
    chosen: ScoringOptions,
    results: Path,
    *,
    retrieval: Mapping[str, int | str],
    printed: str,
    before: str,
) -> None:
    """Score every reading of the task by the model, and by the one ``before`` its training; show those nearest to the
    number ``printed`` first."""
    number, by_language = _printed(printed, task)
    earlier = _read(task, before, data, chosen, results, retrieval)[1] if before else None
    folder, found = _read(task, model, data, chosen, results, retrieval)
    comparison, values = None, pipeline.values(found)
    common = [by_language[language] for language in found.languages if language in by_language]
    if 0 < len(common) < len(by_language):
        number = f"{fmean(common):.1f}"
        say(f"Of {len(common)} language{'s' * (len(common) > 1)} of the table, whose printed mean is {number}.")
    if number:
        comparison, values = pipeline.nearest_values(found, number, by_language)
    report = ReadingsReport(folder, found, comparison, earlier)
    emit(report, _shown(report, values))
    say(f"All of them are in {results / folder / pipeline.READINGS} and {pipeline.TABLE}")


def _printed(printed: str, task: str) -> tuple[str, dict[str, float]]:
    """The number given as --printed, or that of the table of published values with that name, and its languages."""
    if not printed or NUMBER.fullmatch(printed):
        return printed, {}
    cells = [cell for cell in claims.read_literature().cells() if cell.quantity == task and cell.expected is not None]
    tables = dict.fromkeys(cell.table for cell in cells if not cell.language)
    own = {cell.language: cell.expected for cell in cells if cell.table == printed and cell.expected is not None}
    if printed not in tables:
        raise UsageFault(
            f"'{printed}' is neither a number as it is printed nor a table that prints '{task}'.",
            why=f"Tables: {', '.join(tables)}." if tables else "No table does.",
            fix="--printed 31.0",
        )
    return f"{own.pop(''):.1f}", own


def _read(
    task: str, model: str, data: DataOptions, chosen: ScoringOptions, results: Path, retrieval: Mapping[str, int | str]
) -> tuple[str, pipeline.Readings]:
    """The folder below RESULTS and the readings of one model; it is loaded only if some are missing."""
    planned = plan_run(task, model, data, scoring=chosen, retrieval=retrieval)
    files.check_writable(results)
    run, start = planned.run, planned.start
    seeding.deterministic(True)
    loaded: list[tuple[encoder.PackedModel, Any]] = []
    done: list[str] = []
    with progress.Display("language {:.0f} of {:.0f}".format, MofNCompleteColumn()) as shown:
        total = len({name.rpartition("/")[2] for name in run.data})
        bar = shown.add(f"readings of {task} by {model}", total)

        def read(language: str) -> pipeline.Readings:
            if not loaded and start:
                loaded.append(training.load_model(start.folder))
                loaded[0][0].compute_in(runtime.device(), run.precision)

            def told(what: str, part: int, of: int) -> None:
                shown.show(bar, f"{language}: {part} of {of} {what}")

            return read_language.read_language(run, *loaded[0], planned.source, language, told)

        def tell(language: str) -> None:
            done.append(language)
            shown.show(bar, f"{language} done", completed=len(done))

        def wait() -> None:
            say("Another process is making these readings; this one waits for it.")

        found = pipeline.all_readings(run, results, read, tell, wait)
    return pipeline.readings_folder(run), found


def _shown(report: ReadingsReport, values: list[pipeline.Value]) -> Shown:
    found, comparison = report.found, report.comparison
    plain = [value for value in values if value.reading.plain and value.averaged == "languages"]
    first = values[:MOST_ROWS]
    rows = first + [value for value in plain if value not in first]
    mining = found.readings[0].queries == "both"
    way = ("split", "layer", "pooling", "vectors", "threshold" if mining else "queries", "scoring")
    count = len(found.languages)
    title = f"{found.task}, {count} language{'s' * (count > 1)}: {len(found.readings)} readings"
    second = "off by language" if comparison and comparison.differences else "mean over"
    yield table(("score", second, *way, ""), (_row(value, mining, second) for value in rows), title)
    yield from _comparison(report)
    yield _layers(found, report.before)
    yield from _gains(found, report.before)


def _row(value: pipeline.Value, mining: bool, second: str) -> tuple[object, ...]:
    reading = value.reading
    middle = reading.threshold if mining else reading.queries
    plain = "as xlt retrieve reads" if reading.plain and value.averaged == "languages" else ""
    way = reading.split, reading.layer, reading.pooling, reading.vectors, middle, reading.scoring
    return f"{value.value:.2f}", value.averaged if second == "mean over" else f"{value.difference:.2f}", *way, plain


def _comparison(report: ReadingsReport) -> Iterator[str]:
    found, comparison = report.found, report.comparison
    if comparison is None:
        return
    yield (
        f"{comparison.hits} of {comparison.values} values round to {comparison.printed}. {comparison.near} lie within "
        f"{comparison.window:g} points of it: if they lay evenly there, {comparison.by_chance:.1f} would round to it "
        "by chance. A hit is a candidate and no proof: its languages must agree as well."
    )
    bounds = [reading for reading in found.readings if reading.mean_of_33]
    if bounds:
        plain = [reading.mean_of_33 for reading in found.plain() if reading.mean_of_33]
        between = f"; of the plain reading it lies between {plain[0][0]:.1f} and {plain[0][1]:.1f}" if plain else ""
        yield (
            "XTREME's table counts 33 languages, and no source names the three that it leaves out. The mean of some 33 "
            f"could be {comparison.printed} in {comparison.subsets} of {len(bounds)} readings{between}."
        )


def _layers(found: pipeline.Readings, before: pipeline.Readings | None) -> Any:
    earlier = {layer.layer: layer for layer in before.layers} if before else {}
    names = ("raw", "centred", "whitened", "translations", "strangers", "english", "foreign")
    components = ("english_first_component", "foreign_first_component")
    columns = ("layer", *names, "first PC en", "first PC")

    def cell(layer: pipeline.LayerProfile, name: str, digits: int) -> str:
        now = f"{getattr(layer, name):.{digits}f}"
        then = earlier.get(layer.layer)
        return f"{getattr(then, name):.{digits}f} → {now}" if then else now

    rows = (
        (layer.layer, *(cell(layer, name, 1 if name in names[:3] else 2) for name in (*names, *components)))
        for layer in found.layers
    )
    return table(columns, rows, "Score of raw, centred and whitened means over tokens; mean cosines; first component")


def _gains(found: pipeline.Readings, before: pipeline.Readings | None) -> Iterator[str]:
    """What training changed at the layer that ``xlt retrieve`` reads."""
    layer = found.backbone.retrieval_layer
    pairs = [
        (now, then) for now in found.layers for then in (before.layers if before else ()) if now.layer == then.layer
    ]
    for now, then in pairs:
        if now.layer == layer:
            raw, centred, whitened = (
                getattr(now, name) - getattr(then, name) for name in ("raw", "centred", "whitened")
            )
            yield (
                f"Training changes block {layer} by {raw:+.1f} points as it is, {centred:+.1f} between centred and "
                f"{whitened:+.1f} between whitened vectors. What whitening levels is isotropy; what stays is "
                "alignment."
            )
