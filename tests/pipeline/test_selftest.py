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
from xlt_kernels import gelu, switch

from tests.kernels import interpreter
from xlt.pipeline import doctor, selftest
from xlt.train.graph import GraphEngine


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
    assert "of at most" in selftest.run_check(name, "cpu")


@pytest.mark.usefixtures("serving")
def test_wrong_and_unwritten_results_are_found(monkeypatch):
    def unwritten(x: Tensor, bias: Tensor) -> Tensor:
        out = torch.empty_like(x)
        out[:-1] = torch.nn.functional.gelu(x + bias)[:-1]
        return out + 0 * x + 0 * bias

    def scaled(x: Tensor, bias: Tensor) -> Tensor:
        return 1.01 * torch.nn.functional.gelu(x + bias)

    for wrong in (unwritten, scaled):
        monkeypatch.setattr(gelu, "bias_gelu", wrong)
        with pytest.raises(selftest.WrongResult, match="off by"):
            selftest.run_check("gelu", "cpu")


def test_faiss_finds_what_torch_finds(monkeypatch):
    assert "on cpu" in selftest.run_check("FAISS", "cpu")
    found = selftest.nearest

    def wrong(*arguments, engine):
        scores, ids = found(*arguments, engine=engine)
        return scores, ids[:, ::-1] if engine == "faiss" else ids

    monkeypatch.setattr(selftest, "nearest", wrong)
    with pytest.raises(selftest.WrongResult, match="other neighbours"):
        selftest.run_check("FAISS", "cpu")


def test_a_few_steps_of_training():
    assert "the loss falls" in selftest.run_check("DeepSpeed", "cpu")


def test_the_graph_engine_gives_the_bits_of_steps_that_share_nothing(monkeypatch):
    assert "have the bits of 8 steps alone" in selftest.run_check("graph engine", "cpu")
    run = GraphEngine._run

    def stale(self, batch, rate):
        # As if the second batch of a shape had not reached the place where the graph reads.
        known = next((each.batch for each in self._buckets.values() if each.batch.tokens == batch.tokens), batch)
        return run(self, known, rate)

    monkeypatch.setattr(GraphEngine, "_run", stale)
    with pytest.raises(selftest.WrongResult, match="other losses or weights"):
        selftest.run_check("graph engine", "cpu")


def test_a_kernel_that_does_not_serve_is_said_not_to_be_in_use(monkeypatch):
    monkeypatch.setenv("XLT_KERNELS", "off")
    assert "not in use" in selftest.run_check("gelu", "cpu")


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A machine with a GPU whose self-test is a script: it has the ``names`` of the checks and ``say(good, found)``."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(switch, "_off", {})
    for name in ("XLT_KERNELS", "XLT_FAISS"):
        monkeypatch.setenv(name, "")

    def replace(script: str) -> None:
        begin = "import json, os, sys\nnames = sys.argv[3:]\nif names[0] == '--compile': sys.exit()\n"
        begin += (
            f"def say(good, found): "
            f"print('x' + {selftest.FOUND!r} + json.dumps(dict(good=good, found=found)), flush=True)\n"
        )
        run = subprocess.run

        def instead(command, **options):
            assert command[:3] == [sys.executable, "-m", "xlt.pipeline.selftest"]
            return run([sys.executable, "-c", begin + script, *command[1:]], **options)

        monkeypatch.setattr(subprocess, "run", instead)

    return replace


def test_all_checks_pass_in_one_process(child):
    child("[say(True, f'{name} {os.getpid()}') for name in names]")
    compilation, *checks = doctor.self_test()
    assert (compilation.name, compilation.status) == ("GPU: compilation", "pass")
    assert [check.name for check in checks] == [f"GPU: {name}" for name in selftest.CHECKS]
    assert all(check.status == "pass" for check in checks)
    assert len({check.found.split()[-1] for check in checks}) == 1
    assert switch.switched_off() == {}


@pytest.mark.parametrize(
    ("engines", "tested"), [(["graph"], {"graph engine"}), (["deepspeed"], {"DeepSpeed"}), ([], set())]
)
def test_of_the_engines_only_those_in_use_are_tested(child, engines, tested):
    child("[say(True, 'fine') for name in names]")
    names = {check.name.removeprefix("GPU: ") for check in doctor.self_test(engines)}
    assert names & {"graph engine", "DeepSpeed"} == tested
    assert names > set(selftest.KERNELS)


def test_what_fails_is_left_out_and_the_others_are_checked_without_it(child):
    child(
        """
for name in names:
    if name == 'FAISS':
        os.abort()
    if name == 'gelu':
        say(False, 'WrongResult: off'), sys.exit(1)
    if name == 'layer_norm':
        print('illegal address', file=sys.stderr), sys.exit(7)
    say(True, os.environ['XLT_KERNELS'] + ' ' + os.environ['XLT_FAISS'])
"""
    )
    checks = {check.name.removeprefix("GPU: "): check for check in doctor.self_test()}
    assert list(checks) == ["compilation", *selftest.CHECKS]
    assert {name for name, check in checks.items() if check.status == "warn"} == {"FAISS", "gelu", "layer_norm"}
    assert "exit code -6" in checks["FAISS"].found
    assert "illegal address" in checks["layer_norm"].found
    assert switch.switched_off().keys() == {"gelu", "layer_norm"}
    assert checks["DeepSpeed"].found == "-gelu,-layer_norm cpu"
    assert os.environ["XLT_KERNELS"] == "-gelu,-layer_norm"


def test_what_the_time_does_not_reach_is_not_tested_and_nothing_is_switched_off(child, monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)

    def late(command, timeout, **_):
        if "--compile" in command:
            clock.now += 200
            return subprocess.CompletedProcess(command, 0, b"", b"")
        clock.now += timeout
        out = f'{selftest.FOUND}{{"good": true, "found": "fine"}}\n'
        raise subprocess.TimeoutExpired(command, timeout, output=out.encode())

    monkeypatch.setattr(doctor, "time", clock)
    monkeypatch.setattr(subprocess, "run", late)
    checks = doctor.self_test()
    assert clock.now == 200 + 300
    assert "200 s" in checks[0].found
    unreached = ["not tested"] * (len(selftest.CHECKS) - 1)
    assert [check.status for check in checks] == ["pass", "pass", *unreached]
    assert "not reached within 300 s" in checks[2].found
    assert switch.switched_off() == {}
    assert os.environ["XLT_KERNELS"] == ""


def test_compiling_makes_every_kernel_check_and_judges_none(monkeypatch):
    made = []

    def failing(name, where):
        made.append((name, where))
        raise RuntimeError

    monkeypatch.setattr(selftest, "run_check", failing)
    monkeypatch.setattr(selftest, "deterministic", lambda enabled: None)
    assert selftest.main(["--compile", "FAISS", "gelu", "graph engine"]) == 0
    assert made == [("gelu", "cuda"), ("graph engine", "cuda")]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_everything_passes(monkeypatch):
    for name in ("XLT_KERNELS", "XLT_FAISS"):
        monkeypatch.setenv(name, "")
    assert {check.name: check.found for check in doctor.self_test() if check.status != "pass"} == {}
