"""Cases of recurrent layers: directions, functions, what may be given or left out, sizes beside the vectors'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.suites.case import Array, Case, floats, node

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
INPUTS = ("x", "w", "r", "b", "l", "h", "c", "p")
OUTPUTS = {"LSTM": ("y", "yh", "yc"), "GRU": ("y", "yh"), "RNN": ("y", "yh")}


def layer(
    op: str,
    name: str,
    sizes: tuple[int, int, int, int] = (4, 3, 5, 9),
    given: str = "b",
    wanted: str = "y",
    *,
    lengths: tuple[int, ...] | None = None,
    fed: str = "xlhc",
    **attributes: Any,
) -> Case:
    """A layer over (times, rows, inputs, units); `given` are the optional inputs, `wanted` the output, `fed` the inputs
    that a run is given.
    """
    times, rows, inputs, units = sizes
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    gates = GATES[op] * units
    batch_first = bool(attributes.get("layout", 0))
    state = (rows, directions, units) if batch_first else (directions, rows, units)
    arrays: dict[str, Array] = {
        "x": floats(*((rows, times) if batch_first else (times, rows)), inputs, scale=0.7),
        "w": floats(directions, gates, inputs, scale=max(1, inputs) ** -0.5),
        "r": floats(directions, gates, units, scale=max(1, units) ** -0.5),
        "b": floats(directions, 2 * gates, scale=0.5),
        "l": np.array(lengths or [times] * rows, np.int32),
        "h": floats(*state, scale=0.5),
        "c": floats(*state),
        "p": floats(directions, 3 * units, scale=0.5),
    }
    chosen = "xwr" + given + ("l" if lengths is not None else "")
    names = [letter if letter in chosen else "_" for letter in INPUTS[: 8 if op == "LSTM" else 6]]
    made = node(op, " ".join(names), "y", hidden_size=units, **attributes)
    del made.output[:]
    # What is not wanted has a name all the same, but for one of them: both forms are to be had.
    made.output.extend("y" if one == wanted else "" if one == "y" else one for one in OUTPUTS[op])
    feeds, weights = (
        {letter: arrays[letter] for letter in chosen if (letter in fed) is into} for into in (True, False)
    )
    return Case(f"{op}-{name}", [made], feeds, weights)


def _both(op: str) -> Iterator[Case]:
    last = OUTPUTS[op][-1]
    everything = "bhcp" if op == "LSTM" else "bh"
    for direction in ("forward", "reverse", "bidirectional"):
        for rows, units in ((1, 8), (1, 37), (5, 16), (2, 3)):
            yield layer(op, f"{direction}-{rows}-{units}", (6, rows, 10, units), direction=direction)
        yield layer(op, f"{direction}-all", given=everything, wanted=last, direction=direction)
        lengths = (6, 0, 3, 1, 5)
        for wanted in OUTPUTS[op]:
            lengthy: dict[str, Any] = {"lengths": lengths, "wanted": wanted, "direction": direction}
            yield layer(op, f"{direction}-lengths-{wanted}", (6, 5, 4, 9), given="bhc", **lengthy)
    yield layer(op, "length-1", (6, 1, 4, 8), lengths=(4,))
    yield layer(op, "length-0", (6, 1, 4, 8), lengths=(0,))
    yield layer(op, "plain", given="")
    yield layer(op, "last", (7, 1, 4, 20), wanted="yh")
    yield layer(op, "weights-fed", (3, 2, 4, 11), fed="xlhcwrbp", direction="bidirectional")
    yield layer(op, "weights-fed-plain", (3, 2, 4, 8), given="", fed="xwr")
    yield layer(op, "clip", (5, 3, 5, 9), clip=0.3, direction="bidirectional")
    yield layer(op, "large", (3, 33, 40, 70))
    # Long enough for threads to share the units of one row.
    units = {"LSTM": 100, "GRU": 110, "RNN": 190}[op]
    yield layer(op, "shared", (9, 1, 5, units), given="bh", wanted=last)
    yield layer(op, "shared-lengths", (9, 1, 5, units), lengths=(6,), direction="reverse")
    yield layer(op, "shared-no-length", (3, 1, 5, units), lengths=(0,), wanted="yh")


def _functions() -> Iterator[Case]:
    for name, alpha, beta in (
        ("Relu", None, None),
        ("Affine", 0.7, 0.1),
        ("LeakyRelu", 0.2, None),
        ("LeakyRelu", None, None),
        ("ThresholdedRelu", 0.3, None),
        ("ScaledTanh", 0.5, 0.8),
        ("HardSigmoid", 0.3, 0.4),
        ("HardSigmoid", None, None),
        ("Elu", 0.7, None),
        ("Softsign", None, None),
        ("Softplus", None, None),
    ):
        numbers = {"activation_alpha": alpha, "activation_beta": beta}
        given: dict[str, Any] = {key: [value] for key, value in numbers.items() if value is not None}
        yield layer("RNN", f"{name}-{'default' if not given else 'given'}", (5, 2, 4, 8), activations=[name], **given)
    mixed = {"activations": ["Sigmoid", "Tanh", "Relu", "HardSigmoid", "ScaledTanh", "LeakyRelu"]}
    numbers = {"activation_alpha": [0.3, 0.6, 0.1], "activation_beta": [0.45, 0.9]}
    yield layer("LSTM", "mixed", (5, 3, 4, 10), direction="bidirectional", **mixed, **numbers)
    yield layer("GRU", "mixed", (5, 3, 4, 10), direction="bidirectional", activations=["Sigmoid", "Tanh"] * 2)
    yield layer("GRU", "two", (5, 1, 4, 10), direction="bidirectional", activations=["Sigmoid", "Tanh"] + ["Elu"] * 2)


def _own() -> Iterator[Case]:
    """What only one of them has."""
    for rows in (1, 4):
        for given in ("b", ""):
            after = {"given": given, "linear_before_reset": 1, "direction": "bidirectional"}
            yield layer("GRU", f"after-{rows}-{given}", (5, rows, 4, 9), **after)
    yield layer("GRU", "after-shared", (9, 1, 5, 110), linear_before_reset=1)
    yield layer("GRU", "after-fed", (5, 2, 4, 9), fed="xwrb", linear_before_reset=1)
    yield layer("GRU", "after-lengths", (5, 2, 4, 9), lengths=(2, 5), given="bh", wanted="yh", linear_before_reset=1)
    yield layer("LSTM", "coupled", (5, 2, 4, 9), input_forget=1)
    yield layer("LSTM", "coupled-peepholes", (5, 2, 4, 17), given="bp", input_forget=1, clip=0.8)
    yield layer("LSTM", "peepholes-fed", (5, 2, 4, 17), given="bp", fed="xp", direction="bidirectional")


def _chains() -> Iterator[Case]:
    """Layers on layers, as frameworks write them."""
    first, second = (
        layer("LSTM", "first", (5, 2, 6, 8), direction="bidirectional"),
        layer("LSTM", "second", (5, 2, 16, 8), direction="bidirectional"),
    )
    weights = {
        f"{letter}{index}": case.weights[letter] for index, case in ((1, first), (2, second)) for letter in "wrb"
    }
    both = {"direction": "bidirectional", "hidden_size": 8}
    yield Case(
        "LSTM-stack",
        [
            node("LSTM", "x w1 r1 b1", "a", **both),
            node("Transpose", "a", "t", perm=[0, 2, 1, 3]),
            node("Reshape", "t s", "f"),
            node("LSTM", "f w2 r2 b2", "c", **both),
            node("Transpose", "c", "d", perm=[0, 2, 1, 3]),
            node("Reshape", "d s"),
        ],
        first.feeds,
        {**weights, "s": np.array([0, 0, -1])},
    )
    swapped = {"x": np.ascontiguousarray(first.feeds["x"].transpose(1, 0, 2))}
    yield Case(
        "GRU-batch-first",
        [
            node("Transpose", "x", "t", perm=[1, 0, 2]),
            node("GRU", "t w r b", "g", hidden_size=8),
            node("Squeeze", "g a", "q"),
            node("Transpose", "q", perm=[1, 0, 2]),
        ],
        swapped,
        {**layer("GRU", "gru", (5, 2, 6, 8)).weights, "a": np.array([1])},
    )
    yield Case(
        "RNN-twice",
        [node("RNN", "x w r b", "y yh", hidden_size=8)],
        first.feeds,
        layer("RNN", "rnn", (5, 2, 6, 8)).weights,
        opset=7,
    )


CASES: tuple[Case, ...] = (
    *(case for op in GATES for case in _both(op)),
    *_functions(),
    *_own(),
    *_chains(),
)
