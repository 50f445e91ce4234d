"""Writes artifact/LICENCES.md, the licences of what xlt is built with and of the data it reads: ``make expected``."""

from __future__ import annotations

import re
import sys
import tomllib
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any

from xlt.artifact import artifact_root, read_record
from xlt.frozen import Frozen
from xlt.tasks.catalogue import TASKS

from .expected import pages

LOCKS = ("cpu", "gpu", "build", "dev")
# Metadata older than licence expressions: a classifier says more than free text, which may be the whole licence.
CLASSIFIER = "License :: "


class Licences(Frozen):
    """``artifact/licences.toml``: by licence, as a package's metadata states it, the packages that state it."""

    packages: dict[str, tuple[str, ...]]
    unstated: tuple[str, ...]
    """Packages whose metadata states none, or was not read."""


def read_licences() -> Licences:
    """What the project says of its packages."""
    return read_record(Licences, "licences.toml")


def locked() -> dict[str, dict[str, str]]:
    """By package its version in each lock that pins it."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for lock in LOCKS:
        text = (artifact_root() / "lock" / f"{lock}.lock").read_text("utf-8")
        for package, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE):
            found[package][lock] = version
    return dict(sorted(found.items()))


def stated(package: str) -> str:
    """The licence that an installed package states of itself; empty where it states none.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    its = metadata.metadata(package)
    if expression := its.get_all("License-Expression"):
        return str(expression[0])
    named = [line.split(" :: ")[-1] for line in its.get_all("Classifier") or () if line.startswith(CLASSIFIER)]
    return "; ".join(named) or str((its.get_all("License") or [""])[0]).strip().split("\n")[0]


def packages() -> list[dict[str, Any]]:
    """Per licence, the packages under it with version and what they are for.

    Raises:
        KeyError: a package of a lock is not in ``artifact/licences.toml``.
    """
    licences = read_licences()
    of = {name: licence for licence, names in licences.packages.items() for name in names}
    of |= dict.fromkeys(licences.unstated, "")
    rows: dict[str, list[str]] = defaultdict(list)
    for name, locks in locked().items():
        only = next((f" ({lock} only)" for lock in ("gpu", "build", "dev") if [*locks] == [lock]), "")
        rows[of[name]].append(f"{name} {next(iter(locks.values()))}{only}")
    return [
        {"licence": licence, "packages": rows[licence]} for licence in sorted(rows, key=lambda each: (not each, each))
    ]


def render() -> str:
    """The text of artifact/LICENCES.md."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    return pages().get_template("licences.md.j2").render(project=project, packages=packages(), tasks=TASKS.values())


if __name__ == "__main__":
    sys.stdout.write(render())
