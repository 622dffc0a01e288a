"""MIL's operations in float64 NumPy: what ONNX models are compared with. Shares nothing with how they are written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.contract import over_channels

Given = Mapping[str, Any]
Rule = Callable[[Given], Any]


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def sigmoid(x: Array) -> Array:
    """The logistic function, without overflow."""
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def softmax(x: Array, axis: int = -1) -> Array:
    """Exponentials that sum to 1 along an axis."""
    powers = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def _gelu(g: Given) -> Array:
    x, mode = g["x"], g.get("mode", "EXACT")
    if mode == "EXACT":
        return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))))
    if mode == "TANH_APPROXIMATION":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(x * sigmoid(1.702 * x))


def _channels(values: Array, x: Array) -> Array:
    return values.reshape(-1, *[1] * (x.ndim - 2)) if values.size > 1 else values.reshape(())


def _list(g: Given, key: str, default: Sequence[int]) -> list[int]:
    return [int(value) for value in np.atleast_1d(g[key])] if key in g else list(default)


def _amounts(g: Given, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    kind = g.get("pad_type", "valid")
    if kind == "valid":
        return [(0, 0)] * len(kernel)
    if kind == "custom":
        flat = _list(g, "pad", [0] * 2 * len(kernel))
        return [(flat[2 * i], flat[2 * i + 1]) for i in range(len(kernel))]
    result = []
    for size, width, step in zip(sizes, kernel, strides, strict=True):
        short = max(0, (math.ceil(size / step) - 1) * step + width - size)
        less, more = short // 2, short - short // 2
        result.append((less, more) if kind == "same" else (more, less))
    return result


def _conv(g: Given) -> Array:
    x, w = g["x"], g["weight"]
    spatial, groups = w.ndim - 2, int(g.get("groups", 1))
    strides, dilations = _list(g, "strides", [1] * spatial), _list(g, "dilations", [1] * spatial)
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    around = _amounts(g, x.shape[2:], reach, strides)
    x = np.pad(x, [(0, 0), (0, 0), *around])
    sizes = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True)]
    out = np.zeros((x.shape[0], w.shape[0], *sizes))
    inner, outer = w.shape[1], w.shape[0] // groups
    for group in range(groups):
        part = x[:, group * inner : (group + 1) * inner]
        rows = slice(group * outer, (group + 1) * outer)
        for tap in itertools.product(*map(range, w.shape[2:])):
            window = part[(slice(None), slice(None), *_strided(tap, dilations, strides, sizes))]
            out[:, rows] += over_channels(w[(rows, slice(None), *tap)], window)
    return out + (g["bias"].reshape(-1, *[1] * spatial) if "bias" in g else 0)


def _strided(tap: Sequence[int], dilations: Sequence[int], strides: Sequence[int], sizes: Sequence[int]) -> list[slice]:
    return [slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, s, n in zip(tap, dilations, strides, sizes, strict=True)]


def _conv_transpose(g: Given) -> Array:
    x, w = g["x"], g["weight"]
    spatial, groups = w.ndim - 2, int(g.get("groups", 1))
    strides, dilations = _list(g, "strides", [1] * spatial), _list(g, "dilations", [1] * spatial)
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    full = [(n - 1) * s + r + s for n, s, r in zip(x.shape[2:], strides, reach, strict=True)]  # some room behind
    inner, outer = x.shape[1] // groups, w.shape[1]
    out = np.zeros((x.shape[0], outer * groups, *full))
    for group in range(groups):
        part, rows = x[:, group * inner : (group + 1) * inner], slice(group * outer, (group + 1) * outer)
        for tap in itertools.product(*map(range, w.shape[2:])):
            weight = w[(slice(group * inner, (group + 1) * inner), slice(None), *tap)]
            places = (slice(None), rows, *_strided(tap, dilations, strides, x.shape[2:]))
            out[places] += over_channels(weight.T, part)
    kind = g.get("pad_type", "valid")
    if kind in ("same", "same_lower"):
        totals = [r - s for r, s in zip(reach, strides, strict=True)]
        starts = [t // 2 if kind == "same" else t - t // 2 for t in totals]
        ends = [start + n * s for start, n, s in zip(starts, x.shape[2:], strides, strict=True)]
    else:
        around = _amounts(g, x.shape[2:], reach, strides)
        starts = [begin for begin, _ in around]
        ends = [size - step - end for size, step, (_, end) in zip(full, strides, around, strict=True)]
    if "output_shape" in g:
        wanted = _list(g, "output_shape", [])[-spatial:]
        ends = [start + size for start, size in zip(starts, wanted, strict=True)]
    cut = out[(slice(None), slice(None), *(slice(b, e) for b, e in zip(starts, ends, strict=True)))]
    return cut + (g["bias"].reshape(-1, *[1] * spatial) if "bias" in g else 0)


def _pool(g: Given, kind: str) -> Array:
    x, kernel = g["x"], _list(g, "kernel_sizes", [])
    strides = _list(g, "strides", [1] * len(kernel))
    around = _amounts(g, x.shape[2:], kernel, strides)
    sizes = []
    for n, k, s, (b, e) in zip(x.shape[2:], kernel, strides, around, strict=True):
        whole = (n + b + e - k) / s
        count = (math.ceil(whole) if g.get("ceil_mode", False) else math.floor(whole)) + 1
        # A window that would start behind the input and the padding before it is left out.
        sizes.append(count - 1 if g.get("ceil_mode", False) and (count - 1) * s >= n + b else count)
    out = np.zeros((*x.shape[:2], *sizes))
    for place in itertools.product(*map(range, sizes)):
        starts = [p * s - b for p, s, (b, _) in zip(place, strides, around, strict=True)]
        inside = [slice(max(a, 0), min(a + k, n)) for a, k, n in zip(starts, kernel, x.shape[2:], strict=True)]
        window = x[(slice(None), slice(None), *inside)].reshape(*x.shape[:2], -1)
        at: Any = (slice(None), slice(None), *place)
        if kind == "max":
            out[at] = window.max(-1)
        elif kind == "l2":
            out[at] = np.sqrt((window**2).sum(-1))
        else:
            count = window.shape[-1] if g.get("exclude_padding_from_average", False) else math.prod(kernel)
            out[at] = window.sum(-1) / count
    return out


def _turned(x: Array, turned: bool) -> Array:
    return np.swapaxes(x, -1, -2) if turned else x


def _batch_norm(g: Given) -> Array:
    x = g["x"]
    spread = {key: g[key].reshape(-1, *[1] * (x.ndim - 2)) for key in ("mean", "variance", "gamma", "beta") if key in g}
    scaled = (x - spread["mean"]) / np.sqrt(spread["variance"] + g.get("epsilon", 1e-5)) * spread.get("gamma", 1)
    return np.asarray(scaled + spread.get("beta", 0))


def _normalised(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    centred = x - x.mean(axes, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon))


def _instance_norm(g: Given) -> Array:
    x = g["x"]
    along = (-1, *[1] * (x.ndim - 2))
    scaled = _normalised(x, tuple(range(2, x.ndim)), g.get("epsilon", 1e-5))
    gamma, beta = (g[key].reshape(along) if key in g else float(key == "gamma") for key in ("gamma", "beta"))
    return np.asarray(scaled * gamma + beta)


def _layer_norm(g: Given) -> Array:
    x = g["x"]
    axes = tuple(_list(g, "axes", range(x.ndim)))
    return np.asarray(_normalised(x, axes, g.get("epsilon", 1e-5)) * g.get("gamma", 1) + g.get("beta", 0))


def _lrn(g: Given) -> Array:
    x, size = g["x"], int(g["size"])
    half = size // 2
    padded = np.pad(x**2, [(0, 0), (half, half), *[(0, 0)] * (x.ndim - 2)])
    total = sum(padded[:, i : i + x.shape[1]] for i in range(size))
    return np.asarray(x / (g.get("k", 1.0) + g.get("alpha", 1e-4) / size * total) ** g.get("beta", 0.75))


def _sampled(x: Array, axis: int, points: Array, nearest: bool) -> Array:
    points = np.clip(points, 0, x.shape[axis] - 1)
    low = np.floor(points + (1e-9 if nearest else 0)).astype(int)
    if nearest:
        return np.take(x, low, axis)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    part = (points - low).reshape(-1, *[1] * (-axis - 1))
    return np.asarray(np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part)


def _grid(size: int, wanted: int, mode: str) -> Array:
    places = np.arange(wanted)
    if mode == "corners":
        return np.zeros(1) if wanted == 1 else places * (size - 1) / (wanted - 1)
    return places * size / wanted + (0.5 * size / wanted - 0.5 if mode == "half" else 0.0)


def _resized(g: Given, mode: str, nearest: bool) -> Array:
    x = g["x"]
    for axis, side in ((-2, "height"), (-1, "width")):
        size = x.shape[axis]
        scale = g.get(f"scale_factor_{side}", 1)
        wanted = int(g.get(f"target_size_{side}", math.floor(size * float(scale))))
        x = _sampled(x, axis, _grid(size, wanted, mode), nearest)
    return np.asarray(x)


def _upsample_bilinear(g: Given) -> Array:
    aligned = bool(g.get("align_corners", True))
    return _resized(g, "corners" if aligned else "half" if g.get("half_pixel_centers", True) else "plain", False)


def _resize_bilinear(g: Given) -> Array:
    mode = {"STRICT_ALIGN_CORNERS": "corners", "ALIGN_CORNERS": "corners", "UNALIGN_CORNERS": "half"}
    return _resized(g, mode.get(g.get("sampling_mode", "DEFAULT"), "plain"), False)


def _slice(g: Given) -> Array:
    begin, end = _list(g, "begin", []), _list(g, "end", [])
    none = [False] * len(begin)
    stride = _list(g, "stride", [1] * len(begin))
    masks = [list(np.atleast_1d(g.get(key, none))) for key in ("begin_mask", "end_mask", "squeeze_mask")]
    where: list[Any] = []
    for axis, (first, last) in enumerate(zip(begin, end, strict=True)):
        if masks[2][axis]:
            where.append(first)
        else:
            where.append(slice(None if masks[0][axis] else first, None if masks[1][axis] else last, stride[axis]))
    return np.asarray(g["x"][tuple(where)])


def _slice_by_size(g: Given) -> Array:
    begin, size = _list(g, "begin", []), _list(g, "size", [])
    return np.asarray(g["x"][tuple(slice(b, None if n == -1 else b + n) for b, n in zip(begin, size, strict=True))])


def _pad(g: Given) -> Array:
    x, flat = g["x"], _list(g, "pad", [])
    amounts = [(0, 0)] * (x.ndim - len(flat) // 2) + list(zip(flat[::2], flat[1::2], strict=True))
    mode = g.get("mode", "constant")
    if mode == "constant":
        return np.pad(x, amounts, constant_values=g.get("constant_val", 0))
    return np.pad(x, amounts, mode="reflect" if mode == "reflect" else "edge")


def _reshape(g: Given) -> Array:
    x = g["x"]
    wanted = [int(size) if size else x.shape[axis] for axis, size in enumerate(np.atleast_1d(g["shape"]))]
    return np.asarray(x.reshape(wanted))


def _blocks(x: Array, size: int, split: Sequence[int], order: Sequence[int], shape: Sequence[int]) -> Array:
    return np.asarray(x.reshape(*split).transpose(*order).reshape(*shape))


def _depth_to_space(g: Given) -> Array:
    x, b = g["x"], int(g["block_size"])
    n, c, h, w = x.shape
    return _blocks(x, b, (n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2), (n, c // b**2, h * b, w * b))


def _pixel_shuffle(g: Given) -> Array:
    x, b = g["x"], int(g["upscale_factor"])
    n, c, h, w = x.shape
    return _blocks(x, b, (n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3), (n, c // b**2, h * b, w * b))


def _space_to_depth(g: Given) -> Array:
    x, b = g["x"], int(g["block_size"])
    n, c, h, w = x.shape
    return _blocks(x, b, (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4), (n, c * b**2, h // b, w // b))


def _pixel_unshuffle(g: Given) -> Array:
    x, b = g["x"], int(g["downscale_factor"])
    n, c, h, w = x.shape
    return _blocks(x, b, (n, c, h // b, b, w // b, b), (0, 1, 3, 5, 2, 4), (n, c * b**2, h // b, w // b))


def _scatter_nd(g: Given) -> Array:
    data, indices = g["data"].copy(), np.asarray(g["indices"], np.int64)
    rule = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}.get(g.get("mode", "add"))
    where: Any = tuple(np.moveaxis(np.asarray(indices), -1, 0))
    if rule is None:
        data[where] = g["updates"]
    else:
        rule.at(data, where, g["updates"])
    return np.asarray(data)


def _topk(g: Given) -> tuple[Array, Array]:
    axis = int(g.get("axis", -1))
    found = _order(g["x"], axis, bool(g.get("ascending", False)))
    found = np.take(found, np.arange(int(g.get("k", 1))), axis)
    return np.take_along_axis(g["x"], found, axis), found


def _order(x: Array, axis: int, ascending: bool) -> Array:
    return np.asarray(np.argsort(x if ascending else -x, axis=axis, kind="stable"))


def _band(g: Given) -> Array:
    x = g["x"]
    rows, columns = np.indices(x.shape[-2:])
    lower, upper = int(g.get("lower", -1)), int(g.get("upper", -1))
    kept = ((lower < 0) | (rows - columns <= lower)) & ((upper < 0) | (columns - rows <= upper))
    return np.where(kept, x, 0)


def _one_hot(g: Given) -> Array:
    size = int(g["one_hot_vector_size"])
    same = g["indices"].astype(int)[..., None] == np.arange(size)
    hot: Array = np.asarray(np.where(same, g.get("on_value", 1), g.get("off_value", 0)))
    return np.moveaxis(hot, -1, int(g.get("axis", -1)))


def _cumsum(g: Given) -> Array:
    axis = int(g.get("axis", 0))
    x = np.flip(g["x"], axis) if g.get("reverse", False) else g["x"]
    total = np.cumsum(x, axis)
    total = total - x if g.get("exclusive", False) else total
    return np.flip(total, axis) if g.get("reverse", False) else total


def _cast(g: Given) -> Array:
    kind = g["dtype"]
    if kind in ("fp16", "fp32"):
        return np.asarray(g["x"].astype(np.float64))
    return np.asarray(g["x"].astype(kind))


def _split(g: Given) -> list[Array]:
    axis = int(g["axis"])
    sizes = g.get("split_sizes")
    if sizes is not None:
        return np.split(g["x"], np.cumsum(sizes)[:-1].astype(int), axis)
    return np.split(g["x"], int(g["num_splits"]), axis)


def _attention(g: Given) -> Array:
    scores = g["query"] @ np.swapaxes(g["key"], -1, -2) / math.sqrt(g["query"].shape[-1])
    if "attn_mask" in g:
        mask = g["attn_mask"]
        scores = np.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
    return np.asarray(softmax(scores) @ g["value"])


# Recurrent operations

_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": sigmoid, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "linear": lambda x: x,
    "softsign": lambda x: x / (1 + np.abs(x)), "softplus": lambda x: np.logaddexp(0, x),
    "sigmoid_hard": lambda x: np.clip(0.2 * x + 0.5, 0, 1), "scaled_tanh": lambda x: 1.7159 * np.tanh(x * 2 / 3),
}  # fmt: skip


def _direction(g: Given, kind: str, suffix: str, h: Array, c: Array | None) -> tuple[list[Array], Array, Array | None]:
    first = _FUNCTIONS[g.get("recurrent_activation", "sigmoid")]
    last = _FUNCTIONS[g.get("activation", "tanh")]
    cell = _FUNCTIONS[g.get("cell_activation", "tanh")]
    w, r = g[f"weight_ih{suffix}"], g[f"weight_hh{suffix}"]
    b = g.get(f"bias{suffix}", np.zeros(len(w)))
    peep = np.split(g.get(f"peephole{suffix}", np.zeros(3 * r.shape[1])), 3)
    steps = []
    for x in g["x"]:
        if kind == "gru":
            wr, wo, wz = np.split(x @ w.T + b, 3, 1)
            rr, ro, rz = np.split(r, 3)
            reset, update = first(wr + h @ rr.T), first(wz + h @ rz.T)
            h = (1 - update) * last(wo + (reset * h) @ ro.T) + update * h
        elif kind == "lstm":
            assert c is not None
            i, f, o, z = np.split(x @ w.T + h @ r.T + b, 4, 1)
            i, f = first(i + peep[0] * c), first(f + peep[1] * c)
            c = f * c + i * cell(z)
            h = first(o + peep[2] * c) * last(c)
        else:
            h = last(x @ w.T + h @ r.T + b)
        steps.append(h)
    return steps, h, c


def _recurrent(kind: str) -> Rule:
    def rule(g: Given) -> list[Array]:
        direction = g.get("direction", "forward")
        count = 2 if direction == "bidirectional" else 1
        hidden, batch = g["weight_hh"].shape[1], g["x"].shape[1]
        states = [g.get(key, np.zeros((batch, count * hidden))) for key in ("initial_h", "initial_c")]
        results = []
        for index in range(count):
            backwards = direction == "reverse" or index == 1
            own = {**g, "x": g["x"][::-1] if backwards else g["x"]}
            part = slice(index * hidden, (index + 1) * hidden)
            cells = states[1][:, part] if kind == "lstm" else None
            steps, h, c = _direction(own, kind, "_back" if index else "", states[0][:, part], cells)
            results.append((steps[::-1] if backwards else steps, h, c))
        sequence = np.concatenate([np.stack(steps) for steps, _, _ in results], -1)
        last = np.concatenate([h for _, h, _ in results], -1)
        found = [sequence if g.get("output_sequence", False) else last, last]
        return found + ([np.concatenate([c for _, _, c in results if c is not None], -1)] if kind == "lstm" else [])

    return rule


def _reduce(function: Callable[..., Any]) -> Rule:
    def rule(g: Given) -> Array:
        axes = tuple(int(axis) for axis in np.atleast_1d(g["axes"])) if "axes" in g else None
        return np.asarray(
            function(g["x"], axis=axes, keepdims=bool(g.get("keep_dims", False)), epsilon=g.get("epsilon", 0))
        )

    return rule


def _over(function: Callable[..., Any], before: Callable[[Array], Any] = lambda x: x) -> Callable[..., Any]:
    return lambda x, axis, keepdims, epsilon: function(before(x), axis=axis, keepdims=keepdims)


def _log_sum_exp(x: Array, axis: Any, keepdims: bool, epsilon: float) -> Any:
    top = x.max()
    return np.log(np.exp(x - top).sum(axis=axis, keepdims=keepdims)) + top


def _arg(function: Callable[..., Any]) -> Rule:
    return lambda g: function(g["x"], axis=int(g.get("axis", -1)), keepdims=bool(g.get("keep_dims", True)))


def _binary(function: Callable[[Any, Any], Any]) -> Rule:
    return lambda g: np.asarray(function(g["x"], g["y"]))


def _unary(function: Callable[[Any], Any]) -> Rule:
    return lambda g: np.asarray(function(g["x"]))


_SIMPLE: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs, "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atanh": np.arctanh,
    "acosh": np.arccosh, "asinh": np.arcsinh, "ceil": np.ceil, "cos": np.cos, "cosh": np.cosh, "erf": _erf,
    "exp": np.exp, "floor": np.floor, "round": np.round, "sign": np.sign, "sin": np.sin, "sinh": np.sinh,
    "sqrt": np.sqrt, "tan": np.tan, "tanh": np.tanh, "sigmoid": sigmoid, "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0), "softplus": lambda x: np.logaddexp(0, x), "relu6": lambda x: np.clip(x, 0, 6),
    "softsign": lambda x: x / (1 + np.abs(x)), "exp2": np.exp2, "square": np.square, "silu": lambda x: x * sigmoid(x),
    "logical_not": lambda x: ~x.astype(bool), "shape": lambda x: np.array(x.shape),
    "non_zero": np.argwhere,
}  # fmt: skip
_TWO: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
    "pow": np.power, "equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "real_div": np.divide, "floor_div": np.floor_divide,
    "mod": np.mod, "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
}  # fmt: skip
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": _over(np.sum), "mean": _over(np.mean), "max": _over(np.max), "min": _over(np.min), "prod": _over(np.prod),
    "sum_square": _over(np.sum, np.square), "l1_norm": _over(np.sum, np.abs),
    "l2_norm": lambda x, axis, keepdims, epsilon: np.sqrt((x**2).sum(axis=axis, keepdims=keepdims)),
    "log_sum": lambda x, axis, keepdims, epsilon: np.log(x.sum(axis=axis, keepdims=keepdims) + epsilon),
    "log_sum_exp": _log_sum_exp,
}  # fmt: skip

RULES: dict[str, Rule] = {
    **{name: _unary(function) for name, function in _SIMPLE.items()},
    **{name: _binary(function) for name, function in _TWO.items()},
    **{f"reduce_{name}": _reduce(function) for name, function in _REDUCTIONS.items()},
    "log": lambda g: np.log(g["x"] + g.get("epsilon", 1e-45)), "gelu": _gelu,
    "inverse": lambda g: 1 / (g["x"] + g.get("epsilon", 1e-4)),
    "rsqrt": lambda g: 1 / np.sqrt(g["x"] + g.get("epsilon", 1e-12)),
    "clip": lambda g: np.clip(g["x"], g["alpha"], g["beta"]), "threshold": lambda g: np.maximum(g["x"], g["alpha"]),
    "linear_activation": lambda g: g["x"] * g["alpha"] + g.get("beta", 0),
    "scaled_tanh": lambda g: g.get("alpha", 1) * np.tanh(g["x"] * g.get("beta", 1)),
    "softplus_parametric": lambda g: (
        _channels(g["alpha"], g["x"]) * np.logaddexp(0, _channels(g["beta"], g["x"]) * g["x"])
    ),
    "prelu": lambda g: np.where(g["x"] < 0, g["x"] * _channels(g["alpha"], g["x"]), g["x"]),
    "leaky_relu": lambda g: np.where(g["x"] < 0, g["x"] * g.get("alpha", 0.01), g["x"]),
    "elu": lambda g: np.where(g["x"] < 0, g.get("alpha", 1.0) * np.expm1(np.minimum(g["x"], 0)), g["x"]),
    "sigmoid_hard": lambda g: np.clip(g.get("alpha", 0.2) * g["x"] + g.get("beta", 0.5), 0, 1),
    "clamped_relu": lambda g: np.minimum(np.where(g["x"] < 0, g["x"] * g["alpha"], g["x"]), g["beta"]),
    "thresholded_relu": lambda g: np.where(g["x"] >= g.get("alpha", 1.0), g["x"], 0),
    "softmax": lambda g: softmax(g["x"], int(g.get("axis", -1))), "cast": _cast,
    "select": lambda g: np.where(g["cond"].astype(bool), g["a"], g["b"]),
    "reduce_argmax": _arg(np.argmax), "reduce_argmin": _arg(np.argmin),
    "concat": lambda g: np.concatenate(g["values"], int(g["axis"])),
    "stack": lambda g: np.stack(g["values"], int(g["axis"])), "split": _split, "reshape": _reshape,
    "transpose": lambda g: g["x"].transpose(_list(g, "perm", [])),
    "expand_dims": lambda g: np.expand_dims(g["x"], tuple(_list(g, "axes", []))),
    "squeeze": lambda g: np.squeeze(g["x"], tuple(_list(g, "axes", [])) if "axes" in g else None),
    "flatten2d": lambda g: g["x"].reshape(math.prod(g["x"].shape[: int(g.get("axis", 1))]), -1),
    "slice_by_index": _slice, "slice_by_size": _slice_by_size, "pad": _pad,
    "tile": lambda g: np.tile(g["x"], _list(g, "reps", [])),
    "gather": lambda g: np.take(g["x"], g["indices"].astype(int), int(g.get("axis", 0))),
    "gather_along_axis": lambda g: np.take_along_axis(g["x"], g["indices"].astype(int), int(g.get("axis", 0))),
    "gather_nd": lambda g: g["x"][tuple(np.moveaxis(g["indices"].astype(int), -1, 0))], "scatter_nd": _scatter_nd,
    "fill": lambda g: np.full(_list(g, "shape", []), g.get("value", 0.0)),
    "fill_like": lambda g: np.full(g["ref_tensor"].shape, g.get("value", 0.0)),
    "broadcast_to": lambda g: np.broadcast_to(g["x"], _list(g, "shape", [])),
    "range_1d": lambda g: np.arange(g["start"], g["end"], g["step"]),
    "reverse": lambda g: np.flip(g["x"], tuple(_list(g, "axes", range(g["x"].ndim)))), "cumsum": _cumsum,
    "one_hot": _one_hot, "topk": _topk, "band_part": _band,
    "argsort": lambda g: _order(g["x"], int(g.get("axis", -1)), bool(g.get("ascending", False))),
    "scaled_dot_product_attention": _attention, "conv": _conv, "conv_transpose": _conv_transpose,
    "max_pool": lambda g: _pool(g, "max"), "avg_pool": lambda g: _pool(g, "avg"), "l2_pool": lambda g: _pool(g, "l2"),
    "linear": lambda g: g["x"] @ g["weight"].T + g.get("bias", 0),
    "matmul": lambda g: _turned(g["x"], g.get("transpose_x", False)) @ _turned(g["y"], g.get("transpose_y", False)),
    "einsum": lambda g: np.einsum(g["equation"].replace(" ", ""), *g["values"]), "batch_norm": _batch_norm,
    "instance_norm": _instance_norm, "layer_norm": _layer_norm,
    "l2_norm": lambda g: g["x"] / np.sqrt((g["x"] ** 2).sum((-3, -2, -1), keepdims=True) + g.get("epsilon", 1e-6)),
    "local_response_norm": _lrn, "upsample_nearest_neighbor": lambda g: _resized(g, "plain", True),
    "resize_nearest_neighbor": lambda g: _resized(g, "plain", True), "upsample_bilinear": _upsample_bilinear,
    "resize_bilinear": _resize_bilinear, "depth_to_space": _depth_to_space, "pixel_shuffle": _pixel_shuffle,
    "space_to_depth": _space_to_depth, "pixel_unshuffle": _pixel_unshuffle,
    "crop": lambda g: g["x"][
        ...,
        int(g["crop_height"][0]) : g["x"].shape[-2] - int(g["crop_height"][1]),
        int(g["crop_width"][0]) : g["x"].shape[-1] - int(g["crop_width"][1]),
    ],
    "lstm": _recurrent("lstm"), "gru": _recurrent("gru"), "rnn": _recurrent("rnn"),
}  # fmt: skip
"""What computes each kind of operation, by its arguments."""
