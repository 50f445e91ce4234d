"""Measure golden evidence on other processors: ``artifact/measured/golden.json``.

    python -m artifact.documents.processors > artifact/measured/golden.json   # an hour and more: emulators are slow

Instruction sets are taken away from the mathematical libraries by their environment variables; other processors are
emulated by QEMU's user mode (``qemu-x86_64-static``), which computes IEEE arithmetic exactly. What cannot be run here
is named with the reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from typing import Any

from pydantic import TypeAdapter

from xlt.numerics import LIBRARIES, SWITCH
from xlt.pipeline.provenance import environment
from xlt.verify.evidence import GoldenCheck

EMULATOR = "qemu-x86_64-static"
PORTABLE = {SWITCH: "portable"}
# As its maker ships it; with portable numerics; with the libraries held to older instruction sets; emulated processors.
MACHINES: dict[str, tuple[str, dict[str, str]]] = {
    "as it is, portable": ("", PORTABLE),
    "as it is, native": ("", {}),
    "AVX2 at most, native": ("", {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}),
    "SSE 4.2 at most, native": ("", {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}),
    "emulated AMD EPYC (Milan), portable": ("EPYC-Milan", PORTABLE),
    "emulated Intel Haswell, portable": ("Haswell", PORTABLE),
    "emulated Intel Haswell, native": ("Haswell", {}),
    "emulated Intel Nehalem (no AVX), native": ("Nehalem", {}),
}
CHILD = """
import sys
from xlt.numerics import follow_request
follow_request()
from artifact.documents.processors import CHECKS
from xlt.verify.golden import check_golden
sys.stdout.buffer.write(b"CHECKS " + CHECKS.dump_json(check_golden()))
"""
CHECKS = TypeAdapter(list[GoldenCheck])


def measure(processor: str, asked: dict[str, str]) -> dict[str, Any]:
    """Golden evidence on one machine: the largest difference of each kind, and a digest of all of them."""
    inherited = {name: value for name, value in os.environ.items() if name not in {SWITCH, *LIBRARIES}}
    prefix = [EMULATOR, "-cpu", processor] if processor else []
    began = time.monotonic()
    done = subprocess.run(
        [*prefix, sys.executable, "-c", CHILD], env=inherited | asked, capture_output=True, text=True, check=False
    )
    _, found, answer = done.stdout.rpartition("CHECKS ")
    if not found:
        return {"error": (done.stderr.strip().splitlines() or ["it printed nothing"])[-1][:200]}
    checks = CHECKS.validate_json(answer)
    largest: dict[str, float] = {}
    for check in checks:
        kind = check.name.split(" of ")[0]
        largest[kind] = max(largest.get(kind, 0.0), math.inf if check.difference is None else check.difference)
    return {
        "holds": all(check.holds for check in checks),
        "checks": len(checks),
        "fails": [check.name for check in checks if not check.holds],
        "largest": {kind: value if math.isfinite(value) else None for kind, value in largest.items()},
        # Differences to one fp64 value are the same bits where the values are.
        "digest": hashlib.sha256(repr([check.difference for check in checks]).encode()).hexdigest()[:16],
        "seconds": round(time.monotonic() - began),
    }


def main() -> None:
    """Measure every machine, or those named on the command line."""
    machines = {}
    for name in sys.argv[1:] or MACHINES:
        processor, asked = MACHINES[name]
        if processor and not shutil.which(EMULATOR):
            machines[name] = {"error": f"{EMULATOR} is not installed"}
        else:
            machines[name] = measure(processor, asked)
        print(name, machines[name], file=sys.stderr, flush=True)
    print(json.dumps({"format": 1, "environment": environment(), "machines": machines}, indent=1))


if __name__ == "__main__":
    main()
