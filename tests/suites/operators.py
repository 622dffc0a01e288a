"""Operator cases, written once and run on every provider: the smallest models that exercise a kernel's corners.

Families with many cases have files of their own, which end up in `CASES` here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import helper

from tests.suites import (
    attention,
    copies,
    indexing,
    linear,
    mathematics,
    normalization,
    padding,
    pooling,
    recurrent,
    selection,
    spatial,
    trees,
)
from tests.suites.case import Case, floats, node

__all__ = ["CASES", "Case", "floats", "node"]


def _elementwise() -> Iterator[Case]:
    for op in [
        "Abs",
        "Ceil",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "Neg",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Softplus",
        "Softsign",
        "Tanh",
        "Gelu",
    ]:
        yield Case(op, [node(op, "x")], {"x": floats(3, 41, scale=4)})
    for op in ("Sqrt", "Log"):
        yield Case(op, [node(op, "x")], {"x": np.abs(floats(3, 41)) + np.float32(1e-3)})
    yield Case("Gelu-tanh", [node("Gelu", "x", approximate="tanh")], {"x": floats(70)})
    yield Case("Relu-special", [node("Relu", "x")], {"x": np.array([np.nan, np.inf, -np.inf, -0.0, 1], np.float32)})
    shapes = [
        ((3, 5, 7), (5, 1)),
        ((3, 5, 7), (1,)),
        ((4, 1), (1, 9)),
        ((2, 3, 4, 5), (3, 1, 1)),
        ((0, 3), (3,)),
    ]
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"):
        for a, b in shapes if op != "PRelu" else shapes[:2]:
            yield Case(f"{op}-{a}-{b}", [node(op, "a b")], {"a": floats(*a), "b": floats(*b) + np.float32(3)})
    for dtype in (np.int64, np.int32, np.float64):
        values = {"a": (floats(6, 7) * 9).astype(dtype), "b": (floats(7) * 9).astype(dtype)}
        yield Case(f"Mul-{np.dtype(dtype)}", [node("Mul", "a b")], values)
    for op in ("Less", "Greater", "GreaterOrEqual", "LessOrEqual", "Equal"):
        values = {"a": np.round(floats(5, 6)), "b": np.round(floats(6))}
        yield Case(op, [node(op, "a b")], values)
    yield Case(
        "Where",
        [node("Greater", "a z", "c"), node("Where", "c a b")],
        {"a": floats(9, 3), "b": floats(3)},
        {"z": np.float32(0)},
    )
    yield Case(
        "Not-And",
        [node("Greater", "a z", "c"), node("Not", "c", "n"), node("And", "c n", "m"), node("Or", "m c")],
        {"a": floats(33)},
        {"z": np.float32(0)},
    )
    for low, high in (("l", "h"), ("_", "h"), ("l", "_")):
        yield Case(
            f"Clip-{low}{high}",
            [node("Clip", f"x {low} {high}")],
            {"x": floats(10, 7)},
            {"l": np.float32(-0.3), "h": np.float32(0.5)},
        )
    yield Case("Clip-6", [node("Clip", "x", min=-0.5, max=0.5)], {"x": floats(10, 7)}, opset=10)
    for to in (np.int64, np.int32, np.float64, np.bool_, np.uint8):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(to))
        yield Case(f"Cast-{np.dtype(to)}", [node("Cast", "x", to=kind)], {"x": np.abs(floats(41, scale=20))})
    yield Case(
        "chain",
        [
            node("Mul", "x a", "m"),
            node("Add", "m b", "s"),
            node("Sigmoid", "s", "g"),
            node("Mul", "s g", "w"),
            node("Add", "w x"),
        ],
        {"x": floats(2, 6, 5, 5)},
        {"a": floats(6, 1, 1), "b": floats(6, 1, 1)},
    )
    yield Case(
        "diamond-two-outputs-used",
        [node("Exp", "x", "e"), node("Neg", "e", "n"), node("Concat", "e n", axis=0)],
        {"x": floats(4, 5)},
    )


def _convolutions() -> Iterator[Case]:
    shapes = [
        # channels, filters, window, stride, pad, dilation, group, size
        (3, 8, 3, 1, 1, 1, 1, 9),
        (16, 24, 3, 2, 1, 1, 1, 11),
        (8, 8, 3, 1, 1, 1, 8, 10),
        (24, 24, 5, 2, 2, 1, 24, 13),
        (7, 7, 3, 1, 2, 2, 7, 9),
        (12, 18, 3, 1, 2, 2, 3, 9),
        (4, 8, 3, 1, 1, 1, 4, 6),
        (32, 40, 1, 1, 0, 1, 1, 7),
        (9, 70, 1, 2, 0, 1, 1, 8),
        (1, 8, 3, 1, 0, 1, 1, 12),
        (5, 1, 7, 1, 3, 1, 1, 5),
        (6, 33, 2, 3, 0, 1, 1, 17),
        (3, 20, 3, 2, 1, 2, 1, 14),
        (2, 9, 7, 2, 3, 1, 1, 16),
        (4, 24, 9, 1, 0, 1, 1, 12),
        (32, 3, 9, 1, 4, 1, 1, 13),
        (64, 1, 1, 1, 0, 1, 1, 9),
        (16, 2, 3, 2, 1, 1, 1, 8),
        (48, 4, 3, 1, 2, 2, 1, 7),
    ]
    for c, o, t, s, p, d, g, h in shapes:
        attributes = {"strides": [s, s], "pads": [p] * 4, "dilations": [d, d], "group": g}
        yield Case(
            f"Conv-{c}-{o}-{t}-{s}-{p}-{d}-{g}",
            [node("Conv", "x w b", **attributes)],
            {"x": floats(2, c, h, h + 1)},
            {"w": floats(o, c // g, t, t), "b": floats(o)},
        )
    image = {"x": floats(1, 6, 9, 8)}
    yield Case(
        "Conv-asymmetric",
        [node("Conv", "x w", pads=[0, 2, 1, 0], strides=[2, 1])],
        image,
        {"w": floats(5, 6, 3, 2)},
    )
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield Case(
            f"Conv-{auto}",
            [node("Conv", "x w", auto_pad=auto, strides=[2, 2])],
            image,
            {"w": floats(5, 6, 3, 3)},
        )
    yield Case("Conv-1d", [node("Conv", "x w", pads=[2, 2])], {"x": floats(2, 6, 15)}, {"w": floats(9, 6, 5)})
    yield Case(
        "Conv-3d",
        [node("Conv", "x w", pads=[1] * 6, strides=[1, 2, 1])],
        {"x": floats(1, 6, 5, 6, 7)},
        {"w": floats(9, 6, 3, 3, 3)},
    )
    planes = {"x": floats(2, 3, 4, 7, 8)}
    yield Case("Conv-3d-planes", [node("Conv", "x w", pads=[1, 0, 2, 1, 1, 0])], planes, {"w": floats(9, 3, 3, 2, 3)})
    yield Case("Conv-1d-planes", [node("Conv", "x w", pads=[2, 1])], {"x": floats(2, 4, 15)}, {"w": floats(9, 4, 5)})
    yield Case(
        "Conv-few-filters",
        [node("Conv", "x w b", "c", pads=[1, 1, 0, 2]), node("Tanh", "c", "t"), node("Mul", "t s")],
        {"x": floats(2, 16, 7, 9), "s": floats(2, 3, 6, 10)},
        {"w": floats(3, 16, 3, 3), "b": floats(3)},
    )
    yield Case("Conv-weights-fed", [node("Conv", "x w", pads=[1] * 4)], {**image, "w": floats(9, 6, 3, 3)})
    for stride in (1, 2, 3):
        window = {"group": 6, "pads": [1, 2, 1, 0], "strides": [1, stride], "dilations": [2, 1]}
        wide, taps = {"x": floats(2, 6, 7, 61)}, {"w": floats(6, 1, 3, 3), "b": floats(6)}
        yield Case(f"Conv-depthwise-planes-{stride}", [node("Conv", "x w b", **window)], wide, taps)
        behind = [node("Conv", "x w b", "c", **window), node("Relu", "c", "r"), node("Mul", "r s")]
        each = {**wide, "s": floats(2, 6, 1, 1)}
        yield Case(f"Conv-depthwise-planes-{stride}-scaled", behind, each, taps)
    line, cube = {"x": floats(2, 5, 40)}, {"x": floats(1, 4, 3, 5, 18)}
    yield Case("Conv-depthwise-planes-1d", [node("Conv", "x w", group=5, pads=[2, 2])], line, {"w": floats(5, 1, 5)})
    filters = {"w": floats(4, 1, 2, 3, 2)}
    yield Case("Conv-depthwise-planes-3d", [node("Conv", "x w", group=4, pads=[1] * 6)], cube, filters)
    yield Case("Conv-depthwise-fed", [node("Conv", "x w", group=6)], {**image, "w": floats(6, 1, 3, 3)})
    yield Case(
        "Conv-swish",
        [node("Conv", "x w b", "c", pads=[1] * 4), node("Sigmoid", "c", "s"), node("Mul", "c s")],
        image,
        {"w": floats(9, 6, 3, 3), "b": floats(9)},
    )
    yield Case(
        "Conv-residual",
        [
            node("Conv", "x w", "c", pads=[1] * 4),
            node("Relu", "c", "r"),
            node("Conv", "r v", "d", pads=[1] * 4),
            node("Add", "d x", "a"),
            node("Relu", "a"),
        ],
        image,
        {"w": floats(6, 6, 3, 3), "v": floats(6, 6, 3, 3)},
    )
    yield Case(
        "Conv-grouped-epilogue",
        [node("Conv", "x w", "c", group=2), node("Mul", "c s")],
        image,
        {"w": floats(10, 3, 1, 1), "s": floats(10, 1, 1)},
    )
    yield Case(
        "Conv-scaled-per-image",
        [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "g"), node("Mul", "c g")],
        {"x": floats(3, 6, 5, 5)},
        {"w": floats(7, 6, 1, 1)},
    )
    yield Case(
        "Conv-intermediate-escapes",
        [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Concat", "c r", axis=1)],
        image,
        {"w": floats(7, 6, 1, 1)},
    )


def _pools() -> Iterator[Case]:
    image = {"x": floats(2, 11, 10, 12)}
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    for op, more in (
        ("MaxPool", {}),
        ("AveragePool", {}),
        ("AveragePool", {"count_include_pad": 1}),
        ("MaxPool", {"ceil_mode": 1}),
        ("AveragePool", {"ceil_mode": 1}),
        ("AveragePool", {"ceil_mode": 1, "count_include_pad": 1}),
        ("MaxPool", {"dilations": [2, 2]}),
        ("AveragePool", {"dilations": [2, 2]}),
    ):
        yield Case(f"{op}-{'-'.join(more)}", [node(op, "x", **window, **more)], image)
    yield Case("MaxPool-1d", [node("MaxPool", "x", kernel_shape=[4], strides=[3])], {"x": floats(2, 5, 16)})
    yield Case("AveragePool-3d", [node("AveragePool", "x", kernel_shape=[2, 3, 2])], {"x": floats(1, 9, 5, 6, 4)})
    yield Case(
        "MaxPool-infinite",
        [node("MaxPool", "x", kernel_shape=[2])],
        {"x": np.array([[[1, -np.inf, 3, np.inf, 2]]], np.float32)},
    )
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        yield Case(op, [node(op, "x")], image)
        yield Case(f"{op}-after-conv", [node("Conv", "x w", "c"), node(op, "c")], image, {"w": floats(13, 11, 1, 1)})


def _reductions() -> Iterator[Case]:
    for op in (
        "ReduceMean",
        "ReduceSum",
        "ReduceMax",
        "ReduceMin",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceProd",
    ):
        yield Case(op, [node(op, "x a", keepdims=0)], {"x": floats(4, 6, 9)}, {"a": np.array([2])})
    for axes in ([0], [1], [-1], [0, 2], [1, 2], [0, 1, 2]):
        for keep in (0, 1):
            yield Case(
                f"ReduceMean-{axes}-{keep}",
                [node("ReduceMean", "x a", keepdims=keep)],
                {"x": floats(4, 6, 9)},
                {"a": np.array(axes)},
            )
    yield Case("ReduceSum-all", [node("ReduceSum", "x")], {"x": floats(4, 6, 9)})
    yield Case("ReduceSum-13", [node("ReduceMax", "x", axes=[1])], {"x": floats(4, 6, 9)}, opset=12)
    yield Case(
        "ReduceMax-int",
        [node("ReduceMax", "x a")],
        {"x": (floats(4, 19) * 99).astype(np.int32)},
        {"a": np.array([1])},
    )
    for axis in (0, 1, 2):
        yield Case(f"Softmax-{axis}", [node("Softmax", "x", axis=axis)], {"x": floats(2, 6, 19, scale=9)})
    yield Case("LogSoftmax", [node("LogSoftmax", "x")], {"x": floats(5, 33, scale=20)})
    yield Case("Softmax-11", [node("Softmax", "x", axis=1)], {"x": floats(3, 4, 5)}, opset=11)
    yield Case(
        "BatchNormalization",
        [node("BatchNormalization", "x s b m v", "n"), node("Relu", "n")],
        {"x": floats(2, 7, 4, 5)},
        {"s": floats(7), "b": floats(7), "m": floats(7), "v": np.abs(floats(7)) + np.float32(0.1)},
    )


def _shapes() -> Iterator[Case]:
    x = {"x": floats(4, 6, 9)}
    yield Case("Transpose", [node("Transpose", "x", "t", perm=[2, 0, 1]), node("Exp", "t")], x)
    yield Case("Transpose-default", [node("Transpose", "x")], x)
    yield Case("Reshape", [node("Reshape", "x s")], x, {"s": np.array([0, -1, 3])})
    yield Case(
        "Reshape-transposed",
        [node("Transpose", "x", "t", perm=[2, 0, 1]), node("Reshape", "t s")],
        x,
        {"s": np.array([9, 24])},
    )
    yield Case(
        "Flatten-image",
        [node("Conv", "i w", "c"), node("Flatten", "c")],
        {"i": floats(2, 3, 4, 5)},
        {"w": floats(6, 3, 2, 2)},
    )
    yield Case(
        "Squeeze",
        [node("Unsqueeze", "x a", "u"), node("Squeeze", "u b")],
        x,
        {"a": np.array([0, -1]), "b": np.array([0])},
    )
    yield Case("Concat", [node("Concat", "x z", axis=1)], {**x, "z": floats(4, 2, 9)})
    yield Case(
        "Concat-channels",
        [node("Conv", "i w", "c"), node("Concat", "c i", axis=1)],
        {"i": floats(2, 3, 4, 5)},
        {"w": floats(6, 3, 1, 1)},
    )
    yield Case(
        "Split",
        [node("Split", "x s", "a b", axis=1), node("Concat", "b a", axis=1)],
        x,
        {"s": np.array([2, 4])},
    )
    yield Case(
        "Slice",
        [node("Slice", "x s e a t")],
        x,
        {"s": np.array([-1, 1]), "e": np.array([-100, 8]), "a": np.array([1, 2]), "t": np.array([-2, 3])},
    )
    yield Case("Pad", [node("Pad", "x p v")], x, {"p": np.array([1, 0, 2, 0, -1, 3]), "v": np.float32(7)})
    yield Case(
        "Expand",
        [node("Expand", "x s", "e"), node("Neg", "e")],
        {"x": floats(4, 1, 9)},
        {"s": np.array([2, 1, 5, 1])},
    )
    yield Case(
        "Shape-arithmetic",
        [
            node("Shape", "x", "h"),
            node("Gather", "h i", "g"),
            node("Unsqueeze", "g a", "u"),
            node("Concat", "u m", "s", axis=0),
            node("Reshape", "x s"),
        ],
        x,
        {"i": np.array(1), "a": np.array([0]), "m": np.array([-1])},
    )
    yield Case("Identity", [node("Identity", "x")], x)
    yield Case("Dropout", [node("Dropout", "x", "d"), node("Relu", "d")], x)


CASES: tuple[Case, ...] = (
    *_elementwise(),
    *_convolutions(),
    *_pools(),
    *_reductions(),
    *_shapes(),
    *copies.CASES,
    *attention.CASES,
    *indexing.CASES,
    *linear.CASES,
    *mathematics.CASES,
    *normalization.CASES,
    *padding.CASES,
    *pooling.CASES,
    *recurrent.CASES,
    *selection.CASES,
    *spatial.CASES,
    *trees.CASES,
)
