"""Portable numerics: the same bits whatever the libraries would choose by the processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xlt.numerics import LIBRARIES, SWITCH, numerics, request_portable

# Forward and backward of what a model is made of, in sizes that no vector width divides; then what was computed with.
PROGRAM = """
import hashlib, os
from xlt.numerics import {asked}, numerics
{asked}()
import torch
from xlt.train.seeding import deterministic
deterministic(True)
torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.TransformerEncoderLayer(36, 3, 70, activation="gelu", batch_first=True, dropout=0.0)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
for _ in range(3):
    optimizer.zero_grad()
    model(torch.randn(5, 23, 36)).square().log1p().sum().backward()
    optimizer.step()
bits = b"".join(weight.detach().numpy().tobytes() for weight in model.parameters())
print(numerics(), hashlib.sha256(bits).hexdigest())
one, other = torch.randn(3, 7, 11), torch.randn(3, 11, 5)
for kind, near in ((torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 5e-2)):
    a, b = one.to(kind), other.to(kind)
    exact = (a.double()[:, :, :, None] * b.double()[:, None]).sum(2)
    assert a.bmm(b).dtype == kind and torch.allclose(a.bmm(b).double(), exact, atol=near), kind
    assert torch.allclose((a[0] @ b[0]).double(), exact[0], atol=near), kind
    added = torch.addmm(a[0, :, :5], a[0], b[0], beta=0.5, alpha=2)
    assert torch.allclose(added.double(), 0.5 * a[0, :, :5].double() + 2 * exact[0], atol=4 * near), kind
"""


def computed(asked: str = "request_portable", **environment: str) -> list[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in {SWITCH, *LIBRARIES}}
    command = [sys.executable, "-W", "error::UserWarning", "-c", PROGRAM.format(asked=asked)]
    done = subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def portable() -> list[str]:
    found = computed()
    if found[0] != "portable":
        pytest.skip("this processor has no AVX2 with FMA, or is no x86-64")
    return found


@pytest.mark.parametrize(
    "narrower",
    [
        {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
        {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX"},
        {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW"},
    ],
    ids=["sse", "avx2", "libm"],
)
def test_the_bits_do_not_depend_on_what_a_library_may_use(portable: list[str], narrower: dict[str, str]) -> None:
    assert computed(**narrower) == portable


def test_a_worker_inherits_the_request_and_native_wins(portable: list[str]) -> None:
    assert computed("follow_request", **{SWITCH: "portable"}) == portable
    assert computed("follow_request")[0] == "native"
    assert computed(**{SWITCH: "native"})[0] == "native"


def test_fast_products_are_onednns_and_those_that_it_lacks_stay() -> None:
    """The program above compares every kind of product with plain sums."""
    fast = computed("request_fast")
    assert fast[0] == "fast"
    assert fast == computed("follow_request", **{SWITCH: "fast"})
    assert fast != computed("follow_request")
    assert computed("request_fast", **{SWITCH: "native"})[0] == "native"


def test_what_comes_too_late_is_not_called_portable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    request_portable()  # torch is loaded here: its variants are chosen
    assert SWITCH not in os.environ
    assert numerics() == "native"


def test_another_processor_computes_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    for name in ("torch", "numpy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: "flags : sse4_2 fma")
    request_portable()
    assert SWITCH not in os.environ


@pytest.mark.parametrize(
    "arguments",
    [["reproduce", "--results", "{folder}/new"], ["verify", "--results", "{folder}"], ["bench", "controls"]],
    ids=lambda arguments: arguments[0],
)
def test_the_smoke_tier_is_portable_from_the_command_line(
    portable: list[str], arguments: list[str], tmp_path: Path
) -> None:
    grid = {"format": 1, "tier": "smoke", "source": {"name": "world", "settings": {}}, "seed": 0, "runs": []}
    (tmp_path / "grid.json").write_text(json.dumps(grid), "utf-8")
    # The first thing that computes anything is asked what it computes with.
    program = (
        "import os, sys\n"
        "from xlt.cli import app\n"
        "def stop(*arguments, **options):\n"
        "    from xlt.numerics import numerics, use_requested_products\n"
        "    use_requested_products()\n"
        "    os.write(2, f'computes {numerics()}'.encode())\n"
        "    os._exit(0)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('xlt.verify.golden', 'xlt.bench.controls'):\n"
        "            stop()\n"
        "sys.meta_path.insert(0, Finder())\n"
        "app.main()\n"
    )
    inherited = {name: value for name, value in os.environ.items() if name not in {SWITCH, *LIBRARIES}}
    command = [sys.executable, "-c", program, *(each.format(folder=tmp_path) for each in arguments)]
    done = subprocess.run(command, env=inherited, capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr.endswith("computes portable"), done.stderr
