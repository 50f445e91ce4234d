"""Expected bands: where the mean of one new run lies if it is like the recorded reference runs."""

from __future__ import annotations

import math
import statistics
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field, ValidationError
from scipy.stats import t

from xlt.artifact import artifact_root
from xlt.errors import EnvironmentFault
from xlt.verify.measured import Record, read_records
from xlt.verify.stored import Frozen


class Rule(Frozen):
    """How bands are made, fixed before a run in ``artifact/expected/<tier>-<source>.toml``, with its reason.

    ``family_error`` is the chance that a sound run misses at least one of all bands, ``minimum_seeds`` how many
    reference runs are needed, ``floor`` the least half width in points.
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
    """The reference runs that a run may be compared with, or why there are none; ``about`` says so."""

    rule: Rule | None
    records: tuple[Record, ...]
    about: str

    def band(self, key: str) -> Band | None:
        """The band of the mean ``arm/task/split``; None where the references have no such mean."""
        if self.rule is None or not self.records or any(key not in record.means for record in self.records):
            return None
        values = [record.means[key] for record in self.records]
        return prediction_band(values, self.rule, len(self.records[0].means), self._seeds)

    @property
    def _seeds(self) -> tuple[int, ...]:
        return tuple(record.seed for record in self.records)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a reference run must share with the run that is judged, and the seed that it must not share."""

    seed: int
    data: str
    recipes: str
    device: str


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
    path = artifact_root() / "expected" / f"{tier}-{source}.toml"
    if not path.is_file():
        return None
    try:
        return Rule.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise EnvironmentFault(
            f"The rule 'artifact/expected/{path.name}' cannot be read.",
            why=str(error).split("\n")[0],
            mend="Restore it from the repository: git checkout -- artifact",
        ) from error


def read_references(tier: str, source: str, setting: Setting) -> References:
    """The recorded runs of the same recipe, data and device; never one with the seed of the run itself."""
    rule = read_rule(tier, source)
    if rule is None:
        return References(None, (), f"no values are expected for the tier '{tier}' on the source '{source}'")
    usable: list[Record] = []
    left_out: dict[str, int] = {}
    for record in read_records(tier, source):
        if why := _unfit(record, setting):
            left_out[why] = left_out.get(why, 0) + 1
        else:
            usable.append(record)
    usable.sort(key=lambda record: record.seed)
    others = "; ".join(f"{count} {why}" for why, count in sorted(left_out.items()))
    if len(usable) >= rule.minimum_seeds:
        seeds = ", ".join(str(record.seed) for record in usable)
        about = f"{len(usable)} reference runs on '{setting.device}', seeds {seeds}"
        return References(rule, tuple(usable), about + (f" (left out: {others})" if others else ""))
    about = (
        f"{len(usable)} of at least {rule.minimum_seeds} reference runs"
        if usable
        else "no reference runs yet"
    )
    about += f" for '{setting.device}'" + (f" (left out: {others})" if others else "")
    return References(rule, (), about)


def _unfit(record: Record, setting: Setting) -> str:
    """Why a record may not be compared with; empty if it may."""
    if record.recipes != setting.recipes:
        return "recorded with another recipe"
    if record.data != setting.data:
        return "recorded on other data"
    if record.device != setting.device:
        return "recorded on another device"
    return "with the seed of this run" if record.seed == setting.seed else ""
