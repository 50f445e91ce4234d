"""Where the data-only folder ``artifact/`` of the project lies, and how its JSON and TOML files are read."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xlt.errors import EnvironmentFault

if TYPE_CHECKING:
    from pydantic import BaseModel

Record = TypeVar("Record", bound="BaseModel")
RESTORE = "Restore it from the repository: git checkout -- artifact"


def artifact_root() -> Path:
    """The folder ``artifact/``: beside the package in a checkout, within it in a wheel, or named by ``XLT_ARTIFACT``.

    Raises:
        EnvironmentFault: it is not there.
    """
    package = Path(__file__).resolve().parent
    # A wheel's own comes first: what is called "artifact" beside an installed package is somebody else's.
    carried = package / "_artifact"
    root = Path(os.environ.get("XLT_ARTIFACT") or (carried if carried.is_dir() else package.parent / "artifact"))
    if not root.is_dir():
        raise EnvironmentFault(
            "The project's folder 'artifact' was not found beside the package.",
            why="It holds the tiers, the expected values and the DeepSpeed configurations.",
            fix="Install from a checkout with 'make install', or set XLT_ARTIFACT to that folder.",
        )
    return root


def read_toml(*parts: str) -> dict[str, Any]:
    """A TOML file below ``artifact/``."""
    return tomllib.loads(_text(*parts))


def read_json(*parts: str) -> dict[str, Any]:
    """A JSON object below ``artifact/``."""
    value: dict[str, Any] = json.loads(_text(*parts))
    return value


def read_record(shape: type[Record], *parts: str) -> Record:
    """A JSON or TOML file below ``artifact/`` as a record of the ``shape`` given.

    Raises:
        EnvironmentFault: the file is missing or is no such record.
    """
    try:
        return shape.model_validate((read_json if parts[-1].endswith(".json") else read_toml)(*parts))
    except (ValueError, RecursionError) as error:
        raise EnvironmentFault(
            f"The file 'artifact/{'/'.join(parts)}' cannot be read.",
            why=" ".join(str(error).split("\n")[:3]),
            fix=RESTORE,
        ) from error


def _text(*parts: str) -> str:
    path = artifact_root().joinpath(*parts)
    if not path.is_file():
        raise EnvironmentFault(
            f"The project's file 'artifact/{'/'.join(parts)}' is missing.",
            fix=RESTORE,
        )
    return path.read_text(encoding="utf-8")
