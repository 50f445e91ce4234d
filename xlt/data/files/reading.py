"""A data file as text, lines, a table or JSON records, and the error that says where the file is broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from xlt.errors import DataFault, encodable
from xlt.strict_json import reason, regular
from xlt.tasks.record import Split, Task

# The largest official file, MNLI's training set, has a fifth of that.
MOST_BYTES = 2**31
_BYTE_ORDER_MARK = "\ufeff"


class FileFault(DataFault):
    """A data file is absent or broken.

    ``file`` is its path below the data root. ``line`` counts from 1 in the uncompressed text and is ``None`` if no
    single line is wrong. ``message`` says what is wrong, without file and line.
    """

    def __init__(self, file: str, message: str, *, line: int | None = None, why: str = "", fix: str = "") -> None:
        place = file if line is None else f"{file}:{line}"
        super().__init__(f"{place}: {message}", why=why, fix=fix)
        self.file = encodable(file)
        self.line = line
        self.message = encodable(message)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of the data root."""

    path: Path
    shown: str
    """The path below the data root, as messages name it."""
    origin: str
    """Where its publisher offers it."""

    @property
    def stem(self) -> str:
        """The file name without the ending of its format and of its compression."""
        return Path(self.path.name.removesuffix(".gz")).stem

    def fault(self, message: str, *, line: int | None = None, why: str = "", fix: str = "") -> FileFault:
        """The error that names this file; unless ``fix`` says otherwise, the fix is to get the file again."""
        return FileFault(self.shown, message, line=line, why=why, fix=fix or f"Get the file again: {self.origin}")


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """The files of one split of one task in one language, in the order in which the task's record names them."""

    task: Task
    split: Split
    language: str
    files: tuple[DataFile, ...]

    @property
    def file(self) -> DataFile:
        """The first file, which is the only one in most formats."""
        return self.files[0]

    def label(self, found: str, file: DataFile, line: int, names: Mapping[str, str] | None = None) -> str:
        """The label that a file means by ``found``; ``names`` translates labels that are not the task's own."""
        label = found if names is None else names.get(found, "")
        if label not in self.task.labels:
            why = f"Labels of {self.task.name}: {', '.join(self.task.labels)}."
            raise file.fault(f"unknown label '{found}'.", line=line, why=why)
        return label


def read_text(file: DataFile) -> str:
    """The whole text of a UTF-8 file, plain or gzip, without a byte order mark at its start."""
    data = _read_bytes(file)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise file.fault(
            f"not UTF-8 at byte offset {error.start}: byte 0x{data[error.start]:02x}, {error.reason}.",
            line=data.count(b"\n", 0, error.start) + 1,
            why="Offset and line count in the uncompressed text." if file.path.suffix == ".gz" else "",
        ) from error
    text = text.removeprefix(_BYTE_ORDER_MARK)
    if not text.strip():
        raise file.fault("the file is empty.")
    return text


def read_lines(file: DataFile) -> list[str]:
    """The lines of a file without their line ends."""
    # Not str.splitlines, which also cuts at U+2028, U+0085 and form feeds: sentences hold them.
    text = read_text(file)
    if "\n" not in text and "\r" in text.rstrip("\r"):
        raise file.fault(
            "its lines end with carriage returns alone, and would be read as one.",
            fix=f"Convert it: tr '\\r' '\\n' < {file.path.name} > NEW, and put NEW in its place.",
        )
    lines = text.removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines]


def _read_bytes(file: DataFile) -> bytes | bytearray:
    try:
        if file.path.suffix != ".gz":
            return regular(file.path, MOST_BYTES).read_bytes()
        unpacked = bytearray()  # a small gzip file may unpack to more than memory holds
        with gzip.open(regular(file.path), "rb") as stream:
            while part := stream.read(2**20):
                unpacked += part
                if len(unpacked) > MOST_BYTES:
                    raise file.fault(f"it unpacks to more than {MOST_BYTES} bytes, more than any official file.")
        return unpacked
    except EOFError as error:
        raise file.fault("the gzip file is truncated: it ends before its end marker.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise file.fault(f"not a sound gzip file: {error}.") from error
    except (OSError, ValueError) as error:
        raise file.fault(
            f"the file cannot be read: {reason(error) or type(error).__name__}.",
            fix="Make the file readable for the user that runs xlt.",
        ) from error


class JsonRecord(BaseModel):
    """A JSON object of a data file: its fields have exactly these types, and further fields are ignored."""

    model_config = ConfigDict(strict=True)


Shape = TypeVar("Shape", bound=JsonRecord)
# What two of the parser's messages mean.
_SYNTAX = {
    "EOF": "The text ends inside a record: the file is probably truncated.",
    "hex escape": "An escaped character is incomplete, such as half of a surrogate pair.",
}


def read_json(file: DataFile, shape: type[Shape]) -> Shape:
    """The one JSON document of a file."""
    return _parsed(read_text(file), shape, file, None)


def read_json_lines(file: DataFile, shape: type[Shape]) -> Iterator[tuple[int, Shape]]:
    """The JSON documents of a file with one on each line, with the number of the line; blank lines are skipped."""
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            yield number, _parsed(line, shape, file, number)


def _parsed(text: str, shape: type[Shape], file: DataFile, line: int | None) -> Shape:
    try:
        return shape.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    if syntax := re.fullmatch(r"Invalid JSON: (.*) at line (\d+) column (\d+)", first["msg"]):
        why = next((why for sign, why in _SYNTAX.items() if sign in syntax[1]), "")
        at = (line or 1) + int(syntax[2]) - 1
        raise file.fault(f"not valid JSON: {syntax[1]} (column {syntax[3]}).", line=at, why=why)
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]).removeprefix(".")
    what = f"field '{path}'" if path else "the record"
    if first["type"] == "missing":
        names = ", ".join(first["input"]) or "no field at all"
        raise file.fault(f"{what} is missing; found: {names}.", line=line)
    found = json.dumps(first["input"])
    shown = found if len(found) <= 60 else f"{found[:57]}..."
    raise file.fault(f"{what} {first['msg'].removeprefix('Input ')}, found {shown}.", line=line)


def read_table(
    file: DataFile, header: list[str], *, delimiter: str = ",", quotes: bool = True
) -> list[tuple[int, list[str]]]:
    """The records below the header, each with the number of its last line.

    With ``quotes`` a field in quotes may hold the delimiter and line ends; without, a quote is a character like any
    other.
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
    # The csv module only tells where it gave up: for a quote that is never closed, the end of the file.
    # Possessive (*+): a field that does not end at its quote is the broken one, so nothing need be tried again.
    field = re.compile(rf'(?:"(?:[^"]|"")*+"|(?!")[^{delimiter}\r\n]*+)(?:[{delimiter}\n]|\r\n?|\Z)')
    place = 0
    while place < len(text):
        whole = field.match(text, place)
        if not whole:
            return text.count("\n", 0, place) + 1
        place = whole.end()
    return 0
