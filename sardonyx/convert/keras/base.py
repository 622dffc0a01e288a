"""What every Keras layer's converter is written with: tensors with their layout, options, weights, emission.

Keras keeps channels last by default and ONNX operators want them at position 1. So a `Tensor` keeps the shape
as Keras sees it and says whether its value is *moved*: holds the last axis at position 1. Layers that do not
care pass the layout on; a Transpose is made only where a layer needs the other one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from sardonyx.convert.graph import Array, GraphBuilder
from sardonyx.convert.keras.inputs import Hints

Shape = tuple[int | None, ...]
"""The batch first; None where a dimension is open."""

MAX_DIM = 2**31 - 1
FLOAT = ir.DataType.FLOAT


class UnsupportedError(Exception):
    """A layer, or one of its options, cannot be converted; the message says why."""


@dataclass(frozen=True)
class Tensor:
    """A value in the graph with its shape as Keras sees it.

    `moved`: the value holds the last axis of `shape` at position 1 (channels first inside, last outside).
    `mask`: Keras's mask, bool [batch, time]: false where a step is padding.
    """

    value: ir.Value
    shape: Shape
    moved: bool = False
    mask: ir.Value | None = None

    @property
    def rank(self) -> int:
        """Number of dimensions, the batch's included."""
        return len(self.shape)

    @property
    def dtype(self) -> ir.DataType:
        """The element type."""
        assert self.value.dtype is not None
        return self.value.dtype

    def axis(self, axis: int) -> int:
        """Where the value holds this axis of `shape` (negative ones count from the end)."""
        if not -self.rank <= axis < self.rank:
            raise UnsupportedError(f"axis {axis} is out of range for the input's shape {text(self.shape)}")
        axis %= self.rank
        if not self.moved or axis == 0:
            return axis
        return 1 if axis == self.rank - 1 else axis + 1

    def order(self) -> list[int]:
        """For each axis of the value, the axis of `shape` it holds."""
        axes = list(range(self.rank))
        return [0, axes[-1], *axes[1:-1]] if self.moved else axes

    def is_row(self) -> bool:
        """Whether at most one axis beside the batch is longer than 1, so that the layout does not matter."""
        return sum(dim != 1 for dim in self.shape[1:]) <= 1


@dataclass(frozen=True)
class Weight:
    """A weight with Keras's name and its elements."""

    name: str
    array: Array


@dataclass(frozen=True)
class Spatial:
    """A value in ONNX's layout, [batch, channels, *sizes], and the Keras layout it stands for."""

    value: ir.Value
    batch: int | None
    channels: int
    sizes: Shape
    data_format: str


Emit = Callable[["Emitter", Sequence[Tensor]], Tensor | list[Tensor]]


@dataclass(frozen=True)
class Plan:
    """What a layer's options come to: how to emit it, and its weights as Keras orders them.

    `weights` are those that training changes by gradient, `state` the others; those of layers within the layer are
    called by their attribute as well (`cell/kernel`). `arguments` are what a call may give beside its inputs.
    """

    emit: Emit
    weights: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    inputs: int | None = 1  # how many the layer takes; None: one or more
    takes: Literal["floats", "numbers", "anything"] = "floats"
    """Which inputs: floating-point, integers too (computed in float32), or any (whose type it passes on)."""
    masking: Literal["drop", "keep", "own"] = "drop"
    """What becomes of the first input's mask: lost, passed on, or up to `emit`, which reads and sets it."""
    arguments: frozenset[str] = frozenset()
    constants: bool = False
    """Whether inputs may be constants; `Emitter.args` has them."""


MIXED = {"mixed_float16": 2e-3, "mixed_bfloat16": 2e-2}
"""Policies with weights in float32: computed in float32 here, and how far Keras itself is from that."""


def policy(config: Mapping[str, Any]) -> Any:
    """The name of a layer's dtype or dtype policy; None where there is none."""
    dtype = config.get("dtype")
    if isinstance(dtype, dict):
        settings = dtype.get("config")
        dtype = settings.get("name") if isinstance(settings, dict) else dtype
    return dtype


# Settings that do not change what a trained layer computes, whatever their value.
_HARMLESS = frozenset(
    {
        "autocast",
        "batch_input_shape",
        "batch_size",
        "build_config",
        "build_input_shape",
        "dtype",
        "fused",
        "implementation",
        "input_dim",
        "input_length",
        "module",
        "name",
        "noise_shape",
        "ragged",
        "registered_name",
        "renorm_momentum",
        "seed",
        "sparse",
        "synchronized",
        "trainable",
    }
)
_HARMLESS_ENDINGS = ("_initializer", "_regularizer", "_constraint")


