"""The operator cases of one node again, in narrow floats where the standard has the operator in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
from onnx import defs

from tests.suites.case import Array, Case, floats, node
from tests.suites.operators import CASES

NAMES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
PER_OPERATOR = {"float16": 3, "bfloat16": 1}
"""Cases of each operator that are taken, the first ones."""


def _more() -> Iterator[Case]:
    """Operators whose cases above are of an older form, of several nodes, or of more than one result."""
    x, channels, image = floats(3, 17), {"s": floats(4), "b": floats(4), "m": floats(4)}, floats(2, 4, 6, 5)
    inputs = {"x": image}
    yield Case("BatchNormalization", [node("BatchNormalization", "x s b m v")], inputs, {**channels, "v": _POSITIVE})
    yield Case("Celu", [node("Celu", "x", alpha=0.7)], {"x": x}, opset=28)
    yield Case("ConvTranspose", [node("ConvTranspose", "x w", strides=[2, 2])], inputs, {"w": floats(4, 3, 3, 3)})
    yield Case("CumProd", [node("CumProd", "x a")], {"x": x}, {"a": np.array(1)}, opset=28)
    yield Case("Dropout", [node("Dropout", "x")], {"x": x})
    yield Case("Expand", [node("Expand", "x d")], {"x": x}, {"d": np.array([2, 3, 17])})
    yield Case("Flatten", [node("Flatten", "x")], inputs)
    places = np.arange(12).reshape(1, 1, 3, 4) * 4
    yield Case(
        "MaxUnpool",
        [node("MaxUnpool", "x i", kernel_shape=[2, 2], strides=[2, 2])],
        {"x": floats(1, 1, 3, 4), "i": places},
    )
    yield Case("Split", [node("Split", "x", "y z", axis=1, num_outputs=2)], {"x": x})
    yield Case("Squeeze", [node("Squeeze", "x")], {"x": floats(3, 1, 5)})
    yield Case("Unsqueeze", [node("Unsqueeze", "x a")], {"x": x}, {"a": np.array([1])})
    yield Case("Sum", [node("Sum", "x y1 z")], {"x": x, "y1": floats(17), "z": floats(3, 1)})
    yield Case("Swish", [node("Swish", "x")], {"x": x}, opset=24)
    cache = {"x": floats(2, 6, 8), "u": floats(2, 2, 8), "i": np.array([1, 3])}
    yield Case("TensorScatter", [node("TensorScatter", "x u i", axis=1)], cache, opset=24)
    yield Case("Unique", [node("Unique", "x")], {"x": np.array([3, 1, 2, 1, 3, 0.5], np.float32)}, opset=28)
    chosen = {"c": np.array([True, False, True])}
    yield Case("Compress", [node("Compress", "x c", axis=1)], {"x": floats(2, 3)}, chosen, opset=28)
    lengths = {"x": floats(4, 3, 2), "l": np.array([1, 4, 2])}
    yield Case("ReverseSequence", [node("ReverseSequence", "x l")], lengths, opset=28)
    yield Case("DFT", [node("DFT", "x")], {"x": floats(2, 16, 1)}, opset=20)
    yield Case("STFT", [node("STFT", "x n w")], {"x": floats(1, 40, 1)}, {"n": np.array(8), "w": floats(16)}, opset=17)
    regions = {"r": np.array([[0, 0, 0, 3, 4], [1, 1, 1, 4, 5]], np.float32)}
    yield Case("MaxRoiPool", [node("MaxRoiPool", "x r", pooled_shape=[2, 2])], inputs, regions, opset=22)
    yield Case("SwiGLU", [node("SwiGLU", "x u")], {"x": x, "u": floats(3, 17)}, opset=28)
    yield Case("Einsum", [node("Einsum", "x w", equation="ij,jk->ki")], {"x": x, "w": floats(17, 5)}, opset=28)


_POSITIVE = np.abs(floats(4)) + np.float32(0.5)
_MORE = tuple(_more())


def allows(case: Case, name: str) -> bool:
    """Whether the standard has the case's node in a type wherever it has a float32."""
    (node,) = case.nodes
    try:
        schema = defs.get_schema(node.op_type, {"": case.opset, **case.domains}[node.domain], node.domain)
    except (KeyError, defs.SchemaError):
        return False
    given = {**case.feeds, **case.weights}
    last = len(schema.inputs) - 1
    return all(
        f"tensor({name})" in schema.inputs[min(index, last)].types
        for index, read in enumerate(node.input)
        if read and given[read].dtype == np.float32
    )


def _narrowed(arrays: Mapping[str, Array], dtype: np.dtype) -> dict[str, Array]:
    with np.errstate(over="ignore"):  # of types without an infinity
        return {name: array.astype(dtype) if array.dtype == np.float32 else array for name, array in arrays.items()}


def widened(case: Case) -> Case:
    """The case with the same numbers as float32."""

    def wide(arrays: Mapping[str, Array]) -> dict[str, Array]:
        narrow = NAMES.values()
        return {name: array.astype(np.float32) if array.dtype in narrow else array for name, array in arrays.items()}

    return replace(case, feeds=wide(case.feeds), weights=wide(case.weights))


def cases(name: str) -> Iterator[Case]:
    """Of each operator some in the type; `opset` is the newest where the case's own lacks the type."""
    taken: Counter[str] = Counter()
    newest = defs.onnx_opset_version()
    for case in (*CASES, *_MORE):
        arrays = [*case.feeds.values(), *case.weights.values()]
        if len(case.nodes) != 1 or case.nodes[0].domain or not any(array.dtype == np.float32 for array in arrays):
            continue
        key = case.nodes[0].op_type
        if key in ("Cast", "BitCast", "RandomNormal") or taken[key] >= PER_OPERATOR[name]:
            continue
        chosen = case if allows(case, name) or _older(case) else replace(case, opset=newest)
        if allows(chosen, name):
            taken[key] += 1
            dtype = NAMES[name]
            yield replace(chosen, feeds=_narrowed(case.feeds, dtype), weights=_narrowed(case.weights, dtype))


def _older(case: Case) -> bool:
    """Whether the case is about a form that the newest opset may not have."""
    return case.opset < 13 or any(attribute.type == onnx.AttributeProto.TENSOR for attribute in case.nodes[0].attribute)
