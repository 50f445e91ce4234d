"""Fixtures that several rooms use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real task files: ``XLT_DATA_ROOT``, else ``../shared/data`` beside the project."""
    root = Path(os.environ.get("XLT_DATA_ROOT") or PROJECT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip("no real task files: set XLT_DATA_ROOT or put them at ../shared/data")
    return root
