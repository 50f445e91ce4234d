"""The JSON lines of MNLI and SNLI."""

from __future__ import annotations

from xlt.data.files.fields import Place, get_text, parse_json
from xlt.data.files.part import Part
from xlt.data.files.text import read_lines
from xlt.data.rows import PairRow

NO_AGREED_LABEL = "-"


def read_nli_jsonl(part: Part) -> list[PairRow]:
    """Reads the JSON lines of MultiNLI 1.0 (https://cims.nyu.edu/~sbowman/multinli/) and SNLI 1.0.

    Uses ``sentence1``, ``sentence2``, ``gold_label`` and, for the id, ``pairID``; where that is absent or
    came before, the id is the file's stem and the line number. Rows with the label "-", on which the
    annotators did not agree, are left out, as in the official use.

    Raises:
        FileFault: the file is broken, a field is missing, or a label is unknown.
    """
    rows: list[PairRow] = []
    seen: set[str] = set()
    for number, line in enumerate(read_lines(part.file), start=1):
        if not line.strip():
            continue
        record, place = parse_json(line, part.file, number), Place(part.file, number)
        label = get_text(record, "gold_label", place)
        if label == NO_AGREED_LABEL:
            continue
        if label not in part.task.labels:
            raise part.unknown_label(label, number)
        text_a, text_b = get_text(record, "sentence1", place), get_text(record, "sentence2", place)
        pair_id = get_text(record, "pairID", place) if "pairID" in record else ""
        if not pair_id or pair_id in seen:
            pair_id = f"{part.file.stem}-{number}"
        seen.add(pair_id)
        rows.append(PairRow(pair_id, text_a, text_b, label))
    return rows
