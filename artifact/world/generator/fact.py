"""The facts of the world, and which of them may appear where."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from artifact.world.generator.concept import NAMES, RELATIONS

Pool = Literal["known", "train", "dev", "test"]
HELD_OUT: dict[Pool, int] = {"known": 1, "dev": 2, "test": 3}


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """That ``entity`` stands in ``relation`` to ``value``."""

    entity: str
    relation: str
    value: str


class FactPools:
    """Every possible fact in exactly one pool.

    For each entity and relation one value is *known* (the encyclopaedic truth that masked-LM text of every
    language states), some are for test stories, some for dev stories, and the rest for training stories. A
    story is a fiction: it may state any fact of its pool. To know the truth or the training stories by heart
    therefore never helps with a test story.
    """

    def __init__(self, seed: int) -> None:
        random = Random(f"{seed} facts")
        self.pool_of: dict[Fact, Pool] = {}
        self.values: dict[tuple[Pool, str, str], tuple[str, ...]] = {}
        for relation in RELATIONS:
            for place, entity in enumerate(random.sample(NAMES, len(NAMES))):
                # The known value goes round all values, so that each is equally frequent in the text.
                known = relation.values[place % len(relation.values)]
                others = [value for value in relation.values if value != known]
                random.shuffle(others)
                ordered = [known, *others]
                for pool in ("known", "dev", "test", "train"):
                    size = HELD_OUT.get(pool, len(ordered))
                    self._assign(pool, entity, relation.key, ordered[:size])
                    del ordered[:size]
        # Sorted once: every line of a debate asks for the facts of training.
        self._facts = {
            pool: sorted(fact for fact, its_pool in self.pool_of.items() if its_pool == pool) for pool in get_args(Pool)
        }

    def _assign(self, pool: Pool, entity: str, relation: str, values: list[str]) -> None:
        self.values[pool, entity, relation] = tuple(values)
        for value in values:
            self.pool_of[Fact(entity, relation, value)] = pool

    def facts(self, pool: Pool) -> list[Fact]:
        """All facts of one pool, in a fixed order."""
        return self._facts[pool]

    def holders(self, pool: Pool, relation: str, value: str) -> list[str]:
        """The entities that stand in ``relation`` to ``value`` according to some fact of ``pool``."""
        return [name for name in NAMES if value in self.values[pool, name, relation]]
