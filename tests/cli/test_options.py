"""What the options of several commands come to."""

from __future__ import annotations

import os

import pytest
import torch

from xlt.cli.options import process_count


def test_processes_are_the_tier_s_where_there_are_cores_and_one_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cores, count in ((1, 1), (2, 2), (64, 2)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert process_count(0, 0, default=2) == count
        assert process_count(0, 3, default=2) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert process_count(0, 0, default=2) == 1
    assert process_count(4, 0, default=2) == 4
