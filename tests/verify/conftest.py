"""Fixtures of the small results folder."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from xlt.verify.export import record
from xlt.verify.judge import verify

from .tiny_results import Results, plan_results, shifted, write_artifact


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ``artifact/`` folder that the code sees."""
    root = write_artifact(tmp_path / "artifact")
    monkeypatch.setenv("XLT_ARTIFACT", str(root))
    return root


@pytest.fixture
def make(artifact: Path, tmp_path: Path) -> Callable[..., Results]:
    """Plans a results folder for the tiny tier: ``make(name, seed=0)``."""

    def make(name: str = "results", **options: object) -> Results:
        return partial(plan_results, tmp_path / name)(**options)

    return make


@pytest.fixture
def results(make: Callable[..., Results]) -> Results:
    """A complete results folder."""
    return make().fill()


@pytest.fixture(scope="session")
def reference_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of the seeds 1 to 8, whose numbers of right predictions differ by up to three."""
    root = tmp_path_factory.mktemp("references")
    artifact = write_artifact(root / "artifact")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLT_ARTIFACT", str(artifact))
        for seed in range(1, 9):
            made = plan_results(root / str(seed), seed=seed).fill(shifted(seed % 4))
            record(verify(made.root, made.source), artifact, today=datetime.date(2026, 1, 2))
    return artifact / "measured"


@pytest.fixture
def recorded(reference_runs: Path, artifact: Path) -> Path:
    """The folder of the recorded seeds in ``artifact/``."""
    shutil.copytree(reference_runs, artifact / "measured")
    return artifact / "measured" / "tiny-tiny"
