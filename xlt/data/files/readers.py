"""The reader of every official file format."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xlt.data.files.bitext import read_bitext
from xlt.data.files.bucc import read_bucc
from xlt.data.files.ccg import read_auto, read_tag_lines
from xlt.data.files.choices import read_commonsenseqa, read_cosmosqa, read_hellaswag
from xlt.data.files.conllu import read_conllu
from xlt.data.files.nli_jsonl import read_nli_jsonl
from xlt.data.files.pair_tsv import read_pair_tsv
from xlt.data.files.part import Part
from xlt.data.files.qqp_tsv import read_qqp_tsv
from xlt.data.files.squad_json import read_squad_json
from xlt.data.files.tag_columns import read_tag_columns
from xlt.data.files.tydiqa import read_tydiqa
from xlt.data.labels import only_label
from xlt.data.rows import Row
from xlt.errors import UsageFault

Reader = Callable[[Part], Sequence[Row]]


def _by_ending(ending: str, special: Reader, other: Reader) -> Reader:
    """A reader for files of which those with that ending have a format of their own."""
    return lambda part: (special if part.file.shown.removesuffix(".gz").endswith(ending) else other)(part)


READERS: dict[str, Reader] = {
    "nli_jsonl": read_nli_jsonl,
    "pair_tsv": read_pair_tsv,
    "qqp_tsv": read_qqp_tsv,
    "squad_json": read_squad_json,
    "tydiqa_json": read_tydiqa,
    "hellaswag_jsonl": read_hellaswag,
    "cosmosqa_csv": read_cosmosqa,
    "commonsenseqa_jsonl": read_commonsenseqa,
    "ccg": _by_ending(".auto", read_auto, read_tag_lines),
    "tags": _by_ending(".conllu", read_conllu, read_tag_columns),
    "bitext": read_bitext,
    "bucc": read_bucc,
}


def read(part: Part) -> list[Row]:
    """All rows of the part, in the order of its files.

    Raises:
        FileFault: a file is broken or holds no row, or the labels of an evaluation set are placeholders.
        UsageFault: the task's record names a layout that has no reader.
    """
    if part.task.layout not in READERS:
        raise UsageFault(
            f"The task '{part.task.key}' names the layout '{part.task.layout}', which has no reader.",
            why=f"Layouts: {', '.join(READERS)}.",
        )
    rows = list(READERS[part.task.layout](part))
    if not rows:
        raise part.file.fault("no row of the file can be used.")
    if part.split != "train" and (label := only_label(rows)) is not None:
        raise part.file.fault(
            f"all {len(rows)} labels are '{label}': placeholders, not labels.",
            fix=f"Get the labelled release: {part.file.origin}",
        )
    return rows
