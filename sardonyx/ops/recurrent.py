"""Recurrent layers: LSTM, GRU and RNN.

The inputs of all times go through one product; what remains is a chain of small products, one kernel for all of it
(`kernels/rnn.py`). Threads share it by direction and by rows of the batch, which do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sardonyx.compiler.dims import least
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.expr import Expr, ExprBuilder, identity
from sardonyx.compiler.fuse import Fusion
from sardonyx.compiler.kernels.rnn import GRU, GRU_AFTER, LSTM, RNN, Cell, Recurrence, pack_gates, tile_for
from sardonyx.compiler.layout import uniform_stride
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.compiler.rounds import WORDS
from sardonyx.errors import InvalidModelError
from sardonyx.ops.linear import multiply
from sardonyx.ops.table import FLOATS, lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering

_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
_WORTH_SHARING = 1 << 15
"""Multiply-adds of one time of one sequence from which threads share it: a guess of what meeting costs."""

_Activation = Callable[[ExprBuilder, int, float, float], int]


def _scaled(e: ExprBuilder, x: int, factor: float) -> int:
    return e.op("mul", e.const(factor, e.dtype(x)), x)


def _shifted(e: ExprBuilder, x: int, number: float) -> int:
    return e.op("add", x, e.const(number, e.dtype(x)))


def _unless(e: ExprBuilder, x: int, limit: float, other: int) -> int:
    """`other` where x < limit, else x."""
    return e.op("select", e.op("less", x, e.const(limit, e.dtype(x)), dtype=DType.BOOL), other, x)


def _hard_sigmoid(e: ExprBuilder, x: int, alpha: float, beta: float) -> int:
    dtype = e.dtype(x)
    return e.op("clip", _shifted(e, _scaled(e, x, alpha), beta), e.const(0.0, dtype), e.const(1.0, dtype))


def _softplus(e: ExprBuilder, x: int) -> int:
    """max(x, 0) + log(1 + e ** -|x|), which never overflows."""
    tail = e.op("exp", e.op("neg", e.op("abs", x)))
    return e.op("add", e.op("relu", x), e.op("log", _shifted(e, tail, 1.0)))


_ACTIVATIONS: Mapping[str, tuple[_Activation, float | None, float | None]] = {
    "relu": (lambda e, x, a, b: e.op("relu", x), None, None),
    "tanh": (lambda e, x, a, b: e.op("tanh", x), None, None),
    "sigmoid": (lambda e, x, a, b: e.op("sigmoid", x), None, None),
    "softsign": (lambda e, x, a, b: e.op("div", x, _shifted(e, e.op("abs", x), 1.0)), None, None),
    "softplus": (lambda e, x, a, b: _softplus(e, x), None, None),
    "affine": (lambda e, x, a, b: _shifted(e, _scaled(e, x, a), b), 1.0, 0.0),
    "leakyrelu": (lambda e, x, a, b: _unless(e, x, 0.0, _scaled(e, x, a)), 0.01, None),
    "thresholdedrelu": (lambda e, x, a, b: _unless(e, x, a, e.const(0.0, e.dtype(x))), 1.0, None),
    "scaledtanh": (lambda e, x, a, b: _scaled(e, e.op("tanh", _scaled(e, x, b)), a), 1.0, 1.0),
    "hardsigmoid": (_hard_sigmoid, 0.2, 0.5),
    "elu": (lambda e, x, a, b: _unless(e, x, 0.0, _scaled(e, _shifted(e, e.op("exp", x), -1.0), a)), 1.0, None),
}
"""What each does, and the defaults of alpha and beta; None where it has none."""

_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


@dataclass(frozen=True)
class _Layer:
    """A node's attributes, and the dims of its tensors."""

    cell: Cell
    directions: int
    hidden: int
    inputs: int
    steps: int
    batch: int
    batch_first: bool
    dtype: DType


def _names(node: ir.Node) -> list[str]:
    """The activation functions of all directions."""
    directions = _DIRECTIONS.get(node.attributes.get_string("direction", "forward"), 1)
    default = _DEFAULTS[node.op_type] * directions
    given = node.attributes.get("activations")
    return [str(name) for name in given.as_strings()] if given is not None else list(default)


