"""The JSON lines of MNLI, SNLI and ANLI."""

from __future__ import annotations

from xlt.data.files.fields import get_text, read_records
from xlt.data.files.part import Part
from xlt.data.rows import PairRow

NO_AGREED_LABEL = "-"
_ANLI_LABELS = {"e": "entailment", "n": "neutral", "c": "contradiction"}
_FIELDS = ("sentence1", "sentence2", "gold_label", "pairID")
_ANLI_FIELDS = ("context", "hypothesis", "label", "uid")


def read_nli_jsonl(part: Part) -> list[PairRow]:
    """Reads the JSON lines of MultiNLI 1.0 (https://cims.nyu.edu/~sbowman/multinli/), SNLI 1.0 and ANLI 1.0.

    The first two have ``sentence1``, ``sentence2``, ``gold_label`` and, for the id, ``pairID``; ANLI
    (https://github.com/facebookresearch/anli) has ``context``, ``hypothesis``, ``label`` (e, n or c) and ``uid``.
    Where the id is absent or came before, it is the file's stem and the line number. Rows with the label "-", on
    which the annotators did not agree, are left out, as in the official use.

    Raises:
        FileFault: a file is broken, a field is missing, or a label is unknown.
    """
    rows: list[PairRow] = []
    seen: set[str] = set()
    for record, place in (each for file in part.files for each in read_records(file)):
        is_anli = isinstance(record, dict) and "context" in record
        first, second, label_field, id_field = _ANLI_FIELDS if is_anli else _FIELDS
        label = get_text(record, label_field, place)
        if label == NO_AGREED_LABEL:
            continue
        known = _ANLI_LABELS.get(label, "") if is_anli else label
        if known not in part.task.labels:
            raise part.unknown_label(label, place.file, place.line)
        text_a, text_b = get_text(record, first, place), get_text(record, second, place)
        pair_id = get_text(record, id_field, place) if id_field in record else ""
        if not pair_id or pair_id in seen:
            pair_id = f"{place.file.stem}-{place.line}"
        seen.add(pair_id)
        rows.append(PairRow(pair_id, text_a, text_b, known))
    return rows
