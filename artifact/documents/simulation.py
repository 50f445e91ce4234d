"""How often the rule of ``xlt/verify/comparison.py`` says something false, with known effect and noise.

``make statistics`` writes artifact/STATISTICS.md by it; the seed is fixed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from xlt.verify.comparison import LEVEL, Comparison, VerdictWord, above, estimate, holm, most, near, verdicts, worst

SEED = 2005
SEEDS = (2, 3, 5, 10)
WORDS: tuple[VerdictWord, ...] = ("reproduced", "consistent", "not verifiable", "deviates")
INTRODUCTION = """\
# How often a verdict is wrong

Written by `make statistics` (`artifact/documents/simulation.py`): the rule of `xlt/verify/comparison.py`,
applied {repeats:,} times to drawn scores with known effect and noise, with a fixed seed. A share of 5 % is then known
to ± {error:.1f} points.

One rule compares n values here with k values there: seeds with the printed value of the paper (k = 1; the paper does
not say of how many seeds it is the mean), or one run with the recorded seeds of its tier (n = 1). The difference of the
two means is an estimate with a standard error: one spread between seeds, s, on both sides gives s·√(1/n + 1/k), with
n + k − 2 degrees of freedom. A printed value is thus one more draw that varies as our seeds do.

Gains are differences within a seed and a language, over both. Seeds and languages are two random effects without
replication (Searle, Casella and McCulloch, *Variance Components*, 1992, chapter 4): with the mean squares MS of seeds,
languages and rest in n seeds and L languages, the variance of the mean is
(MS(seeds) + MS(languages) − MS(rest)) / (nL), and its degrees of freedom are Satterthwaite's (*Biometrics Bulletin* 2,
1946, 110–114). Where the languages differ less than the rest does, their part is taken to be 0.

The ladder of verdicts:

- `reproduced`: two one-sided tests at 5 % place the difference inside the margin (Schuirmann 1987), and a guess lies
  outside of it. Of a sign: it is shown at 5 %, one-sided.
- `deviates`: the difference is beyond the margin, and the test of no difference rejects at the level that Holm (1979)
  leaves to it in its family: a printed table or the gains of a claim at 5 %, the means of a run beside recorded
  seeds and their English scores at 0.5 %. Of a sign: the reverse is shown.
- `not verifiable`: what a guess, or no effect, gives would not deviate either; or there is one seed only. Of a sign:
  the estimate has the other one.
- `consistent`: the rest.

"Most of m" (claims C4 and C6) is a partial conjunction (Benjamini and Heller, *Biometrics* 64, 2008, 1215–1222): the p
of "fewer than r of m" is (m − r + 1) times the r-th smallest.

So `reproduced` needs seeds that lie close. The half width of its interval, in standard deviations between seeds:
{reach}. It has to fit into the margin.
"""
LADDER = """
## One printed value, and a claim that makes three

In units of the margin; *off* is the true difference, the same in all three cells. At 0 the pipeline is faithful and
`deviates` is false, from 1 on `reproduced` is (**bold**). No effect lies 8 margins below the paper's truth, as for
a gain of 8 points. A claim has the worst verdict of its cells.

| cells | seeds | spread between seeds | off | reproduced | consistent | not verifiable | deviates |
|---|---|---|---|---|---|---|---|"""
FAMILY = """
## Nine cells, all as printed

The chance that any of them is said to deviate, by the spread between seeds in units of the margin.

| seeds | 0.3 | 1 | 3 |
|---|---|---|---|"""
RECORDED = """
## One run beside recorded seeds

The chance that any of the 17 scores (9 means and 8 English scores) of a sound run whose bands tell something is said to
deviate, which is meant to be at most 0.5 %; and that one mean is, which truly is 4, 6 or 8 spreads away. Nothing is
within the least half width. What is noticed when all means are worse at once is in EXPECTED_RESULTS.md.

| recorded seeds | any of 17, all sound | one of 17, 4 off | 6 off | 8 off |
|---|---|---|---|---|"""
CONTRASTS = """
## Signs of paired differences

