"""The readers under a coverage-guided fuzzer: ``python -m tests.fuzz [--seconds N] [NAME ...]``, or ``make fuzz``.

Each reader gets a process of its own for N seconds. An input that ends in anything but an error of ours is written to
``fuzz/``, and the command ends with exit code 1.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOUND = Path("fuzz")


def main() -> int:
    """Fuzz the readers named, or all, one after another, and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("names", nargs="*", help="readers; all unless given")
    parser.add_argument("--seconds", type=int, default=20, help="for each reader")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        _fuzz(*asked.names, seconds=asked.seconds)
    from tests.fuzz.targets import targets

    FOUND.mkdir(exist_ok=True)
    executions, findings = 0, 0
    for name in asked.names or targets():
        command = [sys.executable, "-m", "tests.fuzz", "--inside", "--seconds", str(asked.seconds), name]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        ran = re.findall(r"stat::number_of_executed_units: (\d+)", done.stderr)
        covered = re.findall(r"cov: (\d+)", done.stderr)
        executions += int(ran[-1]) if ran else 0
        print(f"{name}: {ran[-1] if ran else 'no'} executions, coverage {covered[-1] if covered else '?'}", flush=True)
        if done.returncode:
            findings += 1
            print(done.stderr[-3000:], flush=True)
    print(f"{executions:,} executions, {findings} findings")
    return 1 if findings else 0


def _fuzz(name: str, *, seconds: int) -> None:
    """Fuzz one reader in this process, which ends with it."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["xlt"]):
        from tests.fuzz.targets import attempt, targets
    target = targets()[name]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, tempfile.TemporaryDirectory() as corpus:
        (Path(corpus) / "sound").write_bytes(target.sound)
        options = [f"-max_total_time={seconds}", "-print_final_stats=1", "-timeout=20", "-rss_limit_mb=2500"]
        options += [f"-artifact_prefix={FOUND}/{name.replace('/', '-')}-", f"-max_len={2 * len(target.sound) + 4096}"]
        atheris.Setup(["fuzz", *options, corpus], lambda data: attempt(target, data, Path(folder)) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
