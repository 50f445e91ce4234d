"""Results beside those of the original: how far they reproduce it, in numbers, and what was the same and what was not.

The numbers are those of QRA++ (A. Belz, QRA++: Quantified Reproducibility Assessment for Common Types of Results in
Natural Language Processing, https://arxiv.org/abs/2505.17043). They are comparable across studies, decide nothing, and
have no error rates: those are the verdicts' part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from pydantic import RootModel

from xlt.artifact import read_record
from xlt.frozen import Frozen
from xlt.pipeline.differences import KnownDifference
from xlt.verify.claims import Text
from xlt.verify.comparison import mean
from xlt.verify.paper import Paper
from xlt.verify.recorded import ReferenceRun
from xlt.verify.scores import Scores
from xlt.verify.verdicts import Verdict

LEAST_CELLS = 3  # two points always lie on a line
UNKNOWN = "not known"
State = Literal["same", "differs", "not known"]


class Condition(Frozen):
    """One condition of the experiment, in the original and here."""

    name: str
    """What it is."""
    original: str
    """How it was in the original."""
    here: str
    """How it is here."""
    state: State
    """Whether it is the same."""
    source: str = ""
    """Where that of the original was read."""


class Agreement(Frozen):
    """How well the values measured here agree with those of the original, over several cells."""

    cells: int
    """How many."""
    pearson: float | None
    """Pearson's correlation; null where one side does not vary."""
    spearman: float | None
    """Spearman's correlation of ranks; null where one side does not vary."""
    variation: float | None
    """The mean of the cells' coefficients of variation; null for gains, of which it says nothing."""


class Original(Frozen):
    """What was found beside the original: the paper, or for a tier of our own its recorded run."""

    name: str
    """The original, in words."""
    conditions: tuple[Condition, ...]
    """What was the same and what differed."""
    variation: dict[str, float]
    """By cell or mean, CV*: the coefficient of variation of the values here and the original's, in percent of their
    mean, corrected for small samples. 0 is no difference at all."""
    agreement: dict[str, Agreement]
    """By claim and printed table, or for all means, where there are at least three cells."""

    @property
    def summary(self) -> str:
        """The counts of conditions and the agreement of all, in words."""
        states = [each.state for each in self.conditions]
        counts = f"{states.count('same')} conditions are the same, {states.count('differs')} differ"
        unknown = f", {states.count('not known')} are not known" if "not known" in states else ""
        values = list(self.variation.values())
        varied = f"; CV* is {mean(values):.2f} % on average over {len(values)} cells" if values else ""
        return f"Beside {self.name}: {counts}{unknown}{varied}"


class _Known(Frozen):
    """A condition of the paper, as ``artifact/expected/original.toml`` has it; the key of ours, or what it is here."""

    original: Text
    state: State
    source: str = ""
    here: str = ""


def coefficient_of_variation(values: Sequence[float]) -> float | None:
    """CV*, in percent: of the unbiased standard deviation, times 1 + 1/(4n); None for one value or a mean of 0.

    A. Belz, M. Popović and S. Mille, Quantified Reproducibility Assessment of NLP Results, ACL 2022.
    """
    count, middle = len(values), mean(values)
    if count < 2 or middle <= 0:
        return None
    spread = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (count - 1))
    # The expectation of the standard deviation of so few values, in units of the true one.
    c4 = math.sqrt(2 / (count - 1)) * math.exp(math.lgamma(count / 2) - math.lgamma((count - 1) / 2))
    return 100 * (1 + 1 / (4 * count)) * spread / c4 / middle


def agreement(pairs: Mapping[str, tuple[float, float]], variation: Mapping[str, float]) -> Agreement | None:
    """The agreement of the values here with the original's, by cell; None for fewer than three."""
    if len(pairs) < LEAST_CELLS:
        return None
    here, there = ([pair[side] for pair in pairs.values()] for side in (0, 1))
    known = [variation[name] for name in pairs if name in variation]
    return Agreement(
        cells=len(pairs),
        pearson=_correlation(here, there),
        spearman=_correlation(*(pd.Series(side).rank().tolist() for side in (here, there))),
        variation=mean(known) if known else None,
    )


def _correlation(here: Sequence[float], there: Sequence[float]) -> float | None:
    a, b = ([value - mean(side) for value in side] for side in (here, there))
    scale = math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
    return max(-1.0, min(1.0, math.fsum(x * y for x, y in zip(a, b, strict=True)) / scale)) if scale else None


