"""``xlt retrieve --readings``: what every reading of an encoder's vectors scores.

A published number rarely says all that determines it: the layer, the pooling, which side queries, the margin, the
languages, and how their scores are averaged. One pass over the sentences tells which of the possible readings give it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Literal, NamedTuple, TypeAlias

from pydantic import TypeAdapter

from xlt.errors import DataFault
from xlt.files import locked, writable, write_text
from xlt.frozen import Frozen
from xlt.pipeline.spec import Backbone, RunSpec, SourceSpec
from xlt.retrieval.readings import Geometry, Queries, Scoring, TokenPooling, Transformation
from xlt.strict_json import read_json
from xlt.tasks.catalogue import get_task

READINGS = "readings.json"
TABLE = "readings.csv"
# XTREME's own table counts 33 languages for Tatoeba, its code has 36; no source that was found names the other three.
LANGUAGES_OF_THE_TABLE = 33
# A printed number is compared with the values that lie within so many times its rounding.
NEIGHBOURHOOD = 50

Threshold: TypeAlias = Literal["", "dev", "scored split"]


class Reading(Frozen):
    """One way to read the vectors, and what it scores."""

    layer: int
    """The Transformer block whose output is read; 0 for the embeddings."""
    pooling: TokenPooling
    """How the vectors of tokens become one."""
    vectors: Transformation
    """What is done to the vectors of both sides before cosines are taken."""
    queries: Queries
    """The side that queries; both in mining."""
    scoring: Scoring
    """The cosine, or the ratio margin over the four nearest."""
    split: Literal["dev", "test"]
    """The split that is scored."""
    threshold: Threshold = ""
    """In mining, the split on which the threshold is fitted."""
    plain: bool = False
    """Whether ``xlt retrieve`` reads the vectors so, as the code of the paper's authors does."""
    scores: tuple[float, ...]
    """Accuracy, or in mining F1, in percent, in the order of the languages."""
    mean: float
    """The mean of the scores over languages."""
    mean_over_pairs: float
    """The mean of the scores weighted by the number of translation pairs of each language."""
    mean_of_33: tuple[float, float] | None = None
    """Of all 36 languages of Tatoeba, the lowest and the highest mean of 33: which three XTREME's table leaves out is
    not known."""


class LayerProfile(Geometry):
    """Alignment and isotropy of one layer: of the mean over all tokens, each number a mean over languages."""

    layer: int
    """The Transformer block; 0 for the embeddings."""
    raw: float
    """The score of the plain way to query and score, in percent."""
    centred: float
    """The same score when each side's mean is taken off first."""
    whitened: float
    """The same score when the vectors of both sides are whitened first."""


class Readings(Frozen):
    """All readings of one task by one encoder."""

    format: Literal[1] = 1
    """The version of this record."""
    task: str
    """The retrieval task."""
    backbone: Backbone
    """The encoder that the model started from."""
    parent: str | None
    """The hash of the run that trained the model; None for a model that was not trained here."""
    source: SourceSpec
    """Where the sentences come from."""
    precision: Literal["fp32", "bf16"]
    """The numeric type of the encoder's computation."""
    max_length: int
    """The longest sequence, in tokens."""
    data: dict[str, str]
    """The fingerprint of every set of rows, by ``task/split/language``."""
    pairs: dict[str, int]
    """The number of translation pairs of every set of rows."""
    languages: tuple[str, ...]
    """The languages, in the order of the scores."""
    readings: tuple[Reading, ...]
    """All readings, from the lowest layer up."""
    layers: tuple[LayerProfile, ...]
    """Every layer, from the embeddings up."""

    def plain(self) -> tuple[Reading, ...]:
        """The readings of ``xlt retrieve``: one for each split, or none where the encoder has no such layer."""
        return tuple(reading for reading in self.readings if reading.plain)


def readings_folder(spec: RunSpec) -> str:
    """The folder below RESULTS of the readings of an evaluation, whatever its languages, splits and plain reading."""
    backbone = spec.backbone.model_copy(update={"retrieval_layer": 14, "pooling": "mean"})
    [task] = spec.evaluate
    return f"readings/{task}-{spec.model_copy(update={'data': {}, 'backbone': backbone}).hash}"


