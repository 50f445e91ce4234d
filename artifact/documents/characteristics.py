"""What the smoke tier's statistical verdict would notice, and how often it is wrong, by the recorded seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter
from scipy.optimize import brentq
from scipy.stats import nct, shapiro, t

from xlt.data.source import Source
from xlt.evaluate.metrics import better_guess, chance, majority, task_score
from xlt.tasks.catalogue import get_task
from xlt.tasks.record import Split
from xlt.verify.beside import words_of
from xlt.verify.comparison import FAILED, mean
from xlt.verify.overall import Overall, judge_together
from xlt.verify.recorded import ReferenceRun, ReferenceSet, RunMean
from xlt.verify.verdicts import Verdict, judge_means

# Known when the bands got their form; the seeds after them were run to try it.
REFERENCE = range(17)
POWER = 0.8
SHIFTS = (0.0, 1.0, 1.5, 2.0, 3.0)
Key = tuple[str, str, Split]


def key_of(name: str) -> Key:
    """Arm, task and split of a mean."""
    arm, task, split = name.split("/")
    return arm, task, TypeAdapter(Split).validate_python(split)


def guess_of(source: Source, task_key: str, split: Split) -> float:
    """What a guess scores on a task, the mean over its languages, as ``verify`` finds it."""
    task = get_task(task_key)
    scores = []
    for language in source.languages(task, split):
        rows = source.rows(task, split, language)
        scores.append(task_score(task, better_guess(task, chance(task, rows, language), majority(task, rows))))
    return mean(scores)


@dataclass(frozen=True)
class Series:
    """All recorded seeds, the rule by which they are compared with, and the source of their data."""

    references: ReferenceSet
    source: Source

    @property
    def records(self) -> tuple[ReferenceRun, ...]:
        """The recorded seeds."""
        return self.references.runs

    @property
    def reference(self) -> tuple[ReferenceRun, ...]:
        """The seeds by which the fresh ones are judged."""
        return tuple(record for record in self.records if record.seed in REFERENCE)

    @property
    def fresh(self) -> tuple[ReferenceRun, ...]:
        """The seeds that were run to try the bands."""
        return tuple(record for record in self.records if record.seed not in REFERENCE)

    @property
    def keys(self) -> list[Key]:
        """Arm, task and split of all means that are looked at."""
        return [key_of(name) for name in self.records[0].means]

    @cached_property
    def table(self) -> pd.DataFrame:
        """The score of each seed, arm, task, split and language; ``chance`` is a guess's mean over the languages."""
        asked: set[tuple[str, Split]] = {(task, split) for _, task, split in self.keys}
        guesses: dict[tuple[str, str], float] = {each: guess_of(self.source, *each) for each in asked}
        rows = []
        for record in self.records:
            for name, cell in record.cells.items():
                arm, task, split, language = name.split("/")
                facts = (guesses.get((task, split), float("nan")), cell.above_chance, cell.predictions)
                value = task_score(get_task(task), cell.metrics)
                rows.append((record.seed, arm, task, split, language, value, *facts))
        columns = ("seed", "arm", "task", "split", "language", "value", "chance", "above_chance", "predictions")
        return pd.DataFrame(rows, columns=columns)

    def judge(
        self, record: ReferenceRun, by: Sequence[ReferenceRun], seed: int, off: float = 0.0
    ) -> tuple[list[Verdict], Overall | None]:
        """The verdicts, and that on all means together, on a recorded seed as if it were a new run, by others.

        Every score is first lowered by ``off`` standard deviations of its mean between those; whether it is above
        chance stays as it was.
        """
        own = self.table[self.table["seed"] == record.seed]
        rows = dict(iter(own.groupby(["arm", "task", "split"])))
        asked = []
        for name, measured in record.means.items():
            key, lower = key_of(name), off and off * float(np.std([run.means[name].value for run in by], ddof=1))
            shifted = rows[key].assign(value=rows[key]["value"] - lower)
            asked.append(RunMean(key, shifted, seed, record.device, measured.recipe, measured.data))
        references = replace(self.references, runs=tuple(by))
        verdicts, _ = judge_means(asked, references)
        return verdicts, judge_together(asked, references, verdicts)

    def missed(self) -> Iterator[tuple[int, str, str]]:
        """What fresh seeds fail by the reference: seed, mean (or all together), and ``deviates`` or ``collapsed``."""
        for record in self.fresh:
            verdicts, overall = self.judge(record, self.reference, record.seed)
            for each in verdicts:
                if each.verdict in FAILED:
                    yield record.seed, "/".join(each.key), each.verdict
            if overall and overall.verdict in FAILED:
                yield record.seed, "all means together", overall.verdict

    def others(self, record: ReferenceRun) -> list[ReferenceRun]:
        """All recorded seeds but one."""
        return [each for each in self.records if each.seed != record.seed]


def failures(series: Series) -> list[dict[str, Any]]:
    """How many of the recorded seeds fail by all others, when every mean is lowered by so many standard deviations:
    in some band, in all means together, in any of both."""
    rows = []
    for off in SHIFTS:
        found = [series.judge(record, series.others(record), -1, off) for record in series.records]
        bands = [bool(words_of(verdicts, None) & FAILED) for verdicts, _ in found]
        together = [overall is not None and overall.verdict in FAILED for _, overall in found]
        either = [band or whole for band, whole in zip(bands, together, strict=True)]
        rows.append({"off": off, "bands": sum(bands), "together": sum(together), "either": sum(either)})
    return rows


def upper_bound(failed: int, of: int) -> float:
    """The one-sided 95 % bound of a rate of which ``failed`` of ``of`` were seen (Clopper and Pearson), in percent."""
    from scipy.stats import beta

    return 100 * float(beta.ppf(0.95, failed + 1, of - failed)) if failed < of else 100.0


def noticed(verdict: Verdict) -> float:
    """The drop of a mean in points that lies below its band with a probability of 80 %, were scores normal with the
    spread of the recorded seeds."""
    band = verdict.band
    assert band is not None
    seeds = len(band.seeds)
    error = band.deviation * float(np.sqrt(1 + 1 / seeds))
    half = band.mean - band.low
    if band.floored or not error:  # the floor is a number, not an estimate: the mean alone has an error
        return half + float(t.ppf(POWER, seeds - 1)) * error
    least = half / error
    return error * float(brentq(lambda off: float(nct.cdf(-least, seeds - 1, -off)) - POWER, 0.0, 100.0))


def not_normal(series: Series, level: float = 0.01) -> list[tuple[str, float]]:
    """The means whose recorded seeds are no sample of a normal distribution by the test of Shapiro and Wilk, with p."""
    found = []
    for name in series.records[0].means:
        p = float(shapiro([record.means[name].value for record in series.records]).pvalue)
        if p < level:
            found.append((name, p))
    return found


def correlation(series: Series) -> float:
    """The mean correlation between two means over the recorded seeds."""
    values = np.array([[each.value for each in record.means.values()] for record in series.records])
    found = np.corrcoef(values.T)
    return mean([float(found[pair]) for pair in combinations(range(len(found)), 2)])
