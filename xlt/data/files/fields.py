"""Fields of a parsed JSON record, checked: a wrong one is an error with its place and content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xlt.data.files.fault import FileFault
from xlt.data.files.part import DataFile
from xlt.data.files.text import read_lines
from xlt.errors import encodable


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: its file, and there a line or a path such as ``data[0].paragraphs[2]``."""

    file: DataFile
    line: int | None = None
    path: str = ""

    def below(self, field: str, index: int) -> Place:
        """The place of one entry of a list in this record."""
        entry = f"{field}[{index}]"
        return Place(self.file, self.line, f"{self.path}.{entry}" if self.path else entry)

    def fault(self, message: str, *, why: str = "", fix: str = "") -> FileFault:
        """The error that names this place."""
        placed = f"{self.path}: {message}" if self.path else message
        return self.file.fault(placed, line=self.line, why=why, fix=fix)


def parse_json(text: str, file: DataFile, line: int = 1) -> Any:
    """Parses one JSON document, which begins at ``line`` of the file.

    Raises:
        FileFault: the text is no JSON; it names the line of the file.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        whole = text.rstrip().endswith(("}", "]"))
        raise file.fault(
            f"not valid JSON: {error.msg} (column {error.colno}).",
            line=line + error.lineno - 1,
            why="" if whole else "The text ends in the middle of a record: the file is probably truncated.",
        ) from error
    except RecursionError as error:
        raise file.fault("not usable JSON: lists or objects are nested too deeply.", line=line) from error
    except ValueError as error:
        raise file.fault("not usable JSON: a number has too many digits.", line=line) from error


def read_records(file: DataFile) -> Iterator[tuple[Any, Place]]:
    """The JSON documents of a file of one per line, with their places; blank lines are skipped.

    Raises:
        FileFault: the file is broken or a line is no JSON.
    """
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            yield parse_json(line, file, number), Place(file, number)


def get_text(record: object, field: str, place: Place) -> str:
    """The text in a field of a record.

    Raises:
        FileFault: the field is absent, no text, or text that cannot be written as UTF-8.
    """
    return _text(_get(record, field, place), field, place)


def get_texts(record: object, field: str, place: Place) -> list[str]:
    """The texts of a list in a field of a record.

    Raises:
        FileFault: the field is absent, no list, or an entry is no text that can be written as UTF-8.
    """
    return [_text(entry, f"{field}[{index}]", place) for index, entry in enumerate(get_list(record, field, place))]


def _text(value: object, field: str, place: Place) -> str:
    if not isinstance(value, str):
        raise _wrong_kind("text", value, field, place)
    if encodable(value) != value:
        raise place.fault(f"field '{field}' holds half a surrogate pair.")
    return value


def get_list(record: object, field: str, place: Place) -> list[Any]:
    """The list in a field of a record.

    Raises:
        FileFault: the field is absent or no list.
    """
    value = _get(record, field, place)
    if not isinstance(value, list):
        raise _wrong_kind("a list", value, field, place)
    return value


def get_object(record: object, field: str, place: Place) -> dict[str, Any]:
    """The JSON object in a field of a record.

    Raises:
        FileFault: the field is absent or no object.
    """
    value = _get(record, field, place)
    if not isinstance(value, dict):
        raise _wrong_kind("a JSON object", value, field, place)
    return value


def get_whole_number(record: object, field: str, place: Place) -> int:
    """The whole number in a field of a record.

    Raises:
        FileFault: the field is absent or no whole number.
    """
    value = _get(record, field, place)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_kind("a whole number", value, field, place)
    return value


def _get(record: object, field: str, place: Place) -> object:
    if not isinstance(record, dict):
        raise place.fault(f"expected a JSON object, found {_shown(record)}.")
    if field not in record:
        raise place.fault(f"field '{field}' is missing; found: {', '.join(record) or 'no field at all'}.")
    value: object = record[field]
    return value


def _wrong_kind(expected: str, value: object, field: str, place: Place) -> FileFault:
    return place.fault(f"field '{field}' should be {expected}, found {_shown(value)}.")


def _shown(value: object) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "lists or objects nested deeply"
    return text if len(text) <= 60 else f"{text[:57]}..."
