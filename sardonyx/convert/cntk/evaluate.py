"""CNTK's operators in float64 NumPy: the oracle. It shares the reading of the file with the emission, nothing else."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sardonyx.convert.base import Array, Values
from sardonyx.convert.cntk.file import ALL_STATIC, END, Axis, Function, Network
from sardonyx.convert.contract import over_channels

_DELAYS = ("PastValue", "FutureValue")


@dataclass(frozen=True, eq=False)
class Item:
    """A value whose first `dynamic` axes are the batch and the sequence."""

    array: Array
    dynamic: int

    @property
    def rank(self) -> int:
        """The number of static axes."""
        return self.array.ndim - self.dynamic

    def at(self, step: int) -> Item:
        """One step of a sequence."""
        return Item(self.array[:, step], 1) if self.dynamic == 2 else self


@dataclass(frozen=True)
class Evaluation:
    """The oracle. `groups` are operators in order, those of a loop together; `inputs` uids by ONNX name."""

    network: Network
    groups: Sequence[Sequence[Function]]
    outputs: Mapping[str, str]
    inputs: Mapping[str, str]
    name: str = "float64 evaluation of the source graph"

    def run(self, inputs: Values) -> Values:
        """The outputs, and results of operators by their names, float64."""
        known: dict[str, Item] = {}
        for uid, variable in self.network.variables.items():
            if variable.array is not None:
                known[uid] = Item(variable.array.astype(np.float64), 0)
        for name, uid in self.inputs.items():
            known[uid] = Item(inputs[name].astype(np.float64), len(self.network.variables[uid].dynamic))
        with np.errstate(all="ignore"):
            for group in self.groups:
                looped = len(group) > 1 or group[0].output() in group[0].inputs
                known.update(self._loop(group, known) if looped else self._one(group[0], known))
        found = {function.name or function.uid: known[function.output()].array
                 for function in self.network.functions.values() if function.output() in known}  # fmt: skip
        return {**found, **{name: known[uid].array for name, uid in self.outputs.items()}}

    def _one(self, function: Function, known: Mapping[str, Item]) -> dict[str, Item]:
        if function.op == "GatherPacked":
            results = [self._packed(function, known)]
        else:
            # Lengths that ToSequence may be given are those of the array.
            used = function.inputs[:1] if function.op == "ToSequence" else function.inputs
            results = RULES[function.op](Given(function, [known[uid] for uid in used]))
        return {function.output(i): item for i, item in enumerate(results)}

    def _loop(self, group: Sequence[Function], known: Mapping[str, Item]) -> dict[str, Item]:
        """Step by step; a delay's result is its input's of the step before."""
        results = {function.output(i) for function in group for i in range(2)}
        given = {
            uid: known[uid] for function in group for uid in function.inputs if uid in known and uid not in results
        }
        like = next(item for item in given.values() if item.dynamic == 2)
        count, length = like.array.shape[:2]
        delays = [function for function in group if function.op in _DELAYS]
        order = range(length) if delays[0].op == "PastValue" else range(length - 1, -1, -1)
        before: dict[str, Item] = {}
        for delay in delays:
            start = given[delay.inputs[1]]
            shape = tuple(size or 1 for size in self.network.state(delay, group) or start.array.shape[start.dynamic :])
            rows = start.array.reshape(len(start.array), *[1] * (len(shape) - start.rank), *start.array.shape[1:]) if (
                start.dynamic) else start.array  # fmt: skip
            before[delay.output()] = Item(np.broadcast_to(rows, (count, *shape)), 1)
        steps: dict[int, dict[str, Item]] = {}
        for step in order:
            now = {uid: item.at(step) for uid, item in given.items()} | before
            for function in group:
                if function.op not in _DELAYS:
                    now.update(self._one(function, now))
            steps[step] = now
            before = {delay.output(): now[delay.inputs[0]] for delay in delays}
        made = [uid for uid in steps[0] if uid in results]
        shapes = {uid: max((steps[t][uid].array.shape for t in steps), key=math.prod) for uid in made}
        return {uid: Item(np.stack([np.broadcast_to(steps[t][uid].array, shapes[uid]) for t in range(length)], 1), 2)
                for uid in made}  # fmt: skip

    def _packed(self, function: Function, known: Mapping[str, Item]) -> Item:
        """The steps at which the condition is not zero, computed as it stands."""
        x = known[function.inputs[0]]
        index = self.network.maker(function.inputs[1])
        where = self.network.maker(index.inputs[1]) if index else None
        assert where is not None
        condition = self._condition(where.inputs[0], known, x).array.reshape(x.array.shape[:2])
        chosen = np.flatnonzero(condition[0])
        assert (condition == condition[:1]).all()
        single = len(where.attributes["newDynamicAxes"]) == 1
        return Item(x.array[:, chosen[0]], 1) if single else Item(x.array[:, chosen], 2)

    def _condition(self, uid: str, known: Mapping[str, Item], like: Item) -> Item:
        if uid in known:
            return known[uid]
        function = self.network.maker(uid)
        assert function is not None
        if function.op == "ReconcileDynamicAxis":
            single = self._condition(function.inputs[0], known, like).array
            return Item(np.broadcast_to(single, (*like.array.shape[:2], *single.shape)), 2)
        operands = [self._condition(item, known, like) for item in function.inputs]
        return RULES[function.op](Given(function, operands))[0]


@dataclass(frozen=True)
class Given:
    """An operator with its operands."""

    function: Function
    items: Sequence[Item]

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.function.attributes.get(name, default)

    def axis(self, axis: Axis, rank: int) -> int:
        """A static axis as NumPy counts from the end; after the last one it is -1 - rank."""
        if axis.number == END:
            return -1 - rank
        return -1 - (axis.number + rank if axis.number < 0 else axis.number)

    def each(self, name: str, rank: int, default: int) -> list[int]:
        """A setting an axis, in NumPy's order."""
        values = list(self.get(name, [default]))
        values = values * rank if len(values) == 1 else values
        return [int(value) for value in [*values, *[default] * (rank - len(values))][::-1]]


