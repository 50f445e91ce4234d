"""``xlt doctor --gpu``, and the self-test before a tier on a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.cli.conftest import Invoke
from xlt.cli.doctor import gpu_self_test
from xlt.errors import EnvironmentFault, ExitCode
from xlt.pipeline import doctor
from xlt.pipeline.doctor import DoctorCheck
from xlt.tasks.catalogue import TASKS

GOOD = DoctorCheck(name="GPU: FAISS", status="pass", found="finds the neighbours")
OFF = DoctorCheck(name="GPU: gelu", status="warn", found="FAILED: off by 1", fix="export XLT_KERNELS=-gelu")
BROKEN = DoctorCheck(name="GPU: DeepSpeed", status="fail", found="no NCCL", fix="make install")
LATE = DoctorCheck(name="GPU: adamw", status="not tested", found="not reached within 300 s", fix="xlt doctor --gpu")


@pytest.mark.parametrize(("last", "code"), [(OFF, ExitCode.OK), (LATE, ExitCode.OK), (BROKEN, ExitCode.ENVIRONMENT)])
def test_a_kernel_that_is_off_is_shown_and_only_what_cannot_run_is_an_error(invoke: Invoke, monkeypatch, last, code):
    monkeypatch.setattr(doctor, "_checks", lambda results: iter(()))
    monkeypatch.setattr(doctor, "_needed", lambda tier, root: iter(()))
    monkeypatch.setattr(doctor, "self_test", lambda: [GOOD, last])
    outcome = invoke("doctor", "--gpu")
    assert outcome.code == code
    assert all(text in outcome.out for text in (GOOD.found, last.found, last.fix))
    document = invoke("doctor", "--gpu", "--json").document
    assert [check["status"] for check in document["checks"]] == ["pass", last.status]


def test_a_compiler_that_cxx_names_and_a_folder_that_cannot_be_written_are_told(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "/nowhere/g++ -O2")
    monkeypatch.setattr(doctor.os, "access", lambda place, mode: False)
    checks = {check.name: check for check in doctor.examine(tmp_path).checks}
    assert (checks["C++ compiler"].status, checks["C++ compiler"].fix) == ("fail", "unset CXX, or name a compiler")
    assert checks["C++ compiler"].found == "absent: CXX is '/nowhere/g++ -O2'"
    disk = checks["disk for results"]
    assert (disk.status, disk.found) == ("fail", f"'{tmp_path}' cannot be written")
    assert disk.fix.startswith("Choose another folder")


def test_models_and_data_of_a_tier_are_looked_for_and_each_absent_thing_is_named(invoke: Invoke, tmp_path, monkeypatch):
    def checks(*arguments: str):
        found = invoke("doctor", "--json", *arguments)
        assert found.code == ExitCode.OK  # the smoke tier needs none of it
        return {check["name"]: check for check in found.document["checks"]}

    core = checks()
    assert core["weights"] == {
        "name": "weights",
        "status": "warn",
        "found": "core: xlm-roberta-large; absent: xlm-roberta-large",
        "fix": "xlt fetch --tier core --data-root DIR (for official files); the smoke tier needs none",
    }
    assert (core["data"]["status"], "tatoeba, " in core["data"]["found"]) == ("warn", True)
    assert "CCG supertagging (LDC licence, https://catalog.ldc.upenn.edu" in core["licences"]["found"]
    assert "ccg" not in core["data"]["found"]
    # What the user has of official files is not absent.
    (tmp_path / "tatoeba").mkdir()
    for name in ("de-en.de", "de-en.en"):
        (tmp_path / "tatoeba" / name).write_text("a\n")
    assert (
        "; here in part, for --source files: tatoeba; absent: anli"
        in checks("--data-root", str(tmp_path))["data"]["found"]
    )
    for language in TASKS["tatoeba"].benchmarks["xtreme"].split():
        for name in (f"{language}-en.{language}", f"{language}-en.en"):
            (tmp_path / "tatoeba" / name).write_text("a\n")
    assert "tatoeba" not in checks("--data-root", str(tmp_path))["data"]["found"]
    assert checks("--tier", "smoke")["weights, data"]["found"] == "the tier smoke makes its own"
    assert invoke("doctor", "--tier", "smok").code == ExitCode.USAGE
    # A damaged lock is one more thing to mend, not the end of the examination.
    (tmp_path / "data.lock").write_text("{")
    monkeypatch.setenv("XLT_DATA_LOCK", str(tmp_path / "data.lock"))
    damaged = invoke("doctor", "--json")
    assert damaged.code == ExitCode.ENVIRONMENT
    (fault,) = (check for check in damaged.document["checks"] if check["status"] == "fail")
    assert (fault["name"], fault["found"].startswith("'data.lock' is damaged.")) == ("weights, data", True)


def test_before_a_tier_a_kernel_may_fail_but_not_training(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "self_test", lambda engines: [GOOD, OFF, LATE])
    gpu_self_test("deepspeed")
    # On standard error if the command before, of this process, was one with --json.
    assert "XLT_KERNELS=-gelu" in "".join(capsys.readouterr())
    monkeypatch.setattr(doctor, "self_test", lambda engines: [OFF, BROKEN])
    with pytest.raises(EnvironmentFault, match="DeepSpeed") as caught:
        gpu_self_test("deepspeed")
    assert (caught.value.why, caught.value.fix) == ("no NCCL", "make install")


def test_whether_processes_share_the_gpu_at_the_same_time_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100 * doctor.GIB, 140 * doctor.GIB))
    monkeypatch.setattr(doctor, "device_name", lambda: "a GPU")
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(doctor.shutil, "which", lambda program: None)
    gpu, mps = doctor._gpu()
    assert (gpu.status, gpu.found) == ("pass", "1 x a GPU, 100 of 140 GiB free")
    assert (mps.name, mps.status) == ("MPS", "pass")
    assert mps.found.startswith("off: with --processes N the runs on one GPU take turns")
    (tmp_path / "control").touch()
    assert [*doctor._gpu()][1].found.startswith("on: ")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [check.name for check in doctor._gpu()] == ["GPU"]


def test_a_driver_that_is_too_old_for_torchs_cuda_fails_and_little_shared_memory_is_told(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(doctor._driver("13.0")) == []
    for version, status in (("570.86.10", "fail"), ("580.65.06", "pass"), ("", "fail")):
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)
        (check,) = doctor._driver("13.0")
        assert (check.name, check.status) == ("driver", status)
    assert "580 or newer" in check.fix
    assert list(doctor._driver(None)) == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1, 1))
    monkeypatch.setattr(doctor, "device_name", lambda: "a GPU")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(total=64 << 20, free=64 << 20))
    shared = next(check for check in doctor._gpu() if check.name == "shared memory")
    assert (shared.status, "--shm-size" in shared.fix) == ("warn", True)


def test_what_is_kept_of_tokenized_rows_is_told_and_where(monkeypatch, tmp_path):
    def found():
        return next(check.found for check in doctor._checks(tmp_path) if check.name == "tokenized rows")

    assert found() == "not kept: XLT_ENCODINGS is off, or there is no home"
    monkeypatch.setenv("XLT_ENCODINGS", str(tmp_path / "kept"))
    assert found() == f"0.0 of at most 4 GiB in {tmp_path}/kept, which can be removed at any time"


@pytest.mark.parametrize("name", ["varlen_attention", "adamw", "graph engine"])
def test_without_a_part_that_it_needs_the_graph_engine_gives_way_unless_it_was_asked_for(monkeypatch, name, capsys):
    found = DoctorCheck(name=f"GPU: {name}", status="warn", found="off by 1")
    monkeypatch.setattr(doctor, "self_test", lambda engines: [GOOD, found])
    with pytest.raises(EnvironmentFault, match=name) as caught:
        gpu_self_test("graph")
    assert (caught.value.why, caught.value.fix) == ("off by 1", "--engine deepspeed")
    assert gpu_self_test("graph", auto=True) == "deepspeed"
    assert f"GPU: {name} failed" in "".join(capsys.readouterr())
    assert gpu_self_test("deepspeed") == "deepspeed"
    assert gpu_self_test(None) is None
    # What the self-test has not reached in its time is used untested.
    found.status = "not tested"
    assert gpu_self_test("graph") == "graph"


def test_a_single_run_on_a_gpu_is_proven_first_too(invoke: Invoke, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor, "self_test", lambda engines: [BROKEN])
    outcome = invoke("train", "mlm", "--tier", "smoke", "--results", str(tmp_path), "--json")
    assert outcome.code == ExitCode.ENVIRONMENT
    assert outcome.document["error"]["why"] == "no NCCL"
    assert not list(tmp_path.rglob("spec.json"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_one_clear_message(invoke: Invoke):
    outcome = invoke("doctor", "--gpu", "--json")
    assert outcome.code == ExitCode.ENVIRONMENT
    assert outcome.document["error"]["what"] == "There is no GPU to test."


def test_the_cuda_build_on_a_machine_without_a_gpu_is_named_with_pips_own_setting(invoke: Invoke, monkeypatch):
    def builds():
        return [check for check in invoke("doctor", "--json").document["checks"] if check["name"] == "torch's build"]

    monkeypatch.setattr(torch.version, "cuda", None)
    assert builds() == []
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    (check,) = builds()
    assert (check["status"], "PIP_EXTRA_INDEX_URL" in check["fix"]) == ("warn", True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (24 << 30, 24 << 30))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "card")
    assert builds() == []


def test_memory_is_what_is_free_not_what_the_machine_has(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "free_memory", lambda: 2 * doctor.GIB)
    memory = next(check for check in doctor._checks(tmp_path) if check.name == "memory")
    assert memory.status == "warn"
    assert memory.found.startswith("2.0 GiB free, the machine has ")
    assert "give the container more" in memory.fix
    # A container that is limited to less than the tier needs never gets it, whatever others do.
    monkeypatch.setattr(doctor, "memory_limit", lambda: 3 * doctor.GIB)
    memory = next(check for check in doctor._checks(tmp_path) if check.name == "memory")
    assert (memory.status, "this container may take 3.0" in memory.found) == ("fail", True)
