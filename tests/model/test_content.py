"""Digests and largest elements of tensors, tensors made on demand, and what reading leaves in memory."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from sardonyx.model.content import Derived, digest, largest, release


def tensor(array: np.ndarray) -> ir.Tensor:
    return ir.Tensor(array)


def test_digest_tells_types_shapes_and_elements_apart():
    base = np.arange(600_000, dtype=np.float32).reshape(600, 1000)
    changed = base.copy()
    changed[-1, -1] = np.nextafter(changed[-1, -1], np.float32(0))
    others = [base.view(np.int32), base.reshape(1000, 600), base.reshape(-1), changed, base[:-1], base.T]
    found = [digest(tensor(array)) for array in (base, *others)]
    assert len(set(found)) == len(found)
    assert all(len(name) == 16 for name in found)
    assert digest(tensor(base.copy())) == found[0]
    assert len({digest(array) for array in (base, *others)}) == len(found)
    assert digest(np.asfortranarray(base)) == digest(base)


def test_zeros_of_either_sign_differ():
    assert digest(tensor(np.zeros(3, np.float32))) != digest(tensor(-np.zeros(3, np.float32)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_largest(dtype):
    array = np.linspace(-3, 2, 700_001).astype(dtype)
    assert largest(tensor(array)) == 3
    assert largest(tensor(-array)) == 3
    for value, want in ((np.inf, np.inf), (-np.inf, np.inf), (np.nan, np.nan)):
        for at in (0, 350_000, -1):
            spoilt = array.copy()
            spoilt[at] = value
            assert np.array_equal(largest(tensor(spoilt)), want, equal_nan=True)
    spoilt[0], spoilt[-1] = np.nan, np.inf
    assert np.isnan(largest(tensor(spoilt)))
    assert largest(tensor(array[:0])) == 0


def test_derived_is_computed_when_asked_for():
    source, calls = tensor(np.arange(5, dtype=np.float32)), []

    def twice(array):
        calls.append(1)
        return 2 * array

    derived = Derived(source, twice, b"twice")
    assert (derived.dtype, list(derived.shape)) == (ir.DataType.FLOAT, [5])
    assert digest(derived) != digest(source)
    assert digest(derived) != digest(Derived(source, twice, b"other"))
    assert digest(derived) != digest(Derived(tensor(np.ones(5, np.float32)), twice, b"twice"))
    assert digest(derived) == digest(Derived(tensor(np.arange(5, dtype=np.float32)), twice, b"twice"))
    assert calls == []
    assert derived.numpy().tolist() == [0, 2, 4, 6, 8]
    assert largest(derived) == 8


def test_pages_written_to_are_not_let_go(tmp_path):
    """Dropping pages of a private mapping loses what was written: only read-only ones may be dropped."""
    path = tmp_path / "data"
    path.write_bytes(bytes(1 << 20))
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    array = np.frombuffer(mapping, np.float32)
    array[:] = 7
    release(array)
    digest(tensor(array))
    largest(tensor(array))
    assert (array == 7).all()
    memmap = np.memmap(path, np.float32, "c")
    memmap[:] = 5
    digest(memmap)
    assert (memmap == 5).all()


def test_reading_leaves_no_pages(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(np.arange(1 << 22, dtype=np.float32).tobytes())
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    array = np.frombuffer(memoryview(mapping)[4 : 4 + (1 << 23)], np.float32).reshape(1024, -1)
    address = array.__array_interface__["data"][0] - 4

    def resident() -> int:
        lines = iter(Path("/proc/self/smaps").read_text().splitlines())
        for line in lines:
            if line.startswith(f"{address:x}-"):
                return next(int(entry.split()[1]) for entry in lines if entry.startswith("Rss:"))
        raise AssertionError("no such mapping")

    array.sum()
    assert resident() >= 1 << 13
    release(array)
    assert resident() <= 64
    digest(tensor(array))
    largest(tensor(array))
    assert resident() <= 64


def in_fresh_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout


def test_sympy_is_imported_when_it_is_used():
    code = """
import sys, threading
import sardonyx.model, onnx_ir
assert not {"sympy", "onnx_ir._symbolic_shapes"} & set(sys.modules)
dim, sums = onnx_ir.SymbolicDim("N"), []
threads = [threading.Thread(target=lambda: sums.append(str(dim + 1))) for _ in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
assert sums == ["N + 1"] * 8, sums
import sympy
from sympy import Symbol
assert "sympy" in sys.modules and sympy.__file__ and onnx_ir.SymbolicDim(Symbol("M") * 2).value == "2*M"
print("done")
"""
    assert in_fresh_process(code) == "done\n"


def test_modules_that_are_there_are_left_alone():
    code = """
import sympy, sys
import sardonyx.model, onnx_ir
assert sys.modules["sympy"] is sympy is onnx_ir._core.sympy
print("done")
"""
    assert in_fresh_process(code) == "done\n"


def test_somebody_else_may_import_it_meanwhile():
    code = """
import sys
from sardonyx.model.put_off import put_off
with put_off("fractions", "xml.dom"):
    import fractions
    assert fractions.Fraction(1, 2) * 2 == 1  # used while it is put off
    import xml.dom.minidom  # a module inside it
assert fractions.Fraction is sys.modules["fractions"].Fraction and sys.modules["fractions"] is not fractions
assert xml.dom.minidom.Document
print("done")
"""
    assert in_fresh_process(code) == "done\n"
