"""Recurrent layers of CoreML's neural networks as MIL operations (what layers do: `NeuralNetwork.proto`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.coreml.network_base import Layer, ints, kind_of, weights
from sardonyx.convert.coreml.operations import Given, Ref, Typed, UnsupportedError
from sardonyx.convert.reading.protobuf import which

_RECURRENT_ACTIVATIONS = {"sigmoid": "sigmoid", "tanh": "tanh"}


def _function(activation: Any) -> str:
    """CoreML clips what goes into activations at 50: those that still change there are not supported."""
    kind = which(activation, *_RECURRENT_ACTIVATIONS, "linear", "ReLU", "sigmoidHard")
    hard = activation.sigmoidHard
    if kind == "sigmoidHard" and (hard.alpha, hard.beta) == (np.float32(0.2), np.float32(0.5)):
        return "sigmoid_hard"
    if kind not in _RECURRENT_ACTIVATIONS:
        raise UnsupportedError(f"the activation {kind or 'it has'} is not supported in recurrent layers")
    return _RECURRENT_ACTIVATIONS[kind]


def _functions(activations: Any, *keys: str) -> dict[str, Given]:
    if len(activations) != len(keys):
        raise UnsupportedError(f"it has {len(activations)} activations, expected {len(keys)}")
    return {key: _function(item) for key, item in zip(keys, activations, strict=True)}


def _stacked(params: Any, names: Sequence[str], shape: Sequence[int]) -> Array:
    return np.concatenate([weights(getattr(params, name), shape) for name in names])


def _lstm_weights(p: Any, own: Any, suffix: str, sizes: tuple[int, int]) -> dict[str, Given]:
    gates = ("inputGate", "forgetGate", "outputGate", "blockInput")
    width, hidden = sizes
    found: dict[str, Given] = {
        f"weight_ih{suffix}": _stacked(own, [f"{gate}WeightMatrix" for gate in gates], (hidden, width)),
        f"weight_hh{suffix}": _stacked(own, [f"{gate}RecursionMatrix" for gate in gates], (hidden, hidden)),
    }
    bias = np.zeros(4 * hidden, np.float32)
    if p.params.hasBiasVectors:
        bias = _stacked(own, [f"{gate}BiasVector" for gate in gates], (hidden,))
    if p.params.forgetBias:
        bias[hidden : 2 * hidden] += 1
    if p.params.hasPeepholeVectors:
        names = [f"{gate}PeepholeVector" for gate in gates[:3]]
        found[f"peephole{suffix}"] = _stacked(own, names, (hidden,))
    return found | {f"bias{suffix}": bias}


def _lstm(layer: Layer) -> None:
    p = layer.params
    both = kind_of(layer.proto) == "biDirectionalLSTM"
    if p.params.coupledInputAndForgetGate:
        raise UnsupportedError("coupled gates are not supported")
    # Each step adds at most 1 to a cell, so that clipping it at 500 or 50,000, as converters write, does nothing.
    if 0.0 < p.params.cellClipThreshold < 500.0:
        raise UnsupportedError("clipping the cells is not supported")
    keys = ("recurrent_activation", "cell_activation", "activation")
    functions = _functions(p.activationsForwardLSTM if both else p.activations, *keys)
    if both and functions != _functions(p.activationsBackwardLSTM, *keys):
        raise UnsupportedError("directions with different activations are not supported")
    all_weights = list(p.weightParams) if both else [p.weightParams]
    if len(all_weights) != 1 + both:
        raise UnsupportedError(f"it has weights of {len(all_weights)} directions, expected {1 + both}")
    sizes = (int(p.inputVectorSize), int(p.outputVectorSize))
    given: dict[str, Given] = dict(functions)
    for own, suffix in zip(all_weights, ("", "_back"), strict=False):
        given |= _lstm_weights(p, own, suffix, sizes)
    direction = "bidirectional" if both else "reverse" if p.reverseInput else "forward"
    _run(layer, "lstm", p.params.sequenceOutput, given | {"direction": direction})


def _gru(layer: Layer) -> None:
    p = layer.params
    width, hidden = int(p.inputVectorSize), int(p.outputVectorSize)
    gates = ("resetGate", "outputGate", "updateGate")
    given: dict[str, Given] = {
        "weight_ih": _stacked(p, [f"{gate}WeightMatrix" for gate in gates], (hidden, width)),
        "weight_hh": _stacked(p, [f"{gate}RecursionMatrix" for gate in gates], (hidden, hidden)),
        **_functions(p.activations, "recurrent_activation", "activation"),
    }
    if p.hasBiasVectors:
        given["bias"] = _stacked(p, [f"{gate}BiasVector" for gate in gates], (hidden,))
    _run(layer, "gru", p.sequenceOutput, given | {"direction": "reverse" if p.reverseInput else "forward"})


def _simple_recurrent(layer: Layer) -> None:
    p = layer.params
    width, hidden = int(p.inputVectorSize), int(p.outputVectorSize)
    given: dict[str, Given] = {
        "weight_ih": weights(p.weightMatrix, (hidden, width)), "activation": _function(p.activation),
        "weight_hh": weights(p.recursionMatrix, (hidden, hidden)),
    }  # fmt: skip
    if p.hasBiasVector:
        given["bias"] = weights(p.biasVector, (hidden,))
    _run(layer, "rnn", p.sequenceOutput, given | {"direction": "reverse" if p.reverseInput else "forward"})


def _run(layer: Layer, kind: str, sequence: bool, given: dict[str, Given]) -> None:
    """[S, B, C, 1, 1] in and out; states that are optional inputs start at zero."""
    x = layer.step("squeeze", "steps", 3, x=layer.x(), axes=ints([-2, -1]))
    name = layer.typed().name
    both = given["direction"] == "bidirectional"
    states = ("h", "c") if kind == "lstm" else ("h",)
    given = given | _initial(layer, states, both)
    outputs = [Typed(f"{name}/{kind}", "float32", (None,) * (3 if sequence else 2))]
    outputs += [Typed(f"{name}/{state}", "float32", (None, None)) for state in states]
    layer.op(kind, outputs, x=x, output_sequence=np.array(sequence), **given)
    made = [item.name for item in outputs]
    if both:
        halves = [[Typed(f"{state}_{i}", "float32", (None, None)) for i in range(2)] for state in made[1:]]
        for state, parts in zip(made[1:], halves, strict=True):
            layer.op("split", parts, x=Ref(state), num_splits=np.array(2), axis=np.array(-1))
        made = [made[0], *(parts[i].name for i in range(2) for parts in halves)]
    for index, (source, _) in enumerate(zip(made, layer.proto.output, strict=False)):
        axes = [-2, -1] if sequence and not index else [0, 3, 4]
        layer.op("expand_dims", [layer.typed(index)], x=Ref(source), axes=ints(axes))


def _initial(layer: Layer, states: Sequence[str], both: bool) -> dict[str, Given]:
    """The states that the layer is given, as [batch, directions * hidden]."""
    names = [name for name in layer.proto.input[1:] if name not in layer.optional]
    if not names:
        return {}
    if len(names) != len(states) * (1 + both):
        raise UnsupportedError(f"it has {len(names)} initial states, expected {len(states) * (1 + both)}")
    rows = [layer.step("squeeze", f"in_{i}", 2, x=Ref(n), axes=ints([0, 3, 4])) for i, n in enumerate(names)]
    found: dict[str, Given] = {}
    for index, state in enumerate(states):
        parts = tuple(rows[index :: len(states)])
        found[f"initial_{state}"] = (
            parts[0] if not both else layer.step("concat", f"in_{state}", 2, values=parts, axis=np.array(-1))
        )
    return found


RECURRENT_LAYERS: dict[str, Callable[[Layer], None]] = {
    "uniDirectionalLSTM": _lstm, "biDirectionalLSTM": _lstm, "gru": _gru, "simpleRecurrent": _simple_recurrent,
}  # fmt: skip
