"""JSON that others wrote: read so that it means one thing, or refused with a reason of one line."""

from __future__ import annotations

import codecs
import json
import math
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xlt.errors import DataFault
from xlt.printable import printable

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MOST_BYTES = 2**28  # far more than any file that is read at once, far less than memory
Shape = TypeVar("Shape")


def parse_json(data: bytes | str) -> Any:
    """The value of one JSON document in UTF-8.

    Raises:
        ValueError: it is none, or one that readers take differently: with NaN, a number too large for a float, a name
            twice in one object, half a surrogate pair, a byte order mark, or more than 200 levels.
    """
    from pydantic_core import from_json  # here: predictions are written where it may be absent

    data = data.encode("utf-8") if isinstance(data, str) else data
    if data.startswith(codecs.BOM_UTF8):
        raise ValueError("it begins with a byte order mark")
    # The first parser refuses depth, half surrogates and NaN, where that of the standard library recurses or takes
    # them; only the second can see names that repeat, and infinity.
    from_json(data, allow_inf_nan=False)
    return _DECODER.decode(data.decode("utf-8"))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' stands twice in one object")
    return found


def _finite(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_float=_finite)


def read_json(path: Path, shape: TypeAdapter[Shape], *, what: str = "", fix: str = "") -> Shape:
    """The JSON document of a file, which has the ``shape`` given.

    Raises:
        DataFault: there is no such file, or it is not that; ``what`` says so in the words of the caller.
    """
    try:
        return shape.validate_python(parse_json(read_bytes(path)))
    except (OSError, ValueError) as error:
        raise DataFault(what or f"{path.name} cannot be read.", why=f"{reason(error)}.", fix=fix) from error


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file of at most 256 MiB. Raises OSError, or ValueError where it is no such file."""
    return regular(path, MOST_BYTES).read_bytes()


def regular(path: Path, most: float = math.inf) -> Path:
    """The path itself, of a regular file: to open a pipe would wait for ever. Raises as ``read_bytes``."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a file" + (" but a folder" if stat.S_ISDIR(found.st_mode) else ""))
    if found.st_size > most:
        raise ValueError(f"it has {found.st_size} bytes, more than such a file ever has")
    return path


def reason(error: BaseException) -> str:
    """Why something could not be read: one line that can be shown and names no path."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return printable(": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"]))))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(str(error).split("\n")[0])
