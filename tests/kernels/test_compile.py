"""Every kernel, compiled ahead of time for A100 and H100: registers, spills, shared memory, matrix instruction."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import xlt_kernels
from xlt_kernels.case import kernels
from xlt_kernels.compile import source_hash

from tests.conftest import PROJECT

triton = pytest.importorskip("triton", reason="Triton is not installed")
RECORDS = sorted((PROJECT / "artifact" / "measured" / "kernels").glob("compiled-triton-*.json"))
RENEW = "out of date: python -m xlt_kernels.compile > artifact/measured/kernels/compiled-triton-VERSION.json"

# A kernel held to less than it takes; run where nothing is interpreted.
BREAKS_ITS_LIMITS = """
from xlt_kernels.compile import compile_variant, find_variants
held = {"registers": 16, "spill_bytes": -1, "shared_bytes": 100}
print(*compile_variant(find_variants("varlen_attention")[0], 80, held)["faults"], sep="\\n")
"""


def launched(kernel: str) -> set[str]:
    """The functions that the op launches: all of its module but those that only references need."""
    source = Path(xlt_kernels.__path__[0], f"{kernel}_triton.py").read_text("utf-8")
    return set(re.findall(r"^def (\w+_kernel)\(", source, re.MULTILINE)) - {"mask_kernel"}


@pytest.fixture(scope="module")
def rows():
    ran = subprocess.run([sys.executable, "-m", "xlt_kernels.compile"], capture_output=True, text=True)
    assert ran.stdout, ran.stderr[-3000:]
    document = json.loads(ran.stdout)
    assert ran.returncode == int(any(row["faults"] for row in document["variants"]))
    return document["variants"]


@pytest.mark.parametrize("kernel", kernels())
def test_a_kernel_keeps_its_limits_on_both_targets(rows, kernel):
    mine = [row for row in rows if row["kernel"] == kernel]
    for target in (80, 90):
        assert {row["variant"].split()[0] for row in mine if row["target"] == target} == launched(kernel) != set()
    assert [f"{row['variant']} on sm_{row['target']}: {row['faults']}" for row in mine if row["faults"]] == []


def test_what_is_recorded_is_of_these_kernels():
    assert RECORDS
    for path in RECORDS:
        document = json.loads(path.read_text("utf-8"))
        assert path.name == f"compiled-triton-{document['triton']}.json"
        assert document["sources"] == {kernel: source_hash(kernel) for kernel in kernels()}, RENEW
        assert {row["kernel"] for row in document["variants"]} == set(kernels()), RENEW
        assert not any(row["faults"] for row in document["variants"])


def test_what_is_recorded_is_what_is_compiled(rows):
    path = RECORDS[0].with_name(f"compiled-triton-{triton.__version__}.json")
    if path not in RECORDS:
        pytest.skip(f"no record of Triton {triton.__version__}")
    assert json.loads(path.read_text("utf-8"))["variants"] == rows, RENEW


def test_the_forms_of_training_and_of_inference_are_compiled(rows):
    names = {row["variant"] for row in rows if row["kernel"] == "varlen_attention"}
    forms = [f"ONE_TILE={one} DROPOUT={dropout}" for one in (True, False) for dropout in (True, False)]
    for kernel in ("forward_kernel", "backward_keys_kernel"):
        assert all(any(name.startswith(f"{kernel} bf16") and form in name for name in names) for form in forms)


def test_attention_uses_the_matrix_instruction_of_each_chip(rows):
    found = {(row["target"], row["matrix_instruction"]) for row in rows if row["kernel"] == "varlen_attention"}
    assert found == {(80, "HMMA"), (90, "HGMMA")}


def test_broken_limits_are_named():
    ran = subprocess.run([sys.executable, "-c", BREAKS_ITS_LIMITS], capture_output=True, text=True, check=True)
    faults = ran.stdout.splitlines()
    assert [fault.split()[0] for fault in faults] == ["registers", "spill_bytes", "shared_bytes"]


def test_an_unknown_kernel_is_refused_with_those_there_are():
    ran = subprocess.run([sys.executable, "-m", "xlt_kernels.compile", "gleu"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "no such kernel: gleu" in ran.stderr
    assert "varlen_attention" in ran.stderr
