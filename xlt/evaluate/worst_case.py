"""The worst case of each row within a budget: a black-box search among its edits, guided by what the model answers.

As in adversarial polyglots (arXiv:2103.09593) a row that the model gets wrong counts as it is. Of the others edits are
combined that make the model less sure of the right answer, until it gives another. The model is asked for its answer
and how sure it is: of a right label that is its probability, so that the loss on it guides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random

from xlt.data.encodings import keeping
from xlt.data.perturb import Perturber
from xlt.data.predictions import Prediction
from xlt.data.rows import Row, texts
from xlt.evaluate.parts import Part, score_parts
from xlt.tasks.record import Task

Predict = Callable[[Sequence[Row]], list[Prediction]]
Edits = frozenset[int]
# Of the queries this share draws all edits anew, and the others exchange so large a part of the worst ones so far.
ANEW, EXCHANGED = 0.25, 0.25


def worst_case(
    rows: Sequence[Row], task: Task, language: str, perturber: Perturber, predict: Predict
) -> list[Prediction]:
    """What the model says about the worst edits of each of the ``rows`` that a search finds, with ids that name them.

    ``predict`` is asked at most ``perturber.perturbation.draws`` times, about one candidate of each row whose answer is
    not wholly wrong yet. The text of a row decides what is tried, and the model how it goes on.
    """
    searches = [_Search(row, perturber) for row in rows]
    asked = searches
    queries = perturber.perturbation.draws
    for query in range(queries):
        anew = query <= ANEW * queries
        tried = [each.candidate(anew=anew) for each in asked] if query else [Edits()] * len(asked)
        candidates = [perturber.edited(each.row, edits) for each, edits in zip(asked, tried, strict=True)]
        with keeping(None):  # nobody will ask for these again
            said = predict(candidates)
        parts = score_parts(task, candidates, said, language)
        for each, edits, candidate, prediction in zip(asked, tried, candidates, said, strict=True):
            each.learn(edits, prediction, parts[candidate.id])
        asked = [each for each in asked if each.room and each.harm[0] > 0]
        if not asked:
            break
    return [each.prediction for each in searches if each.prediction]


class _Search:
    """The search of one row: the edits that are the worst so far, and what the model says then."""

    def __init__(self, row: Row, perturber: Perturber) -> None:
        self.row, self.room = row, perturber.room(row)
        self.prediction: Prediction | None = None
        self.harm = (2.0, 0.0)  # the score, and how sure the model is: smaller is worse
        self._most = perturber.most(self.room)
        self._edits = Edits()
        self._tried: set[Edits] = set()
        self._random = Random(f"{perturber.perturbation} {' '.join(texts(row))}")

    def learn(self, edits: Edits, prediction: Prediction, part: Part) -> None:
        """Take in what the model says about the row with these edits."""
        self._tried.add(edits)
        harm = part[0] / part[1] if part[1] else 1.0, prediction.score
        if self.prediction is None or harm < self.harm:
            self._edits, self.prediction, self.harm = edits, prediction, harm

    def candidate(self, *, anew: bool) -> Edits:
        """Edits to ask about: all drawn ``anew``, or a part of the worst ones exchanged; others than before, if such
        are found soon."""
        found = self._edits
        for _ in range(10):
            exchanged = max(1, round(EXCHANGED * len(self._edits)))
            kept = Edits() if anew else self._sample(self._edits, len(self._edits) - exchanged)
            others = Edits(range(self.room)) - (kept if anew else self._edits)
            found = kept | self._sample(others, self._most - len(kept))
            if found not in self._tried:
                break
        return found

    def _sample(self, numbers: Collection[int], count: int) -> Edits:
        return Edits(self._random.sample(sorted(numbers), min(max(0, count), len(numbers))))
