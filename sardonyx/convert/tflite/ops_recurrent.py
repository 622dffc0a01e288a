"""Recurrent layers over whole sequences.

A plain LSTM is ONNX's. One that ONNX's cannot be (a clipped cell state, a projection, normalised or coupled gates) is
a Scan over the equations of kernels/lstm_eval.cc. States are variables, which start at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from sardonyx.convert.tflite.emit import ACTIVATIONS, Array, Op, UnsupportedError, clip, constant_of
from sardonyx.convert.tflite.ops_math import note_hybrid

Rule = Callable[[Op], None]

EPSILON = 1e-8
"""Added to the variance of gates that are normalised."""


def numbers(op: Op, index: int) -> Array:
    """A constant's numbers as float32."""
    value = constant_of(op.need(index))
    q, array = value.quantization, value.array
    if array is None:
        raise UnsupportedError(f"its input {index} (weights) is computed; it must be a constant")
    if q is None:
        return array.astype(np.float32)
    shape = [-1 if axis == q.axis else 1 for axis in range(array.ndim)] if q.per_axis else []
    scale, zero = (np.asarray(part).reshape(shape) if q.per_axis else part[0] for part in (q.scale, q.zero_point))
    return ((array.astype(np.int64) - zero) * np.asarray(scale, np.float32)).astype(np.float32)


@dataclass(frozen=True)
class Places:
    """Where the operands of one direction lie among the inputs; layer normalisation has four more at `norms`."""

    weights: int
    hidden: int
    cell: int
    norms: int | None = None

    @property
    def recurrent(self) -> int:
        """The first of the recurrent weights."""
        return self.weights + 4

    @property
    def peepholes(self) -> int:
        """The first of the three peepholes."""
        return self.weights + 8

    @property
    def biases(self) -> int:
        """The first of the biases."""
        return self.weights + 11

    @property
    def projection(self) -> int:
        """The projection's weights; its bias is next."""
        return self.weights + 15


def _sequence(op: Op, time_major: bool) -> ir.Value:
    """The input as [time, batch, features]."""
    x = op.real(op.need(0))
    if op.rank(x) != 3:
        raise UnsupportedError("its input does not have three dims")
    return op.plain(x) if time_major else op.graph.transpose(op.plain(x), (1, 0, 2), name=f"{x.name}/time_major")


def _state(op: Op, index: int) -> ir.Value | None:
    """A state that does not start at zero, as [batch, units]; None for zeros."""
    value = op.need(index)
    if (
        value.array is not None
        and not (value.array != (value.quantization.zero_point[0] if value.quantization else 0)).any()
    ):
        return None
    return op.plain(op.real(value))


def _lstm(op: Op, x: ir.Value, places: Places, length: int | None, backward: bool) -> ir.Value:
    """[time, batch, units] of one direction."""
    w = places
    note_hybrid(op, 0, w.weights + 1)
    normalised = w.norms is not None and any(op.has(w.norms + i) for i in range(4))
    coupled = not op.has(w.weights)
    clipped = op.get("cell_clip", 0.0)
    # From a state of zero a cell grows by less than 1 a step, so short sequences never reach the limit.
    started = _state(op, w.cell) is not None
    reaches = clipped > 0 and (length is None or length > clipped or started)
    projected = op.has(w.projection)
    one_way = op.source.name == "UNIDIRECTIONAL_SEQUENCE_LSTM"  # whose options alone have these
    if one_way and op.get("diagonal_recurrent_tensors", False):
        raise UnsupportedError("diagonal recurrent weights are not supported")
    if normalised or coupled or reaches or projected or op.get("fused_activation_function", 4) != 4:
        return _scanned(op, x, w, normalised, coupled, backward)
    gates = (0, 3, 1, 2)  # ONNX: input, output, forget, cell; TFLite: input, forget, cell, output
    kernel = np.concatenate([numbers(op, w.weights + gate) for gate in gates])
    recurrent = np.concatenate([numbers(op, w.recurrent + gate) for gate in gates])
    units = recurrent.shape[1]
    biases = np.concatenate([_or_zeros(op, w.biases + gate, units) for gate in gates])
    biases = np.concatenate([biases, np.zeros_like(biases)])
    peepholes = None
    if op.has(w.peepholes + 1):
        parts = [_or_zeros(op, w.peepholes + place, units) for place in (0, 2, 1)]
        peepholes = op.const(np.concatenate(parts)[None], np.float32)
    states = [_state(op, index) for index in (w.hidden, w.cell)]
    if any(states):
        states = [op.node("Unsqueeze", [s, op.const([0])]) if s is not None else None for s in states]
    weights = [op.const(array[None], np.float32) for array in (kernel, recurrent, biases)]
    (y,) = op.nodes(
        "LSTM",
        [x, *weights, None, *states, peepholes],
        1,
        hidden_size=units,
        direction="reverse" if backward else "forward",
    )
    return op.node("Squeeze", [y, op.const([1])])