Rule = Callable[[Given], list[Item]]


def _fit(items: Sequence[Item]) -> list[Array]:
    """Arrays that NumPy broadcasts: static axes added behind the dynamic ones."""
    rank = max(item.rank for item in items)
    return [item.array.reshape(*item.array.shape[: item.dynamic], *[1] * (rank - item.rank * (item.dynamic > 0)
            if item.dynamic else 0), *item.array.shape[item.dynamic :]) if item.dynamic else item.array
            for item in items]  # fmt: skip


def _map(function: Callable[..., Any]) -> Rule:
    def rule(g: Given) -> list[Item]:
        result = function(*_fit(g.items))
        return [Item(np.asarray(result, np.float64), max(item.dynamic for item in g.items))]

    return rule


def _log(x: Array) -> Array:
    return np.where(x < 1e-37, -85.1, np.log(np.maximum(x, 1e-37)))


def _flat(function: Callable[[Array], Array]) -> Rule:
    def rule(g: Given) -> list[Item]:
        x = g.items[0]
        rows = x.array.reshape(*x.array.shape[: x.dynamic], -1)
        return [replace(x, array=function(rows).reshape(x.array.shape))]

    return rule


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _hardmax(x: Array) -> Array:
    return np.asarray(np.arange(x.shape[-1]) == x.argmax(-1)[..., None], np.float64)


