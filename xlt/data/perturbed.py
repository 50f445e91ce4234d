"""A source whose evaluation rows are perturbed. Its ``settings`` say how, so that its runs have names of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from xlt.data.files.pretraining import split_sentences
from xlt.data.files.reading import DataFile, read_lines
from xlt.data.noise import Lexicon
from xlt.data.perturb import Perturbation, Perturber
from xlt.data.predictions import Prediction
from xlt.data.rows import Row, SpanRow
from xlt.data.source import EVALUATED_SPLITS, Source
from xlt.errors import DataFault
from xlt.tasks.record import ENGLISH, Split, Task

PERTURB = "perturb"
LEXICON = "lexicon/{lang}-en.txt"


class PerturbedSource:
    """The rows of the ``clean`` source with those of dev and test sets perturbed; training data stays as it is.

    Distracting sentences are of ``whole``, the same source without a limit: how many rows are evaluated changes none.
    Code-mixing reads ``lexicon/LANGUAGE-en.txt`` below ``root``, as MUSE's dictionaries are: on each line a word, a
    blank or tab, and its English translation; of several translations the first counts. English, and languages without
    such a file, are not evaluated then.
    """

    def __init__(self, clean: Source, whole: Source, perturbation: Perturbation, root: Path | None) -> None:
        self.name, self.pretraining_text = clean.name, clean.pretraining_text
        self.settings: dict[str, int | str] = {**clean.settings, PERTURB: str(perturbation)}
        self.clean, self.perturbation = clean, perturbation
        self._whole, self._root = whole, root

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        """The languages of the clean source; of a dev or test set that is code-mixed those with a lexicon.

        Raises:
            DataFault: none of them has one.
        """
        languages = self.clean.languages(task, split)
        if split not in EVALUATED_SPLITS or self.perturbation.kind != "code-mixing" or not languages:
            return languages
        if not (known := tuple(filter(self._lexicon_file, languages))):
            raise _no_lexicon(languages)
        return known

    def without_lexicon(self, task: Task, asked: Collection[str] = ()) -> list[str]:
        """The languages of the task that are left out because they have no lexicon; English needs none.

        Raises:
            DataFault: one of them was asked for.
        """
        if self.perturbation.kind != "code-mixing":
            return []
        known = {language: None for split in EVALUATED_SPLITS for language in self.clean.languages(task, split)}
        left_out = [language for language in known if not self._lexicon_file(language)]
        if wanted := [language for language in asked if language in left_out]:
            raise _no_lexicon(wanted)
        return [language for language in left_out if language != ENGLISH]

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """The rows of the clean source, perturbed if they are of a dev or test set.

        Raises:
            UsageFault: rows of the task cannot be perturbed so.
            DataFault: there is no lexicon for code-mixing.
        """
        rows = self.clean.rows(task, split, language)
        if split not in EVALUATED_SPLITS:
            return rows
        return self.perturber(task, split, language).rows(rows)

    def perturber(self, task: Task, split: Split, language: str) -> Perturber:
        """What perturbs the rows of one set. Raises what ``rows`` raises."""
        self.perturbation.check(task)
        lexicon = self._lexicon(language) if self.perturbation.kind == "code-mixing" else {}
        sentences: list[str] = []
        if self.perturbation.kind == "distraction":
            others = self._whole.rows(task, split, language)
            contexts = dict.fromkeys(row.context for row in others if isinstance(row, SpanRow))
            sentences = [sentence for context in contexts for sentence in split_sentences(context)]
        return Perturber(self.perturbation, lexicon, sentences)

    def _lexicon_file(self, language: str) -> DataFile | None:
        """The file with English translations of words of the language; none where the user has none."""
        shown = LEXICON.format(lang=language)
        # Between English and English lie synonyms, which are for training.
        places = [self._root / shown, self._root / f"{shown}.gz"] if self._root and language != ENGLISH else []
        files = [DataFile(path, shown, "where it was published") for path in places if path.is_file()]
        return files[0] if files else None

    def _lexicon(self, language: str) -> Lexicon:
        if (file := self._lexicon_file(language)) is None:
            raise _no_lexicon([language])
        lexicon: dict[str, str] = {}
        for line in read_lines(file):
            word, *translation = line.split(None, 1) or [line]  # a blank line has neither
            if translation:
                lexicon.setdefault(word.lower(), translation[0].strip())
        return lexicon


def predicted_rows(
    source: Source, task: Task, split: Split, language: str, rows: list[Row], predictions: Iterable[Prediction]
) -> list[Row]:
    """The ``rows`` of the source that ``predictions`` are about: of a search those that it ended with.

    Raises:
        DataFault: they are about rows with which no such search ends.
    """
    if not isinstance(source, PerturbedSource) or not source.perturbation.search:
        return rows
    return source.perturber(task, split, language).found(rows, [each.id for each in predictions])


def _no_lexicon(languages: Collection[str]) -> DataFault:
    if ENGLISH in languages and len(languages) == 1:
        why = "Code-mixing puts English words into texts in other languages."
        return DataFault("English is not code-mixed.", why=why, fix="Leave --language en out.")
    return DataFault(
        f"There is no lexicon for code-mixing in: {' '.join(sorted({*languages} - {ENGLISH}))}.",
        why=f"Code-mixing reads {LEXICON.format(lang='LANGUAGE')} below the data root: a word and its English "
        "translation on each line.",
        fix="Add --source files --data-root DIR, with such files, or choose languages that have one with --language.",
    )
