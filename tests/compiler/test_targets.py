"""One source of kernels for every processor: objects for others are made here, code for this one's subsets runs.

`aarch64/` runs code for AArch64 on an emulator.
"""

import dataclasses
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx_ir as ir
import pytest

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.jit import host_target, kernel_object
from sardonyx.compiler.kernels.gemm import tile_for
from sardonyx.compiler.program import Kernel
from sardonyx.compiler.target import X86_LEVELS, Target
from tests.compiler.programs import PROGRAMS, program_of
from tests.suites.operators import Case

X86 = "x86_64-unknown-linux-gnu"
TARGETS = {
    "x86-64": Target.from_features(X86, "x86-64", {"sse2": True}),
    **{level: Target.from_features(X86, level, dict.fromkeys(names, True)) for level, names in X86_LEVELS.items()},
    "aarch64": Target.from_features("aarch64-unknown-linux-gnu", "generic", {}),
}
LEVELS = tuple(X86_LEVELS)
ELF_MACHINE = {"x86_64": 62, "aarch64": 183}
ROOT = Path(__file__).parents[2]
SAME_RESULTS = [
    "tests/compiler/test_targets.py::test_host_describes_itself",
    "tests/compiler/test_targets.py::test_kernels_call_nothing",
    "tests/compiler/test_operators.py",
    "tests/compiler/test_winograd.py",
    "tests/compiler/test_vmath.py",
    "tests/session/test_networks.py",
]
"""Tests whose results may not depend on the level of x86-64."""
CHOSEN = "not direct_where and (not networks or resnet18 or mobilenetv2 or efficientnet-b0 or ferplus)"
"""Of these. Which algorithm pays depends on the vector length; what it computes does not. Four networks are enough."""
HELPERS = re.compile(r"(fma|floor|ceil|trunc|rint|nearbyint|round|roundeven|fabs|copysign|sqrt)f?|__.*")
"""What LLVM calls for an operation that a processor has no instruction for."""


def kernels_of(cases: Iterable[Case], target: Target) -> Iterator[Kernel]:
    """The distinct kernels of the cases' programs."""
    seen: set[str] = set()
    for case in cases:
        for kernel in program_of(ir.from_proto(case.model()), case.feeds, target).kernels:
            if kernel.symbol not in seen:
                seen.add(kernel.symbol)
                yield kernel


def undefined_symbols(code: bytes) -> set[str]:
    """Names that a 64-bit little-endian ELF object wants from elsewhere."""
    (table,), (count,) = struct.unpack_from("<Q", code, 40), struct.unpack_from("<H", code, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, table + 64 * i) for i in range(count)]
    found: set[str] = set()
    for _, kind, _, _, start, size, link, *_ in sections:
        if kind == 2:  # SHT_SYMTAB; its first entry is empty
            for at in range(start + 24, start + size, 24):
                name, _, _, section = struct.unpack_from("<IBBH", code, at)
                if section == 0:
                    text = code[sections[link][4] + name :]
                    found.add(text[: text.index(b"\0")].decode())
    return found


@pytest.mark.parametrize("name", ["x86-64", "x86-64-v4"])
def test_kernels_compile(name: str) -> None:
    """Every fourth case for what does not run here or nowhere else; the rest is compiled where it runs."""
    target = TARGETS[name]
    for kernel in kernels_of(PROGRAMS[::4], target):
        code = kernel_object(kernel, target)
        assert code[:4] == b"\x7fELF"
        assert int.from_bytes(code[18:20], "little") == ELF_MACHINE["x86_64"]


def test_kernels_call_nothing() -> None:
    """A multiply-add is two instructions where there is not one for it, never a call; rounding likewise."""
    for kernel in kernels_of(PROGRAMS, host_target()):
        called = [name for name in undefined_symbols(kernel_object(kernel, host_target())) if HELPERS.fullmatch(name)]
        assert not called, kernel


def test_undefined_symbols_are_found() -> None:
    """On the oldest x86-64 rounding is a call, which the test above would see."""
    target = TARGETS["x86-64"]
    (kernel,) = kernels_of([case for case in PROGRAMS if case.name == "Floor"], target)
    assert {name for name in undefined_symbols(kernel_object(kernel, target)) if HELPERS.fullmatch(name)} == {"floorf"}


@pytest.mark.parametrize("name", TARGETS)
def test_tiles_fit_the_registers(name: str) -> None:
    target = TARGETS[name]
    product = 0 if target.has_fma else 1
    for m, n in ((1, 1000), (7, 64), (49, 512), (48, 24), (4096, 256), (4096, 8)):
        rows, vectors = tile_for(target, DType.F32, m, n)
        assert rows * vectors + vectors + 1 + product <= target.vector_registers
    rows, vectors = tile_for(target, DType.F32, 4096, 512)
    assert rows * vectors >= target.vector_registers / 2


def test_multiply_add_where_there_is_one() -> None:
    assert [name for name, target in TARGETS.items() if target.has_fma] == ["x86-64-v3", "x86-64-v4", "aarch64"]


@pytest.mark.parametrize("level", LEVELS)
def test_lesser_levels_compute_the_same(level: str) -> None:
    """Operators, functions and networks again, in a process whose code is limited to a level this processor has."""
    if not all(llvm_features().get(name) for name in X86_LEVELS[level]):
        refused = run_at(level, "-c", "import sardonyx.compiler.jit as j; j.host_target()")
        assert refused.returncode == 1
        assert "ConfigError" in refused.stderr
        return
    options = ["-q", "-x", "-p", "no:cacheprovider", "-k", CHOSEN]
    done = run_at(level, "-m", "pytest", *options, *SAME_RESULTS)
    assert done.returncode == 0, done.stdout


def run_at(level: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python, with code for `level`."""
    environment = {**os.environ, "SARDONYX_TARGET": level, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def llvm_features() -> dict[str, bool]:
    from llvmlite import binding

    return dict(binding.get_host_cpu_features())


def test_host_describes_itself() -> None:
    target = host_target()
    assert target.cpu == os.environ.get("SARDONYX_TARGET", target.cpu)
    assert target.vector_bytes in (16, 32, 64)
    assert target.lanes(DType.F32) == target.vector_bytes // 4
    assert dataclasses.replace(target, cpu="other").key != target.key