def beside_paper(
    paper: Paper, scores: Scores, model: str, platform: Mapping[str, Any], deviations: Mapping[str, KnownDifference]
) -> Original:
    """Printed values beside the seeds; ``deviations`` are the known differences of what was run."""
    pairs: dict[str, tuple[float, float]] = {}
    variation: dict[str, float] = {}
    for each in paper.cells:
        printed, cell = each.cell.expected, each.cell
        if each.value is None or printed is None:
            continue
        pairs[each.key] = each.value, printed
        where = (cell.arm, cell.quantity, cell.split, cell.language)
        values = [scores.value(seed, *where) for seed in each.seeds]
        # Where nothing is trained, seeds repeat one measurement.
        found = coefficient_of_variation([*(values if cell.trained else values[:1]), printed])
        variation |= {} if found is None else {each.key: found}
    groups = {
        table: {key: pair for key, pair in pairs.items() if key.startswith(f"{table}.")}
        for table in dict.fromkeys(each.cell.table for each in paper.cells)
    }
    for claim in paper.claims:
        parts = [part for part in claim.parts if part.value is not None and part.expected is not None]
        groups[claim.claim.id] = {part.name: (part.value or 0.0, part.expected or 0.0) for part in parts}
    measured = {name: agreement(group, variation) for name, group in groups.items()}
    return Original(
        name="the paper",
        conditions=tuple(_paper_conditions(_facts(paper, model, platform), deviations)),
        variation=variation,
        agreement={name: each for name, each in measured.items() if each},
    )


def _facts(paper: Paper, model: str, platform: Mapping[str, Any]) -> dict[str, str]:
    """What the runs record of themselves, by the condition's name."""
    found, packages = _flat(platform), platform.get("packages", {})
    return {
        "model": model,
        "packages": ", ".join(f"{name} {found[name]}" for name in packages) or UNKNOWN,
        "seeds": ", ".join(map(str, paper.seeds)),
        "precision": found.get("precision", UNKNOWN),
        "hardware": found.get("device", UNKNOWN),
    }


def _paper_conditions(facts: Mapping[str, str], deviations: Mapping[str, KnownDifference]) -> Iterator[Condition]:
    known = read_record(RootModel[dict[str, _Known]], "expected", "original.toml").root
    for name, each in known.items():
        here, state = each.here or facts.get(name, UNKNOWN), each.state
        if state == "same" and name in facts and facts[name] != each.original:
            state = "differs"  # whatever the tier is meant to be
        yield Condition(name=name, original=each.original, here=here, state=state, source=each.source)
    for name, known_difference in deviations.items():
        about = {"here": known_difference.what, "source": known_difference.source}
        yield Condition(name=name.replace("_", " "), original="said with what is here", state="differs", **about)


def beside_recorded(
    verdicts: Sequence[Verdict],
    made: Mapping[str, tuple[str, str, str]],
    references: Sequence[ReferenceRun],
    seed: int,
    platform: Mapping[str, Any],
) -> Original | None:
    """A run beside another, recorded one of its seed; None where there is none.

    ``made`` has by folder the hashes of recipe, data and execution of the runs.
    """
    by_mean = {"/".join(each.key): made[each.run] for each in verdicts if each.run in made}
    for recorded in references:
        itself = [
            name
            for name, (_, _, execution) in by_mean.items()
            if name in recorded.means and execution and recorded.means[name].execution == execution
        ]
        if recorded.seed == seed and not itself:
            return _beside(verdicts, recorded, platform, by_mean)
    return None


def _beside(
    verdicts: Sequence[Verdict],
    recorded: ReferenceRun,
    platform: Mapping[str, Any],
    made: Mapping[str, tuple[str, str, str]],
) -> Original:
    values = {"/".join(each.key): each.value for each in verdicts if each.value is not None}
    # To the decimals of what was recorded, or the same predictions would differ in the seventh.
    pairs = {n: (round(value, 6), recorded.means[n].value) for n, value in values.items() if n in recorded.means}
    found = {name: coefficient_of_variation(pair) for name, pair in pairs.items()}
    variation = {name: value for name, value in found.items() if value is not None}
    whole = agreement(pairs, variation)
    cpu = recorded.platform.get("cpu", recorded.device)
    return Original(
        name=f"the recorded run of seed {recorded.seed} ({cpu}, {recorded.date})",
        conditions=tuple(
            _recorded_conditions(recorded, platform, {name: made[name] for name in pairs if name in made})
        ),
        variation=variation,
        agreement={"all means": whole} if whole else {},
    )


def _recorded_conditions(
    recorded: ReferenceRun, platform: Mapping[str, Any], made: Mapping[str, tuple[str, str, str]]
) -> Iterator[Condition]:
    for place, name in enumerate(("recipe", "data")):
        same = sum(hashes[place] == getattr(recorded.means[mean], name) for mean, hashes in made.items())
        here = f"the same hash for {same} of {len(made)} means"
        yield Condition(
            name=name, original="recorded as a hash", here=here, state="same" if same == len(made) else "differs"
        )
    yield Condition(name="seed", original=str(recorded.seed), here=str(recorded.seed), state="same")
    ours, theirs = _flat(platform), _flat(recorded.platform)
    for name in dict.fromkeys((*theirs, *ours)):
        before, now = theirs.get(name, UNKNOWN), ours.get(name, UNKNOWN)
        state: State = "not known" if UNKNOWN in (before, now) else "same" if before == now else "differs"
        yield Condition(name=name, original=before, here=now, state=state)


def _flat(platform: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a platform as text, each package for itself."""
    facts: dict[str, str] = {}
    for name, value in platform.items():
        if name == "packages" and isinstance(value, Mapping):
            facts |= {package: str(version) for package, version in value.items()}
        elif isinstance(value, list):
            facts[name.replace("_", " ")] = "; ".join(map(str, value))
        else:
            facts[name.replace("_", " ")] = str(value)
    return facts