def _log_sum(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    top = x.max(axis, keepdims=True)
    total: Array = np.log(np.exp(x - top).sum(axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, axis)


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "Sum": np.sum, "Mean": np.mean, "Max": np.max, "Min": np.min, "Prod": np.prod, "LogSum": _log_sum,
}  # fmt: skip


def _reduce(g: Given) -> list[Item]:
    x, kind = g.items[0], g.get("reductionOpName")
    axes = g.get("axisVec") or [g.get("axis")]
    whole = any(axis.number == ALL_STATIC for axis in axes)
    places = tuple(range(-x.rank, 0)) if whole else tuple({g.axis(axis, x.rank) for axis in axes})
    keep = g.get("reductionKeepDimensions", True)
    if kind in ("Argmax", "Argmin"):
        found = (np.argmax if kind == "Argmax" else np.argmin)(x.array, axis=places[0], keepdims=keep)
        return [Item(found.astype(np.float64), x.dynamic)]
    return [Item(np.asarray(_REDUCTIONS[kind](x.array, axis=places, keepdims=keep)), x.dynamic)]


def _times(g: Given) -> list[Item]:
    left, right = g.items
    if g.function.op == "TransposeTimes":
        left = replace(left, array=np.swapaxes(left.array, -1, -2) if left.rank == 2 else left.array[..., None])
        inner = 1
    else:
        inner = left.rank - g.get("outputRank", 1)
    if not left.dynamic:
        return [Item(np.tensordot(right.array, left.array, inner), right.dynamic)]
    rights = (
        right.array
        if right.dynamic
        else np.broadcast_to(right.array, (*left.array.shape[: left.dynamic], *right.array.shape))
    )
    ahead = left.array.shape[: left.dynamic]
    rows = [np.tensordot(rights[i], left.array[i], inner) for i in np.ndindex(*ahead)]
    return [Item(np.stack(rows).reshape(*ahead, *rows[0].shape), left.dynamic)]


def _reshape(g: Given) -> list[Item]:
    x = g.items[0]
    begin, end = (
        -1 - g.axis(g.get(name, Axis(number, "")), x.rank) for name, number in (("beginAxis", 0), ("endAxis", END))
    )
    shape = list(x.array.shape[x.dynamic :])
    stop, start = x.rank - begin, x.rank - end
    new = [-1 if size >= 2**63 or size == 0 else size for size in g.get("newShape")[::-1]]
    part = math.prod(shape[start:stop])
    if -1 in new:
        new[new.index(-1)] = part // -math.prod(new)
    return [replace(x, array=x.array.reshape(*x.array.shape[: x.dynamic], *shape[:start], *new, *shape[stop:]))]


def _transpose(g: Given) -> list[Item]:
    x = g.items[0]
    if g.get("axisVec"):
        places = [g.axis(axis, x.rank) % x.rank for axis in g.get("axisVec")][::-1]
        return [replace(x, array=x.array.transpose(*range(x.dynamic), *(x.dynamic + place for place in places)))]
    return [replace(x, array=np.swapaxes(x.array, *(g.axis(g.get(name), x.rank) for name in ("axis1", "axis2"))))]


def _slice(g: Given) -> list[Item]:
    x = g.items[0]
    result = x.array
    several = g.get("axisVec")
    names = ("beginIndex", "endIndex", "sliceStrides")
    given = zip(several, *(g.get(f"{name}Vec") for name in names), strict=True) if several else [
        (g.get("axis"), *(g.get(name, 1) for name in names))]  # fmt: skip
    for axis, start, stop, step in given:
        place = g.axis(axis, x.rank)
        count = result.shape[place]
        ends = (start if start >= 0 else start + count, stop if stop > 0 else stop + count)
        result = np.take(result, np.arange(*ends, step), place)
    return [replace(x, array=result)]


def _splice(g: Given) -> list[Item]:
    axis, most = g.get("axis"), max(item.rank for item in g.items)
    number = axis.number + most if axis.number < 0 else axis.number
    rank, dynamic = max(most, number + 1), max(item.dynamic for item in g.items)
    ahead = next(item.array.shape[:dynamic] for item in g.items if item.dynamic == dynamic)
    parts = [item.array.reshape(*(item.array.shape[: item.dynamic] or (1,) * dynamic), *[1] * (rank - item.rank),
                                *item.array.shape[item.dynamic :]) for item in g.items]  # fmt: skip
    shape = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    shape[:dynamic] = ahead
    whole = [np.broadcast_to(part, [*shape[: -1 - number], part.shape[-1 - number], *shape[len(shape) - number :]])
             for part in parts]  # fmt: skip
    return [Item(np.concatenate(whole, -1 - number), dynamic)]


def _squeeze(g: Given) -> list[Item]:
    x = g.items[0]
    axes = g.get("axisVec") or ([g.get("axis")] if g.get("axis") else None)
    places = (
        [g.axis(axis, x.rank) for axis in axes] if axes else [i for i in range(-x.rank, 0) if x.array.shape[i] == 1]
    )
    return [replace(x, array=np.squeeze(x.array, tuple(places)))]


def _pad(g: Given) -> list[Item]:
    x = g.items[0]
    mode = ("constant", "reflect", "symmetric")[g.get("paddingMode")]
    widths = [(0, 0)] * x.dynamic + list(zip(g.get("paddingHead"), g.get("paddingFoot"), strict=True))[::-1]
    more = {"constant_values": g.get("paddingConstantValue")} if mode == "constant" else {}
    pad: Any = np.pad
    return [replace(x, array=pad(x.array, widths, mode, **more))]


def _crop(g: Given) -> list[Item]:
    x, like = g.items
    (column, row), (height, width) = g.get("offset"), like.array.shape[-2:]
    return [replace(x, array=x.array[..., row : row + height, column : column + width])]


def _one_hot(g: Given) -> list[Item]:
    x, count = g.items[0], g.get("numClass")
    hot = (x.array[..., None] == np.arange(count)).astype(np.float64)
    return [Item(np.moveaxis(hot, -1, g.axis(g.get("onehotAxis"), x.rank + 1)), x.dynamic)]


def _gather(g: Given) -> list[Item]:
    return [Item(g.items[1].array[g.items[0].array.astype(np.int64)], g.items[0].dynamic)]


def _top(g: Given) -> list[Item]:
    x, place = g.items[0], g.axis(g.get("axis"), g.items[0].rank)
    order = np.take(np.argsort(-x.array, place, kind="stable"), np.arange(g.get("numItems")), place)
    return [replace(x, array=np.take_along_axis(x.array, order, place)), replace(x, array=order.astype(np.float64))]


def _cosine(a: Array, b: Array) -> Array:
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray((a * b).sum(-1) / norms)


# ---- windows ---------------------------------------------------------------------------------------------------------


def _places(size: int, kernel: int, stride: int, dilation: int, auto: int, pads: tuple[int, int], ceil: bool) -> Array:
    """The elements under each window, [windows, kernel]; some lie outside."""
    room = size - 1 if auto else size + sum(pads) - (kernel - 1) * dilation - 1
    count = (math.ceil(room / stride) if ceil else room // stride) + 1
    centre = (size - 1 - (count - 1) * stride) // 2 - (kernel - 1) // 2 if auto else -pads[0]
    return np.arange(count)[:, None] * stride + np.arange(kernel) * dilation + centre


def _all_places(g: Given, sizes: Sequence[int], kernel: Sequence[int]) -> list[Array]:
    rank = len(kernel)
    names = (("strides", 1), ("dilation", 1), ("autoPadding", 0), ("lowerPad", 0), ("upperPad", 0))
    settings = zip(*(g.each(name, rank, default) for name, default in names), strict=True)
    return [_places(size, k, s, d, auto, (low, high), g.get("ceilOutDim", False))
            for size, k, (s, d, auto, low, high) in zip(sizes, kernel, settings, strict=True)]  # fmt: skip


def _under(x: Array, places: Sequence[Array], fill: float) -> Array:
    """Elements under windows over the last axes: [..., windows, kernel, windows, kernel, ...]."""
    for i, place in enumerate(places):
        axis = x.ndim - len(places) + i
        shape = x.shape
        outside = (place < 0) | (place >= shape[axis])
        taken = np.take(x, np.clip(place, 0, shape[axis] - 1).ravel(), axis)
        mask = outside.reshape(-1, *[1] * (x.ndim - axis - 1))
        x = np.where(mask, fill, taken).reshape(*shape[:axis], *place.shape, *shape[axis + 1 :])
        # The kernel's axis moves to the front of all, so that the axes to come stay the last.
        x = np.moveaxis(x, axis + 1, 0)
    return x


def _convolution(g: Given) -> list[Item]:
    weights, x = g.items[0].array, g.items[1]
    rank = x.rank
    if weights.ndim == rank:
        weights = weights[None]
    rows = x.array.reshape(-1, *x.array.shape[x.dynamic :])
    if g.get("transpose"):
        result = _scattered(g, weights, rows)
    else:
        places = _all_places(g, rows.shape[1:], weights.shape[1:])[1:]
        under = _under(rows, places, 0.0)  # [kernel reversed, rows, channels, windows]
        groups, spatial = g.get("groups", 1), rank - 1
        kernels, letters = np.split(weights, groups), "uvw"[:spatial]
        windows = "xyz"[:spatial]
        parts = [
            np.einsum(f"{letters[::-1]}nc{windows},oc{letters}->no{windows}", part, kernel, optimize=True)
            for part, kernel in zip(np.split(under, groups, spatial + 1), kernels, strict=True)
        ]
        result = np.concatenate(parts, 1)
    return [Item(result.reshape(*x.array.shape[: x.dynamic], *result.shape[1:]), x.dynamic)]


def _scattered(g: Given, weights: Array, rows: Array) -> Array:
    """Each element times the kernel, added where the convolution the other way would have read."""
    rank = weights.ndim - 1
    asked = list(g.get("outputShape", [0]))[::-1]
    names = (("strides", 1), ("autoPadding", 0), ("lowerPad", 0), ("upperPad", 0))
    strides, autos, lows, highs = (g.each(name, rank, default)[1:] for name, default in names)
    sizes = asked[1:] if any(asked) else [
        (n - 1) * s + (1 if auto else k - low - high)
        for n, s, k, auto, low, high in zip(rows.shape[2:], strides, weights.shape[2:], autos, lows, highs, strict=True)
    ]  # fmt: skip
    places = [
        _places(size, k, s, 1, auto, (low, high), False)
        for size, k, s, auto, low, high in zip(sizes, weights.shape[2:], strides, autos, lows, highs, strict=True)
    ]
    margin = [k + s for k, s in zip(weights.shape[2:], strides, strict=True)]
    result = np.zeros((len(rows), weights.shape[1], *(n + 2 * m for n, m in zip(sizes, margin, strict=True))))
    whole = slice(None)
    for offsets in itertools.product(*map(range, weights.shape[2:])):
        target = np.ix_(*(place[:, k] + m for place, k, m in zip(places, offsets, margin, strict=True)))
        index: tuple[Any, ...] = (whole, whole, *target)
        taps: tuple[Any, ...] = (whole, whole, *offsets)
        result[index] += over_channels(weights[taps].T, rows)
    inside = tuple(slice(m, m + n) for n, m in zip(sizes, margin, strict=True))
    return np.asarray(result[(whole, whole, *inside)])


def _pooling(g: Given) -> list[Item]:
    x, sizes = g.items[0], g.get("poolingWindowShape")[::-1]
    shape = x.array.shape[x.array.ndim - len(sizes) :]
    kernel = [n if size >= 2**63 else size for size, n in zip(sizes, shape, strict=True)]
    places = _all_places(g, shape, kernel)
    axes = tuple(range(len(kernel)))
    if g.get("poolingType") == 0:
        return [replace(x, array=_under(x.array, places, -np.inf).max(axes))]
    total = _under(x.array, places, 0.0).sum(axes)
    count = math.prod(kernel) if g.get("includePad") else _under(np.ones(shape), places, 0.0).sum(axes)
    return [replace(x, array=total / count)]


def _batch_normalization(g: Given) -> list[Item]:
    x = g.items[0]
    shape = x.array.shape[x.dynamic :]
    places = (shape[0], *[1] * (x.rank - 1)) if g.get("spatial") else shape
    scale, bias, mean, variance = (item.array.reshape(places) for item in g.items[1:5])
    return [replace(x, array=(x.array - mean) / np.sqrt(variance + g.get("epsilon")) * scale + bias)]


# ---- sequences -------------------------------------------------------------------------------------------------------


def _delay(g: Given) -> list[Item]:
    x, start = g.items
    steps, length = g.get("offset", 1), x.array.shape[1]
    result = np.empty(np.broadcast_shapes(x.array.shape, (1, 1, *start.array.shape) if not start.dynamic else (
        len(start.array), 1, *start.array.shape[1:])))  # fmt: skip
    for t in range(length):
        source = t - steps if g.function.op == "PastValue" else t + steps
        result[:, t] = x.array[:, source] if 0 <= source < length else start.array
    return [Item(result, 2)]


def _reconcile(g: Given) -> list[Item]:
    x, like = g.items
    if x.dynamic == like.dynamic:
        return [x]
    steps = x.array[:, None] if x.dynamic == 1 else x.array
    return [
        Item(np.broadcast_to(steps, (*like.array.shape[: like.dynamic], *x.array.shape[x.dynamic :])), like.dynamic)
    ]


def _same(g: Given) -> list[Item]:
    return [g.items[0]]


RULES: dict[str, Rule] = {
    "Negate": _map(np.negative), "Sigmoid": _map(lambda x: 1 / (1 + np.exp(-x))),
    "StableSigmoid": _map(lambda x: 1 / (1 + np.exp(-x))), "Tanh": _map(np.tanh),
    "ReLU": _map(lambda x: np.maximum(x, 0)), "Exp": _map(np.exp), "Floor": _map(np.floor), "Abs": _map(np.abs),
    "Sin": _map(np.sin), "Cos": _map(np.cos), "Tan": _map(np.tan), "Sinh": _map(np.sinh), "Cosh": _map(np.cosh),
    "Asin": _map(np.arcsin), "Acos": _map(np.arccos), "Atan": _map(np.arctan), "Asinh": _map(np.arcsinh),
    "Atanh": _map(np.arctanh), "Log": _map(_log), "Sqrt": _map(lambda x: np.sqrt(np.maximum(x, 0))),
    "Reciprocal": _map(lambda x: np.where(x == 0, 0, 1 / np.where(x == 0, 1, x))), "Plus": _map(np.add),
    "Minus": _map(np.subtract), "ElementTimes": _map(np.multiply), "Pow": _map(np.power), "LogPlus": _map(np.logaddexp),
    "Equal": _map(np.equal), "NotEqual": _map(np.not_equal), "Less": _map(np.less), "LessEqual": _map(np.less_equal),
    "Greater": _map(np.greater), "GreaterEqual": _map(np.greater_equal),
    "Select": _map(lambda flag, x, y: np.where(flag != 0, x, y)),
    "Clip": _map(lambda x, a, b: np.minimum(np.maximum(x, a), b)),
    "CosDistance": _map(_cosine), "Softmax": _flat(_softmax), "Hardmax": _flat(_hardmax),
    "LogSoftmax": _flat(lambda x: x - _log_sum(x, (-1,), True)), "ReduceElements": _reduce, "Times": _times,
    "TransposeTimes": _times, "Reshape": _reshape, "TransposeAxes": _transpose, "Slice": _slice, "Splice": _splice,
    "Squeeze": _squeeze, "Pad": _pad, "Crop": _crop, "OneHotOp": _one_hot, "Gather": _gather, "TopK": _top,
    "Convolution": _convolution, "Pooling": _pooling, "BatchNormalization": _batch_normalization,
    "PastValue": _delay, "FutureValue": _delay, "ReconcileDynamicAxis": _reconcile,
    "ELU": lambda g: [replace(g.items[0], array=np.where(
        g.items[0].array < 0, g.get("alpha", 1.0) * np.expm1(g.items[0].array), g.items[0].array))],
    "UnpackSequenceOp": lambda g: [replace(g.items[0], dynamic=1), Item(np.ones(g.items[0].array.shape[:2]), 1)],
    "ConstantOp": lambda g: [replace(g.items[0], array=np.full_like(g.items[0].array, g.get("fillValue")))],
    "ToSequence": lambda g: [replace(g.items[0], dynamic=2)],
    **dict.fromkeys(("Pass", "NoOp", "StopGradient", "Dropout", "Cast"), _same),
}  # fmt: skip
