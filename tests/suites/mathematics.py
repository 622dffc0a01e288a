"""Elementary functions, integers' bits, powers, positions, running sums: cases for `operators.CASES`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import helper

from tests.suites.case import Case, floats, node


def _functions() -> Iterator[Case]:
    for op in ("Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh"):
        yield Case(op, [node(op, "x")], {"x": floats(3, 41, scale=4)})
    for op in ("Asin", "Acos", "Atanh"):
        yield Case(op, [node(op, "x")], {"x": np.tanh(floats(3, 41))})
    yield Case("Acosh", [node("Acosh", "x")], {"x": np.abs(floats(3, 41)) + np.float32(1)})
    for op in ("Sin", "Exp", "Log", "Tanh"):
        yield Case(f"{op}-double", [node(op, "x")], {"x": np.abs(floats(70)).astype(np.float64)})
    yield Case("Sin-large", [node("Sin", "x")], {"x": floats(45, scale=1e9)})
    for op, attributes in (
        ("Celu", {"alpha": 0.7}),
        ("Shrink", {"lambd": 0.4, "bias": 0.2}),
        ("ThresholdedRelu", {"alpha": 0.3}),
    ):
        yield Case(op, [node(op, "x", **attributes)], {"x": floats(50)})
    yield Case("Mean", [node("Mean", "a b c")], {"a": floats(3, 7), "b": floats(7), "c": floats(3, 1)})
    special = {"x": np.array([np.nan, np.inf, -np.inf, 0, 1, -3], np.float32)}
    yield Case("IsNaN", [node("IsNaN", "x")], special)
    for positive, negative in ((1, 1), (1, 0), (0, 1), (0, 0)):
        attributes = {"detect_positive": positive, "detect_negative": negative}
        yield Case(f"IsInf-{positive}{negative}", [node("IsInf", "x", **attributes)], special)
    yield Case(
        "Mod-fmod",
        [node("Mod", "a b", fmod=1)],
        {"a": floats(40, scale=9), "b": floats(40) + np.float32(0.1)},
    )


def _powers() -> Iterator[Case]:
    positive = np.abs(floats(5, 9)) + np.float32(0.1)
    yield Case("Pow", [node("Pow", "a b")], {"a": positive, "b": floats(9, scale=3)})
    for exponent in (1.0, 2.0, 3.0, -1.0, 0.5, -0.5, 1.7):
        weights = {"b": np.float32(exponent)}
        yield Case(f"Pow-{exponent}", [node("Pow", "a b")], {"a": positive}, weights)
    for base, exponent in ((np.float32, np.int64), (np.float64, np.float32), (np.int32, np.float32)):
        values = {"a": (positive * 5).astype(base), "b": np.arange(9).astype(exponent)}
        yield Case(f"Pow-{np.dtype(base)}-{np.dtype(exponent)}", [node("Pow", "a b")], values)
    integers = {"a": np.arange(-4, 5), "b": np.arange(9)}
    yield Case("Pow-int64", [node("Pow", "a b")], integers)


def _bits() -> Iterator[Case]:
    for dtype in (np.uint8, np.int32, np.uint64):
        values = {"a": (np.abs(floats(33)) * 99).astype(dtype), "b": (np.abs(floats(33)) * 99).astype(dtype)}
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
            yield Case(f"{op}-{np.dtype(dtype)}", [node(op, "a b")], values)
        yield Case(f"BitwiseNot-{np.dtype(dtype)}", [node("BitwiseNot", "a")], {"a": values["a"]})
    for direction in ("LEFT", "RIGHT"):
        values = {"a": (np.abs(floats(33)) * 99).astype(np.uint32), "b": np.arange(33).astype(np.uint32) % 31}
        yield Case(f"BitShift-{direction}", [node("BitShift", "a b", direction=direction)], values)
    for dtype in (np.bool_, np.int64):
        values = {"a": np.arange(12) % 5 < 2, "b": np.arange(12) % 3 < 2}
        yield Case(f"Equal-{np.dtype(dtype)}", [node("Equal", "a b")], {k: v.astype(dtype) for k, v in values.items()})


def _positions() -> Iterator[Case]:
    for upper in (0, 1):
        for k in (-2, 0, 3):
            yield Case(
                f"Trilu-{upper}-{k}", [node("Trilu", "x k", upper=upper)], {"x": floats(2, 5, 9), "k": np.array(k)}
            )
    yield Case("Trilu", [node("Trilu", "x")], {"x": floats(6, 4)})
    yield Case("EyeLike", [node("EyeLike", "x", k=1)], {"x": floats(4, 19)})
    double = helper.np_dtype_to_tensor_dtype(np.dtype(np.float64))
    yield Case("EyeLike-double", [node("EyeLike", "x", k=-2, dtype=double)], {"x": floats(9, 5)})
    for axis in (-1, 0, 1):
        yield Case(
            f"OneHot-{axis}",
            [node("OneHot", "i d v", axis=axis)],
            {"i": np.array([[0, -1, 3], [7, 2, -9]]), "v": np.array([2, 5], np.float32)},
            {"d": np.array(4)},
        )
        yield Case(f"Hardmax-{axis}", [node("Hardmax", "x", axis=axis)], {"x": np.round(floats(5, 19))})
    for time in (0, 1):
        yield Case(
            f"ReverseSequence-{time}",
            [node("ReverseSequence", "x s", time_axis=time, batch_axis=1 - time)],
            {"x": floats(4, 4, 3), "s": np.array([1, 4, 2, 3])},
        )
    yield Case("Tile", [node("Tile", "x r")], {"x": floats(2, 3, 4)}, {"r": np.array([2, 1, 3])})
    yield Case("Tile-none", [node("Tile", "x r")], {"x": floats(2, 3)}, {"r": np.array([2, 0])})
    yield Case(
        "MaxUnpool",
        [
            node("MaxPool", "x", "p i", kernel_shape=[2, 2], strides=[2, 2]),
            node("MaxUnpool", "p i", kernel_shape=[2, 2], strides=[2, 2]),
        ],
        {"x": floats(2, 3, 6, 4)},
    )
    for attributes in ({}, {"pads": [1, 0, 1, 2]}, {"strides": [2, 1]}, {"dilations": [1, 2], "pads": [1, 1, 1, 1]}):
        sizes = [
            1
            + (9 + sum(attributes.get("pads", [0] * 4)[a::2]) - attributes.get("dilations", [1, 1])[a] * (w - 1) - 1)
            // attributes.get("strides", [1, 1])[a]
            for a, w in enumerate((3, 2))
        ]
        yield Case(
            f"Col2Im-{'-'.join(attributes)}",
            [node("Col2Im", "x s b", **attributes)],
            {"x": floats(2, 24, sizes[0] * sizes[1])},
            {"s": np.array([9, 9]), "b": np.array([3, 2])},
        )


def _sequences() -> Iterator[Case]:
    for exclusive in (0, 1):
        for reverse in (0, 1):
            for axis in (0, 1, -1):
                yield Case(
                    f"CumSum-{axis}-{exclusive}{reverse}",
                    [node("CumSum", "x a", exclusive=exclusive, reverse=reverse)],
                    {"x": floats(3, 5, 19)},
                    {"a": np.array(axis)},
                )
    yield Case("CumSum-int64", [node("CumSum", "x a")], {"x": np.arange(20).reshape(4, 5)}, {"a": np.array(0)})
    for axis in (None, 0, 1, -1):
        attributes = {} if axis is None else {"axis": axis}
        yield Case(
            f"Compress-{axis}",
            [node("Compress", "x c", **attributes)],
            {"x": floats(4, 4, 19), "c": np.array([True, False, True])},
        )
    yield Case("Det", [node("Det", "x")], {"x": floats(3, 2, 5, 5)})
    yield Case("Det-long-rows", [node("Det", "x")], {"x": floats(3, 21, 21) + 4 * np.eye(21, dtype=np.float32)})
    yield Case("Det-singular", [node("Det", "x")], {"x": np.ones((4, 3, 3), np.float32)})
    yield Case("Det-permuted", [node("Det", "x")], {"x": np.eye(4, dtype=np.float32)[[2, 0, 3, 1]]})


def _reductions() -> Iterator[Case]:
    for op in ("ReduceLogSum", "ReduceLogSumExp"):
        for axes in ([1], [0, 2], [-1]):
            for keep in (0, 1):
                x = {"x": np.abs(floats(4, 6, 9, scale=9)) * (20 if op == "ReduceLogSumExp" else 1)}
                yield Case(f"{op}-{axes}-{keep}", [node(op, "x a", keepdims=keep)], x, {"a": np.array(axes)})
    for op in ("ReduceMean", "ReduceSum", "ReduceProd", "ReduceL1", "ReduceSumSquare", "ReduceMin"):
        x = (floats(5, 19) * 3).astype(np.int32)
        yield Case(f"{op}-int32", [node(op, "x a")], {"x": np.abs(x) + 1}, {"a": np.array([1])})
    for op in ("ReduceMax", "ReduceMin"):
        x = {"x": floats(7, 19) > 1}
        yield Case(f"{op}-bool", [node(op, "x a", keepdims=0)], x, {"a": np.array([1])}, opset=20)
    yield Case("ReduceSum-empty", [node("ReduceSum", "x a")], {"x": floats(3, 0, 2)}, {"a": np.array([1])})
    yield Case("ReduceL1-none", [node("ReduceL1", "x", noop_with_empty_axes=1)], {"x": floats(3, 5)})
    for op in ("Softmax", "LogSoftmax"):
        for axis, dims in ((1, (2, 5, 3, 19)), (0, (7, 33)), (1, (3, 4, 2)), (2, (2, 3, 6, 17))):
            yield Case(f"{op}-across-{axis}-{dims}", [node(op, "x", axis=axis)], {"x": floats(*dims, scale=9)})


CASES = (*_functions(), *_powers(), *_bits(), *_positions(), *_sequences(), *_reductions())