def _or_zeros(op: Op, index: int, size: int) -> Array:
    return numbers(op, index) if op.has(index) else np.zeros(size, np.float32)


def _scanned(op: Op, x: ir.Value, w: Places, normalised: bool, coupled: bool, backward: bool) -> ir.Value:
    gates = (1, 2, 3) if coupled else (0, 1, 2, 3)
    kernel = np.concatenate([numbers(op, w.weights + gate) for gate in gates])
    recurrent = np.concatenate([numbers(op, w.recurrent + gate) for gate in gates])
    cells, units = recurrent.shape[0] // len(gates), recurrent.shape[1]
    biases = np.concatenate([_or_zeros(op, w.biases + gate, cells) for gate in gates])
    given = op.node("MatMul", [x, op.const(kernel.T, np.float32)])
    if not normalised:
        given = op.node("Add", [given, op.const(biases, np.float32)])
    body = op.graph.body(f"{op.name}/step")
    inner = replace(op, graph=body)
    hidden, cell = (
        body.input(f"{op.name}/{name}", ir.DataType.FLOAT, [None, size]) for name, size in (("h", units), ("c", cells))
    )
    now = body.input(f"{op.name}/x", ir.DataType.FLOAT, [None, len(gates) * cells])
    total = inner.node("Add", [now, inner.node("MatMul", [hidden, inner.const(recurrent.T, np.float32)])])
    parts = dict(zip(gates, inner.nodes("Split", [total], len(gates), axis=-1, num_outputs=len(gates)), strict=True))

    def gate(index: int, peephole: int | None, state: ir.Value, act: Callable[[ir.Value], ir.Value]) -> ir.Value:
        value = parts[index]
        if peephole is not None and op.has(w.peepholes + peephole):
            eye = inner.const(numbers(op, w.peepholes + peephole), np.float32)
            value = inner.node("Add", [value, inner.node("Mul", [state, eye])])
        if normalised:
            value = _normalised(
                inner, value, numbers(op, (w.norms or 0) + index), _or_zeros(op, w.biases + index, cells)
            )
        return act(value)

    def sigmoid(value: ir.Value) -> ir.Value:
        return inner.node("Sigmoid", [value])

    def fused(value: ir.Value) -> ir.Value:
        return ACTIVATIONS[op.get("fused_activation_function", 4)](inner, value)

    forget, new = gate(1, 1, cell, sigmoid), gate(2, None, cell, fused)
    keep = inner.node("Sub", [inner.const(1, np.float32), forget]) if coupled else gate(0, 0, cell, sigmoid)
    state = inner.node("Add", [inner.node("Mul", [forget, cell]), inner.node("Mul", [keep, new])])
    if (limit := op.get("cell_clip", 0.0)) > 0:
        state = clip(inner, state, -limit, limit)
    result = inner.node("Mul", [gate(3, 2, state, sigmoid), fused(state)])
    if op.has(w.projection):
        result = inner.node("MatMul", [result, inner.const(numbers(op, w.projection).T, np.float32)])
        if op.has(w.projection + 1):
            result = inner.node("Add", [result, inner.const(numbers(op, w.projection + 1), np.float32)])
        if (limit := op.get("proj_clip", 0.0)) > 0:
            result = clip(inner, result, -limit, limit)
    op.scratch = inner.scratch
    batch = op.node("Shape", [x], start=1, end=2)
    starts = []
    for index, size in ((w.hidden, units), (w.cell, cells)):
        start = _state(op, index)
        shape = op.node("Concat", [batch, op.const([size])], axis=0)
        starts.append(start if start is not None else op.node("Expand", [op.const(0, np.float32), shape]))
    way = [int(backward)]
    outputs = op.nodes(
        "Scan", [*starts, given], 3, body=body.graph([result, state, result]), num_scan_inputs=1,
        scan_input_directions=way, scan_output_directions=way,
    )  # fmt: skip
    return outputs[2]


