"""What the user puts beside the official files: translations of training sets, and text for masked LM.

``translated/LANGUAGE`` holds machine-translated training sets in the layout of the data root itself, and
``text/LANGUAGE.txt`` lines of text.
"""

from __future__ import annotations

from pathlib import Path

from xlt.data.files.locate import found
from xlt.data.files.part import DataFile
from xlt.data.files.text import read_lines
from xlt.data.rows import TextRow
from xlt.errors import DataFault, encodable
from xlt.tasks.record import ENGLISH

TRANSLATED = "translated"


def translated_languages(root: Path) -> list[str]:
    """The languages of ``translated``, sorted; English is none.

    Raises:
        DataFault: the name of a folder is not UTF-8.
    """
    names = sorted(path.name for path in (root / TRANSLATED).glob("*") if path.is_dir() and path.name != ENGLISH)
    for name in names:
        if encodable(name) != name:
            raise DataFault(f"The name of the folder '{TRANSLATED}/{name}' is not UTF-8.", fix="Rename the folder.")
    return names


def text_files(root: Path) -> list[DataFile]:
    """The files of ``text``, sorted.

    Raises:
        FileFault: the name of one is not UTF-8.
    """
    return [DataFile(root / name, name, "from where you had it") for name in found(root, "text/*.txt")]


def read_text_file(file: DataFile) -> list[TextRow]:
    """The lines of a file of ``text``.

    Raises:
        FileFault: it is broken.
    """
    return [TextRow(f"{number}", line) for number, line in enumerate(read_lines(file), start=1)]
