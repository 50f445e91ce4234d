"""The readers under a coverage-guided fuzzer: ``python -m tests.fuzz [--seconds N] [NAME ...]``, or ``make fuzz``.

Each reader gets a process of its own for N seconds. An input that ends in anything but an error of ours is written to
``fuzz/``, and the command ends with exit code 1.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

FOUND = Path("fuzz")


def main() -> int:
    """Fuzz the readers named, or all, one after another, and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("names", nargs="*", help="readers; all unless given")
    parser.add_argument("--seconds", type=int, default=20, help="for each reader")
    asked = parser.parse_args()
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["xlt"]):
        from tests.fuzz.targets import targets
    FOUND.mkdir(exist_ok=True)
    executions, findings = 0, 0
    for name in asked.names or targets():
        with tempfile.TemporaryFile() as output:
            failed = _in_own_process(atheris, name, asked.seconds, output.fileno())
            output.seek(0)
            said = output.read().decode("utf-8", "replace")
        ran, covered = re.findall(r"number_of_executed_units: (\d+)", said), re.findall(r"cov: (\d+)", said)
        executions += int(ran[-1]) if ran else 0
        print(f"{name}: {ran[-1] if ran else 'no'} executions, coverage {covered[-1] if covered else '?'}", flush=True)
        if failed:
            findings += 1
            print(said[-3000:], flush=True)
    print(f"{executions:,} executions, {findings} findings")
    return 1 if findings else 0


def _in_own_process(atheris: Any, name: str, seconds: int, output: int) -> bool:
    """Whether fuzzing a reader ends with a finding. The fuzzer ends its process: it is forked, since to import all that
    is watched takes longer than to fuzz."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    os.dup2(output, 1)
    os.dup2(output, 2)
    from tests.fuzz.targets import attempt, targets

    target = targets()[name]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, tempfile.TemporaryDirectory() as corpus:
        (Path(corpus) / "sound").write_bytes(target.sound)
        options = [f"-max_total_time={seconds}", "-print_final_stats=1", "-timeout=20", "-rss_limit_mb=3000"]
        options += [f"-artifact_prefix={FOUND}/{name.replace('/', '-')}-", f"-max_len={2 * len(target.sound) + 4096}"]
        atheris.Setup(["fuzz", *options, corpus], lambda data: attempt(target, data, Path(folder)) and None)
        atheris.Fuzz()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
