"""The rows of the world of one seed: every task, split and language, with exact gold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from random import Random
from typing import Any, Generic, TypeVar

from artifact.world.generator import bitext, choice, inference, paraphrase, reading, tagging
from artifact.world.generator.fact import FactPools
from artifact.world.generator.language import CODES, FOREIGN
from artifact.world.generator.sampler import FactSampler
from artifact.world.generator.text import Line, sample_lines
from xlt.data.rows import Row, TextRow
from xlt.tasks.catalogue import MASKED_LM, TARGET
from xlt.tasks.record import Split, Task

VERSION = 3  # raise it with every change of the rows
LINES_PER_LANGUAGE = 2500
# How many items of each task there are; of ``bucc2018``, sentences on either side.
# The intermediate tasks are mixed in proportion to these: most is inference, as in the paper.
SIZES: dict[str, dict[Split, int]] = {
    "anli_plus": {"train": 9000, "dev": 201},
    "mnli": {"train": 6000, "dev": 201},
    "qqp": {"train": 4000, "dev": 200},
    "squad_v2": {"train": 4000, "dev": 200},
    "squad": {"train": 5000, "dev": 200},
    "hellaswag": {"train": 3000, "dev": 200},
    "ccg": {"train": 1000, "dev": 200},
    "cosmosqa": {"train": 2500, "dev": 200},
    "commonsenseqa": {"train": 600, "dev": 200},
    "xnli": {"dev": 99, "test": 201},
    "pawsx": {"train": 6000, "dev": 100, "test": 200},
    "udpos": {"train": 6000, "dev": 100, "test": 200},
    "panx": {"train": 6000, "dev": 100, "test": 200},
    "xquad": {"dev": 100, "test": 200},
    "mlqa": {"dev": 100, "test": 200},
    "tydiqa": {"train": 4000, "dev": 100, "test": 200},
    "bucc2018": {"dev": 150, "test": 300},
    "tatoeba": {"dev": 200, "test": 300},
}
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class TaskGenerator(Generic[ItemT]):
    """How a task is made: ``sample`` gives its items, the same for all languages, and ``render`` the row of one item
    from id, item, language and seed."""

    sample: Callable[[FactSampler, int], Sequence[ItemT]]
    render: Callable[[str, ItemT, str, int], Row]


_INFERENCES = TaskGenerator(inference.sample_inferences, inference.render_inference)
_QUESTIONS = TaskGenerator(reading.sample_questions, reading.render_question)
GENERATORS: dict[str, TaskGenerator[Any]] = {
    "anli_plus": TaskGenerator(inference.sample_rounds, inference.render_inference),
    "mnli": _INFERENCES,
    "qqp": TaskGenerator(paraphrase.sample_questions, paraphrase.render_pair),
    "squad_v2": TaskGenerator(partial(reading.sample_questions, unanswerable=True), reading.render_question),
    "squad": _QUESTIONS,
    "hellaswag": TaskGenerator(choice.sample_endings, choice.render_ending),
    "ccg": TaskGenerator(tagging.sample_rephrased, tagging.render_categories),
    "cosmosqa": TaskGenerator(choice.sample_answers, choice.render_answer),
    "commonsenseqa": TaskGenerator(choice.sample_guesses, choice.render_guess),
    "xnli": _INFERENCES,
    "pawsx": TaskGenerator(paraphrase.sample_statements, paraphrase.render_pair),
    "udpos": TaskGenerator(tagging.sample_sentences, tagging.render_parts_of_speech),
    "panx": TaskGenerator(tagging.sample_named, tagging.render_names),
    "xquad": _QUESTIONS,
    "mlqa": TaskGenerator(partial(reading.sample_questions, sizes=(4,)), reading.render_question),
    "tydiqa": TaskGenerator(partial(reading.sample_questions, sizes=(2, 3), entities=2), reading.render_question),
    "bucc2018": TaskGenerator(bitext.sample_sides, bitext.render_mined),
    "tatoeba": TaskGenerator(bitext.sample_facts, bitext.render_translation),
}


def languages(task: Task, split: Split) -> tuple[str, ...]:
    """The languages in which the world has that split of the task."""
    if split not in SIZES[task.key]:
        return ()
    if split == "train" or task not in TARGET:
        return ("en",)
    return FOREIGN if task.kind == "retrieval" else CODES


class World:
    """The world of ``seed``. The items of a split are the same in every language."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._lines: dict[str, list[Line]] = {}
        self._items: dict[tuple[str, Split], list[Any]] = {}

    @cached_property
    def pools(self) -> FactPools:
        """Which fact may appear where."""
        return FactPools(self.seed)

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """All rows of one split in one language."""
        render = GENERATORS[task.key].render
        return [
            render(f"{task.key}-{split}-{number}", item, language, self.seed)
            for number, item in enumerate(self.items(task.key, split))
        ]

    def items(self, key: str, split: Split) -> list[Any]:
        """What the rows of a task say in every language, before it is put into words, in the order of the rows."""
        if (key, split) not in self._items:
            random = self._random(key, split)
            items = list(GENERATORS[key].sample(FactSampler(self.pools, split, random), SIZES[key][split]))
            random.shuffle(items)
            self._items[key, split] = items
        return self._items[key, split]

    def lines(self, language: str) -> list[Line]:
        """The text for phase 1 in one language, with the clauses that it states."""
        if language not in self._lines:
            self._lines[language] = list(sample_lines(self.pools, language, LINES_PER_LANGUAGE, self.seed))
        return self._lines[language]

    @cached_property
    def text(self) -> list[TextRow]:
        """The lines in all languages, shuffled."""
        rows = [TextRow(line.id, line.text) for code in CODES for line in self.lines(code)]
        self._random(MASKED_LM.key).shuffle(rows)
        return rows

    def _random(self, *purpose: str) -> Random:
        return Random(" ".join((str(self.seed), *purpose)))
