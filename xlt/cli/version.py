"""``xlt version``: which version this is, to the byte.

xlt version
xlt version --json
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from xlt import __version__
from xlt.artifact import artifact_root
from xlt.cli.output import Shown, emit
from xlt.pipeline.provenance import commit, tag

OUTSIDE = "its digest is known outside of it: docker image inspect --format '{{.Id}}' IMAGE"


@dataclass(frozen=True, slots=True)
class Version:
    """What this program is made of."""

    version: str
    """The version of the package."""
    tag: str
    """The tag of the checkout's commit; empty where it has none, or this is no checkout."""
    commit: str
    """The commit, with +changes if files differ from it; empty where this is neither a checkout nor an image."""
    locks: dict[str, str]
    """The SHA-256 of each lock that it can be installed with."""
    image: str
    """The digest of the container image, which XLT_IMAGE says; empty where nobody said so."""


def version() -> None:
    """Print version, tag, commit, hashes of the locks and digest of the image."""
    locks = {
        f"{name}.lock": hashlib.sha256((artifact_root() / "lock" / f"{name}.lock").read_bytes()).hexdigest()
        for name in ("torch-cpu", "cpu", "gpu")
    }
    found = Version(__version__, tag(), commit(), locks, os.environ.get("XLT_IMAGE", ""))
    emit(found, _shown(found))


def _shown(found: Version) -> Shown:
    yield f"xlt            {found.version}"
    yield f"tag            {found.tag or 'none'}"
    yield f"commit         {found.commit or 'unknown: neither a checkout nor an image'}"
    yield from (f"{name:14} sha256:{digest}" for name, digest in found.locks.items())
    unknown = (
        f"{OUTSIDE} (docker run -e XLT_IMAGE=DIGEST shows it here)" if "XLT_VOLUME" in os.environ else "not in one"
    )
    yield f"image          {found.image or unknown}"
