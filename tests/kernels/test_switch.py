"""Which kernels run: the device, Triton, the environment and what was switched off."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from xlt_kernels import switch

CPU = torch.zeros(1)


@pytest.fixture(autouse=True)
def _with_triton(monkeypatch):
    monkeypatch.setattr(switch, "_HAS_TRITON", True)
    monkeypatch.setattr(switch, "INTERPRETED", True)
    monkeypatch.setattr(switch, "_off", {})
    monkeypatch.delenv("XLT_KERNELS", raising=False)


def test_a_cpu_runs_kernels_only_in_the_interpreter(monkeypatch):
    assert switch.serves("gelu", CPU)
    monkeypatch.setattr(switch, "INTERPRETED", False)
    assert not switch.serves("gelu", CPU)


def test_nothing_runs_without_triton(monkeypatch):
    monkeypatch.setattr(switch, "_HAS_TRITON", False)
    assert not switch.serves("gelu", CPU)


@pytest.mark.parametrize(
    ("setting", "gelu", "layer_norm"),
    [
        ("on", True, True),
        ("off", False, False),
        ("-gelu", False, True),
        ("-layer_norm, -gelu", False, False),
        ("-layer_norm", True, False),
    ],
)
def test_the_environment_leaves_kernels_out(monkeypatch, setting, gelu, layer_norm):
    monkeypatch.setenv("XLT_KERNELS", setting)
    assert (switch.serves("gelu", CPU), switch.serves("layer_norm", CPU)) == (gelu, layer_norm)


def test_one_kernel_is_switched_off_and_says_why():
    switch.switch_off("gelu", "it gave NaN")
    assert (switch.serves("gelu", CPU), switch.serves("layer_norm", CPU)) == (False, True)
    assert switch.switched_off() == {"gelu": "it gave NaN"}


@pytest.mark.parametrize(("capability", "serves"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_run_kernels_from_ampere_on(monkeypatch, capability, serves):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(switch, "INTERPRETED", False)
    with FakeTensorMode():
        assert switch.serves("gelu", torch.empty(1, device="cuda")) == serves


def test_fake_tensors_without_a_gpu_run_no_kernel(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with FakeTensorMode():
        assert not switch.serves("gelu", torch.empty(1, device="cuda"))
