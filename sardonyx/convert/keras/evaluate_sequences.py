"""Keras layers in float64: embeddings, masks, recurrent layers and attention, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.keras.evaluate_base import Call, Function, Value
from sardonyx.convert.keras.evaluate_layers import activate, softmax

KEEPS = frozenset(
    {
        *("Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dense", "Dropout", "ELU"),
        *("GaussianDropout", "GaussianNoise", "GroupNormalization", "LayerNormalization", "LeakyReLU", "PReLU"),
        *("ReLU", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "ThresholdedReLU", "UnitNormalization"),
    }
)
"""Layers whose documentation says that they support masking, and that do nothing to the mask."""

KEEPS_3 = frozenset({"Identity", "Normalization", "Rescaling"})


def _embedding(call: Call) -> Value:
    ids = call.x.astype(np.int64)
    return Value(call.weights["embeddings"][ids], ids != 0 if call.get("mask_zero", False) else None)


def _masking(call: Call) -> Value:
    kept = (call.f != call.get("mask_value", 0.0)).any(axis=-1)
    return Value(call.f * kept[..., None], kept)


def _category_encoding(call: Call) -> Value:
    count, mode = call.config["num_tokens"], call.get("output_mode", "multi_hot")
    hot = np.eye(count)[call.x.astype(np.int64)]
    if mode == "one_hot":
        return Value(hot[..., 0, :] if call.x.ndim > 1 and call.x.shape[-1] == 1 else hot)
    total = hot.sum(axis=-2)
    return Value(total if mode == "count" else np.minimum(total, 1.0))


def _einsum_dense(call: Call) -> Value:
    equation = call.config["equation"]
    y = np.einsum(equation, call.f, call.weights["kernel"])
    axes = call.get("bias_axes")
    if axes:
        names = equation.split("->")[1].replace("...", "")
        bias = call.weights["bias"]
        shape = [bias.shape[axes.index(c)] if c in axes else 1 for c in names]
        y = y + bias.transpose(sorted(range(len(axes)), key=lambda i: names.index(axes[i]))).reshape(shape)
    return Value(activate(call, y))


def _dot(call: Call) -> Value:
    a, b = (v.x.astype(np.float64) for v in call.values)
    axes = call.config["axes"]
    first, second = (axes, axes) if isinstance(axes, int) else axes
    a, b = np.moveaxis(a, first, -1), np.moveaxis(b, second, -1)
    if call.get("normalize", False):
        least = 1e-7 if call.version[0] == 3 else 1e-6
        a, b = (v / np.maximum(np.sqrt((v * v).sum(axis=-1, keepdims=True)), least) for v in (a, b))
    y = np.stack([np.tensordot(one, two, axes=(-1, -1)) for one, two in zip(a, b, strict=True)])
    return Value(y if y.ndim > 1 else y[:, None])


# Recurrent layers

Step = Callable[[Array, list[Array]], tuple[Array, list[Array]]]


def _lstm(call: Call) -> tuple[Step, list[int]]:
    units, w = call.config["units"], call.weights

    def step(x: Array, states: list[Array]) -> tuple[Array, list[Array]]:
        h, c = states
        z = x @ w["kernel"] + h @ w["recurrent_kernel"] + w.get("bias", 0.0)
        i, f, g, o = (z[:, n * units : (n + 1) * units] for n in range(4))
        i, f, o = (activate(call, gate, "recurrent_activation", "sigmoid") for gate in (i, f, o))
        c = f * c + i * activate(call, g, default="tanh")
        h = o * activate(call, c, default="tanh")
        return h, [h, c]

    return step, [units, units]


def _gru(call: Call) -> tuple[Step, list[int]]:
    u, w, after = call.config["units"], call.weights, call.get("reset_after", "reset_after" not in call.config)

    def step(x: Array, states: list[Array]) -> tuple[Array, list[Array]]:
        (h,) = states
        bias = w.get("bias", np.zeros((2, 3 * u) if after else 3 * u))
        given = x @ w["kernel"] + (bias[0] if after else bias)
        own = w["recurrent_kernel"]
        turn = h @ own + bias[1] if after else h @ own
        z = activate(call, given[:, :u] + turn[:, :u], "recurrent_activation", "sigmoid")
        r = activate(call, given[:, u : 2 * u] + turn[:, u : 2 * u], "recurrent_activation", "sigmoid")
        old = r * turn[:, 2 * u :] if after else (r * h) @ own[:, 2 * u :]
        h = z * h + (1 - z) * activate(call, given[:, 2 * u :] + old, default="tanh")
        return h, [h]

    return step, [u]


def _simple(call: Call) -> tuple[Step, list[int]]:
    w = call.weights

    def step(x: Array, states: list[Array]) -> tuple[Array, list[Array]]:
        h = activate(call, x @ w["kernel"] + states[0] @ w["recurrent_kernel"] + w.get("bias", 0.0), default="tanh")
        return h, [h]

    return step, [call.config["units"]]


def _stacked(call: Call) -> tuple[Step, list[int]]:
    cells, seen = [], dict[str, int]()
    for data in call.config["cells"]:
        name = {
            "LSTMCell": "lstm_cell",
            "GRUCell": "gru_cell",
            "SimpleRNNCell": "simple_rnn_cell",
            "StackedRNNCells": "stacked_rnn_cells",
        }[data["class_name"]]
        seen[name] = seen.get(name, -1) + 1
        place = f"cells/{name}" + (f"_{seen[name]}" if seen[name] else "")
        cells.append(_cell(data, _within(call.weights, place), call.version))

    def step(x: Array, states: list[Array]) -> tuple[Array, list[Array]]:
        new, at = [], 0
        for inner, sizes in cells:
            x, mine = inner(x, states[at : at + len(sizes)])
            at += len(sizes)
            new += mine
        return x, new

    return step, [size for _, sizes in cells for size in sizes]


_CELLS: dict[str, Callable[[Call], tuple[Step, list[int]]]] = {
    "GRU": _gru,
    "GRUCell": _gru,
    "LSTM": _lstm,
    "LSTMCell": _lstm,
    "SimpleRNN": _simple,
    "SimpleRNNCell": _simple,
    "StackedRNNCells": _stacked,
}


def _within(weights: Mapping[str, Array], place: str) -> dict[str, Array]:
    return {key[len(place) + 1 :]: array for key, array in weights.items() if key.startswith(f"{place}/")}


def _cell(data: Mapping[str, Any], weights: Mapping[str, Array], version: tuple[int, int]) -> tuple[Step, list[int]]:
    return _CELLS[data["class_name"]](Call(data["config"], weights, version, (), {}))


def _unrolled(
    layer: Mapping[str, Any], weights: Mapping[str, Array], call: Call, states: Sequence[Array], *,
    backwards: bool | None = None, zeros: bool | None = None,
) -> tuple[Array, Array, list[Array]]:  # fmt: skip
    """All outputs in the order they were made, the last one, and the last states."""
    config = layer["config"]
    data = config["cell"] if layer["class_name"] == "RNN" else layer
    step, sizes = _cell(data, _within(weights, "cell"), call.version)
    x, mask = call.f, call.mask()
    state = [s.copy() for s in states] or [np.zeros((x.shape[0], size)) for size in sizes]
    backwards = bool(config.get("go_backwards")) if backwards is None else backwards
    zeros = bool(config.get("zero_output_for_mask")) if zeros is None else zeros
    shown: Array | None = None
    made = []
    for t in range(x.shape[1])[:: -1 if backwards else 1]:
        output, new = step(x[:, t], state)
        if mask is not None:
            given = mask[:, t, None]
            before = np.zeros_like(output) if zeros or shown is None else shown
            output = np.where(given, output, before)
            new = [np.where(given, now, old) for now, old in zip(new, state, strict=True)]
        shown, state = output, new
        made.append(output)
    assert shown is not None
    return np.stack(made, axis=1), shown, state


def _states(call: Call) -> list[Array]:
    given = call.kwargs.get("initial_state")
    items = given if isinstance(given, tuple) else (given,) if given is not None else ()
    return [v.x.astype(np.float64) for v in (*call.values[1:], *items)]


def _recurrent(name: str) -> Function:
    def run(call: Call) -> list[Value]:
        whole, last, states = _unrolled({"class_name": name, "config": call.config}, call.weights, call, _states(call))
        output = Value(whole, call.mask()) if call.get("return_sequences", False) else Value(last)
        return [output, *map(Value, states)] if call.get("return_state", False) else [output]

    return run


def _bidirectional(call: Call) -> list[Value]:
    layer = call.config["layer"]
    back = call.config.get("backward_layer")
    turned = not layer["config"].get("go_backwards") if back is None else bool(back["config"].get("go_backwards"))
    sequences = bool(layer["config"].get("return_sequences"))
    states = _states(call)
    half = len(states) // 2
    runs = []
    for data, place, mine, way in (
        (layer, "forward_layer", states[:half], None),
        (back or layer, "backward_layer", states[half:], turned),
    ):
        runs.append(_unrolled(data, _within(call.weights, place), call, mine, backwards=way, zeros=sequences))
    (a_all, a, a_states), (b_all, b, b_states) = runs
    if sequences:
        a, b = a_all, b_all[:, ::-1]
    mask = call.mask() if sequences else None
    mode = call.config.get("merge_mode", "concat")
    if mode is None:
        outputs = [Value(a, mask), Value(b, mask)]
    else:
        merged: dict[str, Callable[[Array, Array], Array]] = {
            "concat": lambda one, two: np.concatenate([one, two], axis=-1),
            "sum": np.add,
            "mul": np.multiply,
            "ave": lambda one, two: (one + two) / 2,
        }
        outputs = [Value(merged[mode](a, b), mask)]
    return outputs + [Value(s) for s in a_states + b_states] if layer["config"].get("return_state") else outputs


# Attention


def _multi_head(call: Call) -> list[Value]:
    order = ("query", "value", "key")
    named: dict[str, Value] = dict(zip(order, call.values, strict=False))
    named |= {name: given for name in order if isinstance(given := call.kwargs.get(name), Value)}
    query, value = named["query"], named["value"]
    key = named.get("key", value)
    w = call.weights
    q, k, v = (np.einsum("btf,fhd->bhtd", t.x.astype(np.float64), w[f"{n}_dense/kernel"])
               for n, t in (("query", query), ("key", key), ("value", value)))  # fmt: skip
    if "query_dense/bias" in w:
        q, k, v = (t + w[f"{n}_dense/bias"][:, None] for n, t in (("query", q), ("key", k), ("value", v)))
    share = q.shape[1] // k.shape[1]
    heads = [h // share for h in range(q.shape[1])]
    k, v = k[:, heads], v[:, heads]
    scores = q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1])
    allowed = np.ones(scores.shape, bool)
    if query.mask is not None:
        allowed &= query.mask[:, None, :, None]
    for masked in (value, key) if "key" in named else (value,):
        if masked.mask is not None:
            allowed &= masked.mask[:, None, None, :]
    if call.kwargs.get("use_causal_mask") is True:
        allowed &= np.tri(scores.shape[2], scores.shape[3], dtype=bool)
    given = call.kwargs.get("attention_mask")
    if isinstance(given, Value):
        allowed &= (given.x if given.x.ndim == 4 else given.x[:, None]).astype(bool)
    wanted = call.kwargs.get("return_attention_scores") is True
    shares = softmax(np.where(allowed, scores, -1e30))
    if call.version >= (3, 10) and (wanted or call.get("dropout", 0.0) > 0):
        shares = shares * allowed  # through keras.layers.Softmax
    y = np.einsum("bhtd,hdf->btf", shares @ v, w["output_dense/kernel"]) + w.get("output_dense/bias", 0.0)
    mask = query.mask
    if call.version >= (3, 8) and "num_heads" in call.config:  # there it takes the masks off its inputs
        query.mask = value.mask = key.mask = None
    return [Value(y, mask), Value(shares)] if wanted else [Value(y, mask)]


def _attention(additive: bool) -> Function:
    def run(call: Call) -> list[Value]:
        query, value, *keys = call.values
        key = keys[0] if keys else value
        given = call.kwargs.get("mask")
        masks = [m.x if isinstance(m, Value) else None for m in given[:2]] if given else [query.mask, value.mask]
        pairs = query.x[:, :, None] + key.x[:, None]
        scale = call.weights.get("scale", 1.0)
        if additive:
            scores = (scale * np.tanh(pairs)).sum(axis=-1)
        elif call.get("score_mode", "dot") == "dot":
            scores = np.einsum("btd,bsd->bts", query.x, key.x) * scale
        else:
            scores = call.weights["concat_score_weight"] * np.tanh(scale * pairs).sum(axis=-1)
        allowed = np.ones(scores.shape, bool)
        if masks[1] is not None:
            allowed &= masks[1].astype(bool)[:, None]
        if call.kwargs.get("use_causal_mask") is True:
            allowed &= np.tri(scores.shape[1], scores.shape[2], dtype=bool)
        shares = softmax(np.where(allowed, scores, -1e30))
        y = shares @ value.x
        if masks[0] is not None:
            y = y * masks[0].astype(bool)[..., None]
        out = Value(y, masks[0])
        return [out, Value(shares)] if call.kwargs.get("return_attention_scores") is True else [out]

    return run


LAYERS: dict[str, Function] = {
    "AdditiveAttention": _attention(additive=True),
    "Attention": _attention(additive=False),
    "Bidirectional": _bidirectional,
    "CategoryEncoding": _category_encoding,
    "Dot": _dot,
    "EinsumDense": _einsum_dense,
    "Embedding": _embedding,
    "GRU": _recurrent("GRU"),
    "GroupQueryAttention": _multi_head,
    "GroupedQueryAttention": _multi_head,
    "LSTM": _recurrent("LSTM"),
    "Masking": _masking,
    "MultiHeadAttention": _multi_head,
    "RNN": _recurrent("RNN"),
    "SimpleRNN": _recurrent("SimpleRNN"),
}
