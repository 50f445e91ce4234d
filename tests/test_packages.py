"""Where a package is absent, what does not need it runs, and what needs it says so in one clear line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from xlt.errors import ExitCode
from xlt.runtime import PLACE

# The parts of xlt that need a package as soon as they are imported; of the others no module does.
NEEDING = {
    "deepspeed,faiss,seqeval,datasets": ("xlt.bench.load",),
    # It checks hashes, settings, results and data files. The model, its training and the GPU's self-test do without.
    "pydantic": (
        "xlt.bench",
        "xlt.data.files",
        "xlt.data.hub",
        "xlt.data.perturbed",
        "xlt.data.synonyms",
        "xlt.data.world",
        "xlt.frozen",
        "xlt.pipeline",
        "xlt.retrieval.readings",
        "xlt.verify",
    ),
    # transformers needs it too.
    "huggingface_hub": (
        "xlt.bench",
        "xlt.data.hub",
        "xlt.data.encodings",
        "xlt.data.features",
        "xlt.data.tokenizer",
        "xlt.evaluate.predict",
        "xlt.evaluate.worst_case",
        "xlt.model",
        "xlt.pipeline",
        "xlt.retrieval",
        "xlt.train",
        "xlt.verify.golden",
        "xlt.verify.losses",
        "xlt.verify.power",
        "xlt.verify.recheck",
        "xlt.verify.replay",
        "xlt.verify.trainings",
    ),
}
# And of those parts what must not need it all the same.
FREE = {
    "pydantic": {"xlt.bench.gpu", "xlt.pipeline.doctor", "xlt.pipeline.selftest", "xlt.pipeline.provenance"},
    "huggingface_hub": {"xlt.bench.gpu", "xlt.pipeline.estimate", "xlt.pipeline.grid", "xlt.retrieval.search"},
}


TRAIN = ("train", "mlm", "--tier", "smoke", "--steps", "2")


def without(package: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.without", package, program, *arguments]
    # Not the process group of the tests before this one.
    own = {name: value for name, value in os.environ.items() if name not in PLACE}
    return subprocess.run(command, cwd=PROJECT, env=own, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("package", NEEDING)
def test_only_what_needs_a_package_imports_it(package: str) -> None:
    failed = without(package, "-").stdout.split()
    assert [name for name in failed if not name.startswith(NEEDING[package])] == []
    assert FREE.get(package, set()) & set(failed) == set()
    assert bool(failed) == bool(NEEDING[package])


@pytest.mark.parametrize(
    ("package", "needing", "arguments"),
    [
        ("pydantic", "xlt.cli.app", ["doctor"]),
        ("huggingface_hub", "xlt.data.hub.lock", ["fetch", "mnli"]),
        ("datasets", "xlt.bench.load", ["bench", "load"]),
        ("submitit", "xlt.pipeline.cluster", ["reproduce", "--executor", "slurm", "--dry-run"]),
        (
            "deepspeed",
            "xlt.train.engine",
            [*TRAIN, "--results", "{results}"],
        ),
    ],
)
def test_what_needs_a_package_says_which_and_how_to_get_it(
    package: str, needing: str, arguments: list[str], tmp_path: Path
) -> None:
    done = without(package, "xlt", *(each.format(results=tmp_path) for each in arguments))
    assert done.returncode == ExitCode.ENVIRONMENT
    lines = done.stderr.splitlines()[-2:]
    assert lines == [
        f"Error: {needing} needs the Python package '{package}', which is not installed.",
        f"  Fix: make install, or: pip install {package}",
    ]
    assert "Traceback" not in done.stderr


def test_the_graph_engine_trains_without_deepspeed(tmp_path: Path) -> None:
    done = without("deepspeed", "xlt", *TRAIN, "--engine", "graph", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("model.safetensors"))) == 1


@pytest.mark.parametrize(("package", "call"), [("faiss", "nearest(x, x, 1, engine='faiss')"), ("seqeval", "tags()")])
def test_a_package_of_one_metric_or_search_is_missed_there_alone(package: str, call: str) -> None:
    code = f"""
import sys
from tests.without import Without
sys.meta_path[:] = [Without({package!r})]
import numpy as np
from xlt.errors import package_fault
from xlt.evaluate.metrics import tag_f1
from xlt.retrieval.search import nearest
x = np.eye(3, dtype=np.float32)
assert nearest(x, x, 1, engine="torch")[1].tolist() == [[0], [1], [2]]
def tags():
    tag_f1([["B-PER"]], [["B-PER"]])
try:
    {call}
except ModuleNotFoundError as error:
    print(package_fault(error))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    what, fix = done.stdout.splitlines()
    assert re.fullmatch(rf"xlt\.[a-z.]+ needs the Python package '{package}', which is not installed\.", what)
    assert fix == f"make install, or: pip install {'faiss-cpu' if package == 'faiss' else package}"


def test_a_measurement_says_it_too_and_a_step_that_needs_nothing_runs(tmp_path: Path) -> None:
    arguments = ["--do", "kernels", "--size", "small", "--out", str(tmp_path / "found")]
    done = without("pydantic", "xlt.bench.gpu", *arguments)
    assert done.returncode == ExitCode.ENVIRONMENT
    assert done.stderr.splitlines() == [
        "Error: xlt.bench.workload needs the Python package 'pydantic', which is not installed.",
        "make install, or: pip install pydantic",
    ]


@pytest.mark.parametrize("package", NEEDING)
def test_tests_that_need_a_gpu_are_collected(package: str) -> None:
    """Their files, by the mark in them; of each those that need the package may be missing, and no others."""
    mark = "pytest.mark." + "gpu"  # in two parts, or this file had it too
    files = [path for path in (PROJECT / "tests").rglob("test_*.py") if mark in path.read_text("utf-8")]
    wanted = {str(path.relative_to(PROJECT)) for path in files}
    done = without(package, "pytest", "-q", "-m", "gpu", "--collect-only", "-p", "no:cacheprovider", "tests")
    found = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    missing = {
        "pydantic": {"tests/model/test_parity_large.py"},
        "huggingface_hub": {
            "tests/model/test_parity_large.py",
            "tests/pipeline/test_selftest.py",
            "tests/train/test_graph.py",
            "tests/train/test_perturbation.py",
        },
    }
    assert found == wanted - missing.get(package, set())
    assert "Interrupted" not in done.stdout
