"""Chainer's functions in float64 NumPy: the oracle for files of weights, where there is no chain to call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.convert.base import Array, Values
from sardonyx.convert.contract import over_channels

if TYPE_CHECKING:
    from sardonyx.convert.chainer.reader import Network

Given = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The oracle: every step's values by name."""

    network: Network
    name: str = "float64 evaluation of the source graph"

    def run(self, inputs: Values) -> Values:
        """Values of all steps by name, float64."""
        known = {name: _wide(value) for name, value in {**self.network.weights, **inputs}.items()}
        for step in self.network.steps:
            made = _RULES[step.function]([known[name] for name in step.inputs], step.options)
            results = made if isinstance(made, list) else [made]
            known.update(zip(step.outputs, results, strict=True))
        return {name: known[name] for step in self.network.steps for name in step.outputs}


def _wide(value: Array) -> Array:
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _two(o: Given, keys: tuple[str, str, str], default: int) -> tuple[int, int]:
    whole = o.get(keys[2], default)
    whole = whole if isinstance(whole, list | tuple) else (whole, whole)
    return int(o.get(keys[0], whole[0])), int(o.get(keys[1], whole[1]))


_STRIDE, _PAD, _DILATE, _KERNEL = (
    ("sy", "sx", "stride"),
    ("ph", "pw", "pad"),
    ("dy", "dx", "dilate"),
    ("kh", "kw", "ksize"),
)


