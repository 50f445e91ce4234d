"""BUCC: the pairs of sentences of two corpora that may be translations, by ratio margin.

Only a part of the sentences have a translation on the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from xlt.data.predictions import Prediction
from xlt.data.rows import MiningRow
from xlt.errors import DataFault
from xlt.retrieval.search import Floats, Ids, Progress, SearchEngine, Vectors, nearest_both

Doubles: TypeAlias = npt.NDArray[np.float64]
# Scores and ids ``[N, k]`` of the neighbours of N sentences.
Neighbours: TypeAlias = tuple[Floats | Doubles, Ids]
# All powers of ten that are exact in double precision. From integers: numpy's power may be off by the last bit.
_POWERS = np.array([10**place for place in range(23)], dtype=np.float64)


def mine_translations(
    rows: Sequence[MiningRow],
    embed: Callable[..., Vectors],
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> list[Prediction]:
    """The candidate pairs of the two sides of ``rows`` with their margins, highest first; see ``mine``.

    ``embed`` makes unit vectors ``[N, H]`` of texts and reports to its ``progress``. ``progress`` gets what is being
    done, how much of it is done, and of how much.

    Raises:
        DataFault: a side has no sentences.
    """
    sides = [row for row in rows if not row.english], [row for row in rows if row.english]
    if not all(sides):
        raise DataFault("Mining needs sentences on both sides.", fix="A larger --limit, or none.")
    (foreign_ids, english_ids), (foreign_texts, english_texts) = (
        [[row.id for row in side] for side in sides],
        [[row.text for row in side] for side in sides],
    )
    foreign = embed(foreign_texts, progress=partial(progress, "foreign sentences embedded"))
    english = embed(english_texts, progress=partial(progress, "English sentences embedded"))
    searched = partial(progress, "sentences searched")
    return mine(foreign, english, foreign_ids, english_ids, foreign_texts, english_texts, progress=searched)


def mine(
    foreign: Vectors,
    english: Vectors,
    foreign_ids: Sequence[str],
    english_ids: Sequence[str],
    foreign_texts: Sequence[str] | None = None,
    english_texts: Sequence[str] | None = None,
    *,
    k: int = 4,
    engine: SearchEngine | None = None,
    progress: Progress | None = None,
) -> list[Prediction]:
    """Candidates of ``foreign [N, H]`` and ``english [M, H]``, unit vectors: highest margin first.

    ``id`` is the foreign sentence's, ``prediction`` the English one's, ``score`` the margin: the cosine over
    the mean of two means, of the cosines of either sentence with its ``k`` nearest of the other side (all of
    them where there are fewer). The best neighbour of each sentence of both sides is pooled, and from the
    highest margin down a pair is kept whose sentences are both still free. This is retrieval "max" with ratio
    margin, as in the code of XTREME and of jiant, where margins that are not above 0 are dropped as well.

    Margins are rounded as they are stored before any two are compared; among equal ones the sentence that
    comes first wins, the foreign side deciding first.

    Where texts are given, sentences with the same text are one, at the place and with the vector of the first;
    it stands for all their ids: each pair of ids of a kept pair is a candidate. So does jiant, which the paper
    used; XTREME drops them instead. ``engine`` and ``progress`` are those of ``nearest_both``.

    Raises:
        DataFault: a side is empty, the widths differ, or a value is not finite.
        UsageFault: ``k`` is below 1, or no engine has that name.
        ValueError: ids or texts are not as many as the vectors.
    """
    foreign, foreign_groups = merge(foreign, foreign_ids, foreign_texts)
    english, english_groups = merge(english, english_ids, english_texts)
    there, back = nearest_both(foreign, english, k, engine=engine, progress=progress)
    return candidates(*margins(there, back), foreign_groups, english_groups)


def margins(there: Neighbours, back: Neighbours) -> tuple[Neighbours, Neighbours]:
    """The ratio margins in the place of the cosines of ``there`` and ``back``, what ``nearest_both`` found.

    Where the mean of the means is not above 0 a ratio says nothing, and the margin is 0.
    """
    means, back_means = (cosines.mean(axis=1, dtype=np.float64) for cosines, _ in (there, back))
    return _ratios(*there, means, back_means), _ratios(*back, back_means, means)


def candidates(
    there: Neighbours, back: Neighbours, foreign_groups: Sequence[list[str]], english_groups: Sequence[list[str]]
) -> list[Prediction]:
    """The pairs of retrieval "max" from the scores and ids ``[N, k]`` of the neighbours of either side, and the ids of
    each of its sentences; see ``mine``."""
    forward, best_english = _best(*there)
    backward, best_foreign = _best(*back)
    pairs = _one_to_one(
        np.concatenate([np.arange(len(forward)), best_foreign]),
        np.concatenate([best_english, np.arange(len(backward))]),
        np.concatenate([forward, backward]),
    )
    return [
        Prediction(foreign_id, english_id, margin)
        for row, column, margin in pairs
        for foreign_id, english_id in product(foreign_groups[row], english_groups[column])
    ]


def merge(vectors: Vectors, ids: Sequence[str], texts: Sequence[str] | None) -> tuple[Vectors, list[list[str]]]:
    """The vectors of the distinct texts, in order of first appearance, and the ids of each."""
    groups: dict[str, list[str]] = {}
    firsts = []
    for row, id_, text in zip(range(len(vectors)), ids, ids if texts is None else texts, strict=True):
        if text not in groups:
            firsts.append(row)
        groups.setdefault(text, []).append(id_)
    return vectors if len(firsts) == len(vectors) else vectors[firsts], list(groups.values())


def _ratios(cosines: Floats | Doubles, found: Ids, means: Doubles, found_means: Doubles) -> Neighbours:
    scale = (means[:, None] + found_means[found]) / 2
    return np.divide(cosines, scale, out=np.zeros_like(scale), where=scale > 0), found


def _best(scores: Floats | Doubles, found: Ids) -> tuple[Doubles, Ids]:
    """The highest score ``[N]`` of each sentence among its neighbours ``found [N, k]``, and which one has it.

    The neighbours come by cosine; any of them, the last one too, can have the highest margin.
    """
    rounded = six_digits(scores)
    best = np.lexsort((found, -rounded))[:, :1]
    return np.take_along_axis(rounded, best, axis=1)[:, 0], np.take_along_axis(found, best, axis=1)[:, 0]


def six_digits(scores: Floats | Doubles) -> Doubles:
    """``float(f"{score:.6g}")`` of finite numbers, as a ``Prediction`` stores them; of 12 million in a second."""
    sizes: Doubles = np.abs(scores, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        power = _POWERS[np.clip(5 - np.floor(np.log10(sizes)), 0, 22).astype(np.int64)]
        scaled = sizes * power
        # The quotient of two exact numbers is rounded once: it is the number that the text would be read as.
        rounded: Doubles = np.copysign(np.rint(scaled) / power, scores)
        # The product is off by at most 1e-10: only so near a half, or a power of ten, may the digits be others.
        halves = np.abs(scaled - np.floor(scaled) - 0.5)
        unsure = ~((halves > 1e-9) & (scaled > 100_001) & (scaled < 999_999)) & (sizes > 0)
    rounded[sizes == 0] = 0.0
    rounded[unsure] = np.char.mod("%.6g", scores[unsure]).astype(np.float64)
    return rounded


def _one_to_one(foreign: Ids, english: Ids, margins: Doubles) -> list[tuple[int, int, float]]:
    order = np.lexsort((english, foreign, -margins))
    order = order[margins[order] > 0]
    used_foreign: set[int] = set()
    used_english: set[int] = set()
    kept = []
    ranked = zip(foreign[order].tolist(), english[order].tolist(), margins[order].tolist(), strict=True)
    for row, column, margin in ranked:
        if row not in used_foreign and column not in used_english:
            used_foreign.add(row)
            used_english.add(column)
            kept.append((row, column, margin))
    return kept
