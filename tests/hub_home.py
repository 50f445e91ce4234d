"""A hub cache, an ``artifact/`` folder and a lock of a test's own."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from tests.conftest import PROJECT

# The smallest weights that a fetch takes for sound.
WEIGHTS = save({"weight": torch.arange(700.0)})


def own_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes ``folder`` hold hub cache and artifact; no token, and small chunks, so that small files come in many."""
    (folder / "artifact" / "measured").mkdir(parents=True)
    shutil.copy(PROJECT / "artifact" / "measured" / "tokens.json", folder / "artifact" / "measured")
    shutil.copy(PROJECT / "artifact" / "hub.toml", folder / "artifact")
    shutil.copytree(PROJECT / "artifact" / "tiers", folder / "artifact" / "tiers")
    monkeypatch.setenv("XLT_ARTIFACT", str(folder / "artifact"))
    for name in ("XLT_DATA_LOCK", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
    return folder


def parquet(records: list[dict[str, Any]], metadata: dict[str, str] | None = None) -> bytes:
    """The records as a parquet file."""
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records).replace_schema_metadata(metadata), stream)
    return stream.getvalue()
