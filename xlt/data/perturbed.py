"""A source whose evaluation rows are perturbed. Its ``settings`` say how, so that its runs have names of their own."""

from __future__ import annotations

from pathlib import Path

from xlt.data.files.pretraining import split_sentences
from xlt.data.files.reading import DataFile, read_lines
from xlt.data.noise import Lexicon
from xlt.data.perturb import Perturbation, Perturber
from xlt.data.rows import Row, SpanRow
from xlt.data.source import EVALUATED_SPLITS, Source
from xlt.errors import DataFault
from xlt.tasks.record import Split, Task

PERTURB = "perturb"
LEXICON = "lexicon/{lang}-en.txt"


class PerturbedSource:
    """The rows of the ``clean`` source with those of dev and test sets perturbed; training data stays as it is.

    Distracting sentences are of ``whole``, the same source without a limit: how many rows are evaluated changes none.
    Code-mixing reads ``lexicon/LANGUAGE-en.txt`` below ``root``, as MUSE's dictionaries are: on each line a word, a
    blank or tab, and its English translation; of several translations the first counts.
    """

    def __init__(self, clean: Source, whole: Source, perturbation: Perturbation, root: Path | None) -> None:
        self.name, self.languages, self.pretraining_text = clean.name, clean.languages, clean.pretraining_text
        self.settings: dict[str, int | str] = {**clean.settings, PERTURB: str(perturbation)}
        self.clean, self.perturbation = clean, perturbation
        self._whole, self._root = whole, root

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """The rows of the clean source, perturbed if they are of a dev or test set.

        Raises:
            UsageFault: rows of the task cannot be perturbed so.
            DataFault: there is no lexicon to mix codes with.
        """
        rows = self.clean.rows(task, split, language)
        if split not in EVALUATED_SPLITS:
            return rows
        self.perturbation.check(task)
        lexicon = self._lexicon(language) if self.perturbation.kind == "code-mixing" else {}
        sentences: list[str] = []
        if self.perturbation.kind == "distraction":
            others = self._whole.rows(task, split, language)
            contexts = dict.fromkeys(row.context for row in others if isinstance(row, SpanRow))
            sentences = [sentence for context in contexts for sentence in split_sentences(context)]
        return Perturber(self.perturbation, lexicon, sentences).rows(rows)

    def _lexicon(self, language: str) -> Lexicon:
        """The translations of words of the language; none where the user has no lexicon of it."""
        if self._root is None or not any(self._root.glob(LEXICON.format(lang="*") + "*")):
            raise DataFault(
                "There is no lexicon to mix codes with.",
                why=f"Code-mixing reads {LEXICON.format(lang='LANGUAGE')} below the data root: a word and its English "
                "translation on each line.",
                fix="Add --source files --data-root DIR, with such files.",
            )
        shown = LEXICON.format(lang=language)
        paths = [path for path in (self._root / shown, self._root / f"{shown}.gz") if path.is_file()]
        lexicon: dict[str, str] = {}
        for line in read_lines(DataFile(paths[0], shown, "where it was published")) if paths else ():
            word, *translation = line.split(None, 1) or [line]  # a blank line has neither
            if translation:
                lexicon.setdefault(word.lower(), translation[0].strip())
        return lexicon
