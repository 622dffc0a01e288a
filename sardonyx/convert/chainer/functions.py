"""Chainer's functions as ONNX, by the names of their classes and their attributes (chainer 7, chainer/functions)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.convert.base import Array
from sardonyx.convert.graph import GraphBuilder


class UnsupportedError(Exception):
    """Why a function cannot be converted."""


@dataclass(frozen=True)
class Step:
    """One call of a function. `inputs` are names of values or of weights; `shapes` of its inputs, where known."""

    function: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, Any]
    shapes: tuple[tuple[int, ...] | None, ...] = ()


@dataclass
class Emitter:
    """Writes one step; `batch` is the first dim of the example that it was traced with."""

    graph: GraphBuilder
    step: Step
    values: Mapping[str, ir.Value]
    weights: Mapping[str, Array]
    batch: int | None
    asked: set[str] = field(default_factory=set)

    def value(self, index: int) -> ir.Value:
        """An input; weights become initializers."""
        name = self.step.inputs[index]
        if name in self.values:
            return self.values[name]
        return self.graph.initializer(name, self.weight(index))

    def has(self, index: int) -> bool:
        """Whether there is such an input."""
        return index < len(self.step.inputs)

    def weight(self, index: int) -> Array:
        """An input that must be a weight."""
        if not self.has(index) or self.step.inputs[index] not in self.weights:
            raise UnsupportedError(f"its input {index} is not a weight")
        array = self.weights[self.step.inputs[index]]
        return array.astype(np.float32) if array.dtype.kind == "f" else array

    def option(self, name: str, default: Any = None) -> Any:
        """An attribute of the function."""
        self.asked.add(name)
        return self.step.options.get(name, default)

    def pair(self, first: str, second: str, whole: str, default: int | None = 1) -> list[int]:
        """Height and width, by two attributes or by one."""
        value = self.option(whole)
        if isinstance(value, list | tuple) and len(value) != 2:
            raise UnsupportedError(f"windows over {len(value)} axes are not supported")
        sizes = list(value) if isinstance(value, list | tuple) else [value, value] if value is not None else None
        found = [
            self.option(first, sizes[0] if sizes else default),
            self.option(second, sizes[1] if sizes else default),
        ]
        if any(not isinstance(item, int | np.integer) for item in found):
            raise UnsupportedError(f"its {whole} is not known")
        return [int(item) for item in found]

    def node(self, op_type: str, inputs: Sequence[ir.Value | None], suffix: str = "", **attributes: Any) -> ir.Value:
        """A node named after the step's output."""
        return self.graph.node(op_type, inputs, name=f"{self.step.outputs[0]}{suffix and '/' + suffix}", **attributes)

    def constant(self, suffix: str, array: Any, dtype: Any = np.float32) -> ir.Value:
        """An initializer."""
        return self.graph.initializer(f"{self.step.outputs[0]}/{suffix}", np.asarray(array, dtype))

    def rank(self) -> int | None:
        """The rank of the first input."""
        shape = self.step.shapes[0] if self.step.shapes else None
        return None if shape is None else len(shape)


Result = ir.Value | list[ir.Value]
Rule = Callable[[Emitter], Result]


def _plain(op_type: str) -> Rule:
    return lambda e: e.node(op_type, [e.value(index) for index in range(len(e.step.inputs))])


def _number(op_type: str, reverse: bool = False) -> Rule:
    """Of the input and the number `value`."""

    def rule(e: Emitter) -> ir.Value:
        value = e.option("value")
        if value is None or np.ndim(value):
            raise UnsupportedError("its other side is not a number")
        sides = [e.value(0), e.constant("value", float(value))]
        return e.node(op_type, sides[::-1] if reverse else sides)

    return rule


def _numbers(e: Emitter, names: Mapping[str, str]) -> dict[str, Any]:
    return {key: _float(e.option(name)) for key, name in names.items()}


def _attribute(op_type: str, **names: str) -> Rule:
    return lambda e: e.node(op_type, [e.value(0)], **_numbers(e, names))


def _float(value: Any) -> float:
    if value is None:
        raise UnsupportedError("one of its numbers is not given")
    return float(value)


def _convolution(e: Emitter) -> ir.Value:
    if e.option("cover_all", False):
        raise UnsupportedError("cover_all in convolutions is not supported")
    strides, pads = e.pair("sy", "sx", "stride"), e.pair("ph", "pw", "pad", 0)
    dilations = e.pair("dy", "dx", "dilate")
    bias = e.value(2) if e.has(2) else None
    kernel = list(e.weight(1).shape[2:])
    return e.node(
        "Conv", [e.value(0), e.value(1), bias], kernel_shape=kernel, strides=strides, pads=pads * 2,
        dilations=dilations, group=int(e.option("groups", 1)),
    )  # fmt: skip