def _convolution(x: list[Array], o: Given) -> Array:
    (sy, sx), (ph, pw), (dy, dx) = _two(o, _STRIDE, 1), _two(o, _PAD, 0), _two(o, _DILATE, 1)
    groups, w = int(o.get("groups", 1)), x[1]
    image = np.pad(x[0], ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    kh, kw = w.shape[2:]
    height = (image.shape[2] - (kh - 1) * dy - 1) // sy + 1
    width = (image.shape[3] - (kw - 1) * dx - 1) // sx + 1
    parts = np.split(image, groups, 1)
    made = []
    for part, kernel in zip(parts, np.split(w, groups, 0), strict=True):
        total: Any = 0.0
        for r in range(kh):
            for c in range(kw):
                seen = part[:, :, r * dy :: sy, c * dx :: sx][:, :, :height, :width]
                total = total + over_channels(kernel[:, :, r, c], seen)
        made.append(total)
    result = np.concatenate(made, 1)
    return result + x[2].reshape(-1, 1, 1) if len(x) > 2 else result


def _deconvolution(x: list[Array], o: Given) -> Array:
    (sy, sx), (ph, pw), (dy, dx) = _two(o, _STRIDE, 1), _two(o, _PAD, 0), _two(o, _DILATE, 1)
    groups, w, (n, _, h, v) = int(o.get("groups", 1)), x[1], x[0].shape
    kh, kw = w.shape[2:]
    height = o.get("outh") or sy * (h - 1) + (kh - 1) * dy + 1 - 2 * ph
    width = o.get("outw") or sx * (v - 1) + (kw - 1) * dx + 1 - 2 * pw
    canvas = np.zeros((n, w.shape[1] * groups, height + 2 * ph + kh * dy, width + 2 * pw + kw * dx))
    outer = w.shape[1]
    for group, (part, kernel) in enumerate(zip(np.split(x[0], groups, 1), np.split(w, groups, 0), strict=True)):
        for r in range(kh):
            for c in range(kw):
                target = canvas[:, group * outer : (group + 1) * outer, r * dy :, c * dx :]
                target[:, :, : h * sy : sy, : v * sx : sx] += over_channels(kernel[:, :, r, c].T, part)
    result = canvas[:, :, ph : ph + height, pw : pw + width]
    return result + x[2].reshape(-1, 1, 1) if len(x) > 2 else result


def _pooling(kind: str) -> Callable[[list[Array], Given], Array]:
    def rule(x: list[Array], o: Given) -> Array:
        (kh, kw), (ph, pw) = _two(o, _KERNEL, 1), _two(o, _PAD, 0)
        sy, sx = _two(o, _STRIDE, kh)
        cover = bool(o.get("cover_all", False))
        sizes = []
        for n, k, s, p in ((x[0].shape[2], kh, sy, ph), (x[0].shape[3], kw, sx, pw)):
            sizes.append((n + 2 * p - k + (s - 1 if cover else 0)) // s + 1)
        fill = -np.inf if kind == "max" else 0.0
        image = np.pad(x[0], ((0, 0), (0, 0), (ph, ph + sy), (pw, pw + sx)), constant_values=fill)
        out = np.zeros((*x[0].shape[:2], *sizes))
        for r in range(sizes[0]):
            for c in range(sizes[1]):
                window = image[:, :, r * sy : r * sy + kh, c * sx : c * sx + kw]
                if kind == "max":
                    out[:, :, r, c] = window.max((2, 3))
                    continue
                rows = min(r * sy + kh, x[0].shape[2] + ph) - max(r * sy, ph)
                columns = min(c * sx + kw, x[0].shape[3] + pw) - max(c * sx, pw)
                counted = kh * kw if o.get("pad_value", 0) is not None else rows * columns
                out[:, :, r, c] = window.sum((2, 3)) / counted
        return out

    return rule


def _norm(x: list[Array], o: Given) -> Array:
    along = (-1, *[1] * (x[0].ndim - 2))
    gamma, beta, mean, variance = (item.reshape(along) for item in x[1:5])
    return np.asarray((x[0] - mean) / np.sqrt(variance + o.get("eps", 2e-5)) * gamma + beta)


def _log_softmax(x: list[Array], o: Given) -> Array:
    axis = int(o.get("axis", 1))
    centred = x[0] - x[0].max(axis, keepdims=True)
    return np.asarray(centred - np.log(np.exp(centred).sum(axis, keepdims=True)))


def _index(item: Any) -> Any:
    if isinstance(item, list):
        return slice(*item)
    return Ellipsis if item == "..." else item


def _reshape(x: list[Array], o: Given) -> Array:
    shape = [int(size) for size in o["shape"]]
    # A traced chain's first dim is the batch it was traced with.
    open_batch = x[0].shape[0] if -1 in shape[1:] else -1
    return x[0].reshape([open_batch if o.get("_live") else shape[0], *shape[1:]])


def _broadcast(x: list[Array], o: Given) -> Array:
    shape = [int(size) for size in (o.get("_shape") or o["shape"])]
    return np.broadcast_to(x[0], [max(x[0].shape[0], 1) if o.get("_live") else shape[0], *shape[1:]])


def _reduce(function: Any) -> Callable[[list[Array], Given], Array]:
    def rule(x: list[Array], o: Given) -> Array:
        axis = o.get("axis")
        return np.asarray(
            function(
                x[0], axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=bool(o.get("keepdims", False))
            )
        )

    return rule


def _lrn(x: list[Array], o: Given) -> Array:
    half = int(o.get("n", 5)) // 2
    squares = np.pad(x[0] ** 2, ((0, 0), (half, half), *[(0, 0)] * (x[0].ndim - 2)))
    total = sum(squares[:, i : i + x[0].shape[1]] for i in range(2 * half + 1))
    return np.asarray(x[0] * (o.get("k", 2) + o.get("alpha", 1e-4) * total) ** -o.get("beta", 0.75))


def _resize(x: list[Array], o: Given) -> Array:
    result = x[0]
    for axis, wanted in ((2, int(o["out_H"])), (3, int(o["out_W"]))):
        places = np.linspace(0, result.shape[axis] - 1, wanted)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, result.shape[axis] - 1)
        part = (places - low).reshape(-1, 1) if axis == 2 else places - low
        result = np.take(result, low, axis) * (1 - part) + np.take(result, high, axis) * part
    return np.asarray(result)


def _shuffle(x: list[Array], o: Given) -> Array:
    n, c, h, w = x[0].shape
    r = int(o["r"])
    return x[0].reshape(n, c // r**2, r, r, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // r**2, h * r, w * r)


def _split(x: list[Array], o: Given) -> list[Array]:
    return np.split(x[0], o["indices_or_sections"], int(o.get("axis", 1)))


def _matmul(x: list[Array], o: Given) -> Array:
    a, b = (np.swapaxes(v, -1, -2) if o.get(k) else v for v, k in zip(x, ("transa", "transb"), strict=True))
    return np.asarray(a @ b)


def _sigmoid(v: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * v)))


