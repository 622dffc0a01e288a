"""One source of kernels for every processor: objects for others are made here, code for this one's subsets runs."""

import dataclasses

import pytest

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import identity
from sardonyx.compiler.jit import build_module, compile_module, host_target
from sardonyx.compiler.kernels.depthwise import Depthwise
from sardonyx.compiler.kernels.elementwise import CONTIGUOUS, Elementwise
from sardonyx.compiler.kernels.epilogue import Epilogue
from sardonyx.compiler.kernels.gemm import ImplicitGemm, PackPanels, tile_for
from sardonyx.compiler.kernels.pool import Pool
from sardonyx.compiler.kernels.reduce import Reduce, Softmax
from sardonyx.compiler.target import Target

TARGETS = {
    "sse2": Target.from_features("x86_64-unknown-linux-gnu", "x86-64", {"sse2": True}),
    "avx2": Target.from_features("x86_64-unknown-linux-gnu", "x86-64-v3", {"sse2": True, "avx2": True, "fma": True}),
    "avx512": Target.from_features(
        "x86_64-unknown-linux-gnu", "x86-64-v4", {"avx2": True, "fma": True, "avx512f": True}
    ),
    "aarch64": Target.from_features("aarch64-unknown-linux-gnu", "generic", {}),
}
PLAIN = Epilogue.plain(DType.F32)
IDENTITY = identity(DType.F32)


@pytest.mark.parametrize("name", TARGETS)
def test_kernels_compile(name: str) -> None:
    target = TARGETS[name]
    rows, vectors = tile_for(target, DType.F32, 4096, 256)
    kernels = [
        ImplicitGemm(rows, vectors, 2, DType.F32, PLAIN),
        PackPanels(vectors, True, DType.F32),
        Depthwise(4, 2, 2, DType.F32, PLAIN),
        Pool(False, 4, 2, 2, DType.F32, PLAIN),
        Reduce("sum", IDENTITY, False, PLAIN),
        Softmax(False, DType.F32),
        Elementwise(IDENTITY, (CONTIGUOUS,), CONTIGUOUS, 1),
    ]
    machine = {"x86_64": 62, "aarch64": 183}[target.triple.split("-")[0]]
    for kernel in kernels:
        code = compile_module(build_module(kernel, target), target)
        assert code[:4] == b"\x7fELF"
        assert int.from_bytes(code[18:20], "little") == machine


@pytest.mark.parametrize("name", TARGETS)
def test_tiles_fit_the_registers(name: str) -> None:
    target = TARGETS[name]
    for m, n in ((1, 1000), (7, 64), (49, 512), (4096, 256), (4096, 8)):
        rows, vectors = tile_for(target, DType.F32, m, n)
        assert rows * vectors + vectors + 1 <= target.vector_registers
    rows, vectors = tile_for(target, DType.F32, 4096, 512)
    assert rows * vectors >= target.vector_registers / 2


def test_host_describes_itself() -> None:
    target = host_target()
    assert target.vector_bytes in (16, 32, 64)
    assert target.lanes(DType.F32) == target.vector_bytes // 4
    assert dataclasses.replace(target, cpu="other").key != target.key