def _deconvolution(e: Emitter) -> ir.Value:
    strides, pads = e.pair("sy", "sx", "stride"), e.pair("ph", "pw", "pad", 0)
    dilations = e.pair("dy", "dx", "dilate")
    wide = [(k - 1) * d + 1 for k, d in zip(e.weight(1).shape[2:], dilations, strict=True)]
    extra = None
    outsize = [e.option("outh"), e.option("outw")]
    if None not in outsize:
        shape = e.step.shapes[0] if e.step.shapes else None
        if shape is None:
            raise UnsupportedError("an output size is given, and that of its input is not known")
        plain = [s * (n - 1) + k - 2 * p for s, n, k, p in zip(strides, shape[2:], wide, pads, strict=True)]
        extra = [int(out) - size for out, size in zip(outsize, plain, strict=True)]
        if any(not 0 <= more < step for more, step in zip(extra, strides, strict=True)):
            raise UnsupportedError("its output size does not fit strides and padding")
    return e.node(
        "ConvTranspose", [e.value(0), e.value(1), e.value(2) if e.has(2) else None], strides=strides, pads=pads * 2,
        dilations=dilations, group=int(e.option("groups", 1)), output_padding=extra if extra and any(extra) else None,
    )  # fmt: skip


def _linear(e: Emitter) -> ir.Value:
    bias = e.value(2) if e.has(2) else None
    return e.node("Gemm", [e.value(0), e.value(1), bias], transB=1)


def _pooling(op_type: str) -> Rule:
    def rule(e: Emitter) -> ir.Value:
        kernel = e.pair("kh", "kw", "ksize", None)
        strides = e.pair("sy", "sx", "stride", None)
        pads = e.pair("ph", "pw", "pad", 0)
        cover = bool(e.option("cover_all", False))
        # With cover_all the last window may begin in the padding; ONNX leaves that one out.
        ends = [p + s - 1 if cover else p for p, s in zip(pads, strides, strict=True)]
        attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": [*pads, *ends]}
        if op_type == "AveragePool":
            if cover:
                raise UnsupportedError("cover_all in averages is not supported")
            # Chainer names the number that padding counts as where it counts.
            attributes["count_include_pad"] = int(e.option("pad_value", 0) is not None)
        return e.node(op_type, [e.value(0)], **attributes)

    return rule


def _batch_normalization(e: Emitter) -> ir.Value:
    axis = e.option("axis")
    rank = e.rank()
    if axis is not None and rank is not None and tuple(axis) != (0, *range(2, rank)):
        raise UnsupportedError(f"the axes {tuple(axis)} are not supported")
    given = [e.value(index) for index in range(5)]
    return e.node("BatchNormalization", given, epsilon=float(e.option("eps", 2e-5)))


def _axis(op_type: str, default: int) -> Rule:
    return lambda e: e.node(op_type, [e.value(0)], axis=int(e.option("axis", default)))


def _concat(e: Emitter) -> ir.Value:
    values = [e.value(index) for index in range(len(e.step.inputs))]
    return e.node("Concat", values, axis=int(e.option("axis", 1)))


def _shape(e: Emitter) -> list[int]:
    sizes = [int(size) for size in e.option("shape", ())]
    if not sizes:
        raise UnsupportedError("its shape is not known")
    return sizes


def _reshape(e: Emitter) -> ir.Value:
    sizes = _shape(e)
    given = e.step.shapes[0] if e.step.shapes else None
    if e.batch is not None and sizes[0] == e.batch:  # The batch stays open.
        if given and given[0] == e.batch:
            sizes[0] = 0  # as the input has it
        elif -1 not in sizes[1:]:
            sizes[0] = -1
        else:
            raise UnsupportedError("which of its dims is the batch is not known")
    return e.node("Reshape", [e.value(0), e.constant("shape", sizes, np.int64)], allowzero=0)


def _broadcast(e: Emitter) -> ir.Value:
    sizes = [int(size) for size in (e.option("_shape") or e.option("shape") or ())]
    if not sizes:
        raise UnsupportedError("its shape is not known")
    if e.batch is not None and sizes[0] == e.batch:
        sizes[0] = 1
    return e.node("Expand", [e.value(0), e.constant("shape", sizes, np.int64)])


def _transpose(e: Emitter) -> ir.Value:
    axes = e.option("axes")
    return e.node("Transpose", [e.value(0)], perm=None if axes is None else [int(axis) for axis in axes])


