"""TyDiQA-GoldP: the JSON form of SQuAD, with the languages named in file names and ids."""

from __future__ import annotations

from xlt.data.files.part import Part
from xlt.data.files.squad_json import read_squad_json
from xlt.data.rows import SpanRow

NAMES = {
    "ar": "arabic",
    "bn": "bengali",
    "en": "english",
    "fi": "finnish",
    "id": "indonesian",
    "ko": "korean",
    "ru": "russian",
    "sw": "swahili",
    "te": "telugu",
}


def read_tydiqa(part: Part) -> list[SpanRow]:
    """Reads a file of one language, or the questions of one from the file of all.

    Ids of the release (https://github.com/google-research-datasets/tydiqa) begin with the English name of the
    language; XTREME's script cuts it off as it splits the file of all by language.

    Raises:
        FileFault: as ``read_squad_json``.
    """
    others = {name for code, name in NAMES.items() if code != part.language}
    return [row for row in read_squad_json(part) if row.id.partition("-")[0] not in others]