def _normalised(op: Op, value: ir.Value, scale: Array, shift: Array) -> ir.Value:
    parts = [op.const(scale, np.float32), op.const(shift, np.float32)]
    return op.node("LayerNormalization", [value, *parts], axis=-1, epsilon=EPSILON)


def _rnn(op: Op, x: ir.Value, first: int, backward: bool) -> ir.Value:
    """Operands from `first` on: weights, recurrent weights, bias, state."""
    names = {1: "Relu", 4: "Tanh"}
    note_hybrid(op, 0, first)
    code = op.get("fused_activation_function", 0)
    if code not in names:
        raise UnsupportedError(f"its activation {code} is not supported")
    kernel, recurrent, shift = (numbers(op, first + i) for i in range(3))
    state = _state(op, first + 3)
    state = state if state is None else op.node("Unsqueeze", [state, op.const([0])])
    both = np.concatenate([shift, np.zeros_like(shift)])[None]
    (y,) = op.nodes(
        "RNN", [x, *(op.const(a, np.float32) for a in (kernel[None], recurrent[None], both)), None, state], 1,
        hidden_size=len(shift), activations=[names[code]], direction="reverse" if backward else "forward",
    )  # fmt: skip
    return op.node("Squeeze", [y, op.const([1])])


def _give(op: Op, value: ir.Value, time_major: bool, index: int = 0) -> None:
    op.give(value if time_major else op.node("Transpose", [value], perm=[1, 0, 2]), index)


def _length(op: Op, time_major: bool) -> int | None:
    dims = op.need(0).dims or (None,) * 3
    return dims[0 if time_major else 1]


def _unidirectional_lstm(op: Op) -> None:
    major = bool(op.get("time_major", False))
    places = Places(weights=1, hidden=18, cell=19, norms=20)
    _give(op, _lstm(op, _sequence(op, major), places, _length(op, major), False), major)


def _bidirectional_lstm(op: Op) -> None:
    if op.has(39):
        raise UnsupportedError("an auxiliary input is not supported")
    major = bool(op.get("time_major", True))
    x, length = _sequence(op, major), _length(op, major)
    ways = [Places(weights=1, hidden=35, cell=36), Places(weights=18, hidden=37, cell=38)]
    _both(op, [_lstm(op, x, places, length, bool(back)) for back, places in enumerate(ways)], major)


def _unidirectional_rnn(op: Op) -> None:
    major = bool(op.get("time_major", False))
    _give(op, _rnn(op, _sequence(op, major), 1, False), major)


def _bidirectional_rnn(op: Op) -> None:
    if op.has(9):
        raise UnsupportedError("an auxiliary input is not supported")
    major = bool(op.get("time_major", False))
    x = _sequence(op, major)
    _both(op, [_rnn(op, x, 1, False), _rnn(op, x, 5, True)], major)


def _both(op: Op, ways: list[ir.Value], major: bool) -> None:
    if op.get("merge_outputs", False):
        _give(op, op.node("Concat", ways, axis=-1), major)
    else:
        for index, way in enumerate(ways):
            _give(op, way, major, index)


RECURRENT: Mapping[str, Rule] = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _unidirectional_lstm, "BIDIRECTIONAL_SEQUENCE_LSTM": _bidirectional_lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _unidirectional_rnn, "BIDIRECTIONAL_SEQUENCE_RNN": _bidirectional_rnn,
}  # fmt: skip
"""Rules by operator."""