def _reduce(op_type: str) -> Rule:
    def rule(e: Emitter) -> ir.Value:
        axis = e.option("axis")
        axes = None if axis is None else e.constant("axes", np.atleast_1d(axis), np.int64)
        return e.node(op_type, [e.value(0), axes], keepdims=int(bool(e.option("keepdims", False))))

    return rule


_END = np.iinfo(np.int64).max


def _get_item(e: Emitter) -> ir.Value:
    slices = [_part(item) for item in e.option("slices", ())]
    if Ellipsis in slices:
        place, rank = slices.index(Ellipsis), e.rank()
        if rank is None or slices.count(Ellipsis) > 1:
            raise UnsupportedError("an ellipsis in an index is not supported here")
        fill = rank - sum(item is not None for item in slices) + 1
        slices[place : place + 1] = [slice(None)] * fill
    value, axis = e.value(0), 0
    dropped: list[int] = []
    new: list[int] = []
    lists: dict[str, list[int]] = {"starts": [], "ends": [], "axes": [], "steps": []}
    for item in slices:
        if item is None:
            new.append(axis - len(dropped) + len(new))
            continue
        if isinstance(item, slice):
            step = 1 if item.step is None else int(item.step)
            first = (0 if step > 0 else _END) if item.start is None else int(item.start)
            last = (_END if step > 0 else -_END) if item.stop is None else int(item.stop)
        elif isinstance(item, int | np.integer):
            first, step = int(item), 1
            last = first + 1 if first != -1 else _END
            dropped.append(axis)
        else:
            raise UnsupportedError("indexing by arrays is not supported")
        if (first, last, step) != (0, _END, 1):
            for key, number in zip(lists, (first, last, axis, step), strict=True):
                lists[key].append(number)
        axis += 1
    if lists["axes"]:
        value = e.node("Slice", [value, *(e.constant(k, v, np.int64) for k, v in lists.items())], "cut")
    if dropped:
        value = e.node("Squeeze", [value, e.constant("dropped", dropped, np.int64)], "dropped")
    if new:
        value = e.node("Unsqueeze", [value, e.constant("new", new, np.int64)], "expanded")
    return e.node("Identity", [value])


def _part(item: Any) -> Any:
    """A part of an index, which a description writes as [start, stop, step]; "..." stands for itself."""
    if item == "...":
        return Ellipsis
    return slice(*item) if isinstance(item, list) and len(item) in (2, 3) else item


def _clipped_relu(e: Emitter) -> ir.Value:
    return e.node("Clip", [e.value(0), e.constant("zero", 0.0), e.constant("cap", _float(e.option("cap")))])


def _clip(e: Emitter) -> ir.Value:
    low, high = e.option("x_min"), e.option("x_max")
    ends = [None if v is None else e.constant(k, float(v)) for k, v in (("min", low), ("max", high))]
    return e.node("Clip", [e.value(0), *ends])


def _softplus(e: Emitter) -> ir.Value:
    beta = float(e.option("beta", 1.0))
    scaled = e.node("Mul", [e.value(0), e.constant("beta", beta)], "scaled")
    return e.node("Div", [e.node("Softplus", [scaled], "softplus"), e.constant("beta", beta)])


def _swish(e: Emitter) -> ir.Value:
    inner = e.node("Mul", [e.value(0), e.value(1)], "scaled")
    return e.node("Mul", [e.value(0), e.node("Sigmoid", [inner], "sigmoid")])


def _lrn(e: Emitter) -> ir.Value:
    size = int(e.option("n", 5))
    if size % 2 == 0:
        raise UnsupportedError(f"windows of an even size ({size}) are not supported")
    numbers: dict[str, Any] = {"alpha": float(e.option("alpha", 1e-4)) * size, "beta": float(e.option("beta", 0.75))}
    return e.node("LRN", [e.value(0)], size=size, bias=float(e.option("k", 2)), **numbers)


def _resize(e: Emitter) -> ir.Value:
    sizes = [e.option("out_H"), e.option("out_W")]
    if None in sizes or e.option("mode", "bilinear") != "bilinear" or not e.option("align_corners", True):
        raise UnsupportedError("only bilinear resizing with aligned corners is supported")
    wanted = e.constant("sizes", sizes, np.int64)
    attributes: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "align_corners", "axes": [2, 3]}
    return e.node("Resize", [e.value(0), None, None, wanted], **attributes)


def _depth_to_space(e: Emitter) -> ir.Value:
    return e.node("DepthToSpace", [e.value(0)], blocksize=int(e.option("r")), mode="CRD")


