"""An MXNet network in float64 NumPy, written from MXNet's documentation and not from how it becomes ONNX.

Slow and plain: windows are visited tap by tap or one by one, sequences step by step.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.convert.base import Values
from sardonyx.convert.contract import over_channels
from sardonyx.convert.mxnet.files import Array, Attributes, Network, Node

Function = Callable[[Attributes, Sequence[Array]], "Array | list[Array]"]

_LOSSES = {"IdentityAttachKLSparseReg", "LinearRegressionOutput", "LogisticRegressionOutput",
           "MAERegressionOutput", "SVMOutput", "Softmax", "SoftmaxOutput"}  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """The network as an oracle; `places` are the results that the outputs are."""

    network: Network
    outputs: tuple[str, ...]
    places: Mapping[str, tuple[int, int]]
    name: str = "float64 evaluation of the source graph"

    def run(self, inputs: Values) -> Values:
        """Outputs by name, and each node's first result by its name."""
        values: list[list[Array]] = []
        for node in self.network.nodes:
            values.append(self._node(node, values, inputs))
        named = {node.name: found[0] for node, found in zip(self.network.nodes, values, strict=True)
                 if found and node.op != "null"}  # fmt: skip
        return named | {name: values[i][j] for name, (i, j) in self.places.items()}

    def _node(self, node: Node, values: list[list[Array]], inputs: Values) -> list[Array]:
        if node.op == "null":
            found = inputs.get(node.name, self.network.arrays.get(node.name))
            return [] if found is None else [found.astype(np.float64) if found.dtype.kind not in "iub" else found]
        sources = node.inputs[:1] if node.op in _LOSSES else node.inputs
        if any(len(values[i]) <= j for i, j in sources) or node.op not in {*FUNCTIONS, "_ones", "_zeros"}:
            return []
        given = [values[i][j] for i, j in sources]
        if node.op == "BatchNorm" and len(given) == 3:
            given += [
                self.network.arrays[f"{node.name}_{part}"].astype(float) for part in ("moving_mean", "moving_var")
            ]
        if node.op in ("_zeros", "_ones"):
            # A size of 0 is to be inferred: states of recurrent layers, which are repeated for the batch.
            return [np.full([n or 1 for n in node.attributes.ints("shape")], float(node.op == "_ones"))]
        result = FUNCTIONS[node.op](node.attributes, given)
        return result if isinstance(result, list) else [result]


def _spatial(p: Attributes, rank: int) -> tuple[list[int], list[int], list[int]]:
    return list(p.ints("kernel")), list(p.ints("stride")) or [1] * rank, list(p.ints("pad")) or [0] * rank


def _column(vector: Array, rank: int) -> Array:
    return vector.reshape(1, -1, *[1] * (rank - 2))


def _places(
    tap: Sequence[int], dilate: Sequence[int], counts: Sequence[int], stride: Sequence[int]
) -> tuple[slice, ...]:
    """Where one tap of a kernel lies for every window."""
    return tuple(
        slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilate, counts, stride, strict=True)
    )