def all_readings(
    spec: RunSpec,
    results: Path,
    read: Callable[[str], Readings],
    told: Callable[[str], None] = lambda language: None,
    wait: Callable[[], None] = lambda: None,
) -> Readings:
    """The readings of every language that ``spec`` evaluates; ``read`` makes those of one that are not there yet.

    They are kept below ``results`` in a file for each language, from which the same call goes on, and together as
    ``readings.json`` and ``readings.csv``. ``told`` gets each language when it is done, and
    ``wait`` is called where another process is making the same readings, which this one waits for.

    Raises:
        EnvironmentFault: the folder cannot be written.
    """
    folder = results / readings_folder(spec)
    parts = []
    with writable(results):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait):
            for language in dict.fromkeys(name.rpartition("/")[2] for name in spec.data):
                path = folder / f"{language}.json"
                part = _kept(path, language_data(spec, language))
                if part is None:
                    part = read(language)
                    write_text(path, part.model_dump_json(indent=1) + "\n")
                parts.append(part)
                told(language)
            found = _joined(parts, spec)
            write_text(folder / READINGS, found.model_dump_json(indent=1) + "\n")
            write_text(folder / TABLE, _csv(found))
    return found


def language_data(spec: RunSpec, language: str) -> dict[str, str]:
    """The fingerprints of the splits of one language that ``spec`` evaluates, dev before test."""
    return {name: print_ for name, print_ in spec.data.items() if name.rpartition("/")[2] == language}


def _kept(path: Path, data: dict[str, str]) -> Readings | None:
    with suppress(DataFault):
        kept = read_json(path, _READINGS)
        return kept if kept.data == data else None
    return None


_READINGS = TypeAdapter(Readings)


def _joined(parts: Sequence[Readings], spec: RunSpec) -> Readings:
    """The readings of several languages as one record."""
    [key] = spec.evaluate
    table = set(get_task(key).benchmarks.get("xtreme", "").split())
    languages = tuple(language for part in parts for language in part.languages)
    pairs = {name: count for part in parts for name, count in part.pairs.items()}

    def join(same: tuple[Reading, ...]) -> Reading:
        scores = tuple(score for each in same for score in each.scores)
        weights = [pairs[f"{key}/{same[0].split}/{language}"] for language in languages]
        whole = key == "tatoeba" and set(languages) == table
        return same[0].model_copy(
            update={
                "plain": _is_plain(same[0], spec),
                "scores": scores,
                "mean": fmean(scores),
                "mean_over_pairs": fmean(scores, weights),
                "mean_of_33": _bounds(scores) if whole else None,
            }
        )

    def profile(same: tuple[LayerProfile, ...]) -> LayerProfile:
        fields = [each.model_dump(exclude={"layer"}) for each in same]
        return LayerProfile(layer=same[0].layer, **{name: fmean(each[name] for each in fields) for name in fields[0]})

    return parts[0].model_copy(
        update={
            "backbone": spec.backbone,
            "data": dict(spec.data),
            "pairs": pairs,
            "languages": languages,
            "readings": tuple(map(join, zip(*(part.readings for part in parts), strict=True))),
            "layers": tuple(map(profile, zip(*(part.layers for part in parts), strict=True))),
        }
    )


def _is_plain(reading: Reading, spec: RunSpec) -> bool:
    way = reading.layer, reading.pooling, reading.vectors, reading.queries, reading.scoring
    mining = reading.queries == "both"
    plain = ("both", "margin") if mining else ("english", "cosine")
    fitted = reading.threshold == "dev" or reading.split == "dev" or not mining
    return fitted and way == (spec.backbone.retrieval_layer, spec.backbone.pooling, "raw", *plain)


