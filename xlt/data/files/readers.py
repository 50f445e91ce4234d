"""The reader of every official file format."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xlt.data.files.bitext import read_bitext
from xlt.data.files.nli_jsonl import read_nli_jsonl
from xlt.data.files.nli_tsv import read_nli_tsv
from xlt.data.files.part import Part
from xlt.data.files.squad_json import read_squad_json
from xlt.data.rows import Row
from xlt.errors import UsageFault

READERS: dict[str, Callable[[Part], Sequence[Row]]] = {
    "nli_jsonl": read_nli_jsonl,
    "nli_tsv": read_nli_tsv,
    "squad_json": read_squad_json,
    "bitext": read_bitext,
}


def read(part: Part) -> list[Row]:
    """All rows of the part, in the order of its files.

    Raises:
        FileFault: a file is broken or holds no row.
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
    return rows
