"""Tables with a header, separated by commas or tabs."""

from __future__ import annotations

import csv
import io
import re

from xlt.data.files.part import DataFile
from xlt.data.files.text import read_lines, read_text


def read_table(
    file: DataFile, header: list[str], *, delimiter: str = ",", quotes: bool = True
) -> list[tuple[int, list[str]]]:
    """The records below the header, each with the number of its last line.

    With ``quotes`` a field in quotes may hold the delimiter and line ends; without they mean nothing.

    Raises:
        FileFault: the file is broken or its header is another.
    """
    if quotes:
        text = read_text(file)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            records = [(reader.line_num, fields) for fields in reader]
        except csv.Error as error:
            opened = _open_quote(text, delimiter)
            found = f" at line {reader.line_num}, in a field whose quote opens here" if opened else ""
            raise file.fault(f"not a sound table: {error}{found}.", line=opened or reader.line_num) from error
    else:
        records = [(number, line.split(delimiter)) for number, line in enumerate(read_lines(file), start=1)]
    if records[0][1] != header:
        raise file.fault(
            f"the columns are {', '.join(records[0][1])}; expected {', '.join(header)}.",
            line=1,
            why="Test files whose labels are withheld lack a column." if len(records[0][1]) < len(header) else "",
        )
    return records[1:]


def _open_quote(text: str, delimiter: str) -> int:
    """The line of the first quote that opens a field and is not closed at its end; 0 if there is none."""
    field = re.compile(rf'(?:"(?:[^"]|"")*+"|(?!")[^{delimiter}\r\n]*+)(?:[{delimiter}\n]|\r\n?|\Z)')
    place = 0
    while place < len(text):
        whole = field.match(text, place)
        if not whole:
            return text.count("\n", 0, place) + 1
        place = whole.end()
    return 0