def _form(node: ir.Node) -> str | None:
    unknown = [name for name in _names(node) if name.lower() not in _ACTIVATIONS]
    return f"the activation function {unknown[0]}" if unknown else None


def _invalid(node: ir.Node, what: str, expected: object, got: object) -> InvalidModelError:
    return InvalidModelError(what, where=node.name or node.op_type, expected=str(expected), got=str(got))


def _activations(node: ir.Node, layer: _Layer) -> list[tuple[Expr, ...]]:
    """The functions of each direction, what bounds their inputs (`clip`) included: those of the gates, that is, for no
    runtime bounds what an LSTM's last function is given.
    """
    names, dtype, each = _names(node), layer.dtype, layer.cell.activations
    if len(names) != each * layer.directions:
        raise _invalid(node, "the number of activations is wrong", each * layer.directions, len(names))
    numbers: dict[str, list[float]] = {}
    for kind in ("activation_alpha", "activation_beta"):
        given = node.attributes.get(kind)
        numbers[kind] = list(given.as_floats()) if given is not None else []
    clip = node.attributes.get_float("clip", None)
    if clip is not None and not clip >= 0.0:
        raise _invalid(node, "a negative clip", "a threshold", clip)
    made = []
    for index, name in enumerate(names):
        function, *defaults = _ACTIVATIONS[name.lower()]
        # Each takes the next number of the list, if it has such a number at all.
        alpha, beta = (
            0.0 if default is None else numbers[kind].pop(0) if numbers[kind] else default
            for kind, default in zip(("activation_alpha", "activation_beta"), defaults, strict=True)
        )
        e = ExprBuilder()
        x = e.leaf(dtype)
        if clip is not None and index % each != 2:
            x = e.op("clip", x, e.const(-clip, dtype), e.const(clip, dtype))
        made.append(e.build(function(e, x, alpha, beta)))
    return [tuple(made[d * each : (d + 1) * each]) for d in range(layer.directions)]


def _layer(ctx: Lowering, node: ir.Node) -> _Layer:
    """The layer's dims; InvalidModelError when its tensors do not fit."""
    direction = node.attributes.get_string("direction", "forward")
    directions = _DIRECTIONS.get(direction)
    if directions is None:
        raise _invalid(node, "no such direction", " or ".join(_DIRECTIONS), direction)
    cell = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}[node.op_type]
    if cell is GRU and node.attributes.get_int("linear_before_reset", 0) != 0:
        cell = GRU_AFTER
    x, w, r = (ctx.dims(value) for value in node.inputs[:3])
    if not len(x) == len(w) == len(r) == 3:
        raise _invalid(node, "a tensor of the wrong rank", "three tensors of rank 3", f"{[*map(list, (x, w, r))]}")
    hidden: int = r[2]
    batch_first = bool(node.attributes.get_int("layout", 0))
    steps, batch = (x[1], x[0]) if batch_first else (x[0], x[1])
    layer = _Layer(cell, directions, hidden, int(w[2]), steps, batch, batch_first, ctx.view(node.inputs[0]).dtype)
    rows = cell.gates * hidden
    states = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
    wanted: list[tuple[int, ...]] = [(*x[:2], w[2]), (directions, rows, w[2]), (directions, rows, hidden)]
    wanted += [(directions, 2 * rows), (batch,), states, states, (directions, 3 * hidden)]
    for value, dims in zip(node.inputs, wanted, strict=False):
        if value is not None and tuple(ctx.dims(value)) != dims:
            raise _invalid(node, f"input {value.name!r} does not fit the others", list(dims), list(ctx.dims(value)))
    said = node.attributes.get_int("hidden_size", hidden)
    if said != hidden:
        raise _invalid(node, "hidden_size does not fit the weights", hidden, said)
    return layer


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _output(node: ir.Node, index: int) -> ir.Value | None:
    return node.outputs[index] if index < len(node.outputs) and node.outputs[index].name else None


