"""Compile every Triton kernel ahead of time, without a GPU, and read from the binaries what they take.

``python -m xlt_kernels.compile [--target 80 90] [NAMES]`` prints one JSON document; its exit status is 1 where
a variant exceeds its limits.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xlt_kernels

TARGETS = (80, 90)
# In order of preference: Hopper's own matrix instruction, then the one of every chip since sm_80.
_MATRIX = ("HGMMA", "HMMA")


@dataclass(frozen=True)
class Variant:
    """One compiled form of a kernel, as the model launches it, and the limits it has to keep.

    ``signature`` has the Triton type of every argument in order: ``"*bf16"``, ``"i32"``, ``"constexpr"`` (its
    value is in ``constants``), or ``"i32:16"`` for an integer that is a multiple of 16 when launched; pointers
    always are. ``matmul`` asks for a matrix instruction in the binary.
    """

    name: str
    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    num_warps: int
    num_stages: int
    matmul: bool
    max_registers: int = 255
    max_spill_bytes: int = 0
    max_shared: int = 101376


def find_variants(names: list[str]) -> list[tuple[str, Variant]]:
    """The variants of all kernels, or of those in ``names``, each with its kernel's name."""
    stems = [module.name.removesuffix("_triton") for module in pkgutil.iter_modules(xlt_kernels.__path__)
             if module.name.endswith("_triton")]  # fmt: skip
    if unknown := set(names) - set(stems):
        raise SystemExit(f"No such kernel: {', '.join(sorted(unknown))}. There are: {', '.join(stems)}.")
    chosen = [stem for stem in stems if stem in names or not names]
    return [(stem, v) for stem in chosen for v in importlib.import_module(f"xlt_kernels.{stem}_triton").variants()]


def compile_variant(variant: Variant, target: int) -> dict[str, Any]:
    """Compile for ``sm_<target>``; what the binary takes, and ``faults``: the limits it breaks."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    aligned = [kind.startswith("*") or kind.endswith(":16") for kind in variant.signature.values()]
    source = ASTSource(
        fn=variant.kernel,
        signature={name: kind.removesuffix(":16") for name, kind in variant.signature.items()},
        constexprs=variant.constants,
        attrs={(i,): [["tt.divisibility", 16]] for i, multiple in enumerate(aligned) if multiple},
    )
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages}
    binary = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    registers, stack, matrix = _read(binary.asm["cubin"])
    limits = [
        ("registers", registers, variant.max_registers),
        ("spill bytes", stack, variant.max_spill_bytes),
        ("shared bytes", binary.metadata.shared, variant.max_shared),
    ]
    faults = [f"{what} {value}, at most {limit} wanted" for what, value, limit in limits if value > limit]
    if variant.matmul and not matrix:
        faults.append("no matrix instruction")
    return {
        "registers": registers,
        "spill_bytes": stack,
        "shared_bytes": binary.metadata.shared,
        "matrix_instruction": matrix,
        "faults": faults,
    }


def _read(cubin: bytes) -> tuple[int, int, str]:
    """Registers a thread, bytes of stack and local memory (where spills go), and the matrix instruction."""
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).with_name("bin") / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        dumps = [
            subprocess.run([tool, option, file.name], check=True, capture_output=True, text=True).stdout
            for option in ("--dump-resource-usage", "--dump-sass")
        ]
    registers, stack, local = (
        max(map(int, re.findall(rf"\b{word}:(\d+)", dumps[0]))) for word in ("REG", "STACK", "LOCAL")
    )
    matrix = next((word for word in _MATRIX if re.search(rf"\b{word}\b", dumps[1])), "")
    return registers, stack + local, matrix


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m xlt_kernels.compile", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAMES", help="kernels; all of them unless given")
    parser.add_argument("--target", nargs="+", type=int, default=TARGETS, help="compute capabilities, as 80 90")
    wanted = parser.parse_args()
    os.environ.pop("TRITON_INTERPRET", None)  # the interpreter's functions cannot be compiled
    import triton

    rows = [
        {"kernel": name, "variant": variant.name, "target": target, **compile_variant(variant, target)}
        for name, variant in find_variants(wanted.names)
        for target in wanted.target
    ]
    print(json.dumps({"triton": triton.__version__, "variants": rows}, indent=1))
    return int(any(row["faults"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
