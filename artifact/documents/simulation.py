"""How often the rules of ``statistics`` say something false, with known effect and noise.

``python -m artifact.documents.simulation > artifact/STATISTICS.md`` writes the tables again; the seed is fixed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
from scipy.stats import t

from xlt.verify.rules import worst
from xlt.verify.statistics import LEVEL, compare, contrast, holm, ladder
from xlt.verify.verdicts import VerdictWord

SEED = 2005
SEEDS = (2, 3, 5, 10)
WORDS: tuple[VerdictWord, ...] = ("reproduced", "consistent", "not verifiable", "deviates")
INTRODUCTION = """\
# How often a verdict is wrong

Written by `python -m artifact.documents.simulation > artifact/STATISTICS.md`: the rules of `xlt/verify/statistics.py`,
applied {repeats:,} times to drawn scores with known effect and noise, with a fixed seed. A share of 5 % is then known to
± {error:.1f} points.

A printed value is one draw; the paper does not say of how many seeds it is the mean. It is taken to vary between seeds
as our own values do, and every interval counts it: the mean of n seeds differs from it with a standard error of
s·√(1 + 1/n).

- `reproduced`: two one-sided tests at 5 % place the difference inside the margin.
- `deviates`: the two-sided test rejects at 5 %, corrected by Holm over the table or claim, and the difference is above
  the margin.
- `not verifiable`: the 95 % interval of the mean reaches what a guess, or no effect, gives; or there is one seed only.
- `consistent`: the rest.

So `reproduced` needs seeds that lie close. The half width of its interval, in standard deviations between seeds:
{reach}. It has to fit into the margin.
"""
LADDER = """
## One printed value, and a claim that makes three

In units of the margin; *off* is the true difference, the same in all three cells. At 0 the machine is a faithful one
and `deviates` is false, from 1 on `reproduced` is (**bold**). No effect lies 8 margins below the paper's truth, as for
a gain of 8 points. A claim has the worst verdict of its cells.

| cells | seeds | spread between seeds | off | reproduced | consistent | not verifiable | deviates |
|---|---|---|---|---|---|---|---|"""
FAMILY = """
## Nine cells, all as printed

The chance that any of them is said to deviate, by the spread between seeds in units of the margin.

| seeds | 0.3 | 1 | 3 |
|---|---|---|---|"""
CONTRASTS = """
## Signs of paired differences

Bootstrap over seeds and languages, one-sided at 5 %, before Holm. In units of the standard deviation between seeds; the
effect differs between languages by a standard deviation of 2, and 1 is left over. At effect 0 both are false.

| seeds | languages | effect | shown above 0 | shown below 0 |
|---|---|---|---|---|"""


def ladder_rates(n: int, spread: float, off: float, cells: int = 1, *, repeats: int) -> dict[VerdictWord, float]:
    """The share of each verdict on a claim of so many ``cells`` with ``n`` seeds.

    In units of the margin: ``off`` is how far each truly is from what the paper's recipe gives, ``spread`` the standard
    deviation between seeds, of the printed value too.
    """
    random = np.random.default_rng(SEED)
    words: Counter[VerdictWord] = Counter()
    for _ in range(repeats):
        found = [compare([*random.normal(off, spread, n)], random.normal(0, spread), 1.0) for _ in range(cells)]
        corrected = holm([each.p for each in found])
        words[worst([ladder(each, p, -8.0) for each, p in zip(found, corrected, strict=True)])] += 1
    return {word: words[word] / repeats for word in WORDS}


def contrast_rates(n: int, effect: float, languages: int, *, repeats: int) -> tuple[float, float]:
    """How often a paired difference is shown to be above and to be below 0, in units of the spread between seeds."""
    random = np.random.default_rng(SEED)
    above = below = 0
    for _ in range(repeats):
        deltas = effect + random.normal(0, 1, (n, 1)) + random.normal(0, 2, (1, languages))
        found = contrast("", [(1.0, deltas + random.normal(0, 1, (n, languages)))], draws=1000)
        above += found.p_above < LEVEL
        below += found.p_below < LEVEL
    return above / repeats, below / repeats


def document(repeats: int) -> str:
    """STATISTICS.md."""
    error = 196 * math.sqrt(LEVEL * (1 - LEVEL) / repeats)
    half = {n: float(t.ppf(1 - LEVEL, n - 1)) * math.sqrt(1 + 1 / n) for n in SEEDS}
    reach = ", ".join(f"{value:.1f} with {n} seeds" for n, value in half.items())
    lines = [INTRODUCTION.format(repeats=repeats, error=error, reach=reach).rstrip()]
    return "\n".join([*lines, *_ladder(repeats), *_family(repeats), *_contrasts(repeats), ""])


def _ladder(repeats: int) -> Iterator[str]:
    yield LADDER
    for cells, spreads in ((1, (0.1, 0.3, 1.0)), (3, (0.1, 0.3))):
        for n in SEEDS:
            for spread in spreads:
                for off in (0.0, 0.5, 1.0, 2.0, 5.0):
                    rates = ladder_rates(n, spread, off, cells, repeats=repeats)
                    false = "reproduced" if off >= 1 else "deviates" if not off else ""
                    percent = {word: _percent(rate) for word, rate in rates.items()}
                    shown = [f"**{percent[word]}**" if word == false else percent[word] for word in WORDS]
                    yield f"| {cells} | {n} | {spread} | {off} | {' | '.join(shown)} |"


def _family(repeats: int) -> Iterator[str]:
    yield FAMILY
    for n in SEEDS:
        errors = [ladder_rates(n, spread, 0.0, 9, repeats=repeats)["deviates"] for spread in (0.3, 1.0, 3.0)]
        yield f"| {n} | {' | '.join(map(_percent, errors))} |"


def _contrasts(repeats: int) -> Iterator[str]:
    yield CONTRASTS
    for n in SEEDS:
        for languages in (4, 9, 36):
            for effect in (0.0, 2.0, 5.0):
                above, below = contrast_rates(n, effect, languages, repeats=repeats)
                yield f"| {n} | {languages} | {effect:g} | {_percent(above)} | {_percent(below)} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    print(document(repeats=2000), end="")
