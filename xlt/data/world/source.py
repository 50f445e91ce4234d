"""The source ``world``: rows of a constructed mini world, made from a seed, with exact gold."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from random import Random

from xlt.data.rows import Answer, BitextRow, PairRow, Row, SpanRow, TextRow
from xlt.data.world.fact import Fact, FactPools
from xlt.data.world.grammar import realise, text_of
from xlt.data.world.language import CODES, FOREIGN
from xlt.data.world.sentence import Asked, Clause
from xlt.data.world.story import Inference, Question, StoryTeller
from xlt.data.world.text import Line, draw_lines
from xlt.errors import UsageFault
from xlt.tasks.record import Split, Task

# Which splits of a task there are, and in which languages.
HELD: dict[str, dict[Split, tuple[str, ...]]] = {
    "mlm": {"train": CODES},
    "mnli": {"train": ("en",), "dev": ("en",)},
    "xnli": {"dev": CODES, "test": CODES},
    "squad": {"train": ("en",), "dev": ("en",)},
    "xquad": {"dev": CODES, "test": CODES},
    "tatoeba": {"dev": FOREIGN, "test": FOREIGN},
}
SIZES: dict[str, dict[Split, int]] = {
    "nli": {"train": 6000, "dev": 201, "test": 600},
    "qa": {"train": 6000, "dev": 200, "test": 500},
    "tatoeba": {"dev": 200, "test": 300},
}
LINES_PER_LANGUAGE = 2500
CONTEXT_SIZE = 3


class WorldSource:
    """Rows of the world of ``seed``. The items of a split are the same in every language."""

    name = "world"

    def __init__(self, seed: int = 0) -> None:
        self.settings: dict[str, int | str] = {"seed": seed, "lines_per_language": LINES_PER_LANGUAGE}
        self.seed = seed
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
            self._rows[key] = list(self._told(task, split, language))
        return list(self._rows[key])

    def _told(self, task: Task, split: Split, language: str) -> Iterator[Row]:
        match task.kind:
            case "pair_classification":
                return self._pairs(task.key, split, language)
            case "span_qa":
                return self._spans(task.key, split, language)
            case "retrieval":
                return self._bitexts(split, language)
            case _:
                return (TextRow(line.id, line.text) for line in self.lines(language))

    def lines(self, language: str) -> list[Line]:
        """The masked-LM text of one language with the clauses behind it."""
        return list(draw_lines(self.pools, language, LINES_PER_LANGUAGE, self.seed))

    def pretraining_text(self) -> list[TextRow]:
        """Lines in all languages, shuffled; each in one language, stating known facts and those of training tales."""
        return list(self._text)

    @cached_property
    def _text(self) -> list[TextRow]:
        rows = [TextRow(line.id, line.text) for code in CODES for line in self.lines(code)]
        self._random("mlm").shuffle(rows)
        return rows

    def inferences(self, split: Split) -> list[Inference]:
        """The items of ``mnli`` and ``xnli``, before they are put into words."""
        random = self._random("nli", split)
        teller = StoryTeller(self.pools, split, random)
        drawn = self._draw(split, SIZES["nli"][split] // 3, random)
        items = [item for hypothesis in drawn for item in teller.inferences(hypothesis)]
        random.shuffle(items)
        return items

    def questions(self, split: Split) -> list[Question]:
        """The items of ``squad`` and ``xquad``, before they are put into words."""
        random = self._random("qa", split)
        teller = StoryTeller(self.pools, split, random)
        items = []
        for number, fact in enumerate(self._draw(split, SIZES["qa"][split], random)):
            asked: Asked = "entity" if number // CONTEXT_SIZE % 4 == 0 else "value"
            items.append(teller.question(fact, asked, number % CONTEXT_SIZE, CONTEXT_SIZE))
        random.shuffle(items)
        return items

    def sentences(self, split: Split) -> list[Fact]:
        """The facts stated by ``tatoeba``, no two alike."""
        return self._draw(split, SIZES["tatoeba"][split], self._random("tatoeba", split))

    def _draw(self, split: Split, size: int, random: Random) -> list[Fact]:
        """Facts of the pool of ``split`` in random order, each once before any comes twice."""
        facts = self.pools.facts(split)
        drawn: list[Fact] = []
        while len(drawn) < size:
            drawn += random.sample(facts, min(len(facts), size - len(drawn)))
        return drawn

    def _pairs(self, key: str, split: Split, code: str) -> Iterator[PairRow]:
        for number, item in enumerate(self.inferences(split)):
            premise = text_of([Clause(fact) for fact in item.premise], code, self.seed)
            hypothesis = text_of([Clause(item.hypothesis)], code, self.seed)
            yield PairRow(f"{key}-{split}-{number}", premise, hypothesis, item.label)

    def _spans(self, key: str, split: Split, code: str) -> Iterator[SpanRow]:
        for number, item in enumerate(self.questions(split)):
            context = text_of([Clause(fact) for fact in item.context], code, self.seed)
            place = item.context.index(item.fact)
            before = text_of([Clause(fact) for fact in item.context[:place]], code, self.seed)
            sentence = realise(Clause(item.fact), code, self.seed)
            form, start = sentence.find("entity" if item.asked == "entity" else "value")
            answer = Answer(form, start + len(before) + (1 if before else 0))
            question = text_of([Clause(item.fact, item.asked)], code, self.seed)
            yield SpanRow(f"{key}-{split}-{number}", question, context, (answer,))

    def _bitexts(self, split: Split, code: str) -> Iterator[BitextRow]:
        for number, fact in enumerate(self.sentences(split)):
            foreign, english = (text_of([Clause(fact)], each, self.seed) for each in (code, "en"))
            yield BitextRow(f"tatoeba-{split}-{number}", foreign, english)

    def _random(self, *purpose: str) -> Random:
        return Random(" ".join((str(self.seed), *purpose)))

    def _check(self, task: Task, split: Split, language: str) -> None:
        if task.key not in HELD or split not in HELD[task.key]:
            has = "; ".join(f"{key}: {', '.join(splits)}" for key, splits in HELD.items())
            raise UsageFault(
                f"The world has no split '{split}' of the task '{task.key}'.",
                why=f"It has {has}.",
                mend=f"xlt tasks show {task.key}",
            )
        if language not in HELD[task.key][split]:
            raise UsageFault(
                f"The world has no language '{language}' in the split '{split}' of '{task.key}'.",
                why=f"It has {', '.join(HELD[task.key][split])}.",
                mend=f"xlt tasks show {task.key}",
            )