_RULES: dict[str, Callable[[list[Array], Given], Any]] = {
    "Convolution2DFunction": _convolution, "Deconvolution2DFunction": _deconvolution,
    "LinearFunction": lambda x, o: x[0] @ x[1].T + (x[2] if len(x) > 2 else 0), "FixedBatchNormalization": _norm,
    "MaxPooling2D": _pooling("max"), "AveragePooling2D": _pooling("average"),
    "MaxPoolingND": _pooling("max"),
    "AveragePoolingND": _pooling("average"), "Mean": _reduce(np.mean), "ReLU": lambda x, o: x[0].clip(0),
    "Sigmoid": lambda x, o: _sigmoid(x[0]), "Tanh": lambda x, o: np.tanh(x[0]),
    "LeakyReLU": lambda x, o: np.where(x[0] < 0, x[0] * o["slope"], x[0]),
    "ELU": lambda x, o: np.where(x[0] < 0, o["alpha"] * np.expm1(x[0].clip(None, 0)), x[0]),
    "ClippedReLU": lambda x, o: x[0].clip(0, o["cap"]),
    "Clip": lambda x, o: np.clip(x[0], o.get("x_min", -np.inf), o.get("x_max", np.inf)),
    "Softplus": lambda x, o: np.logaddexp(0, o.get("beta", 1.0) * x[0]) / o.get("beta", 1.0),
    "Swish": lambda x, o: x[0] * _sigmoid(x[0] * x[1]), "Softmax": lambda x, o: np.exp(_log_softmax(x, o)),
    "LogSoftmax": _log_softmax, "Concat": lambda x, o: np.concatenate(x, int(o.get("axis", 1))), "Reshape": _reshape,
    "Transpose": lambda x, o: x[0].transpose(o.get("axes")), "BroadcastTo": _broadcast,
    "GetItem": lambda x, o: x[0][tuple(_index(item) for item in o["slices"])], "SplitAxis": _split,
    "Squeeze": lambda x, o: np.squeeze(x[0], tuple(np.atleast_1d(o["axis"]))),
    "ExpandDims": lambda x, o: np.expand_dims(x[0], int(o["axis"])), "Sum": _reduce(np.sum), "Max": _reduce(np.max),
    "Min": _reduce(np.min), "Add": lambda x, o: x[0] + x[1], "MultiAdd": lambda x, o: sum(x),
    "Sub": lambda x, o: x[0] - x[1], "Mul": lambda x, o: x[0] * x[1], "Div": lambda x, o: x[0] / x[1],
    "PowVarVar": lambda x, o: x[0] ** x[1], "AddConstant": lambda x, o: x[0] + o["value"],
    "MulConstant": lambda x, o: x[0] * o["value"], "SubFromConstant": lambda x, o: o["value"] - x[0],
    "DivFromConstant": lambda x, o: o["value"] / x[0], "PowVarConst": lambda x, o: x[0] ** o["value"],
    "Neg": lambda x, o: -x[0], "Absolute": lambda x, o: np.abs(x[0]), "Exp": lambda x, o: np.exp(x[0]),
    "Log": lambda x, o: np.log(x[0]), "Sqrt": lambda x, o: np.sqrt(x[0]), "Square": lambda x, o: x[0] * x[0],
    "Sin": lambda x, o: np.sin(x[0]), "Cos": lambda x, o: np.cos(x[0]), "Maximum": lambda x, o: np.maximum(*x),
    "Minimum": lambda x, o: np.minimum(*x), "MatMul": _matmul, "Dropout": lambda x, o: x[0],
    "Identity": lambda x, o: x[0], "LocalResponseNormalization": _lrn, "ResizeImages": _resize,
    "Depth2Space": _shuffle, "EmbedIDFunction": lambda x, o: x[1][x[0].astype(int)],
}  # fmt: skip
