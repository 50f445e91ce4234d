"""The claims of the paper and the values printed in the literature, as ``artifact/`` holds them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from xlt.artifact import read_record
from xlt.errors import UsageFault
from xlt.frozen import Frozen
from xlt.strict_json import read_bytes, reason
from xlt.tasks.record import Split

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
# Strict: neither a boolean nor a text is a score, though Python takes them for numbers.
Percent = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]


class Gain(Frozen):
    """An expected gain over the baseline."""

    name: str
    """What is said to gain."""
    arms: tuple[str, ...]
    """The phase-2 models that the paper may mean: each is a reading, and one that holds suffices."""
    expected: float
    """The gain, in points."""
    substitutes: tuple[str, ...] = ()
    """Phase-2 models that are judged where none of these was run; never more than consistent."""
    rivals: tuple[str, ...] = ()
    """Phase-2 models; the probability of being above the best of them is reported."""


class Claim(Frozen):
    """A statement of the paper, how it is computed and judged, and what it costs; no number where none was measured."""

    id: Text
    """Its name here."""
    statement: Text
    """What the paper says."""
    place: Text
    """Where it says so."""
    formula: Text
    """How it is computed from scores."""
    split: Split
    """The split of the scores."""
    source: Text
    """The address of what was read."""
    label: Literal["SEEN", "DERIVED"]
    """Whether the statement was read or follows from what was read."""
    rule: Literal["gain", "most", "signs", "best", "variants", "cells"]
    """The rule that judges it."""
    decision: Text
    """How it is decided, in words."""
    margin: float = 0.0
    """The difference in points up to which nothing deviates."""
    margin_reason: str = ""
    """Why that margin."""
    gains: tuple[Gain, ...] = ()
    """Rule ``gain``: the gains."""
    tasks: tuple[str, ...] = ()
    """Rule ``most``: the tasks that gain the most."""
    above: tuple[str, ...] = ()
    """Rule ``signs``: the tasks that gain."""
    not_above: tuple[str, ...] = ()
    """Rule ``signs``: the tasks that do not."""
    expected: float = 0.0
    """Rule ``best``: the gain of the best models, in points."""
    reference: float = 0.0
    """Rule ``best``: the printed score that they gain over."""
    reference_source: str = ""
    """Rule ``best``: where that was read."""
    variants: dict[str, str] = Field(default={})
    """Rule ``variants``: by variant of a phase-2 model, the one trained in English."""
    tables: tuple[str, ...] = ()
    """Rule ``cells``: the printed tables."""
    row: str = ""
    """Rule ``cells``: their row."""
    quantities: tuple[str, ...] = ()
    """Rule ``cells``: what of the row is judged; all of it unless given."""
    beside: tuple[str, ...] = ()
    """Rule ``cells``: other printed tables, whose values of the same quantities are shown beside and decide nothing."""
    backbone: str = ""
    """The model that it is about; that of all claims unless given."""
    measured_by: dict[str, str] = Field(default={})
    """By tier in which an arm of its own measures it, that arm: it stands for ``row`` there, and need not be run."""
    tiers: tuple[str, ...]
    """The tiers that it is about."""
    arms: tuple[str, ...]
    """The phase-2 models that it needs."""
    seeds: int
    """How many seeds it needs."""
    human_minutes: float | None = None
    """Work by a person for one seed, in minutes; null as the next three where it was not measured."""
    compute_hours: float | None = None
    """GPU hours of one seed."""
    gpu_memory_gib: float | None = None
    """Memory on the GPU, in GiB."""
    disk_gb: float | None = None
    """Disk for the models of one seed, in GB."""

    @property
    def cost(self) -> str:
        """Resources for one seed, in words."""
        measured = {
            "minutes of work": self.human_minutes,
            "hours of a GPU": self.compute_hours,
            "GiB of its memory": self.gpu_memory_gib,
            "GB of disk for models": self.disk_gb,
        }
        known = [f"{value:g} {unit}" for unit, value in measured.items() if value is not None]
        unknown = [unit for unit, value in measured.items() if value is None]
        return "; ".join([", ".join(known)] * bool(known) + [f"{', '.join(unknown)} not measured yet"] * bool(unknown))


class Claims(Frozen):
    """All claims, the backbone that they are about, and what each phase-2 model named in them is trained on."""

    format: Literal[1]
    backbone: str
    arms: dict[str, tuple[str, ...]]
    claims: tuple[Claim, ...]

    def of(self, tier: str) -> list[Claim]:
        """Those that are judged by results of a tier."""
        return [claim for claim in self.claims if tier in claim.tiers]

    def only_anchors(self, tier: str) -> bool:
        """Whether these are all anchors, of models of their own: the tier shows nothing of the paper."""
        asked = self.of(tier)
        return bool(asked) and all(tier in claim.measured_by for claim in asked)


class PaperRow(Frozen):
    """A line of a printed table: ``values`` by quantity, ``by_language`` by quantity; ``layer``, where it differs.

    Where single seeds are printed, ``seeds`` has them by quantity and language, and the means follow from them.
    """

    arm: str
    layer: int | None = None
    values: dict[str, Percent] = Field(default={})
    by_language: dict[str, dict[str, Percent]] = Field(default={})
    seeds: dict[str, dict[str, tuple[Percent, ...]]] = Field(default={})
    unknown: tuple[str, ...] = ()

    def printed(self) -> Iterator[tuple[str, str, tuple[float, ...]]]:
        """Quantity, language (empty for the mean over languages) and the values of all printed seeds, or the one."""
        for quantity, value in self.values.items():
            yield quantity, "", (value,)
        for quantity, by_seed in self.seeds.items():
            yield quantity, "", tuple(map(fmean, zip(*by_seed.values(), strict=True)))
        for quantity, values in self.by_language.items():
            yield from ((quantity, code, (value,)) for code, value in values.items())
        for quantity, by_seed in self.seeds.items():
            yield from ((quantity, code, found) for code, found in by_seed.items())


class KnownSpread(Frozen):
    """The standard deviation between seeds, in points, that others measured in the like: of a mean over languages and
    of one language; a single seed is judged by it."""

    mean: float = Field(gt=0)
    language: float = Field(gt=0)
    freedom: int = Field(gt=0)
    reason: Text


class PaperTable(Frozen):
    """A printed table. ``unverifiable`` says why none of it is judged, ``needs`` what its unknown values need.

    ``backbone`` is the model, where it is not that of all claims; ``protocol`` how it was measured, in words;
    ``margin_language`` the margin of a single language, where that is another one.
    """

    name: str
    about: Text
    backbone: str = ""
    protocol: str = ""
    split: Split
    layer: int = 0
    pooling: str = ""
    averaging: Text
    source: Text
    label: Literal["SEEN", "UNKNOWN"]
    trained: bool = True
    margin: float = Field(ge=0)
    margin_language: float | None = Field(default=None, ge=0)
    margin_reason: Text
    spread: KnownSpread | None = None
    unverifiable: str = ""
    needs: str = ""
    unknown: tuple[str, ...] = ()
    rows: tuple[PaperRow, ...]

    @model_validator(mode="after")
    def _nothing_is_recalled(self) -> Self:
        read = any(row.values or row.by_language or row.seeds for row in self.rows)
        if read and (self.label == "UNKNOWN" or self.unverifiable):
            raise ValueError(f"the table '{self.name}' has values that nobody has read")
        return self


class Printed(Frozen):
    """One cell of a printed table."""

    table: str
    """The table."""
    arm: str
    """The phase-2 model of its row."""
    quantity: str
    """What is printed: a task, a metric of it (``xquad/f1``), or a mean of tasks (``average``)."""
    language: str = ""
    """The language, where it is of one."""
    split: Split
    """The split of the data."""
    layer: int
    """The block that is pooled for retrieval; 0 if unknown."""
    expected: float | None
    """The value, in percent; null where it was not read."""
    seeds: tuple[float, ...] = ()
    """The values of single seeds, whose mean it is, where they are printed."""
    deviation: float = 0.0
    """The standard deviation between seeds, in points, that others measured in the like; 0 if none is known."""
    freedom: int = 0
    """The degrees of freedom of that."""
    backbone: str = ""
    """The model, where it is not that of all claims."""
    source: str
    """Where it was read."""
    trained: bool
    """Whether a training is behind it, so that seeds differ."""
    margin: float
    """The difference in points up to which nothing deviates."""
    needs: str = ""
    """What is needed to judge it, where that is not there."""

    @property
    def key(self) -> str:
        """``table.arm.quantity``, and the language where it is of one."""
        return ".".join(filter(None, (self.table, self.arm, self.quantity, self.language)))


class GivenRow(Frozen):
    """Values that an evaluator has read in the source named."""

    table: str
    arm: str
    source: Text
    values: dict[str, Percent] = Field(min_length=1)


class Given(Frozen):
    """A file for ``--expected``."""

    format: Literal[1]
    rows: tuple[GivenRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _percent(self) -> Self:
        # One value below 1 % may be a real score; a file of nothing else is one of fractions.
        if all(0 < value < 1 for row in self.rows for value in row.values.values()):
            raise ValueError("every value lies between 0 and 1: give percent (79.8), not fractions (0.798)")
        return self


class Literature(Frozen):
    """All printed tables, and the languages (codes, joined by blanks) that the mean of a task is over, by split."""

    format: Literal[1]
    languages: dict[Split, dict[str, str]]
    tables: tuple[PaperTable, ...]

    def cells(self, given: Given | None = None) -> list[Printed]:
        """Every printed cell, with the values that an evaluator gave.

        Raises:
            UsageFault: a value was given for a cell that is not listed as unknown.
        """
        printed = [cell for table in self.tables for row in table.rows for cell in _cells(table, row)]
        places = {cell.key: place for place, cell in enumerate(printed)}
        for row in given.rows if given else ():
            for quantity, value in row.values.items():
                key = f"{row.table}.{row.arm}.{quantity}"
                if key not in places or printed[places[key]].expected is not None:
                    raise UsageFault(
                        f"No value can be given for '{key}'.",
                        why="It has one already." if key in places else "No table lists such a cell.",
                        fix="Cells without a value: xlt verify --json, artifact/expected/paper.toml",
                    )
                new = {"expected": value, "source": row.source, "needs": ""}
                printed[places[key]] = printed[places[key]].model_copy(update=new)
        return printed


class _Anchors(Frozen):
    """Printed tables of other models, or of XLM-R Large by others."""

    format: Literal[1]
    tables: tuple[PaperTable, ...]


def read_claims() -> Claims:
    """The claims in ``artifact/claims.toml``."""
    return read_record(Claims, "claims.toml")


def read_literature() -> Literature:
    """The printed values in ``artifact/expected/paper.toml``, and those of other models in ``anchors.toml`` there."""
    paper, anchors = (
        read_record(Literature, "expected", "paper.toml"),
        read_record(_Anchors, "expected", "anchors.toml"),
    )
    return paper.model_copy(update={"tables": (*paper.tables, *anchors.tables)})


def read_given(path: Path) -> Given:
    """The values that an evaluator has read.

    Raises:
        UsageFault: there is no such file, or it holds no values in percent with their sources.
    """
    try:
        return Given.model_validate(tomllib.loads(read_bytes(path).decode("utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageFault(
            f"'{path}' holds no expected values.",
            why=f"{reason(error)}.",
            fix="The form is shown at the top of artifact/expected/paper.toml.",
        ) from error


def _cells(table: PaperTable, row: PaperRow) -> Iterator[Printed]:
    layer = table.layer if row.layer is None else row.layer
    by_language = table.margin if table.margin_language is None else table.margin_language
    unknown: list[tuple[str, str, tuple[float, ...]]] = [(each, "", ()) for each in (*row.unknown, *table.unknown)]
    for quantity, language, values in [*row.printed(), *unknown]:
        spread = table.spread and (table.spread.language if language else table.spread.mean)
        yield Printed(
            table=table.name,
            arm=row.arm,
            quantity=quantity,
            language=language,
            split=table.split,
            layer=layer,
            expected=fmean(values) if values else None,
            seeds=values if len(values) > 1 else (),
            deviation=spread or 0.0,
            freedom=table.spread.freedom if table.spread else 0,
            backbone=table.backbone,
            source=table.source,
            trained=table.trained,
            margin=by_language if language else table.margin,
            needs="" if values else table.unverifiable or f"no value was read; needs {table.needs}",
        )
