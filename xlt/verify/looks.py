"""What is measured beside what is expected: values of some seeds, the comparison, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xlt.verify import comparison as compare
from xlt.verify.claims import Printed
from xlt.verify.comparison import LEVEL, NOT_KNOWN, Comparison, Estimate, Spread, VerdictWord, mean
from xlt.verify.scores import ScoreUnavailable, Usable
from xlt.verify.verdicts import Direction, Judged

ONE_SEED = "one seed shows no spread: give the folders of more seeds, each with --results"


class Measured(Judged):
    """What is said about one score or difference, over some seeds."""

    value: float | None = None
    """The mean of the seeds, in percent or points; null where it cannot be computed."""
    low: float | None = None
    """The lower end of its 95 % interval; of signs and orders a one-sided 95 % bound."""
    high: float | None = None
    """The upper end of its 95 % interval; of signs and orders a one-sided 95 % bound."""
    seeds: tuple[int, ...] = ()
    """The seeds that it is the mean of."""
    left_out: tuple[str, ...] = ()
    """Why other seeds are not in it: a training of theirs is at chance, or scores are missing."""


class CellVerdict(Measured):
    """What is said about one printed value."""

    key: str
    """The cell: ``table.arm.quantity``, and the language where it is of one."""
    cell: Printed
    """The printed value, and where it is from."""
    direction: Direction | None = None
    """Where a value that deviates lies."""
    fix: str = ""
    """The command that fills it, where it was not run."""


class Part(Measured):
    """One thing that a claim says."""

    name: str
    """What it says, in words."""
    expected: float | None = None
    """What the paper says, in percent or points; null where it says a sign or an order."""
    decides: bool = True
    """Whether the verdict on the claim rests on it; else it is reported only."""


@dataclass(frozen=True, slots=True)
class Look:
    """A difference that was looked at: to a printed value, or one whose sign is asked for."""

    name: str
    found: Estimate
    comparison: Comparison
    usable: Usable
    printed: float = 0.0
    margin: float | None = None  # None: its sign is asked for

    @property
    def value(self) -> float:
        return self.printed + self.found.value

    @property
    def interval(self) -> tuple[float, float]:
        half = self.found.half_width(LEVEL if self.margin is None else LEVEL / 2)
        return self.value - half, self.value + half

    def fields(self, word: VerdictWord) -> dict[str, Any]:
        """What is said about it, but the name."""
        low, high = self.interval
        said = {
            "reproduced": ": inside the margin",
            "consistent": ": not told apart, equality not shown",
            "deviates": ": outside the margin",
            "not verifiable": ": a guess would not be told from it either",
        }.get(word, "")
        reason = f"{self.value:.1f} ({low:.1f} to {high:.1f}) against {self.printed:.1f} ± {self.margin or 0:g}{said}"
        where = {"value": self.value, "low": low, "high": high}
        return {"verdict": word, "reason": reason + why_left_out([self.usable]), **where} | seeds_of([self.usable])


Found = Look | ScoreUnavailable


def seeds_of(found: Sequence[Usable]) -> dict[str, Any]:
    """The seeds behind several differences, and why others are not there."""
    why = dict.fromkeys(reason for usable in found for reason in usable.left_out)
    return {"seeds": tuple(sorted({seed for usable in found for seed in usable.seeds})), "left_out": tuple(why)}


def why_left_out(found: Sequence[Usable]) -> str:
    """The same in words, to be added to a reason."""
    why = seeds_of(found)["left_out"]
    return f"; left out: {'; '.join(why)}" if why else ""


def tried(look: Callable[[], Look]) -> Found:
    """What was found, or why it cannot be computed."""
    try:
        return look()
    except ScoreUnavailable as fault:
        return fault


def said_of(look: Found, word: VerdictWord | None = None) -> dict[str, Any]:
    """What is said about a look, by the word that its family leaves to it, or alone."""
    if isinstance(look, ScoreUnavailable):
        return {"verdict": look.word, "reason": str(look)}
    return look.fields(word or look.comparison.verdict())


def said_of_family(looks: Sequence[Found]) -> list[dict[str, Any]]:
    """What is said about each of a family; what cannot be computed is no part of it."""
    words = iter(compare.verdicts([look.comparison for look in looks if isinstance(look, Look)]))
    return [said_of(look, next(words) if isinstance(look, Look) else None) for look in looks]


def near(
    name: str,
    values: Sequence[float],
    printed: Sequence[float],
    margin: float,
    guess: float,
    usable: Usable,
    known: Spread = NOT_KNOWN,
) -> Look:
    """The values of some seeds beside a printed one, or beside those of several printed seeds.

    One seed can be judged where the spread between seeds is printed or ``known``.
    """
    if len(printed) == 1 and not known.freedom:
        check_spread(usable)
    middle = mean(printed)
    drawn = compare.estimate(values, printed, known)
    # One printed value may be taken as a fixed number; of several, the mean is an estimate as ours is.
    found = drawn if len(printed) > 1 else compare.estimate([value - middle for value in values], known=known)
    comparison = compare.near(found, drawn, margin, guess - middle)
    return Look(name, found, capped(comparison, usable), usable, middle, margin)


def check_spread(usable: Usable) -> None:
    """Raise ``ScoreUnavailable`` where a single seed shows no spread."""
    if len(usable.seeds) < 2:
        raise ScoreUnavailable("not verifiable", ONE_SEED + why_left_out([usable]))


def capped(comparison: Comparison, usable: Usable) -> Comparison:
    """Where a seed collapsed, nothing is reproduced: the recipe does not give reliably what is printed."""
    return comparison.unshown if usable.collapsed else comparison
