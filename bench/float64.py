"""Float64 evaluation of a float32 model, to measure errors against.

onnx.reference runs the graph, with the weights made wide; where it walks windows in Python, which takes minutes a
network, operators here sum over taps in NumPy. Nothing of Sardonyx's compiler, passes or kernels takes part.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_cast import cast_to

from sardonyx import config

Array = np.ndarray[Any, Any]
Ints = Sequence[int]


def reference(model: Path, inputs: Mapping[str, Array]) -> tuple[list[Array], bool]:
    """The float64 outputs, and whether they were kept from an earlier time.

    They are kept in the cache's folder under a hash of the model, the inputs and this file.
    """
    import xxhash

    digest = xxhash.xxh3_128()
    for part in (Path(__file__).read_bytes(), onnx.__version__.encode(), model.read_bytes()):
        digest.update(part)
    for name, array in inputs.items():
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    kept = config.CACHE.get() / "references" / f"{digest.hexdigest()}.npz"
    if kept.exists():
        with np.load(kept, allow_pickle=False) as arrays:
            return [arrays[f"output_{i}"] for i in range(len(arrays))], True
    outputs = evaluate(onnx.load(model), inputs)
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **{f"output_{i}": array for i, array in enumerate(outputs)})
    partial.replace(kept)  # at once: nobody reads half of it
    return outputs, False


def evaluate(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """The outputs of `model` with all float32 made float64; `model` is changed.

    Initializers are fed, so that there is one copy of them and no protobuf grows past its limit.
    """
    weights = {tensor.name: _wide(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    del model.graph.initializer[:]
    _widen(model.graph.node)
    for function in model.functions:
        _widen(function.node)
    evaluator = ReferenceEvaluator(model, new_ops=[Conv, ConvTranspose, MaxPool, AveragePool, LRN, Cast, Erf, Gelu])
    feeds = weights | {name: _wide(array) for name, array in inputs.items()}
    with np.errstate(all="ignore"):  # what a later Where leaves out may be anything
        return [np.asarray(output) for output in evaluator.run(None, feeds)]


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _widen(nodes: Iterable[onnx.NodeProto]) -> None:
    """Make every float32 constant and every cast to float32 one of float64, in the bodies of nodes too."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in ("value_float", "value_floats"):
                numbers = np.float32(attribute.floats if attribute.name == "value_floats" else attribute.f)
                tensor = numpy_helper.from_array(np.asarray(numbers, np.float64))
                attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
            elif attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(_widened(attribute.t))
            elif attribute.type == onnx.AttributeProto.GRAPH:
                tensors = [_widened(tensor) for tensor in attribute.g.initializer]
                del attribute.g.initializer[:]
                attribute.g.initializer.extend(tensors)
                _widen(attribute.g.node)
            elif _is_type(node.op_type, attribute.name) and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.DOUBLE


def _is_type(op: str, attribute: str) -> bool:
    """Whether the attribute is an element type of results."""
    return attribute == "dtype" or (op == "Cast" and attribute == "to")


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return tensor
    return numpy_helper.from_array(_wide(numpy_helper.to_array(tensor)), tensor.name)


