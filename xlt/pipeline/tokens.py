"""Tokens per row of every task in XLM-R's vocabulary, as they were counted (``artifact/measured/tokens.json``).

With them a grid's cost is known before data and tokenizer are fetched.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xlt.artifact import read_record
from xlt.frozen import Frozen
from xlt.tasks.record import Split, Task


class SplitTokens(Frozen):
    """A split of a task, in all languages that were counted."""

    rows: int = Field(gt=0)
    """Its rows."""
    sequences: int
    """What the rows make, after long ones were cut or divided."""
    tokens: int
    """The tokens of all sequences."""
    mean: float
    """Tokens per row."""
    languages: dict[str, float]
    """Tokens per row in each language."""


class TaskTokens(Frozen):
    """A task as it was counted."""

    basis: Literal["measured", "estimate"]
    """``estimate``: text of another data set was counted, because the task's own is not at hand."""
    text: str
    """What was counted."""
    max_length: int
    """The most tokens of a sequence."""
    splits: dict[Split, SplitTokens] = Field(min_length=1)
    """The splits that were at hand."""


class TokenTable(Frozen):
    """``artifact/measured/tokens.json``."""

    format: Literal[1] = 1
    """The version of this record."""
    vocabulary: str
    """Whose pieces the tokens are."""
    sha256: str
    """The SHA-256 of the ``tokenizer.json``."""
    vocab_sizes: tuple[int, ...]
    """How many embeddings the models have that share the vocabulary."""
    tasks: dict[str, TaskTokens]
    """The tasks by key; masked LM is not among them."""

    def size(self, task: Task, split: Split, language: str, rows: int) -> tuple[int, int] | None:
        """The sequences and tokens that so many rows make, by the means that were counted.

        Where a split was not at hand, another one of the task stands for it, and all languages for one of them. None
        if the task was not counted.
        """
        counted = self.tasks.get(task.key)
        if counted is None:
            return None
        one = counted.splits.get(split) or next(iter(counted.splits.values()))
        tokens = one.languages.get(language, one.mean)
        return round(rows * one.sequences / one.rows), round(rows * tokens)

    def basis(self, task: Task) -> Literal["measured", "estimate"]:
        """How a counted task was: sequences that are cut elsewhere than those counted make an estimate of it."""
        counted = self.tasks[task.key]
        return counted.basis if counted.max_length == task.recipe.max_length else "estimate"


def read_tokens() -> TokenTable:
    """The table; ``EnvironmentFault`` if it is missing or damaged."""
    return read_record(TokenTable, "measured", "tokens.json")
