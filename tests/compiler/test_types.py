"""Operators in float16 and bfloat16, all native: what float32 gives for the same numbers, rounded once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import defs
from onnx.reference import ReferenceEvaluator

import sardonyx
from sardonyx.compiler.dtypes import DType
from sardonyx.ops import OPERATORS
from tests.suites import types
from tests.suites.case import Case, floats, node

Array = np.ndarray[Any, Any]
CASES = {name: list(types.cases(name)) for name in types.NAMES}
LIMITS = {"float16": (2.0**-11, 2.0**-25, 65504.0), "bfloat16": (2.0**-8, 2.0**-134, 3.3895313892515355e38)}
"""Half a unit in the last place of 1, half the least number, the largest one."""
ELSEWHERE = {
    "BitCast": "test_casts",
    "Cast": "test_casts",
    "Multinomial": "random",
    "RandomNormalLike": "random",
    "RandomUniformLike": "random",
    "Range": "always known",
    "Shape": "always known",
    "Size": "always known",
}
"""Operators that no case here runs, and why."""


def run(case: Case) -> Array:
    session = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"])
    assert not [placement for placement in session.explain() if placement.provider != "cpu"]
    (got,) = session.run(None, dict(case.feeds))
    return got


def reference(case: Case) -> Array:
    """By onnxruntime, if need be as an older opset's operator, or by onnx.reference when it has none such."""
    wide = types.widened(case)
    for opset in (case.opset, 21):
        try:
            session = onnxruntime.InferenceSession(replace(wide, opset=opset).model().SerializeToString())
        except Exception:  # one of its own types, or onnx's
            continue
        return session.run(None, dict(wide.feeds))[0]
    return ReferenceEvaluator(wide.model()).run(None, dict(wide.feeds))[0]


def assert_rounded(got: Array, want: Array) -> None:
    """`got` is `want`, computed in float32 in whatever order, rounded to the type of `got`."""
    unit, least, largest = LIMITS[got.dtype.name]
    exact, wide = want.astype(np.float64), got.astype(np.float64)
    size = np.abs(exact)
    np.testing.assert_array_equal(np.isnan(wide), np.isnan(exact))
    beyond = size > largest * (1 + unit)
    np.testing.assert_array_equal(wide[beyond], np.copysign(np.inf, exact[beyond]))
    fits = size <= largest
    bound = (unit + 2e-5) * size[fits] + least + 1e-6 * np.max(size[fits], initial=0.0)
    off = np.abs(wide[fits] - exact[fits])
    assert (off <= bound).all(), f"{(off - bound).max()} too far off"


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.name}-{name}") for name, some in CASES.items() for case in some]
)
def test_case(case: Case) -> None:
    got, want = run(case), reference(case)
    assert got.shape == want.shape
    if got.dtype.name in types.NAMES:
        assert_rounded(got, want)
    else:
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", types.NAMES)
def test_every_operator_has_a_case(name: str) -> None:
    """Of those with native code that the standard has in the type."""
    tested = {case.nodes[0].op_type for case in CASES[name]} | set(ELSEWHERE)
    native = [op for domain, op in OPERATORS if not domain and defs.has(op, domain) and _in_type(op, domain, name)]
    assert not sorted(set(native) - tested)


def _in_type(op: str, domain: str, name: str) -> bool:
    inputs = defs.get_schema(op, domain).inputs
    return bool(inputs) and f"tensor({name})" in inputs[0].types


@pytest.mark.parametrize("name", types.NAMES)
@pytest.mark.parametrize("count", [5, 83])
def test_each_fused_operator_rounds(name: str, count: int) -> None:
    """A chain in one kernel gives bit by bit what its operators give one after the other."""
    a, b, c = (floats(count).astype(types.NAMES[name]) for _ in range(3))
    chain = [node("Mul", "a b", "m"), node("Add", "m c", "s"), node("Sub", "s a", "d"), node("Div", "d b")]
    got = run(Case("chain", chain, {"a": a, "b": b, "c": c}))
    np.testing.assert_array_equal(got, (a * b + c - a) / b)  # NumPy and ml_dtypes round each one, from float32


@pytest.mark.parametrize("name", types.NAMES)
def test_products_round_once(name: str) -> None:
    """Sums of products lose nothing before their end; what is fused behind them sees them rounded."""
    a, w, b = (floats(*dims).astype(types.NAMES[name]) for dims in ((9, 300), (300, 21), (21,)))
    exact = a.astype(np.float64) @ w.astype(np.float64)
    product = run(Case("product", [node("MatMul", "a w")], {"a": a}, {"w": w}))
    assert_rounded(product, exact)
    fused = run(Case("fused", [node("MatMul", "a w", "p"), node("Add", "p b")], {"a": a}, {"w": w, "b": b}))
    np.testing.assert_array_equal(fused, product + b)


@pytest.mark.parametrize("name", types.NAMES)
def test_results_between_operators(name: str) -> None:
    """Convolutions, copies and joins of what came in and what was computed."""
    dtype = types.NAMES[name]
    x, w = floats(1, 8, 9, 9).astype(dtype), (floats(8, 8, 3, 3) / 9).astype(dtype)
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("Concat", "x c", "j", axis=1),
        node("Transpose", "j", "t", perm=[0, 2, 3, 1]),
        node("Softmax", "t", axis=-1),
    ]
    got = run(Case("between", nodes, {"x": x}, {"w": w}))
    conv = reference(Case("conv", [node("Conv", "x w", pads=[1, 1, 1, 1])], {"x": x}, {"w": w}))
    joined = np.concatenate([x.astype(np.float64), conv.astype(dtype).astype(np.float64)], 1).transpose(0, 2, 3, 1)
    powers = np.exp(joined - joined.max(-1, keepdims=True))
    want = powers / powers.sum(-1, keepdims=True)
    unit = LIMITS[name][0]  # a number of the convolution may be rounded the other way
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=12 * unit)


def test_every_type_has_a_register() -> None:
    """Of the standard's types all but strings are the compiler's, too."""
    wanted = {onnx.helper.tensor_dtype_to_np_dtype(number) for number in onnx.TensorProto.DataType.values() if number}
    missing = [dtype for dtype in wanted if dtype != np.dtype(object) and DType.of(dtype) is None]
    assert not missing
