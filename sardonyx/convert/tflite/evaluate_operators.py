"""What each operator computes, in NumPy: loops over the taps of windows, einsum, indexing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from sardonyx.convert.contract import over_last
from sardonyx.convert.tflite.file import Operator, Tensor

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Call:
    """An operator with its inputs as numbers (None where left out) and what the file says of its outputs."""

    source: Operator
    x: list[Any]
    out: Sequence[Tensor]

    def get(self, key: str, default: Any = None) -> Any:
        """An option."""
        return self.source.get(key, default)

    def pair(self, key: str) -> tuple[int, int]:
        """An option of height and width."""
        return self.get(key.format("h")), self.get(key.format("w"))

    def fused(self, value: Array) -> Any:
        """The activation inside the operator."""
        code = self.get("fused_activation_function", 0)
        bounds = {1: (0, np.inf), 2: (-1, 1), 3: (0, 6)}
        if code in bounds:
            return np.clip(value, *bounds[code])
        return {0: value, 4: np.tanh(value)}[code]


Evaluator = Callable[[Call], Any]


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


# Windows


def _edges(size: int, kernel: int, stride: int, dilation: int, same: bool) -> tuple[int, int]:
    """How many results there are along a dim, and where the first window starts."""
    reach = (kernel - 1) * dilation + 1
    count = math.ceil(size / stride) if same else math.ceil((size - reach + 1) / stride)
    start = max((count - 1) * stride + reach - size, 0) // 2 if same else 0
    return count, -start


def _taps(call: Call, x: Array, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int]) -> Any:
    """For each place in the window: the place, the elements there for all windows, and which lie inside."""
    rows, columns = (
        _edges(*sizes, call.get("padding") == 0) for sizes in zip(x.shape[1:3], kernel, strides, dilations, strict=True)
    )
    for y, column in product(range(kernel[0]), range(kernel[1])):
        at_y = np.arange(rows[0]) * strides[0] + rows[1] + y * dilations[0]
        at_x = np.arange(columns[0]) * strides[1] + columns[1] + column * dilations[1]
        inside = np.outer((at_y >= 0) & (at_y < x.shape[1]), (at_x >= 0) & (at_x < x.shape[2]))
        part = x[:, at_y.clip(0, x.shape[1] - 1)][:, :, at_x.clip(0, x.shape[2] - 1)]
        yield (y, column), part, inside[None, :, :, None]


def _conv(call: Call) -> Any:
    x, w = call.x[0], call.x[1]
    groups = x.shape[3] // w.shape[3]
    total: Any = 0.0
    for (y, column), part, inside in _taps(
        call, x, w.shape[1:3], call.pair("stride_{}"), call.pair("dilation_{}_factor")
    ):
        held = (part * inside).reshape(*part.shape[:3], groups, -1)
        taps = w[:, y, column].reshape(groups, -1, w.shape[3])
        total = total + over_last(taps, held).reshape(*part.shape[:3], -1)
    return call.fused(total + (call.x[2] if len(call.x) > 2 and call.x[2] is not None else 0.0))


def _depthwise(call: Call) -> Any:
    x, w = call.x[0], call.x[1]
    times = w.shape[3] // x.shape[3]
    total: Any = 0.0
    for (y, column), part, inside in _taps(
        call, x, w.shape[1:3], call.pair("stride_{}"), call.pair("dilation_{}_factor")
    ):
        total = total + np.repeat(part * inside, times, 3) * w[0, y, column]
    return call.fused(total + (call.x[2] if len(call.x) > 2 and call.x[2] is not None else 0.0))


def _conv_3d(call: Call) -> Any:
    x, w = call.x[0], call.x[1]
    strides = [call.get(f"stride_{axis}") for axis in "dhw"]
    steps = [call.get(f"dilation_{axis}_factor") for axis in "dhw"]
    same = call.get("padding") == 0
    spans = [_edges(*sizes, same) for sizes in zip(x.shape[1:4], w.shape[:3], strides, steps, strict=True)]
    total: Any = 0.0
    for tap in product(*map(range, w.shape[:3])):
        part, inside = x, np.ones((1, 1, 1, 1, 1), bool)
        for axis, (count, start) in enumerate(spans):
            at = np.arange(count) * strides[axis] + start + tap[axis] * steps[axis]
            part = part.take(at.clip(0, x.shape[axis + 1] - 1), axis + 1)
            known = (at >= 0) & (at < x.shape[axis + 1])
            inside = inside & known.reshape([-1 if a == axis + 1 else 1 for a in range(5)])
        total = total + (part * inside) @ w[tap]
    return call.fused(total + (call.x[2] if len(call.x) > 2 and call.x[2] is not None else 0.0))


def _transpose_conv(call: Call) -> Any:
    shape, w, x = call.x[:3]
    _, high, wide, _ = (int(n) for n in shape)
    s_h, s_w = call.pair("stride_{}")
    same = call.get("padding") == 0
    starts = [
        _edges(n, k, s, 1, same)[1] if same else 0
        for n, k, s in zip((high, wide), w.shape[1:3], (s_h, s_w), strict=True)
    ]
    result = np.zeros((x.shape[0], high, wide, w.shape[0]))
    for y, column, tap_y, tap_x in product(range(x.shape[1]), range(x.shape[2]), range(w.shape[1]), range(w.shape[2])):
        at_y, at_x = y * s_h + starts[0] + tap_y, column * s_w + starts[1] + tap_x
        if 0 <= at_y < high and 0 <= at_x < wide:
            result[:, at_y, at_x] += x[:, y, column] @ w[:, tap_y, tap_x].T
    return call.fused(result + (call.x[3] if len(call.x) > 3 and call.x[3] is not None else 0.0))


def _pool(kind: str) -> Evaluator:
    def evaluate(call: Call) -> Any:
        x = call.x[0]
        kernel = (call.get("filter_height"), call.get("filter_width"))
        largest, total, count = None, 0.0, 0.0
        for _, part, inside in _taps(call, x, kernel, call.pair("stride_{}"), (1, 1)):
            here = np.where(inside, part, -np.inf)
            largest = here if largest is None else np.maximum(largest, here)
            total = total + (part * part if kind == "root" else part) * inside
            count = count + inside
        return call.fused({"max": largest, "mean": total / count, "root": np.sqrt(total / count)}[kind])

    return evaluate


def _places(call: Call, old: int, new: int) -> Any:
    if call.get("align_corners") and new > 1:
        return np.arange(new) * (old - 1) / (new - 1)
    if call.get("half_pixel_centers"):
        return (np.arange(new) + 0.5) * old / new - 0.5
    return np.arange(new) * old / new


def _bilinear(call: Call) -> Any:
    value = call.x[0]
    for axis, new in zip((1, 2), call.x[1].tolist(), strict=True):
        old = value.shape[axis]
        at = _places(call, old, new)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        before, after = value.take(low.clip(0, old - 1), axis), value.take((low + 1).clip(0, old - 1), axis)
        value = before * (1 - share) + after * share
    return value


def _nearest(call: Call) -> Any:
    value = call.x[0]
    for axis, new in zip((1, 2), call.x[1].tolist(), strict=True):
        old = value.shape[axis]
        align = call.get("align_corners") and new > 1
        scale = np.float32((old - 1) / (new - 1)) if align else np.float32(old / new)
        at = [(np.float32(i) + np.float32(0.5 * bool(call.get("half_pixel_centers")))) * scale for i in range(new)]
        value = value.take(
            [min(int(np.floor(p + 0.5) if call.get("align_corners") else np.floor(p)), old - 1) for p in at], axis
        )
    return value


def _depth_to_space(call: Call) -> Any:
    x, b = call.x[0], call.get("block_size")
    n, h, w, c = x.shape
    return x.reshape(n, h, w, b, b, c // b // b).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * b, w * b, -1)


def _space_to_depth(call: Call) -> Any:
    x, b = call.x[0], call.get("block_size")
    return np.concatenate([x[:, i::b, j::b] for i in range(b) for j in range(b)], 3)


def _space_to_batch(call: Call) -> Any:
    x, blocks, pads = call.x
    x = np.pad(x, [(0, 0), *map(tuple, pads), *[(0, 0)] * (x.ndim - 1 - len(blocks))])
    offsets = product(*map(range, blocks))
    return np.concatenate(
        [x[(slice(None), *(slice(o, None, b) for o, b in zip(at, blocks, strict=True)))] for at in offsets]
    )


def _batch_to_space(call: Call) -> Any:
    x, blocks, crops = call.x
    n = x.shape[0] // int(np.prod(blocks))
    sizes = [s * b for s, b in zip(x.shape[1:], blocks, strict=False)]
    result = np.empty((n, *sizes, *x.shape[1 + len(blocks) :]), x.dtype)
    for i, at in enumerate(product(*map(range, blocks))):
        result[(slice(None), *(slice(o, None, b) for o, b in zip(at, blocks, strict=True)))] = x[i * n : (i + 1) * n]
    return result[(slice(None), *(slice(a, s - b) for (a, b), s in zip(crops, sizes, strict=True)))]


# Arithmetic


def _each(function: Callable[..., Any], count: int = 1) -> Evaluator:
    return lambda call: call.fused(function(*call.x[:count])) if _is_fused(call) else function(*call.x[:count])


def _is_fused(call: Call) -> bool:
    return call.source.name in ("ADD", "SUB", "MUL", "DIV")


def _divided(a: Array, b: Array) -> Any:
    return a / b if a.dtype.kind == "f" else np.trunc(a / b)


def _round(x: Array) -> Any:
    return np.round(x)


def _gelu(call: Call) -> Any:
    x = call.x[0]
    if call.get("approximate"):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _softmax(call: Call) -> Any:
    x = call.x[0] * call.get("beta", 1.0)
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _log_softmax(call: Call) -> Any:
    x = call.x[0] - call.x[0].max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _l2(call: Call) -> Any:
    return call.x[0] / np.maximum(np.sqrt((call.x[0] ** 2).sum(-1, keepdims=True)), 1e-6)


def _local_response(call: Call) -> Any:
    x, r = call.x[0], call.get("radius")
    padded = np.pad(x**2, [(0, 0)] * (x.ndim - 1) + [(r, r)])
    total = sum(padded[..., i : i + x.shape[-1]] for i in range(2 * r + 1))
    return x / (call.get("bias") + call.get("alpha") * total) ** call.get("beta")


def _reduce(function: Callable[..., Any]) -> Evaluator:
    def evaluate(call: Call) -> Any:
        axes = tuple(int(axis) for axis in np.ravel(call.x[1]))
        result: Array = function(call.x[0], axis=axes, keepdims=bool(call.get("keep_dims", False)))
        return result

    return evaluate


def _cumsum(call: Call) -> Any:
    axis = int(np.ravel(call.x[1])[0])
    x = np.flip(call.x[0], axis) if call.get("reverse") else call.x[0]
    total = np.cumsum(x, axis)
    total = total - x if call.get("exclusive") else total
    return np.flip(total, axis) if call.get("reverse") else total


def _fully_connected(call: Call) -> Any:
    x, w = call.x[0], call.x[1]
    x = x if call.get("keep_num_dims", False) else x.reshape(-1, w.shape[1])
    result = x @ w.T
    return call.fused(result + (call.x[2] if len(call.x) > 2 and call.x[2] is not None else 0.0))


def _batch_matmul(call: Call) -> Any:
    a, b = call.x[:2]
    return np.matmul(a.swapaxes(-1, -2) if call.get("adj_x") else a, b.swapaxes(-1, -2) if call.get("adj_y") else b)


# Elements elsewhere


def _strided_slice(call: Call) -> Any:
    x, begins, ends, steps = (np.asarray(value).tolist() if i else value for i, value in enumerate(call.x[:4]))
    index: list[Any] = []
    for at, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):

        def bit(key: str, at: int = at) -> bool:
            return bool(call.get(f"{key}_mask", 0) >> at & 1)

        if bit("ellipsis"):
            index.append(Ellipsis)
        elif bit("new_axis"):
            index.append(None)
        elif bit("shrink_axis"):
            index.append(begin)
        else:
            index.append(slice(None if bit("begin") else begin, None if bit("end") else end, step))
    result: Array = x[tuple(index)]
    return result


def _slice(call: Call) -> Any:
    ends = [
        None if size == -1 else begin + size for begin, size in zip(call.x[1].tolist(), call.x[2].tolist(), strict=True)
    ]
    result: Array = call.x[0][tuple(slice(b, e) for b, e in zip(call.x[1].tolist(), ends, strict=True))]
    return result


def _pad(call: Call) -> Any:
    fill = np.ravel(call.x[2])[0] if len(call.x) > 2 else 0
    return np.pad(call.x[0], [tuple(pair) for pair in call.x[1].tolist()], constant_values=fill)


def _mirror_pad(call: Call) -> Any:
    return np.pad(
        call.x[0], [tuple(p) for p in call.x[1].tolist()], mode="symmetric" if call.get("mode") else "reflect"
    )


def _squeeze(call: Call) -> Any:
    dims = call.get("squeeze_dims")
    return np.squeeze(call.x[0], tuple(dims.tolist()) if dims is not None and len(dims) else None)


def _reshape(call: Call) -> Any:
    shape = call.x[1] if len(call.x) > 1 and call.x[1] is not None else call.get("new_shape")
    return np.reshape(call.x[0], np.ravel(shape).astype(int).tolist())


def _split(call: Call) -> Any:
    return np.split(call.x[1], len(call.out), int(np.ravel(call.x[0])[0]))


def _split_v(call: Call) -> Any:
    x, sizes, axis = call.x[0], call.x[1].tolist(), int(np.ravel(call.x[2])[0])
    sizes = [size if size >= 0 else x.shape[axis] - sum(sizes) - 1 for size in sizes]
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _gather(call: Call) -> Any:
    x, at = call.x[0], call.x[1]
    axis, batch = call.get("axis", 0), call.get("batch_dims", 0)
    axis += x.ndim if axis < 0 else 0
    batch += at.ndim if batch < 0 else 0
    if not batch:
        return np.take(x, at, axis)
    return np.stack([
        np.take(x[lead], at[lead], axis - batch) for lead in np.ndindex(*at.shape[:batch])
    ]).reshape(*at.shape[:batch], *x.shape[batch:axis], *at.shape[batch:], *x.shape[axis + 1 :])  # fmt: skip


def _gather_nd(call: Call) -> Any:
    result: Array = call.x[0][tuple(np.moveaxis(call.x[1], -1, 0))]
    return result


def _scatter_nd(call: Call) -> Any:
    result = np.zeros(call.x[2].tolist(), call.x[1].dtype)
    np.add.at(result, tuple(np.moveaxis(call.x[0], -1, 0)), call.x[1])
    return result


def _one_hot(call: Call) -> Any:
    at, depth, on, off = call.x
    hit = np.equal.outer(at, np.arange(int(np.ravel(depth)[0])))
    axis = call.get("axis")
    return np.moveaxis(np.where(hit, on, off), -1, axis if axis >= 0 else -1)


def _top_k(call: Call) -> Any:
    order = np.argsort(-call.x[0], -1, kind="stable")[..., : int(np.ravel(call.x[1])[0])]
    return [np.take_along_axis(call.x[0], order, -1), order]


def _select(call: Call) -> Any:
    condition, a, b = call.x
    if call.source.name == "SELECT" and condition.ndim == 1 and a.ndim > 1:
        condition = condition.reshape(-1, *[1] * (a.ndim - 1))
    return np.where(condition, a, b)


def _reverse_sequence(call: Call) -> Any:
    x, lengths = call.x
    x = np.moveaxis(x, (call.get("batch_dim"), call.get("seq_dim")), (0, 1)).copy()
    for row, length in zip(x, lengths.tolist(), strict=True):
        row[:length] = row[:length][::-1].copy()
    return np.moveaxis(x, (0, 1), (call.get("batch_dim"), call.get("seq_dim")))


def _sparse_to_dense(call: Call) -> Any:
    at, shape, values, elsewhere = call.x
    result = np.full(shape.tolist(), elsewhere)
    result[tuple(np.reshape(at, (-1, result.ndim)).T)] = values
    return result


def _update_slice(call: Call) -> Any:
    """The start is moved so that the update lies inside."""
    x, update, start = call.x
    room = np.subtract(x.shape, update.shape)
    result = x.copy()
    ends = zip(np.clip(start, 0, room).tolist(), update.shape, strict=True)
    result[tuple(slice(begin, begin + size) for begin, size in ends)] = update
    return result


def _unique(call: Call) -> Any:
    """In the order they first come, and which of them each element is."""
    seen: dict[Any, int] = {}
    places = [seen.setdefault(item, len(seen)) for item in call.x[0].tolist()]
    return [np.array(list(seen)), np.array(places)]


def _segment_sum(call: Call) -> Any:
    x, at = call.x
    return np.stack([x[at == segment].sum(0) for segment in range(int(at.max()) + 1)])


def _fake_quant(call: Call) -> Any:
    """kernels/internal/reference/fake_quant.h: the range is moved so that 0 is a step."""
    least, most = int(call.get("narrow_range")), 2 ** call.get("num_bits") - 1
    scale = (call.get("max") - call.get("min")) / (most - least)
    zero = np.clip(np.floor(least - call.get("min") / scale + 0.5), least, most)
    low, high = (least - zero) * scale, (most - zero) * scale
    return np.floor((np.clip(call.x[0], low, high) - low) / scale + 0.5) * scale + low


def _lstm(call: Call) -> Any:
    """kernels/lstm_eval.cc, a step after the other."""
    x, clip, limit = call.x, call.get("cell_clip", 0.0), call.get("proj_clip", 0.0)
    steps = x[0] if call.get("time_major") else x[0].swapaxes(0, 1)
    h, c = (np.zeros_like(x[i], np.float64) + x[i] for i in (18, 19))
    results = []

    def gate(i: int, now: Array, state: Array | None, peephole: int) -> Any:
        value = now @ x[1 + i].T + h @ x[5 + i].T
        if state is not None and x[peephole] is not None:
            value = value + state * x[peephole]
        if len(x) > 23 and x[20 + i] is not None:
            value = value - value.mean(-1, keepdims=True)
            value = value / np.sqrt((value**2).mean(-1, keepdims=True) + 1e-8) * x[20 + i]
        return value + x[12 + i]

    for now in steps:
        forget = _sigmoid(gate(1, now, c, 10))
        keep = _sigmoid(gate(0, now, c, 9)) if x[1] is not None else 1 - forget
        c = forget * c + keep * call.fused(gate(2, now, None, 0))
        c = np.clip(c, -clip, clip) if clip > 0 else c
        h_next = _sigmoid(gate(3, now, c, 11)) * call.fused(c)
        if x[16] is not None:
            h_next = h_next @ x[16].T + (x[17] if x[17] is not None else 0.0)
            h_next = np.clip(h_next, -limit, limit) if limit > 0 else h_next
        h = h_next
        results.append(h)
    return np.stack(results, 0 if call.get("time_major") else 1)


def _rnn(call: Call) -> Any:
    x, w, r, b, h = call.x[:5]
    results = []
    for now in x if call.get("time_major") else x.swapaxes(0, 1):
        h = call.fused(now @ w.T + h @ r.T + b)
        results.append(h)
    return np.stack(results, 0 if call.get("time_major") else 1)


def _set_diagonal(x: Array, diagonal: Array) -> Any:
    result, at = x.copy(), np.arange(min(x.shape[-2:]))
    result[..., at, at] = diagonal
    return result


def _floor_mod(a: Array, b: Array) -> Any:
    return a - np.floor(a / b) * b if a.dtype.kind == "f" else np.mod(a, b)


_ONE: Mapping[str, Callable[..., Any]] = {
    "ABS": np.abs, "CEIL": np.ceil, "COS": np.cos, "EXP": np.exp, "FLOOR": np.floor, "LOG": np.log, "NEG": np.negative,
    "SIN": np.sin, "SQRT": np.sqrt, "TANH": np.tanh, "LOGISTIC": _sigmoid, "ROUND": _round, "SIGN": np.sign,
    "LOGICAL_NOT": np.logical_not, "SQUARE": np.square, "ZEROS_LIKE": np.zeros_like,
    "RSQRT": lambda x: 1 / np.sqrt(x), "RELU": lambda x: np.maximum(x, 0), "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1), "RELU_0_TO_1": lambda x: np.clip(x, 0, 1),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6, "ELU": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "CAST": lambda x: x, "DEQUANTIZE": lambda x: np.asarray(x, np.float64), "QUANTIZE": lambda x: x,
    "DENSIFY": lambda x: x, "SHAPE": lambda x: np.array(x.shape), "RANK": np.ndim, "WHERE": np.argwhere,
}  # fmt: skip
_TWO: Mapping[str, Callable[..., Any]] = {
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": _divided, "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum, "POW": np.power, "LESS": np.less, "GREATER": np.greater, "LESS_EQUAL": np.less_equal,
    "ATAN2": np.arctan2,
    "GREATER_EQUAL": np.greater_equal, "EQUAL": np.equal, "NOT_EQUAL": np.not_equal, "LOGICAL_AND": np.logical_and,
    "LOGICAL_OR": np.logical_or, "BITWISE_XOR": np.bitwise_xor, "FLOOR_DIV": np.floor_divide, "FLOOR_MOD": _floor_mod,
    "MATRIX_SET_DIAG": _set_diagonal,
    "BROADCAST_ARGS": lambda a, b: np.array(np.broadcast_shapes(tuple(a.tolist()), tuple(b.tolist()))),
    "SQUARED_DIFFERENCE": lambda a, b: (a - b) ** 2, "PRELU": lambda x, s: np.where(x > 0, x, x * s),
    "TRANSPOSE": lambda x, order: np.transpose(x, order.tolist()), "TILE": lambda x, n: np.tile(x, n.tolist()),
    "EXPAND_DIMS": lambda x, axis: np.expand_dims(x, int(np.ravel(axis)[0])),
    "BROADCAST_TO": lambda x, shape: np.broadcast_to(x, shape.tolist()),
    "FILL": lambda shape, value: np.full(shape.tolist(), value), "EMBEDDING_LOOKUP": lambda at, rows: rows[at],
    "REVERSE_V2": lambda x, axes: np.flip(x, tuple(np.ravel(axes).tolist())),
    "ARG_MAX": lambda x, axis: np.argmax(x, int(np.ravel(axis)[0])),
    "ARG_MIN": lambda x, axis: np.argmin(x, int(np.ravel(axis)[0])),
}  # fmt: skip

EVALUATORS: Mapping[str, Evaluator] = {
    **{name: _each(function) for name, function in _ONE.items()},
    **{name: _each(function, 2) for name, function in _TWO.items()},
    "LEAKY_RELU": lambda call: np.where(call.x[0] > 0, call.x[0], call.x[0] * call.get("alpha")),
    "BUCKETIZE": lambda call: np.digitize(call.x[0], call.get("boundaries").astype(np.float64)),
    "MATRIX_DIAG": lambda call: call.x[0][..., None] * np.eye(call.x[0].shape[-1]),
    "GELU": _gelu, "SOFTMAX": _softmax, "LOG_SOFTMAX": _log_softmax, "L2_NORMALIZATION": _l2,
    "LOCAL_RESPONSE_NORMALIZATION": _local_response, "ADD_N": lambda call: sum(call.x),
    "MEAN": _reduce(np.mean), "SUM": _reduce(np.sum), "REDUCE_PROD": _reduce(np.prod), "REDUCE_MAX": _reduce(np.max),
    "REDUCE_MIN": _reduce(np.min), "REDUCE_ANY": _reduce(np.any), "REDUCE_ALL": _reduce(np.all), "CUMSUM": _cumsum,
    "FULLY_CONNECTED": _fully_connected, "BATCH_MATMUL": _batch_matmul,
    "CONV_2D": _conv, "DEPTHWISE_CONV_2D": _depthwise, "CONV_3D": _conv_3d, "TRANSPOSE_CONV": _transpose_conv,
    "MAX_POOL_2D": _pool("max"), "AVERAGE_POOL_2D": _pool("mean"), "L2_POOL_2D": _pool("root"),
    "RESIZE_BILINEAR": _bilinear, "RESIZE_NEAREST_NEIGHBOR": _nearest, "DEPTH_TO_SPACE": _depth_to_space,
    "SPACE_TO_DEPTH": _space_to_depth, "SPACE_TO_BATCH_ND": _space_to_batch, "BATCH_TO_SPACE_ND": _batch_to_space,
    "RESHAPE": _reshape, "SQUEEZE": _squeeze, "SLICE": _slice, "STRIDED_SLICE": _strided_slice,
    "PAD": _pad, "PADV2": _pad, "MIRROR_PAD": _mirror_pad, "SPLIT": _split, "SPLIT_V": _split_v,
    "CONCATENATION": lambda call: call.fused(np.concatenate(call.x, call.get("axis"))),
    "PACK": lambda call: np.stack(call.x, call.get("axis", 0)),
    "UNPACK": lambda call: [np.take(call.x[0], i, call.get("axis")) for i in range(len(call.out))],
    "RANGE": lambda call: np.arange(*(np.ravel(end)[0] for end in call.x)),
    "GATHER": _gather, "GATHER_ND": _gather_nd, "SCATTER_ND": _scatter_nd, "ONE_HOT": _one_hot, "TOPK_V2": _top_k,
    "SELECT": _select, "SELECT_V2": _select, "REVERSE_SEQUENCE": _reverse_sequence,
    "SPARSE_TO_DENSE": _sparse_to_dense, "DYNAMIC_UPDATE_SLICE": _update_slice, "UNIQUE": _unique,
    "SEGMENT_SUM": _segment_sum, "FAKE_QUANT": _fake_quant,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm, "UNIDIRECTIONAL_SEQUENCE_RNN": _rnn,
}  # fmt: skip
"""By operator."""
