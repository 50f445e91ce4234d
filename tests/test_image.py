"""What a user of the container image relies on, as the Dockerfile and `make image` say it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest

from artifact.image import check, system_bill
from tests.conftest import PROJECT
from xlt import __version__

VARIABLE = re.compile(r"([A-Z_]+)=(\"[^\"]*\"|\S+)")
CACHES = (
    *("HF_HOME", "TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HOME", "XLT_RESULTS", "XLT_VOLUME"),
)


@cache
def instructions() -> tuple[tuple[str, str], ...]:
    """The Dockerfile's instructions and what follows each, on one line."""
    lines = (PROJECT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#")).replace("\\\n", " ")
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return tuple((name, " ".join(value.split())) for name, value in pairs)


def final_stage() -> dict[str, str]:
    """The last instruction of each kind in the stage that becomes the image."""
    start = max(place for place, (name, _) in enumerate(instructions()) if name == "FROM")
    return dict(instructions()[start:])


def variables() -> dict[str, str]:
    """The environment of the final stage."""
    start = max(place for place, (name, _) in enumerate(instructions()) if name == "FROM")
    return {
        key: text for name, value in instructions()[start:] if name == "ENV" for key, text in VARIABLE.findall(value)
    }


def test_the_entry_point_is_python_itself_so_that_it_gets_signals() -> None:
    assert json.loads(final_stage()["ENTRYPOINT"]) == ["xlt"]
    assert "CMD" not in final_stage()


def test_the_user_is_a_number_and_not_root() -> None:
    user, group = map(int, final_stage()["USER"].split(":"))
    assert user > 0
    assert group > 0


def test_all_that_is_written_lies_in_the_one_volume_open_to_every_user() -> None:
    assert final_stage()["VOLUME"] == "/data"
    assert [value for name, value in instructions() if name == "RUN" and "--mode=1777 /data" in value]
    found = variables()
    assert {name: found[name] for name in CACHES if not f"{found[name]}/".startswith("/data/")} == {}
    assert found["XLT_RESULTS"] == "/data/results"
    assert found["USER"] == found["LOGNAME"] != ""


def test_base_variant_and_what_labels_say_are_build_arguments() -> None:
    defaults = dict(value.split("=", 1) for name, value in instructions() if name == "ARG" and "=" in value)
    assert defaults == {
        "BASE": defaults["BASE"],
        "VARIANT": "gpu",
        "PIP_EXTRA_INDEX_URL": "",
        "VERSION": __version__,
        "COMMIT": "",
        "CREATED": "",
    }
    assert "sha256" not in defaults["BASE"]
    assert (variables()["XLT_COMMIT"], variables()["XLT_VARIANT"]) == ("$COMMIT", "$VARIANT")
    label = final_stage()["LABEL"]
    for name, value in {"revision": "$COMMIT", "version": "$VERSION", "created": "$CREATED", "title": '"xlt"'}.items():
        assert f"org.opencontainers.image.{name}={value}" in label


def test_what_the_builder_copies_and_runs_exists_and_reaches_it() -> None:
    reaching = [rule.removeprefix("!") for rule in (PROJECT / ".dockerignore").read_text("utf-8").split()]
    copied = [
        source
        for name, value in instructions()
        if name == "COPY" and "--from" not in value
        for source in value.split()[:-1]
        if source != "."
    ]
    run = [f"artifact/image/{step}" for step in steps()]
    assert copied
    assert run
    for path in [*copied, *run]:
        assert (PROJECT / path).exists()
        assert path.split("/")[0] in reaching
    # packages.sh reads the locks, and sbom.lock is read by program.sh: all of them are there for either variant.
    locks = {"build", "torch-cpu", "cpu", "gpu", "sbom"}
    assert {name for name in locks if not (PROJECT / f"artifact/lock/{name}.lock").is_file()} == set()


def steps() -> list[str]:
    """The scripts of artifact/image that the Dockerfile runs, in order."""
    return [step for name, value in instructions() if name == "RUN" for step in re.findall(r"sh \S*?/(\w+\.sh)", value)]


def sections() -> dict[str, list[str]]:
    """The lines of each section of the Apptainer definition, comments left out; its head is the section ``""``."""
    found: dict[str, list[str]] = {"": []}
    section = ""
    for line in (PROJECT / "artifact/image/xlt.def").read_text("utf-8").splitlines():
        if line.startswith("%"):
            section = line[1:]
            found[section] = []
        elif line.strip() and not line.startswith("#"):
            found[section].append(line.strip())
    return found


def test_the_apptainer_definition_takes_the_steps_of_the_dockerfile() -> None:
    """Nobody has built it: Apptainer is in none of the places that this project's machines install from."""
    definition = sections()
    assert definition[""] == ["Bootstrap: docker", "From: {{ BASE }}"]
    defaults = dict(value.split("=", 1) for name, value in instructions() if name == "ARG" and "=" in value)
    assert dict(line.split("=", 1) for line in definition["arguments"]) == {
        name: value for name, value in defaults.items() if name != "CREATED"
    }
    assert re.findall(r"sh artifact/image/(\w+\.sh)", "\n".join(definition["post"])) == steps()
    assert "install --directory --mode=1777 /data" in definition["post"]
    exported = dict(line.removeprefix("export ").split("=", 1) for line in definition["environment"])
    theirs = {name: value.replace("{{ ", "$").replace(" }}", "") for name, value in exported.items()}
    of_docker_alone = {"HOME", "USER", "LOGNAME", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"}
    assert theirs == {name: value for name, value in variables().items() if name not in of_docker_alone}
    rules = (PROJECT / ".dockerignore").read_text(encoding="utf-8").split()
    sent = sorted(rule.removeprefix("!") for rule in rules if rule.startswith("!"))
    assert definition["files"] == [f"{name} /build/{name}" for name in sent]
    for line in definition["labels"]:
        name, value = line.split(maxsplit=1)
        value = value.replace("{{ ", "$").replace(" }}", "")
        assert f"{name}={value} " in (words := final_stage()["LABEL"].replace('"', "") + " "), words


def test_the_licence_of_the_image_is_that_of_the_project() -> None:
    named = re.search(r'image\.licenses="([^"]+)"', final_stage()["LABEL"])
    assert named
    assert f'license = "{named[1]}"\n' in (PROJECT / "pyproject.toml").read_text(encoding="utf-8")


def pip_of_the_installer(tmp_path: Path, what: str, found: str = "") -> list[str]:
    """What install.sh hands to pip for ``what``, where pip finds the version ``found`` of torch; locks as their names.

    A stand-in for Python notes the arguments of pip, copies the part of a lock that it is given, and answers pip's
    question which torch it would install.
    """
    python = tmp_path / "python"
    python.write_text(
        f"""#!{sys.executable}
import json, pathlib, sys
if sys.argv[1] == "-c":
    exec(sys.argv[2].replace("sys.argv[1]", "sys.argv[3]"))
    sys.exit()
if "--report" in sys.argv:
    report = pathlib.Path(sys.argv[sys.argv.index("--report") + 1])
    report.write_text(json.dumps({{"install": [{{"metadata": {{"version": {found!r}}}}}]}}))
    sys.exit()
lock = pathlib.Path(sys.argv[-1])
name = lock.name if lock.name != "part.lock" else lock.read_text()
print(json.dumps([sys.argv[1:-1], name]), file=open({str(tmp_path / "notes")!r}, "a"))
""",
        encoding="utf-8",
    )
    python.chmod(0o755)
    command = ["sh", "artifact/lock/install.sh", str(python), what]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    notes = [json.loads(line) for line in (tmp_path / "notes").read_text("utf-8").splitlines()]
    assert all({"--no-deps", "--require-hashes"} <= set(arguments) for arguments, _ in notes)
    return [name for _, name in notes]


def names(lock: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))


def of(lock: str) -> set[str]:
    return names((PROJECT / "artifact" / "lock" / f"{lock}.lock").read_text("utf-8"))


def test_without_a_gpu_torch_is_the_hashed_cpu_build_where_pip_finds_one(tmp_path: Path) -> None:
    build, torch, part, everything = pip_of_the_installer(tmp_path, "cpu", found="2.13.0+cpu")
    assert (build, torch, everything) == ("build.lock", "torch-cpu.lock", "cpu.lock")
    assert names(part) == of("cpu") - {"deepspeed"}


def test_else_it_is_the_hashed_cuda_build_with_what_that_needs_to_start(tmp_path: Path) -> None:
    build, cuda, _, everything = pip_of_the_installer(tmp_path, "cpu", found="2.13.0")
    assert (build, everything) == ("build.lock", "cpu.lock")
    # SEEN: what the metadata of torch 2.13.0 on the package index asks for under Linux and cpu.lock leaves out.
    needed = {"torch", "triton", "cuda-toolkit", "cuda-bindings", "nvidia-cudnn-cu13", "nvidia-nccl-cu13"}
    needed |= {"nvidia-cusparselt-cu13", "nvidia-nvshmem-cu13", "nvidia-cublas", "nvidia-cuda-runtime"}
    assert needed <= names(cuda) <= of("gpu") - of("cpu")
    assert [name for name in names(cuda) if name.endswith("-cu12")] == []


def test_for_a_gpu_all_comes_from_gpu_lock_deepspeed_last(tmp_path: Path) -> None:
    build, part, everything = pip_of_the_installer(tmp_path, "gpu")
    assert (build, everything) == ("build.lock", "gpu.lock")
    assert names(part) == of("gpu") - {"deepspeed"}


def test_a_wheel_of_torch_with_another_hash_is_refused(tmp_path: Path) -> None:
    """pip itself, as install.sh calls it, on a lock of one small wheel that somebody has changed."""
    wheel = tmp_path / "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        archive.writestr("small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("small-1.0.dist-info/RECORD", "")
    (tmp_path / "dev.lock").write_text(f"small==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    (tmp_path / "install.sh").write_text((PROJECT / "artifact/lock/install.sh").read_text("utf-8"), "utf-8")
    environment = os.environ | {"PIP_FIND_LINKS": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_TARGET": str(tmp_path / "x")}
    command = ["sh", str(tmp_path / "install.sh"), sys.executable, "dev"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wheel.write_bytes(wheel.read_bytes() + b"changed")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_the_bill_of_materials_names_the_system_its_packages_and_the_python() -> None:
    listed = "ii \tg++\t4:12.2.0-3\tamd64\nrc \tgone\t1.0\tamd64\nii \tcurl\t7.50.3-1\ti386\n"
    release = {"ID": "debian", "VERSION_ID": "12"}
    system, python, curl, compiler = system_bill.components(listed, release, "3.12.13")
    assert (system["type"], system["name"], system["version"]) == ("operating-system", "debian", "12")
    assert (python["type"], python["name"], python["version"]) == ("platform", "cpython", "3.12.13")
    # SEEN: the specification of package URLs has pkg:deb/debian/curl@7.50.3-1?arch=i386&distro=jessie as its example.
    assert curl["purl"] == "pkg:deb/debian/curl@7.50.3-1?arch=i386&distro=debian-12"
    assert compiler["purl"] == "pkg:deb/debian/g%2B%2B@4:12.2.0-3?arch=amd64&distro=debian-12"
    references = [component["bom-ref"] for component in (system, python, curl, compiler)]
    assert len(set(references)) == 4


def test_no_secret_is_built_in() -> None:
    assert [pair for pair in instructions() if re.search("TOKEN|SECRET|PASSWORD|CREDENTIAL", pair[1], re.I)] == []


def test_only_what_the_image_needs_reaches_the_builder() -> None:
    rules = (PROJECT / ".dockerignore").read_text(encoding="utf-8").split()
    assert rules[0] == "*"
    sent = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    single = ["CITATION.cff", "LICENSE", "README.md", "pyproject.toml", "setup.py"]
    assert sorted(sent) == sorted([*single, "artifact", "kernels", "xlt"])
    assert all((PROJECT / name).exists() for name in sent)


def make_image(*arguments: str, target: str = "image") -> subprocess.CompletedProcess[str]:
    # A make that runs the tests would have this one announce the folders it enters.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", target, *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, env=environment)


def test_make_image_builds_and_tags_both_variants() -> None:
    # `true` stands for docker: make prints each command.
    made = make_image("DOCKER=true", "ARGS=--pull")
    assert made.returncode == 0, made.stderr
    cpu, gpu = (line for line in made.stdout.splitlines() if line.startswith("true build"))
    assert "VARIANT=gpu" in gpu
    assert gpu.endswith("--tag xlt:latest --pull .")
    assert "VARIANT=cpu" in cpu
    assert cpu.endswith("--tag xlt:cpu --pull .")
    assert re.search(r"--build-arg COMMIT=([0-9a-f]{40}(\+changes)?)? ", gpu)
    assert re.search(r"--build-arg CREATED=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", gpu)
    assert "--build-arg BASE=" not in gpu
    named = make_image("DOCKER=true", "BASE=python@sha256:0", "SOURCE=https://example.org/x", target="image-cpu").stdout
    assert "--build-arg BASE=python@sha256:0 " in named
    assert "--label org.opencontainers.image.source=https://example.org/x " in named
    alone = make_image("DOCKER=true", "ARGS=--pull", target="image-cpu").stdout
    assert "VARIANT=cpu" in alone
    assert "VARIANT=gpu" not in alone


def test_make_image_without_docker_is_one_clear_message() -> None:
    refused = make_image("DOCKER=no-such-program")
    assert refused.returncode != 0
    assert "'no-such-program' was not found" in refused.stderr
    assert "DOCKER=podman" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize(("value", "expected"), [("/data/results", "/data/results"), ("", "results")])
def test_the_image_names_the_results_folder(value: str, expected: str) -> None:
    code = "from xlt.cli.options import DEFAULT_RESULTS; print(DEFAULT_RESULTS)"
    done = subprocess.run([sys.executable, "-c", code], env={"XLT_RESULTS": value}, capture_output=True, text=True)
    assert done.stdout.strip() == expected


def test_the_check_without_docker_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    given = argparse.Namespace(base=None, rootfs=None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool in ("runc", "debootstrap") else tool)
    assert "apt-get install runc debootstrap" in check.lacking(given)
    given.base = "python:3.12-slim-bookworm"
    assert "apt-get install runc" in (said := check.lacking(given))
    assert "debootstrap" not in said
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in check.lacking(given)
