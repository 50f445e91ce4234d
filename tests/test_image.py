"""What a user of the container image relies on, as the Dockerfile and `make image` say it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache

import pytest

from tests.conftest import PROJECT

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


def test_base_variant_and_commit_are_build_arguments() -> None:
    arguments = dict(value.partition("=")[::2] for name, value in instructions() if name == "ARG")
    assert arguments.keys() == {"BASE", "VARIANT", "COMMIT"}
    assert arguments["VARIANT"] == "gpu"
    assert variables()["XLT_COMMIT"] == "$COMMIT"
    assert "image.revision=$COMMIT" in final_stage()["LABEL"]
    assert "sha256" not in arguments["BASE"]


def test_the_licence_of_the_image_is_that_of_the_project() -> None:
    named = re.search(r'image\.licenses="([^"]+)"', final_stage()["LABEL"])
    assert named
    assert f'license = "{named[1]}"\n' in (PROJECT / "pyproject.toml").read_text(encoding="utf-8")


def test_both_variants_install_hashed_locks_and_the_torch_of_the_makefile() -> None:
    installs = [
        part for name, value in instructions() if name == "RUN" for part in re.findall(r"pip install [^;&]+", value)
    ]
    torch = re.search(r"^TORCH := (\S+)$", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert torch
    assert [line.strip() for line in installs if "--no-deps" not in line] == [f"pip install {torch[1]}"]
    locked = [line for line in installs if " -r " in line]
    assert len(locked) == 3
    assert all("--no-deps --require-hashes" in line for line in locked)
    assert "artifact/lock/$VARIANT.lock" in locked[-1]
    assert all((PROJECT / f"artifact/lock/{variant}.lock").is_file() for variant in ("gpu", "cpu"))


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
    alone = make_image("DOCKER=true", "ARGS=--pull", target="image-cpu").stdout.splitlines()
    assert [line for line in alone if line.startswith("true build")] == [cpu]


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
