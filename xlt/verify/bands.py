"""Expected bands: where the mean of one new run lies if it is like the recorded reference runs."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field
from scipy.stats import t

from xlt.artifact import artifact_root, read_record
from xlt.frozen import Frozen
from xlt.verify.measured import Lineage, Record, read_records

SAME_SEED = "with the seed of this run"


class Rule(Frozen):
    """How bands are made, fixed before a run in ``artifact/expected/<tier>-<source>.toml``, with its reason.

    ``family_error`` is the chance that a sound run misses at least one of all bands, ``minimum_seeds`` how
    many reference runs are needed, ``floor`` the least half width in points.
    """

    format: int = Field(ge=1, le=1)
    family_error: float = Field(gt=0, lt=1)
    minimum_seeds: int = Field(ge=2)
    floor: float = Field(ge=0)
    reason: str = Field(min_length=1)


class Band(Frozen):
    """The values of a mean that count as consistent, and the reference runs behind them."""

    low: float
    high: float
    mean: float
    deviation: float
    seeds: tuple[int, ...]
    floored: bool

    def contains(self, value: float) -> bool:
        """Whether ``value`` lies in the band, its ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class References:
    """The reference runs that a mean is compared with and their band; ``about`` says which, or why none.

    ``english`` is the band of the English score alone, where there is one: whether a score at chance is news.
    ``twin`` is the recorded run of the same seed, recipe, data and device: never part of the band, but its
    predictions can be the very same.
    """

    records: tuple[Record, ...]
    band: Band | None
    about: str
    twin: Record | None = None
    english: Band | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What a reference run must share with the run that is judged, and the seed that it must not share."""

    seed: int
    device: str
    lineage: Lineage | None


@dataclass(frozen=True, slots=True)
class Shelf:
    """All reference runs recorded for a tier on a source, and the rule of their bands."""

    tier: str
    source: str
    rule: Rule | None
    records: tuple[Record, ...]

    def references(self, key: str, setting: Setting) -> References:
        """The runs of the same recipe, data and device for the mean ``key``; one of the same seed is no part of the
        band."""
        if self.rule is None:
            where = f"the tier '{self.tier}' on the source '{self.source}'"
            return References((), None, f"no values are expected for {where}")
        if setting.lineage is None:
            return References((), None, "the run that it starts from is not whole")
        usable: list[Record] = []
        twin: Record | None = None
        left_out: Counter[str] = Counter()
        for record in self.records:
            if why := _unfit(record, key, setting, setting.lineage):
                left_out[why] += 1
                twin = record if why == SAME_SEED else twin
            else:
                usable.append(record)
        others = "; ".join(f"{count} {why}" for why, count in sorted(left_out.items()))
        tail = f" (left out: {others})" if others else ""
        if len(usable) < self.rule.minimum_seeds:
            enough = f"{len(usable)} of at least {self.rule.minimum_seeds} reference runs"
            head = enough if usable else "no reference runs yet"
            return References(tuple(usable), None, f"{head} for '{setting.device}'{tail}", twin)
        seeds = tuple(record.seed for record in usable)
        values = [record.means[key].value for record in usable]
        bands = len(usable[0].means)
        band = prediction_band(values, self.rule, bands, seeds)
        scores = [score for record in usable if (score := record.score(f"{key}/en")) is not None]
        english = prediction_band(scores, self.rule, bands, seeds) if len(scores) == len(usable) else None
        listed = ", ".join(map(str, seeds))
        about = f"{len(usable)} reference runs on '{setting.device}', seeds {listed}{tail}"
        return References(tuple(usable), band, about, twin, english)


def prediction_band(values: Sequence[float], rule: Rule, cells: int, seeds: tuple[int, ...]) -> Band:
    """The two-sided prediction interval of one new run from the values of n reference runs.

    Normal theory: mean ± t · s · √(1 + 1/n), with the level shared evenly among ``cells`` bands (Bonferroni),
    at least ``rule.floor`` wide on each side, cut to 0 to 100.
    """
    n = len(values)
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    quantile = float(t.ppf(1 - rule.family_error / cells / 2, n - 1))
    half = quantile * deviation * math.sqrt(1 + 1 / n)
    wide = max(half, rule.floor)
    return Band(
        low=max(0.0, mean - wide),
        high=min(100.0, mean + wide),
        mean=mean,
        deviation=deviation,
        seeds=seeds,
        floored=half < rule.floor,
    )


def read_rule(tier: str, source: str) -> Rule | None:
    """The rule of a tier on a source; None if no values are expected there.

    Raises:
        EnvironmentFault: the file cannot be read as a rule.
    """
    name = f"{tier}-{source}.toml"
    return read_record(Rule, "expected", name) if (artifact_root() / "expected" / name).is_file() else None


def read_shelf(tier: str, source: str) -> Shelf:
    """Rule and reference runs of a tier on a source, by seed."""
    records = sorted(read_records(tier, source), key=lambda record: record.seed)
    return Shelf(tier, source, read_rule(tier, source), tuple(records))


def _unfit(record: Record, key: str, setting: Setting, lineage: Lineage) -> str:
    """Why a record may not be compared with; empty if it may."""
    mean = record.means.get(key)
    if mean is None or mean.recipe != lineage.recipe:
        return "recorded with another recipe"
    if mean.data != lineage.data:
        return "recorded on other data"
    if record.device != setting.device:
        return "recorded on another device"
    return SAME_SEED if record.seed == setting.seed else ""
