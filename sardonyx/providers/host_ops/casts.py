"""Cast to and from strings: numbers as text and text as numbers, as ONNX words it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.providers.host_ops.table import Array, Run, host, texts

if TYPE_CHECKING:
    import onnx_ir as ir

_DIGITS = {"float16": 5, "float32": 8, "float64": 17}
"""Significant digits of a float as text (C's %g), as onnxruntime writes them."""


def _has_strings(node: ir.Node) -> str | None:
    values = (node.inputs[0], node.outputs[0])
    found = any(value is not None and value.dtype is not None and value.dtype.name == "STRING" for value in values)
    return None if found or node.attributes.get_int("to", 0) == 8 else "no strings to cast"


@host("Cast", takes=_has_strings)
def cast(node: ir.Node) -> Run:
    """To text, or from it: numbers plain or scientific, INF, -INF and NaN of either case."""
    import onnx_ir as ir

    target = ir.DataType(node.attributes.get_int("to"))
    return lambda x: _cast(x, target)


@host("CastLike", takes=_has_strings)
def cast_like(node: ir.Node) -> Run:
    """`cast` to the type of the second input."""
    import onnx_ir as ir

    def run(x: Array, like: Array) -> Array:
        strings = like.dtype.kind == "O"
        return _cast(x, ir.DataType.STRING if strings else ir.DataType.from_numpy(like.dtype))

    return run


def _cast(x: Array, target: ir.DataType) -> Array:
    if target.name == "STRING":
        return x.copy() if x.dtype.kind == "O" else _written(x)
    if x.dtype.kind != "O":
        return x.astype(target.numpy())
    return _read(x, target.numpy())


def _written(x: Array) -> Array:
    """Each number as text."""
    if x.dtype.kind == "b":
        return texts(("1" if item else "0" for item in x.ravel().tolist()), x.shape)
    if x.dtype.kind in "iu":
        return texts(map(str, x.ravel().tolist()), x.shape)
    digits = _DIGITS.get(x.dtype.name, 8)
    wide = x.astype(np.float64) if x.dtype.kind != "c" else x
    return texts((_float_text(item, digits) for item in wide.ravel().tolist()), x.shape)


def _float_text(value: Any, digits: int) -> str:
    if isinstance(value, complex):
        return str(value)
    if value != value:  # noqa: PLR0124 - that is NaN
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "INF" if value > 0 else "-INF"
    return f"{value:.{digits}g}"


def _read(x: Array, dtype: np.dtype[Any]) -> Array:
    """Each text as a number; ValueError for one that is none."""
    items = x.ravel().tolist()
    if dtype.kind == "b":
        return np.array([_truth(item) for item in items], np.bool_).reshape(x.shape)
    if dtype.kind in "iu":
        made = np.array([_whole(item) for item in items], object)
        limits = np.iinfo(dtype)
        if made.size and not (limits.min <= made.min() and made.max() <= limits.max):
            raise ValueError(f"a number beyond {dtype}")
        return made.astype(dtype).reshape(x.shape)
    with np.errstate(over="ignore"):
        return np.array([float(item) for item in items], np.float64).astype(dtype).reshape(x.shape)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return int(float(text))  # as 1.5e3


def _truth(text: str) -> bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return float(text) != 0