@lowers("LSTM", "GRU", "RNN", dtypes=FLOATS, supports=_form, folds=False)
def recurrent(ctx: Lowering, node: ir.Node) -> None:
    """All forms of the standard: directions, activations, clip, peepholes, lengths, initial states, both layouts."""
    layer = _layer(ctx, node)
    activations = _activations(node, layer)
    results, strides = _results(ctx, node, layer)
    if layer.batch == 0 or layer.hidden == 0 or not results:
        return
    rows, units = _tile(ctx, layer)
    kernel = Recurrence(
        layer.cell,
        rows,
        units,
        activations[0],
        layer.dtype,
        tuple(results),
        tail=any(layer.hidden % (u * ctx.target.lanes(layer.dtype)) for u in units),
        lengths=_input(node, 4) is not None,
        peephole=_input(node, 7) is not None,
        coupled=bool(node.attributes.get_int("input_forget", 0)),
    )
    given = results | strides | _tensors(ctx, node, layer, kernel)
    if len(set(activations)) == 1:
        _step(ctx, node, layer, kernel, given, (0, layer.directions))
        return
    for direction, own in enumerate(activations):
        _step(ctx, node, layer, replace(kernel, activations=own), given, (direction, 1))


def _results(ctx: Lowering, node: ir.Node, layer: _Layer) -> tuple[dict[str, View], dict[str, int]]:
    """Memory for the outputs that are wanted, and their strides.

    All states of a sequence lie with the directions side by side, as the next layer wants them.
    """
    directions, batch, hidden = layer.directions, layer.batch, layer.hidden
    views: dict[str, View] = {}
    strides: dict[str, int] = {}
    for name, value in (("y", _output(node, 0)), ("yh", _output(node, 1)), ("yc", _output(node, 2))):
        if value is None:
            continue
        times = (layer.steps,) if name == "y" else ()
        if layer.batch_first:
            view = ctx.result(value, (batch, *times, directions, hidden), layer.dtype)
            view = view.permute((1, 2, 0, 3) if times else (1, 0, 2))
        elif times and not value.is_graph_output():
            steps = (batch * directions * hidden, hidden, directions * hidden, 1)
            view = ctx.result(value, (*times, directions, batch, hidden), layer.dtype, steps)
        else:
            view = ctx.result(value, (*times, directions, batch, hidden), layer.dtype)
        views[name] = view
        strides |= {f"{name}_direction": view.strides[-3], f"{name}_row": view.strides[-2]}
        if times:
            strides["y_time"] = view.strides[0]
    return views, strides


def _tile(ctx: Lowering, layer: _Layer) -> tuple[int, tuple[int, ...]]:
    """Rows of the batch and, for each phase, vectors of units in a register tile."""
    sizes = [len(phase) for phase in layer.cell.phases]
    counts = [1] if layer.batch == 1 else range(2, 15)  # a batch may be of any size
    rows, first = tile_for(ctx.target, layer.dtype, sizes[0], layer.hidden, counts)
    others = (tile_for(ctx.target, layer.dtype, size, layer.hidden, [rows])[1] for size in sizes[1:])
    return rows, (first, *others)


