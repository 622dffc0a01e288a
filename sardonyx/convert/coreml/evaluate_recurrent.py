"""Recurrent layers of CoreML's neural networks in float64, step by step after `NeuralNetwork.proto`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.coreml.evaluate_network import Call, Function, activate

Step = Callable[[Array, list[Array]], list[Array]]
"""From a step's input [batch, width] and the states [batch, hidden] to the new states, the output first."""


def _clip(x: Array) -> Array:
    return np.clip(x, -50.0, 50.0)


def _steps(x: Array, states: Sequence[Array], step: Step, reverse: bool) -> tuple[Array, list[Array]]:
    """The outputs of all steps, in the order of the steps of `x` [steps, batch, width], and the last states."""
    now, found = list(states), []
    for row in x[::-1] if reverse else x:
        now = step(row, now)
        found.append(now[0])
    return np.stack(found[::-1] if reverse else found), now


def _run(call: Call, count: int, steps: Sequence[tuple[Step, bool]], hidden: int, sequence: bool) -> list[Array]:
    """`steps` are the directions, `count` the states of each; all values are [steps, batch, width, 1, 1]."""
    x = call.x[..., 0, 0]
    outputs, states = [], []
    for index, (step, reverse) in enumerate(steps):
        given = [*call.inputs[1 + index * count :], *[None] * count][:count]
        start = [np.zeros((x.shape[1], hidden)) if value is None else value[0, :, :, 0, 0] for value in given]
        rows, last = _steps(x, start, step, reverse)
        outputs.append(rows if sequence else last[0][None])
        states += [state[None, ..., None, None] for state in last]
    return [np.concatenate(outputs, axis=-1)[..., None, None], *states]


def _lstm_step(call: Call, own: Any, functions: Sequence[Any]) -> Step:
    p = call.params
    width, hidden = int(p.inputVectorSize), int(p.outputVectorSize)
    gates = ("inputGate", "forgetGate", "blockInput", "outputGate")
    into = {gate: call.stored(getattr(own, f"{gate}WeightMatrix"), hidden, width) for gate in gates}
    back = {gate: call.stored(getattr(own, f"{gate}RecursionMatrix"), hidden, hidden) for gate in gates}
    bias: Mapping[str, Any] = dict.fromkeys(gates, 0.0)
    if p.params.hasBiasVectors:
        bias = {gate: call.stored(getattr(own, f"{gate}BiasVector"), hidden) for gate in gates}
    peep: Mapping[str, Any] = dict.fromkeys(gates, 0.0)
    if p.params.hasPeepholeVectors:
        names = [gate for gate in gates if gate != "blockInput"]
        peep = {gate: call.stored(getattr(own, f"{gate}PeepholeVector"), hidden) for gate in names}
    extra = {"forgetGate": float(p.params.forgetBias)}
    f, g, h = functions

    def step(x: Array, states: list[Array]) -> list[Array]:
        y, c = states

        def gate(name: str, cell: Array | None) -> Array:
            total = x @ into[name].T + y @ back[name].T + bias[name] + extra.get(name, 0.0)
            return _clip(total if cell is None else total + peep[name] * cell)

        block = activate(g, gate("blockInput", None), call)
        c_next = c * activate(f, gate("forgetGate", c), call) + activate(f, gate("inputGate", c), call) * block
        out = activate(f, gate("outputGate", c_next), call)
        return [activate(h, c_next, call) * out, c_next]

    return step


def _lstm(call: Call) -> list[Array]:
    p = call.params
    step = (_lstm_step(call, p.weightParams, p.activations), bool(p.reverseInput))
    return _run(call, 2, [step], int(p.outputVectorSize), p.params.sequenceOutput)


def _both(call: Call) -> list[Array]:
    p = call.params
    ahead, back = p.weightParams
    steps = [
        (_lstm_step(call, ahead, p.activationsForwardLSTM), False),
        (_lstm_step(call, back, p.activationsBackwardLSTM), True),
    ]
    return _run(call, 2, steps, int(p.outputVectorSize), p.params.sequenceOutput)


def _gru(call: Call) -> list[Array]:
    p = call.params
    width, hidden = int(p.inputVectorSize), int(p.outputVectorSize)
    gates = ("updateGate", "resetGate", "outputGate")
    into = {gate: call.stored(getattr(p, f"{gate}WeightMatrix"), hidden, width) for gate in gates}
    back = {gate: call.stored(getattr(p, f"{gate}RecursionMatrix"), hidden, hidden) for gate in gates}
    bias: Mapping[str, Any] = dict.fromkeys(gates, 0.0)
    if p.hasBiasVectors:
        bias = {gate: call.stored(getattr(p, f"{gate}BiasVector"), hidden) for gate in gates}
    f, g = p.activations

    def step(x: Array, states: list[Array]) -> list[Array]:
        (y,) = states

        def gate(name: str, state: Array) -> Array:
            return _clip(x @ into[name].T + state @ back[name].T + bias[name])

        z, r = activate(f, gate("updateGate", y), call), activate(f, gate("resetGate", y), call)
        return [(1 - z) * activate(g, gate("outputGate", y * r), call) + z * y]

    return _run(call, 1, [(step, bool(p.reverseInput))], hidden, p.sequenceOutput)


def _simple(call: Call) -> list[Array]:
    p = call.params
    width, hidden = int(p.inputVectorSize), int(p.outputVectorSize)
    into = call.stored(p.weightMatrix, hidden, width)
    back = call.stored(p.recursionMatrix, hidden, hidden)
    bias = call.stored(p.biasVector, hidden) if p.hasBiasVector else 0.0

    def step(x: Array, states: list[Array]) -> list[Array]:
        return [activate(p.activation, _clip(x @ into.T + states[0] @ back.T + bias), call)]

    return _run(call, 1, [(step, bool(p.reverseInput))], hidden, p.sequenceOutput)


LAYERS: dict[str, Function] = {
    "uniDirectionalLSTM": _lstm,
    "biDirectionalLSTM": _both,
    "gru": _gru,
    "simpleRecurrent": _simple,
}
