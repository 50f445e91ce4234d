"""The source that reads the official release files below a data root, and what users put beside these files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from xlt.data.files.bitext import read_bitext, read_bucc
from xlt.data.files.choices import read_commonsenseqa, read_copa, read_cosmosqa, read_hellaswag, read_siqa
from xlt.data.files.locate import check_root, found, locate, present_languages
from xlt.data.files.pairs import read_nli_jsonl, read_pair_tsv, read_qqp_tsv
from xlt.data.files.pretraining import groups, pretraining_sentences
from xlt.data.files.ranking import read_lareqa, read_mewslix
from xlt.data.files.reading import DataFile, SplitFiles, read_lines
from xlt.data.files.spans import read_squad_json, read_tydiqa
from xlt.data.files.tags import read_ccg, read_tags
from xlt.data.rows import Row, TextRow, only_label
from xlt.data.source import Source
from xlt.errors import DataFault, UsageFault, encodable
from xlt.tasks.record import ENGLISH, Split, Task

TRANSLATED = "translated"
# The reader of each format, by the name that a task's record gives it as its layout.
READERS: dict[str, Callable[[SplitFiles], Iterable[Row]]] = {
    "nli_jsonl": read_nli_jsonl,
    "pair_tsv": read_pair_tsv,
    "qqp_tsv": read_qqp_tsv,
    "squad_json": read_squad_json,
    "tydiqa_json": read_tydiqa,
    "hellaswag_jsonl": read_hellaswag,
    "cosmosqa_csv": read_cosmosqa,
    "commonsenseqa_jsonl": read_commonsenseqa,
    "siqa_jsonl": read_siqa,
    "copa_jsonl": read_copa,
    "ccg": read_ccg,
    "tags": read_tags,
    "bitext": read_bitext,
    "bucc": read_bucc,
    "lareqa": read_lareqa,
    "mewslix": read_mewslix,
}


def read(split: SplitFiles) -> list[Row]:
    """All rows of the files, in their order.

    Raises:
        FileFault: a file is broken or holds no row, or the labels of an evaluation set are placeholders.
        UsageFault: the task's record names a layout that has no reader.
    """
    task = split.task
    if task.layout not in READERS:
        raise UsageFault(
            f"The task '{task.key}' names the layout '{task.layout}', which has no reader.",
            why=f"Layouts: {', '.join(READERS)}.",
        )
    rows = list(READERS[task.layout](split))
    if not rows:
        raise split.file.fault("no row of the file can be used.")
    if split.split != "train" and (label := only_label(rows)) is not None:
        raise split.file.fault(
            f"all {len(rows)} labels are '{label}': placeholders, not labels.",
            fix=f"Get the labelled release: {split.file.origin}",
        )
    return rows


class FilesSource:
    """Rows from the official release files in the folder layout that each task's record names."""

    def __init__(self, root: Path, within: str = "") -> None:
        """Opens the data root, or the folder ``within`` it."""
        check_root(root)
        self.name = "files"
        self.settings: dict[str, int | str] = {}
        self._root = root
        self._within = within
        self._parsed: dict[tuple[str, Split, str], list[Row]] = {}

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        """The languages in which the files of that split exist, in the task's order."""
        return present_languages(self._root / self._within, task, split)

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """All rows of one split in one language, in the order of the file; each file is read once."""
        key = (task.key, split, language)
        if key not in self._parsed:
            self._parsed[key] = read(locate(self._root, task, split, language, self._within))
        return list(self._parsed[key])

    def pretraining_text(self) -> list[TextRow]:
        """The sentences of the training and development files that are present, of all tasks and languages, each once,
        in the order of the catalogue, without those of the test files that are present."""
        return pretraining_sentences(groups(self, "train", "dev"), groups(self, "test"))


class UserFiles:
    """Another source with what the user put beside the official files, below the data root.

    ``translated/LANGUAGE`` holds machine-translated training sets in the layout of the data root itself: further
    languages of the training sets. The files ``text/LANGUAGE.txt``, where there are any, are all the text for masked
    LM, except sentences of a test split.
    """

    def __init__(self, source: Source, root: Path) -> None:
        self.name = source.name
        self.settings = source.settings
        self._source = source
        self._translated = {
            language: FilesSource(root, f"{TRANSLATED}/{language}") for language in translated_languages(root)
        }
        self._texts = text_files(root)

    def languages(self, task: Task, split: Split) -> tuple[str, ...]:
        """The languages of the other source, then the languages of the translations."""
        translated = self._translated.items() if split == "train" else ()
        further = (language for language, files in translated if files.languages(task, split))
        return (*self._source.languages(task, split), *further)

    def rows(self, task: Task, split: Split, language: str) -> list[Row]:
        """The rows of the translation or, where there is none, of the other source."""
        if split == "train" and language in self._translated:
            return self._translated[language].rows(task, split, ENGLISH)
        return self._source.rows(task, split, language)

    def pretraining_text(self) -> list[TextRow]:
        """The sentences of the text files or, where there are none, the text of the other source."""
        if not self._texts:
            return self._source.pretraining_text()
        texts = ((file.shown.partition(".")[0], read_text_file(file)) for file in self._texts)
        return pretraining_sentences(texts, groups(self._source, "test"))


def translated_languages(root: Path) -> list[str]:
    """The languages of the folders in ``translated``, sorted, without English."""
    names = sorted(path.name for path in (root / TRANSLATED).glob("*") if path.is_dir() and path.name != ENGLISH)
    for name in names:
        if encodable(name) != name:
            raise DataFault(f"The name of the folder '{TRANSLATED}/{name}' is not UTF-8.", fix="Rename the folder.")
    return names


def text_files(root: Path) -> list[DataFile]:
    """The files in ``text``, sorted."""
    return [DataFile(root / name, name, "from where you had it") for name in found(root, "text/*.txt")]


def read_text_file(file: DataFile) -> list[TextRow]:
    """The lines of a file in ``text``."""
    return [TextRow(f"{number}", line) for number, line in enumerate(read_lines(file), start=1)]
