"""Compile every Triton kernel ahead of time, without a GPU, and read from the binaries what they take.

``python -m xlt_kernels.compile [--target 80 90] [NAMES]`` prints one JSON document; its exit status is 1 where a form
of a kernel exceeds its limits. The forms are those that the cases of :mod:`xlt_kernels.case` launch at the width of
XLM-R Large: the ops run on a CPU, and what they would launch is written down instead. What it printed last for all
kernels is kept as ``artifact/measured/kernels/compiled-triton-VERSION.json``: to make it again, send it there.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import xlt_kernels
from xlt_kernels import switch
from xlt_kernels.case import kernels

TARGETS = (80, 90)
# Registers a thread, bytes spilled from them, and bytes of shared memory, which is what an sm_86 or sm_89 has. Triton
# before 3.7 spills four registers in the attention's backward pass on sm_80.
LIMITS = {"registers": 255, "spill_bytes": 0, "shared_bytes": 101376}
LIMITS_BEFORE_3_7 = LIMITS | {"spill_bytes": 16}
# In order of preference: Hopper's own matrix instruction, then the one of every chip since sm_80.
_MATRIX = ("HGMMA", "HMMA")
_TYPES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32", torch.float64: "*fp64"}
_TYPES |= {torch.int32: "*i32", torch.int64: "*i64"}


@dataclass(frozen=True)
class Variant:
    """One compiled form of a kernel, as it is launched."""

    kernel: Any
    signature: dict[str, str]
    """The Triton type of each argument; ``"constexpr"`` of what is a constant."""
    constants: dict[str, Any]
    multiples: list[str]
    """Arguments that are multiples of 16: addresses and sizes."""
    options: dict[str, int]

    @property
    def name(self) -> str:
        """Such as ``forward_kernel bf16+fp32 BLOCK=64``: the types that it reads and writes, and the constants."""
        types = dict.fromkeys(kind.removeprefix("*") for kind in self.signature.values() if kind.startswith("*"))
        constants = (f"{name}={value}" for name, value in self.constants.items())
        return " ".join([self.kernel.__name__, "+".join(types), *constants])


def find_variants(kernel: str) -> list[Variant]:
    """The forms that the cases of ``kernel`` launch, in every type that it takes."""
    from triton.runtime.jit import JITFunction

    found: dict[str, Variant] = {}

    def launch(function: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        made = _variant(function, arguments, options)
        found.setdefault(repr(made), made)

    module = importlib.import_module(f"xlt_kernels.{kernel}")
    run, interpreted = JITFunction.run, switch.INTERPRETED
    JITFunction.run, switch.INTERPRETED = launch, True  # so that the kernels serve on a CPU
    try:
        for shape in module.LARGE:
            for dtype in module.DTYPES:
                module.case(**{"dtype": dtype, **shape}, device="cpu").results()
    finally:
        JITFunction.run, switch.INTERPRETED = run, interpreted
    return list(found.values())


def _variant(function: Any, arguments: Sequence[Any], options: dict[str, Any]) -> Variant:
    """What Triton would compile for these arguments."""
    named = {name: options.pop(name) for name in function.arg_names if name in options}
    given = inspect.signature(function.fn).bind(*arguments, **named).arguments
    signature, constants, multiples = {}, {}, []
    for parameter in function.params:
        name, value = parameter.name, given[parameter.name]
        # The memory of a whole tensor starts at a multiple of 16.
        aligned = not (parameter.do_not_specialize or parameter.do_not_specialize_on_alignment)
        if parameter.is_constexpr or value is None:
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name] = _TYPES[value.dtype]
            if aligned:
                multiples.append(name)
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
            if aligned and isinstance(value, int) and value % 16 == 0:
                multiples.append(name)
    return Variant(function, signature, constants, multiples, options)


def compile_variant(variant: Variant, target: int, limits: dict[str, int] = LIMITS) -> dict[str, Any]:
    """Compile for ``sm_<target>``; what the binary takes, and ``faults``: the limits it breaks."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    source = ASTSource(
        fn=variant.kernel,
        signature=variant.signature,
        constexprs=variant.constants,
        attrs={
            (i,): [["tt.divisibility", 16]] for i, name in enumerate(variant.signature) if name in variant.multiples
        },
    )
    binary = triton.compile(source, target=GPUTarget("cuda", target, 32), options=variant.options)
    registers, spilled, matrix = _read(binary.asm["cubin"])
    taken = {"registers": registers, "spill_bytes": spilled, "shared_bytes": binary.metadata.shared}
    faults = [f"{what} {taken[what]}, at most {limit} wanted" for what, limit in limits.items() if taken[what] > limit]
    if "tt.dot" in binary.asm["ttir"] and not matrix:
        faults.append("no matrix instruction")
    return {**taken, "matrix_instruction": matrix, "faults": faults}


def source_hash(kernel: str) -> str:
    """The sha256 of the text of the module that has ``kernel``'s functions: a record of another one is out of date."""
    return hashlib.sha256(Path(xlt_kernels.__path__[0], f"{kernel}_triton.py").read_bytes()).hexdigest()


def _read(cubin: bytes) -> tuple[int, int, str]:
    """Registers a thread, bytes of stack and local memory (where spills go), and the matrix instruction."""
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).with_name("bin") / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, code = (
            subprocess.run([tool, option, file.name], check=True, capture_output=True, text=True).stdout
            for option in ("--dump-resource-usage", "--dump-sass")
        )
    registers, stack, local = (
        max(map(int, re.findall(rf"\b{word}:(\d+)", usage))) for word in ("REG", "STACK", "LOCAL")
    )
    matrix = next((word for word in _MATRIX if re.search(rf"\b{word}\b", code)), "")
    return registers, stack + local, matrix


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m xlt_kernels.compile", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAMES", help="kernels; all of them unless given")
    parser.add_argument("--target", nargs="+", type=int, default=TARGETS, help="compute capabilities, as 80 90")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - set(kernels()):
        parser.error(f"no such kernel: {', '.join(sorted(unknown))}. There are: {', '.join(kernels())}.")
    os.environ.pop("TRITON_INTERPRET", None)  # the interpreter's functions cannot be compiled
    import triton

    limits = LIMITS if tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 7) else LIMITS_BEFORE_3_7
    names = wanted.names or kernels()
    rows = [
        {"kernel": name, "variant": variant.name, "target": target, **compile_variant(variant, target, limits)}
        for name in names
        for variant in find_variants(name)
        for target in wanted.target
    ]
    sources = {name: source_hash(name) for name in names}
    print(json.dumps({"triton": triton.__version__, "sources": sources, "variants": rows}, indent=1))
    return int(any(row["faults"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