@dataclass(frozen=True)
class Windows:
    """Windows over the spatial axes of [N, C, spatial...], by ONNX's attributes."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    out: tuple[int, ...]

    @classmethod
    def of(
        cls, size: Ints, kernel: Ints, strides: Ints | None, dilations: Ints | None, pads: Ints | None,
        auto_pad: str | None, ceil: bool = False,
    ) -> Windows:  # fmt: skip
        """For inputs of these spatial sizes."""
        rank = len(size)
        stride, dilation = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
        span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        mode = auto_pad or "NOTSET"
        if mode.startswith("SAME"):
            out = tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
            total = [max(0, (o - 1) * s + f - n) for o, s, f, n in zip(out, stride, span, size, strict=True)]
            small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
            before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
            return cls(tuple(kernel), stride, dilation, before, after, out)
        given = tuple(pads or (0,) * 2 * rank) if mode == "NOTSET" else (0,) * 2 * rank
        before, after = given[:rank], given[rank:]
        room = [n + b + a - f for n, b, a, f in zip(size, before, after, span, strict=True)]
        out = tuple((r + (s - 1 if ceil else 0)) // s + 1 for r, s in zip(room, stride, strict=True))
        if ceil:  # a window must begin inside the input or its padding before it
            limits = zip(out, stride, size, before, strict=True)
            out = tuple(o - 1 if (o - 1) * s >= n + b else o for o, s, n, b in limits)
        return cls(tuple(kernel), stride, dilation, before, after, out)

    def padded(self, x: Array, value: float) -> Array:
        """`x` with `value` around it, as far as any window reaches."""
        spans = zip(self.out, self.stride, self.kernel, self.dilation, strict=True)
        reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in spans]
        sides = zip(x.shape[2:], self.before, reach, strict=True)
        edges = [(b, max(0, r - n - b)) for n, b, r in sides]
        return np.pad(x, [(0, 0), (0, 0), *edges], constant_values=value)

    def taps(self, padded: Array) -> Iterator[Array]:
        """For each tap in row-major order its element of every window: views of [N, C, out...]."""
        for tap in itertools.product(*map(range, self.kernel)):
            axes = zip(tap, self.dilation, self.stride, self.out, strict=True)
            spatial = tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, s, o in axes)
            yield padded[(slice(None), slice(None), *spatial)]


class Conv(OpRun):  # type: ignore[misc]
    """A sum over taps of matrix products over channels."""

    op_domain = ""

    def _run(
        self, x: Array, w: Array, b: Array | None = None, auto_pad: str | None = None, dilations: Ints | None = None,
        group: int | None = None, kernel_shape: Ints | None = None, pads: Ints | None = None,
        strides: Ints | None = None,
    ) -> tuple[Array]:  # fmt: skip
        shape = Windows.of(x.shape[2:], w.shape[2:], strides, dilations, pads, auto_pad)
        batch, groups, filters = x.shape[0], group or 1, w.shape[0] // (group or 1)
        y = np.zeros((batch, groups, filters, math.prod(shape.out)), x.dtype)
        weights = _by_tap(w.reshape(groups, filters, w.shape[1], -1))
        for matrix, part in zip(weights, shape.taps(shape.padded(x, 0)), strict=True):
            y += matrix @ part.reshape(batch, groups, w.shape[1], -1)
        y = y.reshape(batch, groups * filters, *shape.out)
        return (y if b is None else y + b.reshape(-1, *(1,) * len(shape.out)),)


class ConvTranspose(OpRun):  # type: ignore[misc]
    """Each tap's product added to where that tap writes; then the padding is cut off."""

    op_domain = ""

    def _run(
        self, x: Array, w: Array, b: Array | None = None, auto_pad: str | None = None, dilations: Ints | None = None,
        group: int | None = None, kernel_shape: Ints | None = None, output_padding: Ints | None = None,
        output_shape: Ints | None = None, pads: Ints | None = None, strides: Ints | None = None,
    ) -> tuple[Array]:  # fmt: skip
        rank, kernel, groups = x.ndim - 2, w.shape[2:], group or 1
        if output_shape or (auto_pad or "NOTSET") != "NOTSET":
            raise NotImplementedError("ConvTranspose with output_shape or auto_pad")
        stride, dilation = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
        edges, extra = tuple(pads or (0,) * 2 * rank), tuple(output_padding or (0,) * rank)
        axes = zip(x.shape[2:], stride, kernel, dilation, extra, strict=True)
        full = tuple((n - 1) * s + (k - 1) * d + 1 + e for n, s, k, d, e in axes)
        batch, filters = x.shape[0], w.shape[1]
        y = np.zeros((batch, groups * filters, *full), x.dtype)
        shape = Windows(tuple(kernel), stride, dilation, (0,) * rank, (0,) * rank, tuple(x.shape[2:]))
        columns = x.reshape(batch, groups, x.shape[1] // groups, -1)
        weights = _by_tap(w.reshape(groups, -1, filters, math.prod(kernel)).swapaxes(1, 2))
        for matrix, part in zip(weights, shape.taps(y), strict=True):
            np.add(part, (matrix @ columns).reshape(part.shape), out=part)
        inside = tuple(slice(edges[i], full[i] - edges[rank + i]) for i in range(rank))
        y = y[(slice(None), slice(None), *inside)]
        return (y if b is None else y + b.reshape(-1, *(1,) * rank),)


class MaxPool(OpRun):  # type: ignore[misc]
    """The largest of the taps."""

    op_domain = ""

    def _run(
        self, x: Array, auto_pad: str | None = None, ceil_mode: int | None = None, dilations: Ints | None = None,
        kernel_shape: Ints | None = None, pads: Ints | None = None, storage_order: int | None = None,
        strides: Ints | None = None,
    ) -> tuple[Array]:  # fmt: skip
        shape = Windows.of(x.shape[2:], kernel_shape or (), strides, dilations, pads, auto_pad, bool(ceil_mode))
        return (_over_taps(shape, shape.padded(x, -np.inf), np.maximum),)


class AveragePool(OpRun):  # type: ignore[misc]
    """The mean of the taps inside the input, or inside its padding too."""

    op_domain = ""

    def _run(
        self, x: Array, auto_pad: str | None = None, ceil_mode: int | None = None,
        count_include_pad: int | None = None, dilations: Ints | None = None, kernel_shape: Ints | None = None,
        pads: Ints | None = None, strides: Ints | None = None,
    ) -> tuple[Array]:  # fmt: skip
        shape = Windows.of(x.shape[2:], kernel_shape or (), strides, dilations, pads, auto_pad, bool(ceil_mode))
        counted = np.ones((1, 1, *x.shape[2:]), x.dtype)
        if count_include_pad:
            edges = list(zip(shape.before, shape.after, strict=True))
            inner = Windows(shape.kernel, shape.stride, shape.dilation, (0,) * len(edges), shape.after, shape.out)
            counts = inner.padded(np.pad(counted, [(0, 0), (0, 0), *edges], constant_values=1), 0)
        else:
            counts = shape.padded(counted, 0)
        return (_over_taps(shape, shape.padded(x, 0), np.add) / _over_taps(shape, counts, np.add),)


class LRN(OpRun):  # type: ignore[misc]
    """Each element over a power of the sum of squares of its neighbours in channels.

    onnx.reference sums for as many channels as the batch has items, and not for the others.
    """

    op_domain = ""

    def _run(
        self, x: Array, alpha: float | None = None, beta: float | None = None, bias: float | None = None,
        size: int | None = None,
    ) -> tuple[Array]:  # fmt: skip
        wide = size or 1
        edges = [(0, 0), ((wide - 1) // 2, wide // 2), *[(0, 0)] * (x.ndim - 2)]
        squares = np.pad(x * x, edges)
        total = sum(squares[:, i : i + x.shape[1]] for i in range(wide))
        factor = 1e-4 if alpha is None else alpha
        base = (1.0 if bias is None else bias) + factor / wide * total
        return (x / base ** (0.75 if beta is None else beta),)


class Cast(OpRun):  # type: ignore[misc]
    """Fractions become integers as float32 sees them: constants were rounded to it before they were widened, and what
    was to be 2 may have become a little less, which then would be another index.
    """

    op_domain = ""

    def _run(
        self, x: Array, to: int | None = None, saturate: int | None = None, round_mode: str | None = None
    ) -> tuple[Array]:
        kind = onnx.helper.tensor_dtype_to_np_dtype(to)
        seen = x.astype(np.float32) if x.dtype == np.float64 and np.issubdtype(kind, np.integer) else x
        return (np.asarray(cast_to(seen, to, saturate, round_mode)),)


class Erf(OpRun):  # type: ignore[misc]
    """The C library's. onnx.reference rounds its result to float32."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.asarray(_ERF(x), x.dtype),)


class Gelu(OpRun):  # type: ignore[misc]
    """By its definition: the function that the standard expands it to would take onnx.reference's Erf."""

    op_domain = ""

    def _run(self, x: Array, approximate: str | None = None) -> tuple[Array]:
        if approximate == "tanh":
            return (x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),)
        return (x / 2 * (1 + np.asarray(_ERF(x / math.sqrt(2)), x.dtype)),)


_ERF = np.frompyfunc(math.erf, 1, 1)


def _by_tap(weights: Array) -> Array:
    """The last axis first, and dense: BLAS takes no other matrices."""
    return np.ascontiguousarray(np.moveaxis(weights, -1, 0))


def _over_taps(shape: Windows, padded: Array, combine: Callable[[Array, Array], Array]) -> Array:
    result: Array | None = None
    for part in shape.taps(padded):
        result = part.copy() if result is None else combine(result, part)
    assert result is not None
    return result
