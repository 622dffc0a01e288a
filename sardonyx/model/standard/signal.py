"""Operators of signal processing that are tables of numbers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sardonyx.model.foreign.body import Body, Results
from sardonyx.model.standard.table import defines

_DOUBLE, _INT64 = ir.DataType.DOUBLE, ir.DataType.INT64


def _number(value: float) -> np.ndarray:
    return np.array(value, np.float64)


def _mel(b: Body, hertz: ir.Value) -> ir.Value:
    """2595 * log10(1 + f / 700)."""
    inner = b("Add", b("Div", b.cast(hertz, _DOUBLE), _number(700.0)), _number(1.0))
    return b("Mul", b("Log", inner), _number(2595.0 / np.log(10.0)))


@defines("MelWeightMatrix")
def mel_weight_matrix(b: Body) -> Results:
    """Triangles over the bins of a spectrum, evenly spaced by the mel scale: 0 at the centres before and after."""
    count, length, rate = (b.cast(b.input(index), _INT64) for index in range(3))
    low, high = (_mel(b, b.input(index)) for index in (3, 4))
    edges = b("Add", count, np.array(2))
    step = b("Div", b("Sub", high, low), b.cast(edges, _DOUBLE))
    mels = b("Add", b("Mul", b.cast(b("Range", np.array(0), edges, np.array(1)), _DOUBLE), step), low)
    hertz = b("Mul", b("Sub", b("Exp", b("Mul", mels, _number(np.log(10.0) / 2595.0))), _number(1.0)), _number(700.0))
    scaled = b("Mul", b.cast(b("Add", length, np.array(1)), _DOUBLE), hertz)
    bins = b("Floor", b("Div", scaled, b.cast(rate, _DOUBLE)))
    start, centre, end = (
        b("Slice", bins, [first], b("Reshape", b("Add", count, np.array(first)), [1]), [0]) for first in range(3)
    )
    size = b("Add", b("Div", length, np.array(2)), np.array(1))
    place = b("Unsqueeze", b.cast(b("Range", np.array(0), size, np.array(1)), _DOUBLE), [1])
    rise, fall = b("Sub", centre, start), b("Sub", end, centre)
    one, zero = _number(1.0), _number(0.0)
    sharp = b("Equal", rise, zero)
    up = b("Where", sharp, one, b("Div", b("Sub", place, start), b("Where", sharp, one, rise)))
    upwards = b("And", b("GreaterOrEqual", place, start), b("LessOrEqual", place, centre))
    down = b("Div", b("Sub", end, place), b("Where", b("Greater", fall, zero), fall, one))
    downwards = b("And", b("GreaterOrEqual", place, centre), b("Less", place, end))
    table = b("Where", downwards, down, b("Where", upwards, up, zero))
    return b.cast(table, ir.DataType(b.int("output_datatype", int(ir.DataType.FLOAT))))