def _convolution(p: Attributes, given: Sequence[Array]) -> Array:
    x, weight = given[:2]
    rank, groups = x.ndim - 2, p.int("num_group", 1)
    kernel, stride, pad = _spatial(p, rank)
    dilate = list(p.ints("dilate")) or [1] * rank
    x = np.pad(x, [(0, 0), (0, 0), *((n, n) for n in pad)])
    counts = [(n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(x.shape[2:], dilate, kernel, stride, strict=True)]
    weight = weight.reshape(groups, -1, *weight.shape[1:])
    result = np.zeros((len(x), groups, weight.shape[1], *counts))
    for tap in itertools.product(*map(range, kernel)):
        seen = x[(slice(None), slice(None), *_places(tap, dilate, counts, stride))]
        seen = seen.reshape(len(x), groups, -1, *counts)
        result += over_channels(weight[(slice(None),) * 3 + tap], seen)
    result = result.reshape(len(x), -1, *counts)
    return result + _column(given[2], result.ndim) if len(given) > 2 else result


def _deconvolution(p: Attributes, given: Sequence[Array]) -> Array:
    x, weight = given[:2]
    rank, groups = x.ndim - 2, p.int("num_group", 1)
    kernel, stride, pad = _spatial(p, rank)
    dilate, adjust = list(p.ints("dilate")) or [1] * rank, list(p.ints("adj")) or [0] * rank
    apart = x.reshape(len(x), groups, -1, *x.shape[2:])
    weight = weight.reshape(groups, apart.shape[2], *weight.shape[1:])
    whole = [
        (n - 1) * s + d * (k - 1) + 1 + a
        for n, s, d, k, a in zip(x.shape[2:], stride, dilate, kernel, adjust, strict=True)
    ]
    canvas = np.zeros((len(x), groups, weight.shape[2], *whole))
    for tap in itertools.product(*map(range, kernel)):
        part = over_channels(weight[(slice(None),) * 3 + tap].swapaxes(1, 2), apart)
        canvas[(slice(None),) * 3 + _places(tap, dilate, x.shape[2:], stride)] += part
    result = canvas.reshape(len(x), -1, *whole)
    inner = tuple(slice(n, size - n) for n, size in zip(pad, whole, strict=True))
    result = result[(slice(None), slice(None), *inner)]
    return result + _column(given[2], result.ndim) if len(given) > 2 else result


def _pooling(p: Attributes, given: Sequence[Array]) -> Array:
    """Window by window (pool.h)."""
    (x,), kind = given, p.text("pool_type", "max")
    reductions: dict[str, Callable[..., Any]] = {"max": np.max, "avg": np.mean, "sum": np.sum}
    reduce = reductions[kind]
    axes = tuple(range(2, x.ndim))
    if p.bool("global_pool", False):
        return np.asarray(reduce(x, axis=axes, keepdims=True))
    kernel, stride, pad = _spatial(p, len(axes))
    ceil = p.text("pooling_convention", "valid") == "full"
    counts = []
    for size, k, s, n in zip(x.shape[2:], kernel, stride, pad, strict=True):
        exact = (size + 2 * n - k) / s
        counts.append(1 + (math.ceil(exact) if ceil else math.floor(exact)))
    result = np.zeros((*x.shape[:2], *counts))
    for place in np.ndindex(*counts):
        starts = [i * s - n for i, s, n in zip(place, stride, pad, strict=True)]
        ends = [min(start + k, size + n) for start, k, size, n in zip(starts, kernel, x.shape[2:], pad, strict=True)]
        area = math.prod(end - start for start, end in zip(starts, ends, strict=True))
        inside = tuple(
            slice(max(start, 0), min(end, size)) for start, end, size in zip(starts, ends, x.shape[2:], strict=True)
        )
        window = x[(slice(None), slice(None), *inside)]
        if kind == "avg" and p.bool("count_include_pad", True):
            result[(slice(None), slice(None), *place)] = window.sum(axes) / area
        else:
            result[(slice(None), slice(None), *place)] = reduce(window, axis=axes)
    return result


def _adaptive(p: Attributes, given: Sequence[Array]) -> Array:
    wanted = p.ints("output_size") or (1, 1)
    rows, columns = wanted * 2 if len(wanted) == 1 else wanted
    (x,) = given
    apart = x.reshape(*x.shape[:2], rows, x.shape[2] // rows, columns, x.shape[3] // columns)
    return np.asarray(apart.mean((3, 5)))


def _batch_norm(p: Attributes, given: Sequence[Array]) -> Array:
    x, gamma, beta, mean, variance = given
    shape = [1] * x.ndim
    shape[p.int("axis", 1)] = -1
    gamma = gamma * 0 + 1 if p.bool("fix_gamma", True) else gamma
    gamma, beta, mean, variance = (part.reshape(shape) for part in (gamma, beta, mean, variance))
    return np.asarray(gamma * (x - mean) / np.sqrt(variance + p.float("eps", 1e-3)) + beta)


def _standard(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    return np.asarray((x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps))


def _layer_norm(p: Attributes, given: Sequence[Array]) -> Array:
    return _standard(given[0], (-1,), p.float("eps", 1e-5)) * given[1] + given[2]


def _instance_norm(p: Attributes, given: Sequence[Array]) -> Array:
    x = given[0]
    return _standard(x, tuple(range(2, x.ndim)), p.float("eps", 1e-3)) * _column(given[1], x.ndim) + _column(
        given[2], x.ndim
    )


def _group_norm(p: Attributes, given: Sequence[Array]) -> Array:
    x = given[0]
    apart = x.reshape(len(x), p.int("num_groups", 1), -1)
    gamma, beta = (_column(part.repeat(x.shape[1] // part.size), x.ndim) for part in given[1:])
    return np.asarray(_standard(apart, (2,), p.float("eps", 1e-5)).reshape(x.shape) * gamma + beta)


def _l2(p: Attributes, given: Sequence[Array]) -> Array:
    (x,) = given
    axes = {"instance": tuple(range(1, x.ndim)), "channel": (1,), "spatial": tuple(range(2, x.ndim))}
    squares = (x**2).sum(axes[p.text("mode", "instance")], keepdims=True)
    return np.asarray(x / np.sqrt(squares + p.float("eps", 1e-10)))


def _lrn(p: Attributes, given: Sequence[Array]) -> Array:
    (x,), size = given, p.int("nsize", 0)
    total = np.zeros_like(x)
    for channel in range(x.shape[1]):
        total[:, channel] = (x[:, max(0, channel - size // 2) : channel + size // 2 + 1] ** 2).sum(1)
    return x * (p.float("knorm", 2.0) + p.float("alpha", 1e-4) / size * total) ** -p.float("beta", 0.75)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


_KINDS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.where(x > 0, x, 0), "sigmoid": _sigmoid, "tanh": np.tanh, "softrelu": _softplus,
    "softsign": lambda x: x / (1 + abs(x)), "log_sigmoid": lambda x: -_softplus(-x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
}  # fmt: skip


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[float])(x))


def _leaky(p: Attributes, given: Sequence[Array]) -> Array:
    x, kind, slope = given[0], p.text("act_type", "leaky"), p.float("slope", 0.25)
    if kind == "elu":
        return np.where(x > 0, x, slope * np.expm1(np.minimum(x, 0)))
    if kind == "selu":
        return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    if kind == "gelu":
        return np.asarray(x * 0.5 * (1 + _erf(x / math.sqrt(2))))
    if kind == "prelu":
        return np.where(x > 0, x, x * _column(given[1], x.ndim))
    if kind == "rrelu":
        slope = (p.float("lower_bound", 0.125) + p.float("upper_bound", 0.334)) / 2
    return np.where(x > 0, x, slope * x)


def _dense(p: Attributes, given: Sequence[Array]) -> Array:
    x = given[0].reshape(len(given[0]), -1) if p.bool("flatten", True) else given[0]
    result = x @ given[1].T
    return np.asarray(result + given[2] if len(given) > 2 else result)


def _exponentials(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def _softmax(p: Attributes, given: Sequence[Array]) -> Array:
    return _exponentials(given[0] / p.float("temperature", 1.0), p.int("axis", -1))


def _softmax_output(p: Attributes, given: Sequence[Array]) -> Array:
    x = given[0]
    if p.bool("multi_output", False):
        return _exponentials(x, 1)
    if p.bool("preserve_shape", False):
        return _exponentials(x, -1)
    return _exponentials(x.reshape(len(x), -1), 1).reshape(x.shape)


def _softmax_activation(p: Attributes, given: Sequence[Array]) -> Array:
    return _exponentials(given[0], 1 if p.text("mode") == "channel" else -1)


def _upsampling(p: Attributes, given: Sequence[Array]) -> Array:
    rows, columns = (p.int("scale", 1) * n for n in given[0].shape[2:])
    parts = [x.repeat(rows // x.shape[2], 2).repeat(columns // x.shape[3], 3) for x in given]
    return np.sum(parts, 0) if p.text("multi_input_mode", "concat") == "sum" else np.concatenate(parts, 1)


def _bilinear(p: Attributes, given: Sequence[Array]) -> Array:
    (x,) = given
    sizes = [p.int("height", 1), p.int("width", 1)]
    if p.has("scale_height"):
        sizes = [int(n * p.float(f"scale_{axis}", 1)) for n, axis in zip(x.shape[2:], ("height", "width"), strict=True)]
    for axis, size in zip((2, 3), sizes, strict=True):
        at = np.linspace(0, x.shape[axis] - 1, size)
        low = at.astype(int)
        high, part = np.minimum(low + 1, x.shape[axis] - 1), (at - low).reshape(-1, *[1] * (3 - axis))
        x = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
    return x


def _rnn(p: Attributes, given: Sequence[Array]) -> list[Array]:
    """Step by step."""
    x, row, mode = given[0], given[1].ravel(), p.text("mode")
    hidden, count, ways = p.int("state_size", 0), p.int("num_layers", 0), 1 + p.bool("bidirectional", False)
    gates, at = {"lstm": 4, "gru": 3}.get(mode, 1) * hidden, 0
    weights, biases = [], []
    for layer in range(count):
        for _ in range(ways):
            columns = given[0].shape[2] if layer == 0 else hidden * ways
            inner, outer = gates * columns, gates * hidden
            weights.append(
                (row[at : at + inner].reshape(gates, -1), row[at + inner : at + inner + outer].reshape(gates, -1))
            )
            at += inner + outer
    for _ in weights:
        biases.append((row[at : at + gates], row[at + gates : at + 2 * gates]))
        at += 2 * gates
    first = [np.broadcast_to(state, (count * ways, x.shape[1], hidden)) for state in given[2:]]
    finals: list[list[Array]] = []
    for layer in range(count):
        sides = []
        for way in range(ways):
            k = layer * ways + way
            steps, state = [], [part[k] for part in first]
            for step in x[::-1] if way else x:
                state = _step(
                    mode, step @ weights[k][0].T + biases[k][0], state[0] @ weights[k][1].T + biases[k][1], state
                )
                steps.append(state[0])
            finals.append(state)
            sides.append(np.stack(steps[::-1] if way else steps))
        x = np.concatenate(sides, -1)
    return [x, *(np.stack(parts) for parts in zip(*finals, strict=True))]


def _step(mode: str, inner: Array, outer: Array, state: list[Array]) -> list[Array]:
    if mode == "lstm":
        i, f, g, o = np.split(inner + outer, 4, -1)
        cell = _sigmoid(f) * state[1] + _sigmoid(i) * np.tanh(g)
        return [_sigmoid(o) * np.tanh(cell), cell]
    if mode == "gru":
        (r, z, n), (r2, z2, n2) = np.split(inner, 3, -1), np.split(outer, 3, -1)
        keep = _sigmoid(z + z2)
        return [(1 - keep) * np.tanh(n + _sigmoid(r + r2) * n2) + keep * state[0]]
    return [np.tanh(inner + outer) if mode == "rnn_tanh" else np.maximum(inner + outer, 0)]


# Shapes and choices


def _reshape(p: Attributes, given: Sequence[Array]) -> Array:
    (x,), codes, dims = given, list(p.ints("shape")), list[int]()
    left = list(x.shape)
    while codes:
        code = codes.pop(0)
        if code == 0:
            dims.append(left.pop(0))
        elif code == -2:
            dims += left
            left = []
        elif code == -3:
            dims.append(left.pop(0) * left.pop(0))
        elif code == -4:
            size, a, b = left.pop(0), codes.pop(0), codes.pop(0)
            dims += [size // b if a == -1 else a, size // a if b == -1 else b]
        else:
            dims.append(code)
            left = left[1:]
    return x.reshape(dims)


def _slice(p: Attributes, given: Sequence[Array]) -> Array:
    parts = [p.value(name, ()) for name in ("begin", "end", "step")]
    begin, end, step = (part if isinstance(part, tuple) else (part,) for part in parts)
    step = step or (None,) * len(begin)
    return given[0][tuple(slice(*bounds) for bounds in zip(begin, end, step, strict=True))]


def _slice_axis(p: Attributes, given: Sequence[Array]) -> Array:
    axis = p.int("axis", 0) % given[0].ndim
    end = p.int("end", 0) if p.has("end") else None
    return given[0][(slice(None),) * axis + (slice(p.int("begin", 0), end),)]


def _slice_like(p: Attributes, given: Sequence[Array]) -> Array:
    x, like = given
    for axis in p.ints("axes") or range(x.ndim):
        x = np.take(x, range(like.shape[axis]), axis)
    return x


def _split(p: Attributes, given: Sequence[Array]) -> list[Array]:
    axis = p.int("axis", 1)
    parts = np.split(given[0], p.int("num_outputs", 1), axis)
    return [part.squeeze(axis) for part in parts] if p.bool("squeeze_axis", False) else parts


def _crop(p: Attributes, given: Sequence[Array]) -> Array:
    x = given[0]
    height, width = given[1].shape[2:] if len(given) > 1 else p.ints("h_w")
    top, left = p.ints("offset") or (0, 0)
    if p.bool("center_crop", False):
        top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def _pad(p: Attributes, given: Sequence[Array]) -> Array:
    widths = np.array(p.ints("pad_width")).reshape(-1, 2)
    if p.text("mode") == "constant":
        return np.pad(given[0], widths, constant_values=p.float("constant_value", 0.0))
    return np.pad(given[0], widths, mode="edge" if p.text("mode") == "edge" else "reflect")


def _reduced(function: Callable[..., Array]) -> Function:
    def compute(p: Attributes, given: Sequence[Array]) -> Array:
        x = given[0]
        axes = tuple(axis % x.ndim for axis in p.ints("axis")) if p.has("axis") else ()
        if p.bool("exclude", False):
            axes = tuple(axis for axis in range(x.ndim) if axis not in axes)
        result = np.asarray(function(x, axis=axes or None, keepdims=p.bool("keepdims", False)))
        return result.reshape(1) if result.ndim == 0 else result

    return compute


def _norm(p: Attributes, given: Sequence[Array]) -> Array:
    if p.int("ord", 2) == 1:
        return np.asarray(_reduced(np.sum)(p, [abs(given[0])]))
    return np.asarray(np.sqrt(np.asarray(_reduced(np.sum)(p, [given[0] ** 2]))))


def _chosen(function: Callable[..., Array]) -> Function:
    def compute(p: Attributes, given: Sequence[Array]) -> Array:
        axis, keep = p.int("axis", 0), p.bool("keepdims", False)
        return np.atleast_1d(np.asarray(function(given[0], axis=axis, keepdims=keep), float))

    return compute


def _take(p: Attributes, given: Sequence[Array]) -> Array:
    return np.take(given[0], given[1].astype(int), p.int("axis", 0), mode="clip")


def _pick(p: Attributes, given: Sequence[Array]) -> Array:
    x, keep = given[0], p.bool("keepdims", False)
    axis = p.int("axis", -1) % x.ndim
    rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    index = np.clip(given[1].astype(int).ravel(), 0, x.shape[axis] - 1)
    picked = np.array([row[i] for row, i in zip(rows, index, strict=True)])
    return picked.reshape([1 if i == axis else n for i, n in enumerate(x.shape) if keep or i != axis])


def _smooth_l1(p: Attributes, given: Sequence[Array]) -> Array:
    x, square = given[0], p.float("scalar", 1.0) ** 2
    return np.where(abs(x) > 1 / square, abs(x) - 0.5 / square, 0.5 * square * x**2)


def _embedding(p: Attributes, given: Sequence[Array]) -> Array:
    return np.asarray(given[1][np.clip(given[0].astype(int), 0, p.int("input_dim", 1) - 1)])


def _one_hot(p: Attributes, given: Sequence[Array]) -> Array:
    hit = given[0].astype(int)[..., None] == np.arange(p.int("depth", 1))
    return np.where(hit, p.float("on_value", 1.0), p.float("off_value", 0.0))


def _matmul(p: Attributes, given: Sequence[Array]) -> Array:
    a, b = (
        x.swapaxes(-1, -2) if p.bool(f"transpose_{side}", False) else x for x, side in zip(given, "ab", strict=True)
    )
    return np.asarray(np.einsum("...ij,...jk->...ik", a, b))


def _transposed(p: Attributes, given: Sequence[Array]) -> Array:
    return given[0].transpose(p.ints("axes") or None)


def _broadcast_axis(p: Attributes, given: Sequence[Array]) -> Array:
    x = given[0]
    for axis, size in zip(p.ints("axis"), p.ints("size"), strict=True):
        x = x.repeat(size, axis)
    return x


def _broadcast_to(p: Attributes, given: Sequence[Array]) -> Array:
    return np.broadcast_to(given[0], [n or d for n, d in zip(p.ints("shape"), given[0].shape, strict=True)])


def _depth_to_space(p: Attributes, given: Sequence[Array]) -> Array:
    (x,), b = given, p.int("block_size", 1)
    n, c, h, w = x.shape
    apart = x.reshape(n, b, b, c // b**2, h, w)
    return apart.transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(p: Attributes, given: Sequence[Array]) -> Array:
    (x,), b = given, p.int("block_size", 1)
    n, c, h, w = x.shape
    apart = x.reshape(n, c, h // b, b, w // b, b)
    return apart.transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


def _cast(p: Attributes, given: Sequence[Array]) -> Array:
    kind = p.text("dtype")
    return given[0].astype(kind if "int" in kind or kind == "bool" else "f8")


def _squeeze(p: Attributes, given: Sequence[Array]) -> Array:
    return given[0].squeeze(p.ints("axis") if p.has("axis") else None)


def _modulo(a: Array, b: Array | float) -> Array:
    """As Python's, and 0 where the divisor is 0."""
    b = np.asarray(b)
    return np.where(b == 0, 0, np.mod(a, np.where(b == 0, 1, b)))


def _of_one(function: Callable[[Array], Array]) -> Function:
    return lambda p, given: function(given[0])


def _of_two(function: Callable[[Array, Array], Array]) -> Function:
    return lambda p, given: np.asarray(function(given[0], given[1])).astype(np.result_type(given[0], given[1]))


def _with_number(function: Callable[[Array, float], Array]) -> Function:
    return lambda p, given: np.asarray(function(given[0], p.float("scalar", 1.0))).astype(given[0].dtype)


def _elementwise() -> dict[str, Function]:
    found: dict[str, Function] = {}
    for name, old, function in (
        ("add", "plus", np.add), ("sub", "minus", np.subtract), ("mul", "mul", np.multiply), ("div", "div", np.divide),
        ("power", "power", np.power), ("maximum", "maximum", np.maximum), ("minimum", "minimum", np.minimum),
        ("mod", "mod", _modulo), ("greater", "greater", np.greater),
        ("greater_equal", "greater_equal", np.greater_equal),
        ("lesser", "lesser", np.less), ("lesser_equal", "lesser_equal", np.less_equal), ("equal", "equal", np.equal),
        ("not_equal", "not_equal", np.not_equal), ("logical_and", "logical_and", np.logical_and),
        ("logical_or", "logical_or", np.logical_or), ("logical_xor", "logical_xor", np.logical_xor),
    ):  # fmt: skip
        title = old.capitalize()
        both = (f"broadcast_{name}", f"broadcast_{old}", f"elemwise_{name}", f"_{old}", f"_{title}")
        found |= dict.fromkeys(both, _of_two(function))
        found |= dict.fromkeys((f"_{old}_scalar", f"_{title}Scalar"), _with_number(function))
        turned = _with_number(lambda x, number, function=function: function(number, x))  # type: ignore[misc]
        found |= dict.fromkeys((f"_r{old}_scalar", f"_R{title}Scalar"), turned)
    return found


_ALIASES = {
    "Cast": "cast", "Concat": "concat", "Convolution_v1": "Convolution", "Flatten": "flatten", "Pad": "pad",
    "Pooling_v1": "Pooling", "Reshape": "reshape", "SliceChannel": "split", "Softmax": "SoftmaxOutput",
    "SwapAxis": "swapaxes", "BatchNorm_v1": "BatchNorm", "add_n": "ElementWiseSum", "broadcast_axes": "broadcast_axis",
    "crop": "slice", "fix": "trunc", "flip": "reverse", "linalg_gemm2": "_linalg_gemm2", "max_axis": "max",
    "min_axis": "min", "sum_axis": "sum",
}  # fmt: skip

FUNCTIONS: dict[str, Function] = {
    **_elementwise(),
    **{name: _of_one(getattr(np, name)) for name in (
        "abs", "sqrt", "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan",
        "arcsinh", "arccosh", "arctanh", "floor", "ceil", "sign", "reciprocal", "negative", "square", "cbrt", "trunc",
        "expm1", "log1p", "log2", "log10", "degrees", "radians", "zeros_like", "ones_like",
    )},
    **dict.fromkeys(("BlockGrad", "Dropout", "MakeLoss", "_copy", "identity", "make_loss", "stop_gradient",
                     "LinearRegressionOutput", "MAERegressionOutput", "SVMOutput",
                     "IdentityAttachKLSparseReg"), _of_one(lambda x: x)),
    "Activation": lambda p, given: _KINDS[p.text("act_type")](given[0]), "BatchNorm": _batch_norm,
    "Convolution": _convolution, "Crop": _crop, "Deconvolution": _deconvolution,
    "ElementWiseSum": lambda p, given: np.asarray(sum(given)), "Embedding": _embedding, "FullyConnected": _dense,
    "GroupNorm": _group_norm, "InstanceNorm": _instance_norm, "L2Normalization": _l2, "LRN": _lrn,
    "LayerNorm": _layer_norm, "LeakyReLU": _leaky, "LogisticRegressionOutput": _of_one(_sigmoid), "Pooling": _pooling,
    "RNN": _rnn, "SoftmaxActivation": _softmax_activation, "SoftmaxOutput": _softmax_output, "UpSampling": _upsampling,
    "_contrib_AdaptiveAvgPooling2D": _adaptive, "_contrib_BilinearResize2D": _bilinear,
    "_rnn_param_concat": lambda p, given: np.concatenate([x.ravel() for x in given]),
    "argmax": _chosen(np.argmax), "argmax_channel": _of_one(lambda x: x.argmax(1).astype(float)),
    "argmin": _chosen(np.argmin), "batch_dot": _matmul, "broadcast_axis": _broadcast_axis,
    "broadcast_like": lambda p, given: np.broadcast_to(given[0], given[1].shape), "broadcast_to": _broadcast_to,
    "cast": _cast, "clip": lambda p, given: given[0].clip(p.float("a_min", 0), p.float("a_max", 0)),
    "concat": lambda p, given: np.concatenate(given, p.int("dim", 1)), "depth_to_space": _depth_to_space,
    "dot": _matmul, "erf": _of_one(_erf), "expand_dims": lambda p, given: np.expand_dims(given[0], p.int("axis", 0)),
    "flatten": _of_one(lambda x: x.reshape(len(x), -1)),
    "hard_sigmoid": lambda p, given: np.clip(given[0] * p.float("alpha", 0.2) + p.float("beta", 0.5), 0, 1),
    "log_softmax": lambda p, given: np.log(_softmax(p, given)), "max": _reduced(np.max), "mean": _reduced(np.mean),
    "min": _reduced(np.min), "norm": _norm, "one_hot": _one_hot, "pad": _pad, "prod": _reduced(np.prod),
    "pick": _pick, "repeat": lambda p, given: given[0].repeat(p.int("repeats", 1), p.int("axis", 0)),
    "reshape_like": lambda p, given: given[0].reshape(given[1].shape), "_grad_add": _of_two(np.add),
    "reverse": lambda p, given: np.flip(given[0], p.ints("axis")), "rint": _of_one(lambda x: np.ceil(x - 0.5)),
    "round": _of_one(lambda x: np.copysign(np.floor(abs(x) + 0.5), x)), "smooth_l1": _smooth_l1,
    "logical_not": _of_one(lambda x: (x == 0).astype(x.dtype)),
    "_contrib_div_sqrt_dim": _of_one(lambda x: x / math.sqrt(x.shape[-1])),
    "_linalg_gemm2": lambda p, given: p.float("alpha", 1.0) * _matmul(p, given),
    "rcbrt": _of_one(lambda x: 1 / np.cbrt(x)), "relu": _of_one(_KINDS["relu"]), "reshape": _reshape,
    "rsqrt": _of_one(lambda x: 1 / np.sqrt(x)), "sigmoid": _of_one(_sigmoid), "slice": _slice,
    "slice_axis": _slice_axis, "slice_like": _slice_like, "softmax": _softmax, "softsign": _of_one(_KINDS["softsign"]),
    "space_to_depth": _space_to_depth, "split": _split, "squeeze": _squeeze,
    "stack": lambda p, given: np.stack(given, p.int("axis", 0)), "sum": _reduced(np.sum),
    "swapaxes": lambda p, given: given[0].swapaxes(p.int("dim1", 0), p.int("dim2", 0)), "take": _take,
    "tile": lambda p, given: np.tile(given[0], p.ints("reps")), "transpose": _transposed,
    "where": lambda p, given: np.where(given[0] != 0, given[1], given[2]),
}  # fmt: skip
"""By the operator's name."""
FUNCTIONS |= {alias: FUNCTIONS[name] for alias, name in _ALIASES.items()}