def _embed(e: Emitter) -> ir.Value:
    if e.option("ignore_label") is not None:
        raise UnsupportedError("a label to ignore is not supported")
    return e.node("Gather", [e.value(1), e.value(0)], axis=0)


def _split(e: Emitter) -> list[ir.Value]:
    sections, axis = e.option("indices_or_sections"), int(e.option("axis", 1))
    shape, count = e.step.shapes[0] if e.step.shapes else None, len(e.step.outputs)
    sizes = None
    if not isinstance(sections, int | np.integer):
        if shape is None:
            raise UnsupportedError("the size of what it splits is not known")
        sizes = e.constant("sizes", np.diff([0, *[int(item) for item in sections], shape[axis]]), np.int64)
    attributes: dict[str, Any] = {"axis": axis, "num_outputs": count if sizes is None else None}
    return e.graph.nodes("Split", [e.value(0), sizes], list(e.step.outputs), name=e.step.outputs[0], **attributes)


def _squeeze(e: Emitter) -> ir.Value:
    axis = e.option("axis")
    if axis is None:
        raise UnsupportedError("squeezing without axes is not supported")
    return e.node("Squeeze", [e.value(0), e.constant("axes", np.atleast_1d(axis), np.int64)])


def _expand_dims(e: Emitter) -> ir.Value:
    return e.node("Unsqueeze", [e.value(0), e.constant("axes", [int(e.option("axis"))], np.int64)])


def _matmul(e: Emitter) -> ir.Value:
    if e.option("transc", False):
        raise UnsupportedError("a transposed product is not supported")
    sides = []
    for index, key in enumerate(("transa", "transb")):
        side, shape = e.value(index), e.step.shapes[index] if e.step.shapes else None
        if e.option(key, False):
            if shape is None or len(shape) < 2:
                raise UnsupportedError("the rank of a transposed side is not known")
            order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            side = e.graph.transpose(side, order, name=f"{e.step.outputs[0]}/{key}")
        sides.append(side)
    return e.node("MatMul", sides)


FUNCTIONS: dict[str, Rule] = {
    "Convolution2DFunction": _convolution, "Deconvolution2DFunction": _deconvolution, "LinearFunction": _linear,
    "FixedBatchNormalization": _batch_normalization, "MaxPooling2D": _pooling("MaxPool"),
    "AveragePooling2D": _pooling("AveragePool"), "MaxPoolingND": _pooling("MaxPool"),
    "AveragePoolingND": _pooling("AveragePool"),
    "Mean": _reduce("ReduceMean"), "ReLU": _plain("Relu"), "Sigmoid": _plain("Sigmoid"),
    "Tanh": _plain("Tanh"), "LeakyReLU": _attribute("LeakyRelu", alpha="slope"),
    "ELU": _attribute("Elu", alpha="alpha"), "ClippedReLU": _clipped_relu, "Clip": _clip, "Softplus": _softplus,
    "Swish": _swish, "Softmax": _axis("Softmax", 1), "LogSoftmax": _axis("LogSoftmax", 1), "Concat": _concat,
    "Reshape": _reshape, "Transpose": _transpose, "BroadcastTo": _broadcast, "GetItem": _get_item,
    "SplitAxis": _split, "Squeeze": _squeeze, "ExpandDims": _expand_dims, "Sum": _reduce("ReduceSum"),
    "Max": _reduce("ReduceMax"), "Min": _reduce("ReduceMin"), "Add": _plain("Add"), "MultiAdd": _plain("Sum"),
    "Sub": _plain("Sub"), "Mul": _plain("Mul"), "Div": _plain("Div"), "PowVarVar": _plain("Pow"),
    "AddConstant": _number("Add"), "MulConstant": _number("Mul"), "SubFromConstant": _number("Sub", True),
    "DivFromConstant": _number("Div", True), "PowVarConst": _number("Pow"), "Neg": _plain("Neg"),
    "Absolute": _plain("Abs"), "Exp": _plain("Exp"), "Log": _plain("Log"), "Sqrt": _plain("Sqrt"),
    "Square": lambda e: e.node("Mul", [e.value(0), e.value(0)]), "Sin": _plain("Sin"), "Cos": _plain("Cos"),
    "Maximum": _plain("Max"), "Minimum": _plain("Min"), "MatMul": _matmul, "Dropout": _plain("Identity"),
    "Identity": _plain("Identity"), "LocalResponseNormalization": _lrn, "ResizeImages": _resize,
    "Depth2Space": _depth_to_space, "EmbedIDFunction": _embed,
}  # fmt: skip
"""What writes each function. Those of chains that are traced in test mode: dropout is not among them but stands here
for descriptions."""