class Settings:
    """A layer's configuration, read key by key. What is wrong or unknown raises UnsupportedError."""

    def __init__(self, config: Mapping[str, Any], version: tuple[int, int] = (2, 0)) -> None:
        self.version = version  # of the Keras that wrote them
        self._config = config
        self._read: set[str] = set()
        self._any_dtype = False

    def get(self, key: str, default: Any = None) -> Any:
        """The option as it is in the file."""
        self._read.add(key)
        return self._config.get(key, default)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def integer(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number of `least` or more. Without a default the option must be there."""
        value = self.get(key, default)
        if not _is_int(value) or not least <= value <= MAX_DIM:
            raise self._wrong(key, f"a whole number of {least} or more")
        return int(value)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; also the arrays of one element that some versions of Keras write."""
        value = self.get(key, default)
        if isinstance(value, dict) and value.get("type") == "ndarray":
            value = value.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._wrong(key, "a finite number")
        return float(value)

    def epsilon(self, default: float) -> float:
        """The option `epsilon`, which is added to a variance: zero or more."""
        value = self.number("epsilon", default)
        if value < 0:
            raise self._wrong("epsilon", "a number of zero or more")
        return value

    def numbers(self, key: str, default: float) -> Array:
        """A number or a (nested) list of such, as float64."""
        value = self.get(key, default)
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise self._wrong(key, "numbers") from None
        if not np.isfinite(array).all():
            raise self._wrong(key, "finite numbers")
        return array

    def choice(self, key: str, allowed: Sequence[str], default: str) -> str:
        """One of some words."""
        value = self.get(key, default)
        if value not in allowed:
            raise self._wrong(key, " or ".join(map(repr, allowed)))
        return str(value)

    def ints(self, key: str, count: int, default: int | None = None, *, least: int = 1) -> tuple[int, ...]:
        """`count` whole numbers of `least` or more, given as a list or as one number for all."""
        value = self.get(key, default)
        values = [value] * count if _is_int(value) else value
        if (
            not isinstance(values, list)
            or len(values) != count
            or not all(_is_int(v) and least <= v <= MAX_DIM for v in values)
        ):
            raise self._wrong(key, f"{count} whole numbers of {least} or more")
        return tuple(values)

    def data_format(self) -> str:
        """`channels_last` or `channels_first`."""
        return self.choice("data_format", ("channels_last", "channels_first"), "channels_last")

    def dtype_is_free(self) -> None:
        """Say that the option `dtype` is not what the layer computes in."""
        self._any_dtype = True

    def finish(self) -> None:
        """Refuse options that nobody read, since they may change what the layer computes."""
        for key, value in self._config.items():
            unused = key not in self._read and key not in _HARMLESS and not key.endswith(_HARMLESS_ENDINGS)
            if unused and value is not None and value is not False:
                raise UnsupportedError(f"the option {key} = {brief(value)} is not supported")
        dtype = policy(self._config)
        if dtype not in (None, "float32", *MIXED) and not self._any_dtype:
            raise UnsupportedError(f"it computes in {brief(dtype)}; only float32 and mixed precision are supported")

    def _wrong(self, key: str, expected: str) -> UnsupportedError:
        if key not in self._config:
            return UnsupportedError(f"the option {key} is missing")
        return UnsupportedError(f"the option {key} = {brief(self._config[key])} is not {expected}")


@dataclass
class Emitter:
    """Emits one application of a layer. Its main node has the layer's name, helpers `layer/what`.

    `args` and `arguments` are what the call was given, by position and by name. `batch` is the symbol of an open first
    dimension; None where that is no batch but something computed.
    """

    graph: GraphBuilder
    name: str
    weights: Mapping[str, Weight] = field(default_factory=dict)
    args: tuple[Any, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    batch: str | None = "batch"
    hints: Hints = field(default_factory=Hints)

    def inner(self, graph: GraphBuilder, tag: str = "", weights: str = "") -> Emitter:
        """For a part of the layer: in another graph, under `tag`, with the weights of the layer inside at `weights`."""
        start = f"{weights}/" if weights else ""
        mine = {key.removeprefix(start): weight for key, weight in self.weights.items() if key.startswith(start)}
        return replace(self, graph=graph, name=self._tagged(tag), weights=mine)

    def node(self, op_type: str, inputs: Sequence[ir.Value | None], *, tag: str = "", **attributes: Any) -> ir.Value:
        """Append a node."""
        return self.graph.node(op_type, inputs, name=self._tagged(tag), **attributes)

    def constant(self, tag: str, array: Any, dtype: type = np.float32) -> ir.Value:
        """A constant that is no weight of Keras's."""
        return self.graph.initializer(self._tagged(tag), np.asarray(array, dtype))

    def weight(self, key: str, shape: Sequence[int | None]) -> Weight:
        """A weight of the layer, as float32, checked against `shape` (None: any)."""
        weight = self.weights[key]
        actual = weight.array.shape
        if len(actual) != len(shape) or any(want not in (None, dim) for want, dim in zip(shape, actual, strict=True)):
            raise UnsupportedError(
                f"the weight {weight.name!r} has shape {text(actual)}, expected {text(tuple(shape))}"
            )
        return Weight(weight.name, weight.array.astype(np.float32, copy=False))

    def vector(self, key: str, length: int | None) -> ir.Value:
        """A weight of one dimension as an initializer."""
        weight = self.weight(key, [length])
        return self.graph.initializer(weight.name, weight.array)

    def tensor(
        self, value: ir.Value, shape: Sequence[int | None], *, moved: bool = False, dtype: ir.DataType = FLOAT
    ) -> Tensor:
        """Declare what `value` holds."""
        if any(dim is not None and not 0 < dim <= MAX_DIM for dim in shape):
            raise UnsupportedError(f"its output would have the shape {text(tuple(shape))}")
        tensor = Tensor(value, tuple(shape), moved)
        dims = [tensor.shape[axis] for axis in tensor.order()]
        value.shape = ir.Shape([self.batch if dims[0] is None else dims[0], *dims[1:]])
        value.type = ir.TensorType(dtype)
        return tensor

    def like(self, x: Tensor, value: ir.Value) -> Tensor:
        """Declare that `value` has the shape, layout and type of `x`."""
        if value is x.value:
            return x
        return replace(self.tensor(value, x.shape, moved=x.moved, dtype=x.dtype), mask=x.mask)

    def plain(self, x: Tensor) -> Tensor:
        """`x` in Keras's own layout."""
        return self._transposed(x, moved=False) if x.moved else x

    def move(self, x: Tensor) -> Tensor:
        """`x` with its last axis at position 1."""
        return x if x.moved or x.rank < 3 else self._transposed(x, moved=True)

    def _transposed(self, x: Tensor, *, moved: bool) -> Tensor:
        held = x.order()
        order = [held.index(axis) for axis in Tensor(x.value, x.shape, moved).order()]
        value = self.graph.transpose(x.value, order, name=self._tagged("transpose"))
        return replace(self.tensor(value, x.shape, moved=moved, dtype=x.dtype), mask=x.mask)

    def cast(self, x: Tensor, dtype: ir.DataType = FLOAT) -> Tensor:
        """`x` as `dtype`, float32 by default."""
        if x.dtype == dtype:
            return x
        value = self.node("Cast", [x.value], tag="cast", to=int(dtype))
        return replace(self.tensor(value, x.shape, moved=x.moved, dtype=dtype), mask=x.mask)

    def spatial(self, x: Tensor, data_format: str, rank: int) -> Spatial:
        """`x` in ONNX's layout, with `rank` spatial dimensions."""
        if x.rank != rank + 2:
            raise UnsupportedError(f"its input has {x.rank} dimensions {text(x.shape)}, expected {rank + 2}")
        last = data_format == "channels_last"
        channels = x.shape[-1 if last else 1]
        if channels is None:
            raise UnsupportedError(f"its input has an unknown number of channels: {text(x.shape)}")
        x = self.move(x) if last else self.plain(x)
        sizes = x.shape[1:-1] if last else x.shape[2:]
        return Spatial(x.value, x.shape[0], channels, sizes, data_format)

    def from_spatial(
        self, like: Spatial, value: ir.Value, sizes: Sequence[int | None], channels: int | None = None
    ) -> Tensor:
        """Declare `value`, in ONNX's layout, as what follows `like`."""
        channels = like.channels if channels is None else channels
        if like.data_format == "channels_last":
            return self.tensor(value, (like.batch, *sizes, channels), moved=True)
        return self.tensor(value, (like.batch, channels, *sizes))

    def _tagged(self, tag: str) -> str:
        return f"{self.name}/{tag}" if tag else self.name


def text(shape: Sequence[int | None]) -> str:
    """A shape for messages: [?, 64, 64, 1]."""
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def brief(value: Any) -> str:
    """A value for messages, cut where it is long."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
