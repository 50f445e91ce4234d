"""The source ``world``: rows of a constructed mini world, made from a seed, with exact gold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from random import Random
from typing import Any, Generic, TypeVar

from xlt.data.rows import Row, TextRow
from xlt.data.world import bitext, choice, inference, paraphrase, reading, tagging
from xlt.data.world.fact import FactPools
from xlt.data.world.language import CODES, FOREIGN
from xlt.data.world.story import StoryTeller
from xlt.data.world.text import Line, draw_lines
from xlt.errors import UsageFault
from xlt.tasks.catalogue import MASKED_LM, TARGET, TASKS
from xlt.tasks.record import Split, Task

VERSION = 3  # to be raised with every change of the rows
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


def _languages(key: str, split: Split) -> tuple[str, ...]:
    if split == "train" or TASKS[key] not in TARGET:
        return ("en",)
    return FOREIGN if TASKS[key].kind == "retrieval" else CODES


# Which splits of a task there are, and in which languages.
HELD: dict[str, dict[Split, tuple[str, ...]]] = {
    MASKED_LM.key: {"train": CODES},
    **{key: {split: _languages(key, split) for split in sizes} for key, sizes in SIZES.items()},
}
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Maker(Generic[ItemT]):
    """How the items of a task are drawn, the same for all languages, and told in one: name, item, language, seed."""

    draw: Callable[[StoryTeller, int], Sequence[ItemT]]
    tell: Callable[[str, ItemT, str, int], Row]


_INFERENCES = Maker(inference.draw_inferences, inference.tell_inference)
_QUESTIONS = Maker(reading.draw_questions, reading.tell_question)
MAKERS: dict[str, Maker[Any]] = {
    "anli_plus": Maker(inference.draw_rounds, inference.tell_inference),
    "mnli": _INFERENCES,
    "qqp": Maker(paraphrase.draw_questions, paraphrase.tell_pair),
    "squad_v2": Maker(partial(reading.draw_questions, unanswerable=True), reading.tell_question),
    "squad": _QUESTIONS,
    "hellaswag": Maker(choice.draw_endings, choice.tell_ending),
    "ccg": Maker(tagging.draw_rephrased, tagging.tell_categories),
    "cosmosqa": Maker(choice.draw_answers, choice.tell_answer),
    "commonsenseqa": Maker(choice.draw_guesses, choice.tell_guess),
    "xnli": _INFERENCES,
    "pawsx": Maker(paraphrase.draw_statements, paraphrase.tell_pair),
    "udpos": Maker(tagging.draw_sentences, tagging.tell_parts_of_speech),
    "panx": Maker(tagging.draw_named, tagging.tell_names),
    "xquad": _QUESTIONS,
    "mlqa": Maker(partial(reading.draw_questions, told=(4,)), reading.tell_question),
    "tydiqa": Maker(partial(reading.draw_questions, told=(2, 3), entities=2), reading.tell_question),
    "bucc2018": Maker(bitext.draw_sides, bitext.tell_mined),
    "tatoeba": Maker(bitext.draw_facts, bitext.tell_translation),
}


class WorldSource:
    """Rows of the world of ``seed``. The items of a split are the same in every language."""

    name = "world"

    def __init__(self, seed: int = 0) -> None:
        self.settings: dict[str, int | str] = {
            "seed": seed,
            "lines_per_language": LINES_PER_LANGUAGE,
            "version": VERSION,
        }
        self.seed = seed
        self._lines: dict[str, list[Line]] = {}
        self._items: dict[tuple[str, Split], list[Any]] = {}
        self._rows: dict[tuple[str, Split, str], list[Row]] = {}

    @cached_property
    def pools(self) -> FactPools:
        """Which fact may appear where."""
        return FactPools(self.seed)

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        """The languages in which the world has that split; none where it lacks the task or the split."""
        return HELD.get(task.key, {}).get(split, ())

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """All rows of one split in one language.

        Raises:
            UsageFault: the world has no such task, split or language.
        """
        self._check(task, split, language)
        key = (task.key, split, language)
        if key not in self._rows:
            self._rows[key] = self._told(*key)
        return list(self._rows[key])

    def items(self, key: str, split: Split) -> list[Any]:
        """What the rows of a task say in every language, before it is put into words, in the order of the rows."""
        if (key, split) not in self._items:
            random = self._random(key, split)
            items = list(MAKERS[key].draw(StoryTeller(self.pools, split, random), SIZES[key][split]))
            random.shuffle(items)
            self._items[key, split] = items
        return self._items[key, split]

    def _told(self, key: str, split: Split, language: str) -> list[Row]:
        if key == MASKED_LM.key:
            return [TextRow(line.id, line.text) for line in self.lines(language)]
        tell = MAKERS[key].tell
        return [
            tell(f"{key}-{split}-{number}", item, language, self.seed)
            for number, item in enumerate(self.items(key, split))
        ]

    def lines(self, language: str) -> list[Line]:
        """The masked-LM text of one language with the clauses behind it."""
        if language not in self._lines:
            self._lines[language] = list(draw_lines(self.pools, language, LINES_PER_LANGUAGE, self.seed))
        return self._lines[language]

    def pretraining_text(self) -> list[TextRow]:
        """Lines in all languages, shuffled; each in one language, stating known facts and those of training tales."""
        return list(self._text)

    @cached_property
    def _text(self) -> list[TextRow]:
        rows = [TextRow(line.id, line.text) for code in CODES for line in self.lines(code)]
        self._random(MASKED_LM.key).shuffle(rows)
        return rows

    def _random(self, *purpose: str) -> Random:
        return Random(" ".join((str(self.seed), *purpose)))

    def _check(self, task: Task, split: Split, language: str) -> None:
        if task.key not in HELD or split not in HELD[task.key]:
            raise UsageFault(
                f"The world has no split '{split}' of the task '{task.key}'.",
                why=f"It has {', '.join(HELD.get(task.key, ())) or 'no such task'}.",
                fix=f"xlt tasks show {task.key}",
            )
        if language not in HELD[task.key][split]:
            raise UsageFault(
                f"The world has no language '{language}' in the split '{split}' of '{task.key}'.",
                why=f"It has {', '.join(HELD[task.key][split])}.",
                fix=f"xlt tasks show {task.key}",
            )
