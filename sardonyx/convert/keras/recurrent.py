"""Keras's recurrent layers: ONNX's LSTM, GRU and RNN where these compute the same, else a Scan over the cell.

The cells are those of `keras.layers.LSTMCell`, `GRUCell` and `SimpleRNNCell`. A masked step leaves the state as it was
and repeats the output before it, or gives zeros (`keras.backend.rnn`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.graph import Array
from sardonyx.convert.keras.activations import Activation, activation, activation_name
from sardonyx.convert.keras.base import Emitter, Plan, Settings, Tensor, UnsupportedError, brief, text
from sardonyx.convert.keras.weights import snake

FLOAT = ir.DataType.FLOAT

Step = Callable[[Emitter, Tensor, Sequence[Tensor]], tuple[Tensor, list[Tensor]]]
"""Emits one step of a cell: its output and the new states of input and states, [batch, features] each."""


@dataclass(frozen=True)
class Operator:
    """How ONNX's operator of a cell is fed: `gates` are Keras's in ONNX's order."""

    op_type: str
    gates: tuple[int, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A cell: the width of its output, the sizes of its states, its weights' keys, one step, and the operator that
    does all steps."""

    width: int
    sizes: tuple[int, ...]
    weights: tuple[str, ...]
    step: Step
    operator: Operator | None = None


@dataclass(frozen=True)
class _Sequence:
    """What a layer does with a cell over time."""

    cell: Cell
    sequences: bool
    states: bool
    backwards: bool
    zeros: bool  # where a step is masked
    within: str  # the key of the cell's weights


# The names that ONNX has for Keras's activations, with their parameters (alpha, beta).
_NAMES: dict[str, tuple[str, float, float]] = {
    "elu": ("Elu", 1.0, 0.0),
    "hard_sigmoid": ("HardSigmoid", 0.2, 0.5),
    "hard_sigmoid_3": ("HardSigmoid", 1 / 6, 0.5),
    "linear": ("Affine", 1.0, 0.0),
    "relu": ("Relu", 0.0, 0.0),
    "sigmoid": ("Sigmoid", 0.0, 0.0),
    "softplus": ("Softplus", 0.0, 0.0),
    "softsign": ("Softsign", 0.0, 0.0),
    "tanh": ("Tanh", 0.0, 0.0),
}
_ALPHA, _BETA = {"Elu", "HardSigmoid", "Affine"}, {"HardSigmoid", "Affine"}


def _attributes(options: Settings, keys: Sequence[str]) -> dict[str, Any] | None:
    """The activations of a direction as ONNX's attributes; None where it has no name for one."""
    found = []
    for key in keys:
        default = "sigmoid" if key == "recurrent_activation" else "tanh"
        name, config = activation_name(options.get(key, default), options.version)
        if name not in _NAMES or config:
            return None
        found.append(_NAMES[name])
    alphas = [alpha for name, alpha, _ in found if name in _ALPHA]
    betas = [beta for name, _, beta in found if name in _BETA]
    return {
        "activations": [name for name, *_ in found],
        "activation_alpha": alphas or None,
        "activation_beta": betas or None,
    }


def _lstm_cell(options: Settings) -> Cell:
    """Gates in, forget, cell, out: c' = f c + i g, h = o act(c')."""
    units, bias = options.integer("units"), options.flag("use_bias", True)
    options.flag("unit_forget_bias", True)
    act, gate = _functions(options)

    def step(e: Emitter, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h, c = states
        total = _product(e, x, "kernel", units * 4, "input")
        total = _sum(e, total, _product(e, h, "recurrent_kernel", units * 4, "state"), "total")
        if bias:
            total = _sum(e, total, _vector(e, "bias", units * 4), "biased")
        i, f, g, o = _split(e, total, units, 4)
        kept = e.node("Mul", [gate(e, f, "forget").value, c.value], tag="kept")
        new = e.node("Mul", [gate(e, i, "in").value, act(e, g, "new").value], tag="add")
        c = _state(e, e.node("Add", [kept, new], tag="cell"), units)
        h = _state(e, e.node("Mul", [gate(e, o, "out").value, act(e, c, "shown").value], tag="output"), units)
        return h, [h, c]

    named = _attributes(options, ("recurrent_activation", "activation", "activation"))
    operator = Operator("LSTM", (0, 3, 1, 2), named) if named is not None else None
    return Cell(units, (units, units), _keys(bias), step, operator)


def _gru_cell(options: Settings) -> Cell:
    """Gates update z, reset r: h' = z h + (1 - z) n. With `reset_after` r scales the product, else the state."""
    units, bias, after = options.integer("units"), options.flag("use_bias", True), options.flag("reset_after", True)
    act, gate = _functions(options)

    def biases(e: Emitter) -> tuple[Array, Array]:
        if not bias:
            zeros = np.zeros(units * 3, np.float32)
            return zeros, zeros
        shape = (2, units * 3) if after else (units * 3,)
        array = e.weight("bias", shape).array
        return (array[0], array[1]) if after else (array, np.zeros(units * 3, np.float32))

    def step(e: Emitter, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        given, recurrent = biases(e)
        total = _sum(e, _product(e, x, "kernel", units * 3, "input"), e.constant("input_bias", given), "biased")
        z_in, r_in, n_in = _split(e, total, units, 3)
        kernel = e.weight("recurrent_kernel", (units, units * 3)).array
        columns = kernel if after else kernel[:, : units * 2]
        inner = _wide(e, e.node("MatMul", [h.value, e.constant("recurrent", columns)], tag="state"), columns.shape[1])
        if after:
            inner = _sum(e, inner, e.constant("recurrent_bias", recurrent), "state_biased")
        z_state, r_state, *n_state = _split(e, inner, units, 3 if after else 2, "of_state")
        z = gate(e, _sum(e, z_in, z_state.value, "update_total"), "update")
        r = gate(e, _sum(e, r_in, r_state.value, "reset_total"), "reset")
        if after:
            old = e.node("Mul", [r.value, n_state[0].value], tag="old")
        else:
            reset = e.node("Mul", [r.value, h.value], tag="reset_state")
            old = e.node("MatMul", [reset, e.constant("recurrent_new", kernel[:, units * 2 :])], tag="old")
        n = act(e, _sum(e, n_in, old, "new_total"), "new")
        rest = e.node("Sub", [e.constant("one", 1.0), z.value], tag="rest")
        kept, new = (e.node("Mul", pair, tag=tag) for tag, pair in
                     (("kept", [z.value, h.value]), ("add", [rest, n.value])))  # fmt: skip
        h = _state(e, e.node("Add", [kept, new], tag="output"), units)
        return h, [h]

    named = _attributes(options, ("recurrent_activation", "activation"))
    operator = Operator("GRU", (0, 1, 2), named | {"linear_before_reset": int(after)}) if named is not None else None
    return Cell(units, (units,), _keys(bias), step, operator)


def _simple_cell(options: Settings) -> Cell:
    """h' = act(x W + h U + b)."""
    units, bias = options.integer("units"), options.flag("use_bias", True)
    act = activation(options.get("activation", "tanh"), options.version)

    def step(e: Emitter, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        total = _product(e, x, "kernel", units, "input")
        total = _sum(e, total, _product(e, states[0], "recurrent_kernel", units, "state"), "total")
        if bias:
            total = _sum(e, total, _vector(e, "bias", units), "biased")
        h = act(e, total, "output")
        return h, [h]

    named = _attributes(options, ("activation",))
    operator = Operator("RNN", (0,), named) if named is not None else None
    return Cell(units, (units,), _keys(bias), step, operator)


def _functions(options: Settings) -> tuple[Activation, Activation]:
    act = activation(options.get("activation", "tanh"), options.version)
    gate = activation(options.get("recurrent_activation", "sigmoid"), options.version)
    return act, gate


def _keys(bias: bool) -> tuple[str, ...]:
    return ("kernel", "recurrent_kernel", "bias") if bias else ("kernel", "recurrent_kernel")


def _wide(e: Emitter, value: ir.Value, width: int) -> Tensor:
    return e.tensor(value, (None, width))


_state = _wide


def _product(e: Emitter, x: Tensor, key: str, width: int, tag: str) -> Tensor:
    weight = e.weight(key, (x.shape[-1], width))
    return _wide(e, e.node("MatMul", [x.value, e.graph.initializer(weight.name, weight.array)], tag=tag), width)


def _vector(e: Emitter, key: str, width: int) -> Tensor:
    return Tensor(e.vector(key, width), (width,))


def _sum(e: Emitter, a: Tensor, b: Tensor | ir.Value, tag: str) -> Tensor:
    value = b.value if isinstance(b, Tensor) else b
    return _wide(e, e.node("Add", [a.value, value], tag=tag), a.shape[-1] or 1)


def _split(e: Emitter, x: Tensor, units: int, count: int, tag: str = "gate") -> list[Tensor]:
    names = [f"{e.name}/{tag}_{i}" for i in range(count)]
    parts = e.graph.nodes("Split", [x.value], names, name=f"{e.name}/{tag}", axis=1, num_outputs=count)
    return [_wide(e, part, units) for part in parts]


def _stacked(options: Settings) -> Cell:
    """Cells on top of each other; states in their order."""
    cells = options.get("cells")
    if not isinstance(cells, list) or not 0 < len(cells) <= 64:
        raise UnsupportedError("the option cells is no list of cells")
    if options.get("reverse_state_order"):
        raise UnsupportedError("the option reverse_state_order is not supported")
    made: list[tuple[str, Cell]] = []
    used: dict[str, int] = {}
    for data in cells:
        cell = _cell(data, options.version)
        name = snake(data["class_name"])
        used[name] = used.get(name, -1) + 1
        made.append((f"cells/{name}_{used[name]}" if used[name] else f"cells/{name}", cell))

    def step(e: Emitter, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        left, new = list(states), []
        for i, (key, cell) in enumerate(made):
            mine, left = left[: len(cell.sizes)], left[len(cell.sizes) :]
            x, after = cell.step(e.inner(e.graph, f"cell_{i}", key), x, mine)
            new += after
        return x, new

    keys = tuple(f"{key}/{weight}" for key, cell in made for weight in cell.weights)
    return Cell(made[-1][1].width, tuple(size for _, cell in made for size in cell.sizes), keys, step)


CELLS: dict[str, Callable[[Settings], Cell]] = {
    "GRUCell": _gru_cell,
    "LSTMCell": _lstm_cell,
    "SimpleRNNCell": _simple_cell,
    "StackedRNNCells": _stacked,
}


def _cell(data: Any, version: tuple[int, int], depth: int = 0) -> Cell:
    """A cell as it is stored in a layer's configuration."""
    config = data.get("config") if isinstance(data, dict) else None
    if not isinstance(config, dict) or not isinstance(data.get("class_name"), str):
        raise UnsupportedError(f"the cell {brief(data)} is not understood")
    if data["class_name"] not in CELLS:
        raise UnsupportedError(f"cells of the class {data['class_name']} are not supported")
    settings = Settings(config, version)
    _ignore_dropout(settings)
    cell = CELLS[data["class_name"]](settings)
    settings.finish()
    return cell


def _ignore_dropout(options: Settings) -> None:
    for key in ("dropout", "recurrent_dropout", "seed"):
        options.get(key)


def _layer(options: Settings, cell: Cell) -> _Sequence:
    """A recurrent layer's own options. `implementation`, `unroll` and the like do not change what it computes."""
    for key in ("implementation", "unroll", "time_major", "use_cudnn"):
        options.get(key)
    if options.flag("stateful", False):
        raise UnsupportedError("it is stateful: what it computes depends on the calls before")
    if options.get("time_major"):
        raise UnsupportedError("the option time_major is not supported")
    return _Sequence(
        cell,
        sequences=options.flag("return_sequences", False),
        states=options.flag("return_state", False),
        backwards=options.flag("go_backwards", False),
        zeros=options.flag("zero_output_for_mask", False),
        within="cell",
    )


ARGUMENTS = frozenset({"initial_state", "mask"})


def _recurrent(build: Callable[[Settings], Cell]) -> Callable[[Settings], Plan]:
    def read(options: Settings) -> Plan:
        cell = build(options)
        _ignore_dropout(options)
        layer = _layer(options, cell)

        def emit(e: Emitter, inputs: Sequence[Tensor]) -> list[Tensor]:
            x, start = _given(e, inputs, options.version)
            return _run(e, layer, x, start, "")

        keys = tuple(f"cell/{key}" for key in cell.weights)
        return Plan(emit, weights=keys, inputs=None, masking="own", arguments=ARGUMENTS)

    return read


def _rnn(options: Settings) -> Plan:
    return _recurrent(lambda settings: _cell(settings.get("cell"), settings.version))(options)


def _given(e: Emitter, inputs: Sequence[Tensor], version: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    """The sequence, and the initial states from further inputs or the argument of that name."""
    if not inputs:
        raise UnsupportedError("it has no input")
    x, *rest = inputs
    x = e.plain(x)
    given = e.arguments.get("initial_state")
    if given is not None:
        states = list(given) if isinstance(given, tuple) else [given]
        if not all(isinstance(state, Tensor) for state in states):
            raise UnsupportedError("constant initial states are not supported")
        rest += states
    if x.rank != 3:
        raise UnsupportedError(f"its input has the shape {text(x.shape)}, expected 3 dimensions")
    # With states as arguments Keras 3 does not find the sequence's own mask (`Layer.__call__`, "Populate mask").
    if rest and version[0] == 3 and "mask" not in e.arguments and x.mask is not None:
        raise UnsupportedError("an initial state beside a mask that is not given in the call is not supported")
    return x, [e.plain(state) for state in rest]


def _run(e: Emitter, layer: _Sequence, x: Tensor, start: Sequence[Tensor], tag: str) -> list[Tensor]:
    """The layer's outputs: the sequence or its end, then the states."""
    cell = layer.cell
    if start and len(start) != len(cell.sizes):
        raise UnsupportedError(f"it gets {len(start)} initial states, expected {len(cell.sizes)}")
    for state, size in zip(start, cell.sizes, strict=False):
        if state.shape[1:] != (size,):
            raise UnsupportedError(f"an initial state has the shape {text(state.shape)}, expected {size} units")
    inner = e.inner(e.graph, tag, layer.within)
    plain = cell.operator is not None and x.mask is None
    whole, last, states = (_operator if plain else _scan)(inner, layer, x, start)
    outputs = [whole if layer.sequences else last]
    return outputs + states if layer.states else outputs


def _operator(e: Emitter, layer: _Sequence, x: Tensor, start: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """All steps by ONNX's operator: whole sequence, last output, states."""
    cell, operator = layer.cell, layer.cell.operator
    assert operator is not None
    units = cell.sizes[0]
    batch, time, features = x.shape
    gates = list(operator.gates)

    def ordered(array: Array) -> Array:
        """Keras's columns, gate by gate, as ONNX's rows."""
        return np.concatenate([array[..., g * units : (g + 1) * units] for g in gates], axis=-1).T[None]

    count = len(gates) * units
    w = ordered(e.weight("kernel", (features, count)).array)
    r = ordered(e.weight("recurrent_kernel", (units, count)).array)
    twice = operator.attributes.get("linear_before_reset") == 1
    bias: Array = np.zeros((2, count), np.float32)
    if "bias" in cell.weights:
        bias[: 2 if twice else 1] = e.weight("bias", (2, count) if twice else (count,)).array
    b = np.concatenate([ordered(row)[0] for row in bias])[None]
    first = e.constant("first", [0], np.int64)
    states = [e.node("Unsqueeze", [s.value, first], tag=f"start_{i}") for i, s in enumerate(start)]
    steps = e.graph.transpose(x.value, [1, 0, 2], name=f"{e.name}/steps")
    weights = [e.constant(tag, array) for tag, array in (("W", w), ("R", r), ("B", b))]
    outputs = e.graph.nodes(
        operator.op_type,
        [steps, *weights, *([None, *states] if states else [])],
        [f"{e.name}/Y", *(f"{e.name}/Y_{name}" for name in "hc"[: len(cell.sizes)])],
        name=e.name,
        hidden_size=units,
        direction="reverse" if layer.backwards else "forward",
        **operator.attributes,
    )
    ends = [
        e.tensor(e.node("Squeeze", [y, first], tag=f"state_{i}"), (batch, units)) for i, y in enumerate(outputs[1:])
    ]
    y = e.node("Squeeze", [outputs[0], e.constant("direction", [1], np.int64)], tag="all")
    y = e.graph.transpose(y, [1, 0, 2], name=f"{e.name}/sequence")
    if layer.backwards:
        y = flipped(e, y, "backwards")
    return e.tensor(y, (batch, time, units)), ends[0], ends


def flipped(e: Emitter, value: ir.Value, tag: str) -> ir.Value:
    """[batch, time, ...] with the last step first. Keras gives what goes backwards in the order it was made."""
    bounds = [e.constant(f"{tag}/{name}", [n], np.int64) for name, n in
              (("starts", -1), ("ends", -(2**63)), ("axes", 1), ("steps", -1))]  # fmt: skip
    return e.node("Slice", [value, *bounds], tag=tag)


def _scan(e: Emitter, layer: _Sequence, x: Tensor, start: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """All steps by a Scan whose body is the cell: whole sequence, last output, states."""
    cell, batch = layer.cell, x.shape[0]
    width = cell.width
    masked = x.mask is not None
    repeats = masked and not layer.zeros
    states = [s.value for s in start] or [_zeros(e, x, size, f"start_{i}") for i, size in enumerate(cell.sizes)]
    if masked:
        states = [*states, _zeros(e, x, width, "output_start")]
    sizes = [*cell.sizes, *([width] if masked else [])]
    sources = [e.graph.transpose(x.value, [1, 0, 2], name=f"{e.name}/steps")]
    if x.mask is not None:
        sources.append(e.graph.transpose(x.mask, [1, 0], name=f"{e.name}/mask_steps"))

    body = e.graph.body(f"{e.name}/body")
    i = e.inner(body, "step")
    carried = [Tensor(body.input(f"{e.name}/state_{n}", FLOAT, [e.batch, size]), (batch, size))
               for n, size in enumerate(sizes)]  # fmt: skip
    step = Tensor(body.input(f"{e.name}/x", FLOAT, [e.batch, x.shape[2]]), (batch, x.shape[2]))
    output, new = cell.step(i, step, carried[: len(cell.sizes)])
    shown = output.value
    after = [state.value for state in new]
    if masked:
        mask = body.input(f"{e.name}/m", ir.DataType.BOOL, [e.batch])
        given = i.node("Unsqueeze", [mask, i.constant("last", [1], np.int64)], tag="given")
        after = [i.node("Where", [given, now, old.value], tag=f"kept_{n}")
                 for n, (now, old) in enumerate(zip(after, carried, strict=False))]  # fmt: skip
        before = carried[-1].value if repeats else i.constant("zero", 0.0)
        shown = i.node("Where", [given, shown, before], tag="shown")
        after.append(shown)
    finished = body.graph([*after, shown])
    backwards = [int(layer.backwards)] * len(sources)
    names = [*(f"{e.name}/end_{n}" for n in range(len(sizes))), f"{e.name}/outputs"]
    *ends, outputs = e.graph.nodes(
        "Scan", [*states, *sources], names, name=e.name, body=finished, num_scan_inputs=len(sources),
        scan_input_directions=backwards,
    )  # fmt: skip
    whole = e.tensor(e.graph.transpose(outputs, [1, 0, 2], name=f"{e.name}/sequence"), (batch, x.shape[1], width))
    kept = [e.tensor(end, (batch, size)) for end, size in zip(ends, sizes, strict=True)]
    if masked:
        last = kept.pop()
    else:
        final = e.node("Gather", [outputs, e.constant("final", -1, np.int64)], tag="last", axis=0)
        last = e.tensor(final, (batch, width))
    return replace(whole, mask=x.mask), last, kept


def _zeros(e: Emitter, x: Tensor, size: int, tag: str) -> ir.Value:
    """[batch, size] of zeros."""
    batch = e.node("Shape", [x.value], tag=f"{tag}/batch", start=0, end=1)
    shape = e.node("Concat", [batch, e.constant(f"{tag}/size", [size], np.int64)], tag=f"{tag}/shape", axis=0)
    return e.node("Expand", [e.constant(f"{tag}/zero", 0.0), shape], tag=tag)


def _bidirectional(options: Settings) -> Plan:
    """A layer forwards and one backwards, whose sequence is turned round before both are merged."""
    mode = options.get("merge_mode", "concat")
    if mode not in (*_MERGES, "concat", None):
        raise UnsupportedError(f"the option merge_mode = {brief(mode)} is not known")
    data = options.get("layer")
    back = options.get("backward_layer")
    layers = [_directed(data, options.version, "forward_layer/cell")]
    if back is None:
        back = data
        second = _directed(data, options.version, "backward_layer/cell")
        layers.append(replace(second, backwards=not second.backwards))
    else:
        layers.append(_directed(back, options.version, "backward_layer/cell"))
    forward, backward = layers
    if forward.sequences != backward.sequences or forward.states != backward.states:
        raise UnsupportedError("its two layers do not give the same")

    def emit(e: Emitter, inputs: Sequence[Tensor]) -> list[Tensor]:
        x, start = _given(e, inputs, options.version)
        half = len(start) // 2
        one = _run(e, forward, x, start[:half], "forward")
        two = _run(e, backward, x, start[half:], "backward")
        a, b = one[0], two[0]
        if forward.sequences:
            b = e.tensor(flipped(e, b.value, "turned"), b.shape)
        if mode is None:
            return [replace(y, mask=x.mask if forward.sequences else None) for y in (a, b)] + one[1:] + two[1:]
        merged = _merged(e, mode, a, b)
        return [replace(merged, mask=x.mask if forward.sequences else None), *one[1:], *two[1:]]

    keys = tuple(f"{layer.within}/{key}" for layer in layers for key in layer.cell.weights)
    return Plan(emit, weights=keys, inputs=None, masking="own", arguments=ARGUMENTS)


_MERGES = {"sum": "Add", "mul": "Mul", "ave": "Mean"}


def _merged(e: Emitter, mode: str, a: Tensor, b: Tensor) -> Tensor:
    if mode == "concat":
        value = e.node("Concat", [a.value, b.value], axis=-1)
        return e.tensor(value, (*a.shape[:-1], (a.shape[-1] or 0) + (b.shape[-1] or 0)))
    if a.shape[-1] != b.shape[-1]:
        raise UnsupportedError("its two layers differ in size")
    return e.tensor(e.node(_MERGES[mode], [a.value, b.value]), a.shape)


def _directed(data: Any, version: tuple[int, int], within: str) -> _Sequence:
    """One of a Bidirectional's layers."""
    config = data.get("config") if isinstance(data, dict) else None
    name = data.get("class_name") if isinstance(data, dict) else None
    if not isinstance(config, dict) or name not in (*_LAYERS, "RNN"):
        raise UnsupportedError(f"a layer {brief(name)} in two directions is not supported")
    settings = Settings(config, version)
    cell = _LAYERS[name](settings) if name != "RNN" else _cell(settings.get("cell"), version)
    _ignore_dropout(settings)
    layer = _layer(settings, cell)
    settings.finish()
    # Bidirectional says so itself, whatever the layers' own option is.
    return replace(layer, within=within, zeros=layer.sequences)


_LAYERS: dict[str, Callable[[Settings], Cell]] = {"GRU": _gru_cell, "LSTM": _lstm_cell, "SimpleRNN": _simple_cell}

RECURRENT_LAYERS: dict[str, Callable[[Settings], Plan]] = {
    "Bidirectional": _bidirectional,
    "RNN": _rnn,
    **{name: _recurrent(build) for name, build in _LAYERS.items()},
}
