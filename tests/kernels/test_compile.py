"""Every kernel, compiled ahead of time for A100 and H100: registers, spills, shared memory, matrix instruction."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import xlt_kernels

pytest.importorskip("triton", reason="Triton is not installed")

KERNELS = sorted(path.stem.removesuffix("_triton") for path in Path(xlt_kernels.__path__[0]).glob("*_triton.py"))

# A kernel held to less than it takes; run where nothing is interpreted.
BREAKS_ITS_LIMITS = """
from dataclasses import replace
from xlt_kernels.compile import compile_variant, find_variants
_, variant = find_variants(["varlen_attention"])[0]
held = replace(variant, max_registers=16, max_spill_bytes=-1, max_shared=100)
print(*compile_variant(held, 80)["faults"], sep="\\n")
"""


@pytest.fixture(scope="module")
def rows():
    ran = subprocess.run([sys.executable, "-m", "xlt_kernels.compile"], capture_output=True, text=True)
    assert ran.stdout, ran.stderr[-3000:]
    document = json.loads(ran.stdout)
    assert ran.returncode == int(any(row["faults"] for row in document["variants"]))
    return document["variants"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_keeps_its_limits_on_both_targets(rows, kernel):
    mine = [row for row in rows if row["kernel"] == kernel]
    assert {row["target"] for row in mine} == {80, 90}
    assert [f"{row['variant']} on sm_{row['target']}: {row['faults']}" for row in mine if row["faults"]] == []


def test_attention_uses_the_matrix_instruction_of_each_chip(rows):
    found = {(row["target"], row["matrix_instruction"]) for row in rows if row["kernel"] == "varlen_attention"}
    assert found == {(80, "HMMA"), (90, "HGMMA")}


def test_broken_limits_are_named():
    ran = subprocess.run([sys.executable, "-c", BREAKS_ITS_LIMITS], capture_output=True, text=True, check=True)
    faults = ran.stdout.splitlines()
    assert [fault.split()[0] for fault in faults] == ["registers", "spill", "shared"]


def test_an_unknown_kernel_is_refused_with_those_there_are():
    ran = subprocess.run([sys.executable, "-m", "xlt_kernels.compile", "gleu"], capture_output=True, text=True)
    assert ran.returncode == 1
    assert "No such kernel: gleu" in ran.stderr
    assert "varlen_attention" in ran.stderr
