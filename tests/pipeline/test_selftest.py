"""The self-test of a GPU: what it finds in Triton's interpreter, and what follows from a check that fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from xlt_kernels import switch

from tests.kernels import interpreter
from xlt.pipeline import doctor, selftest
from xlt.pipeline.launch import EVENT


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels serve on the CPU, in Triton's interpreter."""
    if interpreter.missing or torch.cuda.is_available():
        pytest.skip(interpreter.missing or "a GPU compiles the kernels")
    interpreter.import_kernels()
    monkeypatch.setattr(switch, "INTERPRETED", True)
    monkeypatch.delenv("XLT_KERNELS", raising=False)


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize("name", selftest.KERNELS)
def test_every_kernel_agrees_with_its_reference(name):
    assert "of at most" in selftest.check(name, "cpu")


@pytest.mark.usefixtures("serving")
def test_wrong_and_unwritten_results_are_found(monkeypatch):
    def unwritten(x: Tensor, bias: Tensor) -> Tensor:
        out = torch.empty_like(x)
        out[:-1] = selftest.bias_gelu_reference(x, bias)[:-1]
        return out + 0 * x + 0 * bias

    def scaled(x: Tensor, bias: Tensor) -> Tensor:
        return 1.01 * torch.nn.functional.gelu(x + bias)

    for wrong in (unwritten, scaled):
        monkeypatch.setattr(selftest, "bias_gelu", wrong)
        with pytest.raises(selftest.Deviation, match="float16 off by"):
            selftest.check("gelu", "cpu")


def test_faiss_finds_what_torch_finds(monkeypatch):
    assert "on cpu" in selftest.check("FAISS", "cpu")
    found = selftest.nearest

    def wrong(*arguments, engine):
        scores, ids = found(*arguments, engine=engine)
        return scores, ids[:, ::-1] if engine == "faiss" else ids

    monkeypatch.setattr(selftest, "nearest", wrong)
    with pytest.raises(selftest.Deviation, match="other neighbours"):
        selftest.check("FAISS", "cpu")


def test_a_few_steps_of_training():
    assert "the loss falls" in selftest.check("DeepSpeed", "cpu")


def test_a_kernel_that_does_not_serve_is_said_not_to_be_in_use(monkeypatch):
    monkeypatch.setenv("XLT_KERNELS", "off")
    assert "not in use" in selftest.check("gelu", "cpu")


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A machine with a GPU whose self-test is a script: it has the ``names`` of the checks and ``say(good, found)``."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(switch, "_off", {})
    for name in ("XLT_KERNELS", "XLT_FAISS"):
        monkeypatch.setenv(name, "")

    def replace(script: str) -> None:
        begin = "import json, os, sys\nnames = sys.argv[3:]\n"
        begin += (
            f"def say(good, found): print('x' + {EVENT!r} + json.dumps(dict(good=good, found=found)), flush=True)\n"
        )
        run = subprocess.run

        def instead(command, **options):
            assert command[:3] == [sys.executable, "-m", "xlt.pipeline.selftest"]
            return run([sys.executable, "-c", begin + script, *command[1:]], **options)

        monkeypatch.setattr(subprocess, "run", instead)

    return replace


def test_all_checks_pass_in_one_process(child):
    child("[say(True, f'{name} {os.getpid()}') for name in names]")
    checks = doctor.self_test()
    assert [check.name for check in checks] == [f"GPU: {name}" for name in selftest.CHECKS]
    assert all(check.status == "pass" for check in checks)
    assert len({check.found.split()[1] for check in checks}) == 1
    assert switch.switched_off() == {}


def test_what_fails_is_left_out_and_the_others_are_checked_without_it(child):
    child(
        """
for name in names:
    if name == 'FAISS':
        os.abort()
    if name == 'gelu':
        say(False, 'Deviation: off'), sys.exit(1)
    if name == 'pooling':
        print('illegal address', file=sys.stderr), sys.exit(7)
    say(True, os.environ['XLT_KERNELS'] + ' ' + os.environ['XLT_FAISS'])
"""
    )
    checks = {check.name.removeprefix("GPU: "): check for check in doctor.self_test()}
    assert list(checks) == list(selftest.CHECKS)
    assert {name for name, check in checks.items() if check.status == "warn"} == {"FAISS", "gelu", "pooling"}
    assert "exit code -6" in checks["FAISS"].found
    assert "illegal address" in checks["pooling"].found
    assert switch.switched_off().keys() == {"gelu", "pooling"}
    assert checks["DeepSpeed"].found == "-gelu,-pooling cpu"
    assert os.environ["XLT_KERNELS"] == "-gelu,-pooling"


def test_what_takes_too_long_is_not_used(child, monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)

    def late(command, timeout, **_):
        clock.now += timeout
        raise subprocess.TimeoutExpired(command, timeout, output=f'{EVENT}{{"good": true, "found": "fine"}}\n'.encode())

    monkeypatch.setattr(doctor, "time", clock)
    monkeypatch.setattr(subprocess, "run", late)
    checks = doctor.self_test()
    assert clock.now == 90
    assert [check.status for check in checks] == ["pass", *["warn"] * len(selftest.KERNELS), "fail"]
    assert "not done within 90 s" in checks[1].found
    assert switch.switched_off().keys() == set(selftest.KERNELS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_everything_passes(monkeypatch):
    for name in ("XLT_KERNELS", "XLT_FAISS"):
        monkeypatch.setenv(name, "")
    assert {check.name: check.found for check in doctor.self_test() if check.status != "pass"} == {}
