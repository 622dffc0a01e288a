"""One source of kernels for every processor: objects for others are made here, code for this one's subsets runs."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

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
from sardonyx.compiler.kernels.winograd import Winograd
from sardonyx.compiler.target import X86_LEVELS, Target

TARGETS = {
    "sse2": Target.from_features("x86_64-unknown-linux-gnu", "x86-64", {"sse2": True}),
    "avx2": Target.from_features("x86_64-unknown-linux-gnu", "x86-64-v3", {"sse2": True, "avx2": True, "fma": True}),
    "avx512": Target.from_features(
        "x86_64-unknown-linux-gnu", "x86-64-v4", {"avx2": True, "fma": True, "avx512f": True}
    ),
    "aarch64": Target.from_features("aarch64-unknown-linux-gnu", "generic", {}),
}
ROOT = Path(__file__).parents[2]
PLAIN = Epilogue.plain(DType.F32)
IDENTITY = identity(DType.F32)


@pytest.mark.parametrize("name", TARGETS)
def test_kernels_compile(name: str) -> None:
    target = TARGETS[name]
    rows, vectors = tile_for(target, DType.F32, 4096, 256)
    kernels = [
        ImplicitGemm(rows, vectors, 2, DType.F32, PLAIN),
        Winograd(rows, vectors, DType.F32, PLAIN),
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


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_lesser_levels_compute_the_same(level: str, tmp_path: Path) -> None:
    """The operator cases again, in a process whose code is limited to a level this processor has."""
    features = llvm_features()
    if not all(features.get(name) for name in X86_LEVELS[level]):
        with pytest.raises(subprocess.CalledProcessError):
            run_with_level(level, tmp_path, "import sardonyx.compiler.jit as j; j.host_target()")
        return
    run_with_level(level, tmp_path, _CHECK)


_CHECK = """
import numpy as np, onnxruntime, sardonyx
from sardonyx.compiler.jit import host_target
from tests.suites.operators import CASES
assert host_target().cpu == {level!r}
for case in CASES[::3]:
    blob = case.model().SerializeToString()
    (got,) = sardonyx.InferenceSession(blob).run(None, dict(case.feeds))
    (want,) = onnxruntime.InferenceSession(blob).run(None, dict(case.feeds))
    finite = np.abs(want[np.isfinite(want)]) if want.dtype.kind == "f" else np.zeros(0)
    np.testing.assert_allclose(got, want, rtol=5e-5, atol=2e-6 * finite.max(initial=1e-6), err_msg=case.name)
"""


def run_with_level(level: str, cache: Path, code: str) -> None:
    environment = {**os.environ, "SARDONYX_TARGET": level, "SARDONYX_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code.replace("{level!r}", repr(level))], env=environment, check=True)


def llvm_features() -> dict[str, bool]:
    from llvmlite import binding

    return dict(binding.get_host_cpu_features())


def test_host_describes_itself() -> None:
    target = host_target()
    assert target.vector_bytes in (16, 32, 64)
    assert target.lanes(DType.F32) == target.vector_bytes // 4
    assert dataclasses.replace(target, cpu="other").key != target.key