One-sided at 5 %, before Holm. In units of the standard deviation between seeds; the effect differs between languages by
a standard deviation of 2, and 1 is left over. At effect 0 both are false. *most* is how often more than half of five
such differences are shown to be above 0.

| seeds | languages | effect | shown above 0 | shown below 0 | most |
|---|---|---|---|---|---|"""


def _look(here: list[float], there: list[float], margin: float, guess: float) -> Comparison:
    return near(estimate([(1.0, np.array(here)[:, None])], there), margin, guess)


def ladder_rates(n: int, spread: float, off: float, cells: int = 1, *, repeats: int) -> dict[VerdictWord, float]:
    """The share of each verdict on a claim of so many ``cells`` with ``n`` seeds.

    In units of the margin: ``off`` is how far each truly is from what the paper's recipe gives, ``spread`` the standard
    deviation between seeds, of the printed value too.
    """
    random = np.random.default_rng(SEED)
    words: Counter[VerdictWord] = Counter()
    for _ in range(repeats):
        printed = [random.normal(0, spread) for _ in range(cells)]
        found = [_look([*random.normal(off, spread, n)], [each], 1.0, -8.0 - each) for each in printed]
        words[worst(verdicts(found))] += 1
    return {word: words[word] / repeats for word in WORDS}


def recorded_rate(seeds: int, off: float, *, repeats: int, scores: int = 17) -> float:
    """How often any of a run's scores is said to deviate; with ``off``, how often the one that is so far off is."""
    random = np.random.default_rng(SEED)
    alarms = 0
    for _ in range(repeats):
        values = random.normal(0, 1, (scores, seeds + 1))
        values[0, 0] += off
        p = [_look([row[0]], [*row[1:]], 0.0, -99.0).outside for row in values]
        rejected = [each < level for each, level in zip(p, holm(p, 0.005), strict=True)]
        alarms += rejected[0] if off else any(rejected)
    return alarms / repeats


def contrast_rates(n: int, effect: float, languages: int, *, repeats: int) -> tuple[float, float, float]:
    """How often a paired difference is shown to be above and to be below 0, and most of five to be above."""
    random = np.random.default_rng(SEED)
    over = under = majority = 0
    for _ in range(repeats):
        found = []
        for _ in range(5):
            gains = effect + random.normal(0, 1, (n, 1)) + random.normal(0, 2, (1, languages))
            found.append(estimate([(1.0, gains + random.normal(0, 1, (n, languages)))]))
        over += found[0].p_at_most(0.0) < LEVEL
        under += found[0].p_at_least(0.0) < LEVEL
        majority += most([above(each) for each in found]).verdict() == "reproduced"
    return over / repeats, under / repeats, majority / repeats


def document(repeats: int) -> str:
    """STATISTICS.md."""
    error = 196 * math.sqrt(LEVEL * (1 - LEVEL) / repeats)
    half = {
        n: estimate([(1.0, np.arange(n)[:, None] / np.std(np.arange(n), ddof=1))], [0.0]).half_width() for n in SEEDS
    }
    reach = ", ".join(f"{value:.1f} with {n} seeds" for n, value in half.items())
    lines = [INTRODUCTION.format(repeats=repeats, error=error, reach=reach).rstrip()]
    parts = (_ladder(repeats), _family(repeats), _recorded(repeats), _contrasts(repeats))
    return "\n".join([*lines, *(line for part in parts for line in part), ""])


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


def _recorded(repeats: int) -> Iterator[str]:
    yield RECORDED
    for seeds in (8, 16, 26):
        rates = [_percent(recorded_rate(seeds, off, repeats=repeats)) for off in (0, 4, 6, 8)]
        yield f"| {seeds} | {' | '.join(rates)} |"


def _contrasts(repeats: int) -> Iterator[str]:
    yield CONTRASTS
    for n in SEEDS:
        for languages in (4, 9, 36):
            for effect in (0.0, 2.0, 5.0):
                rates = contrast_rates(n, effect, languages, repeats=repeats)
                yield f"| {n} | {languages} | {effect:g} | {' | '.join(map(_percent, rates))} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    print(document(repeats=2000), end="")
