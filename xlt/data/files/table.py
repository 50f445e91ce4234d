"""Tables with a header, separated by commas or tabs."""

from __future__ import annotations

import csv
import io

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
        reader = csv.reader(io.StringIO(read_text(file), newline=""), delimiter=delimiter, strict=True)
        try:
            records = [(reader.line_num, fields) for fields in reader]
        except csv.Error as error:
            raise file.fault(f"not a sound table: {error}.", line=reader.line_num) from error
    else:
        records = [(number, line.split(delimiter)) for number, line in enumerate(read_lines(file), start=1)]
    if records[0][1] != header:
        raise file.fault(
            f"the columns are {', '.join(records[0][1])}; expected {', '.join(header)}.",
            line=1,
            why="Test files whose labels are withheld lack a column." if len(records[0][1]) < len(header) else "",
        )
    return records[1:]