def _bounds(scores: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(scores)
    return fmean(ordered[:LANGUAGES_OF_THE_TABLE]), fmean(ordered[-LANGUAGES_OF_THE_TABLE:])


def _csv(found: Readings) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    names = [name for name in Reading.model_fields if name not in ("scores", "mean_of_33")]
    rows.writerow([*names, "lowest_mean_of_33", "highest_mean_of_33", *found.languages])
    for reading in found.readings:
        bounds = reading.mean_of_33 or ("", "")
        rows.writerow([*(getattr(reading, name) for name in names), *bounds, *reading.scores])
    return text.getvalue()


class Value(NamedTuple):
    """A number that could be printed: a reading, averaged in one of two ways; and how far its languages are, on
    average, from printed ones."""

    reading: Reading
    averaged: Literal["languages", "pairs"]
    value: float
    difference: float = 0.0


class Comparison(Frozen):
    """A printed number among the values of all readings."""

    printed: str
    """The number as it was given: its decimals say how it was rounded."""
    values: int
    """How many values were compared with it: every reading, averaged over languages, and over pairs where that differs.
    """
    hits: int
    """How many of them round to it."""
    window: float
    """How far from it values count as near, in points."""
    near: int
    """How many values are near."""
    by_chance: float
    """How many of the near values would round to it if they lay evenly."""
    subsets: int
    """Of how many readings the mean of some 33 of the 36 languages could be the number."""
    differences: tuple[float, ...] = ()
    """For each reading, the mean over languages of the distance of its score from the one printed for that language;
    empty if none are printed."""


def values(found: Readings) -> list[Value]:
    """Every value, the highest first."""
    every = [Value(reading, "languages", reading.mean) for reading in found.readings]
    sizes = {(name.split("/")[1], count) for name, count in found.pairs.items()}
    # Where all languages have as many pairs, the two means are one number, which may not count twice.
    unequal = {split for split, count in sizes if (split, count) != min(each for each in sizes if each[0] == split)}
    every += [
        Value(reading, "pairs", reading.mean_over_pairs) for reading in found.readings if reading.split in unequal
    ]
    return sorted(every, key=lambda each: -each.value)


def nearest_values(
    found: Readings, printed: str, by_language: Mapping[str, float] | None = None
) -> tuple[Comparison, list[Value]]:
    """How the values compare with a ``printed`` number, and all of them, nearest first.

    Where scores are printed ``by_language`` too, that reading is nearest whose languages are, on average: one number
    is met by chance, a row of them is not. Both means of a reading have the same languages, so one of them is given.

    With hundreds of readings some give any number by chance. How many do is told from the density of values around it:
    of those within ``NEIGHBOURHOOD`` roundings, the share that the rounding has of that distance.
    """
    number, decimals = float(printed), len(printed.partition(".")[2])
    half = 0.5 * 10**-decimals
    # A little more than half a unit of the last digit: 31.05 may be printed either way.
    reach = half + 1e-9
    every = sorted(values(found), key=lambda each: abs(each.value - number))
    distances = [abs(each.value - number) for each in every]
    near = sum(distance <= NEIGHBOURHOOD * half for distance in distances)
    bounds = [reading.mean_of_33 for reading in found.readings if reading.mean_of_33]
    given = by_language or {}
    places = [(place, given[language]) for place, language in enumerate(found.languages) if language in given]
    differences = [
        fmean(abs(reading.scores[place] - score) for place, score in places) for reading in found.readings if places
    ]
    comparison = Comparison(
        printed=printed,
        values=len(every),
        hits=sum(distance <= reach for distance in distances),
        window=NEIGHBOURHOOD * half,
        near=near,
        by_chance=near / NEIGHBOURHOOD,
        subsets=sum(low - reach <= number <= high + reach for low, high in bounds),
        differences=tuple(differences),
    )
    if differences:
        of = {id(reading): difference for reading, difference in zip(found.readings, differences, strict=True)}
        every = [each._replace(difference=of[id(each.reading)]) for each in every if each.averaged == "languages"]
        every.sort(key=lambda each: each.difference)
    return comparison, every


def schema() -> str:
    """The JSON schema of ``readings.json``."""
    return json.dumps(Readings.model_json_schema(mode="serialization"), indent=1) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