def _tensors(ctx: Lowering, node: ir.Node, layer: _Layer, kernel: Recurrence) -> dict[str, View | int]:
    """What the kernel reads."""
    given: dict[str, View | int] = {}
    rows = layer.cell.gates * layer.hidden
    bias = ctx.row_major(node.inputs[3]) if _input(node, 3) is not None else None
    x, x_time, x_row = _projected(ctx, node, layer, bias)
    given |= {"x": x, "x_time": x_time, "x_row": x_row, "x_direction": rows}
    for phase, (gates, vectors) in enumerate(zip(layer.cell.phases, kernel.units, strict=True)):
        width = vectors * ctx.target.lanes(layer.dtype)
        given |= {f"w{phase}": _packed(ctx, node, layer, gates, width), f"panels{phase}": -(-layer.hidden // width)}
    for name, index in (("h0", 5), ("c0", 6))[: 2 if layer.cell is LSTM else 1]:
        value = _input(node, index)
        if value is None:
            given |= {name: ctx.zeros(layer.hidden, layer.dtype), f"{name}_row": 0, f"{name}_direction": 0}
            continue
        view = _contiguous_units(ctx, value)
        view = view.permute((1, 0, 2)) if layer.batch_first else view
        given |= {name: view, f"{name}_direction": view.strides[0], f"{name}_row": view.strides[1]}
    if layer.cell is GRU_AFTER:  # the hidden gate's second bias, which its reset gate multiplies too
        given |= {"bias": ctx.zeros(layer.hidden, layer.dtype), "bias_direction": 0}
        if bias is not None:
            part = View(
                bias.buffer, bias.dtype, (layer.directions, layer.hidden), (2 * rows, 1), bias.offset + 5 * layer.hidden
            )
            given |= {"bias": part, "bias_direction": 2 * rows}
    if kernel.peephole:
        given["p"] = ctx.row_major(node.inputs[7])
    if kernel.lengths:
        given["lengths"] = ctx.row_major(node.inputs[4])
        given["status"] = ctx.check(node, "a sequence's length is out of range", "0 to the number of times")
    return given


def _contiguous_units(ctx: Lowering, value: ir.Value) -> View:
    view = ctx.view(value)
    return view if view.dims[-1] == 1 or view.strides[-1] == 1 else ctx.row_major(value)


def _packed(ctx: Lowering, node: ir.Node, layer: _Layer, gates: tuple[int, ...], width: int) -> View:
    """The recurrent weights of some gates in panels (`pack_gates`): packed once when they are known, else copied."""
    value = node.inputs[2]
    assert value is not None
    dims = (layer.directions, layer.cell.gates, layer.hidden, layer.hidden)
    if ctx.is_known(value):

        def panels_of(known: np.ndarray) -> np.ndarray:
            return pack_gates(known.reshape(dims), gates, width)

        return ctx.packed_weights(value, ("gates", dims, gates, width), panels_of, f"{value.name} in panels")
    source, units = ctx.row_major(value), layer.hidden
    panels = -(-units // width)
    target = ctx.temporary((layer.directions, panels, units, len(gates), width), layer.dtype)
    for place, gate in enumerate(gates):
        for first, count, size in ((0, units // width, width), (units // width, 1, units % width)):
            if count == 0 or size == 0:
                continue
            shape = (layer.directions, count, units, size)
            read = source.offset + (gate * units + first * width) * units
            write = target.offset + first * target.strides[1] + place * width
            here = (dims[1] * units * units, width * units, 1, units)
            there = (*target.strides[:3], 1)
            ctx.copy(
                View(source.buffer, layer.dtype, shape, here, read),
                View(target.buffer, layer.dtype, shape, there, write),
                f"pack {value.name}",
            )
    return target


def _projected(ctx: Lowering, node: ir.Node, layer: _Layer, bias: View | None) -> tuple[View, int, int]:
    """x times the input weights plus the biases, [time or row, row or time, direction, gate, unit]; the strides of
    times and of rows.
    """
    value, x = node.inputs[1], ctx.view(node.inputs[0])
    assert value is not None
    columns, swapped = layer.directions * layer.cell.gates * layer.hidden, layer.batch_first
    if layer.steps == 0:
        return ctx.zeros(1, layer.dtype), 0, 0
    step = uniform_stride(x.dims[:2], x.strides[:2])
    if step is None:  # a batch whose times are swapped with its rows, perhaps
        x, swapped = x.permute((1, 0, 2)), not swapped
        step = uniform_stride(x.dims[:2], x.strides[:2])
    if step is None:
        x, step = ctx.copied(x), layer.inputs
    m, n, depth = x.dims[0] * x.dims[1], columns, layer.inputs
    matrix = View(x.buffer, x.dtype, (1, m, depth), (0, step, x.strides[2]), x.offset)
    y = ctx.temporary((x.dims[0], x.dims[1], n), layer.dtype)
    weights = ctx.view(value)
    rows = uniform_stride(weights.dims[:2], weights.strides[:2])
    if rows is None:
        weights = ctx.row_major(value)
        rows = depth
    flat = View(weights.buffer, weights.dtype, (1, depth, n), (0, weights.strides[2], rows), weights.offset)
    multiply(ctx, node, matrix, (value, flat), y, _plus_biases(ctx, node, layer, bias))
    outer, inner = y.strides[:2]
    return y, *((inner, outer) if swapped else (outer, inner))


def _plus_biases(ctx: Lowering, node: ir.Node, layer: _Layer, bias: View | None) -> Fusion:
    """What follows the product."""
    if bias is None:
        return Fusion((node,), identity(layer.dtype), (), node.outputs[0])
    e = ExprBuilder()
    expr = e.build(e.op("add", e.leaf(layer.dtype), e.leaf(layer.dtype)))
    return Fusion((node,), expr, ((_sum_of_biases(ctx, node, layer, bias), (1, 0, 0)),), node.outputs[0])


def _sum_of_biases(ctx: Lowering, node: ir.Node, layer: _Layer, bias: View) -> View:
    """The inputs' and the states' biases [direction * gate * unit]; without the latter for a gate that has its own use
    of it.
    """
    rows = layer.cell.gates * layer.hidden
    both = 2 * layer.hidden if layer.cell is GRU_AFTER else rows
    known = ctx.known(node.inputs[3])
    if known is not None:
        added = known[:, :rows].copy()
        added[:, :both] += known[:, rows : rows + both]
        return ctx.constant(added.reshape(-1))
    total = ctx.temporary((layer.directions, rows), layer.dtype)
    e = ExprBuilder()
    addition = e.build(e.op("add", e.leaf(layer.dtype), e.leaf(layer.dtype)))
    for first, count in ((0, both), (both, rows - both)):
        if count:
            dims = (layer.directions, count)
            terms = [View(bias.buffer, bias.dtype, dims, (2 * rows, 1), bias.offset + first + at) for at in (0, rows)]
            target = View(total.buffer, total.dtype, dims, (rows, 1), total.offset + first)
            if first:
                ctx.copy(terms[0], target)
            else:
                ctx.elementwise(addition, terms, target, f"{node.name} biases")
    return View(total.buffer, total.dtype, (layer.directions * rows,), (1,), total.offset)


def _step(
    ctx: Lowering,
    node: ir.Node,
    layer: _Layer,
    kernel: Recurrence,
    given: dict[str, View | int],
    directions: tuple[int, int],
) -> None:
    """The recurrence of `directions`: the first, and how many."""
    first, count = directions
    lanes = ctx.target.lanes(layer.dtype)
    padded = max(-(-layer.hidden // (u * lanes)) * u * lanes for u in kernel.units)
    state = ctx.temporary((count, layer.cell.slots, layer.batch, padded), layer.dtype)
    tiles, threads = -(-layer.batch // kernel.rows), max(1, ctx.threads // count)
    blocks = least(tiles, threads)
    macs = layer.cell.gates * layer.hidden * layer.hidden
    if layer.batch == 1 and threads > 1 and macs >= _WORTH_SHARING:
        kernel, blocks = replace(kernel, together=True), threads
        rounds = ctx.temporary((count * threads * WORDS,), DType.I64)
        ctx.copy(ctx.constant(np.zeros(count * threads * WORDS, np.int64)), rounds, f"{node.name} rounds")
        given = given | {"rounds": rounds, "patience": macs}
    backwards = 0 if node.attributes.get_string("direction", "forward") == "reverse" else 1
    ctx.step(
        kernel,
        arguments(
            state=state,
            steps=layer.steps,
            batch=layer.batch,
            hidden=layer.hidden,
            padded=padded,
            block_rows=-(-tiles // blocks) * kernel.rows,
            blocks=blocks,
            first_direction=first,
            first_reverse=backwards,
        )
        | given,
        domain=count * blocks,
        label=node.name or node.op_type,
        writes=kernel.writes,
        cost=macs,
    )
