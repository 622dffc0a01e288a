"""What layers of CoreML's neural networks are read with (`NeuralNetwork.proto`): weights, and a layer's operations.

Networks that take "rank 5" arrays see every value as [sequence, batch, C, H, W]. Without recurrent layers the sequence
is 1 and left out here, so values are [N, C, H, W]; with them values have all five dims. Others ("exact") say the rank
of every value. All values are floating-point numbers, indices and truth among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.coreml.operations import Given, Operation, Ref, Shape, Typed, UnsupportedError
from sardonyx.convert.reading.protobuf import numbers

RECURRENT = ("simpleRecurrent", "gru", "uniDirectionalLSTM", "biDirectionalLSTM")


def kind_of(layer: Any) -> str | None:
    """Which layer this is; None where the schema does not know it."""
    skipped = {"name", "input", "output", "inputTensor", "outputTensor"}
    return next((found.name for found, _ in layer.ListFields() if found.name not in skipped), None)


def weights(params: Any, shape: Sequence[int], axis: int = 0) -> Array:
    """Weights of a shape: float32, float16, or whole numbers of 1 to 8 bits, scaled along `axis` or looked up.

    Raises UnsupportedError when there are not as many as the shape says.
    """
    count = math.prod(int(size) for size in shape)
    if params.floatValue:
        found = numbers(params.floatValue, np.float32)
    elif params.float16Value:
        found = np.frombuffer(params.float16Value, "<f2").astype(np.float32)
    elif params.rawValue and params.HasField("quantization"):
        return _quantised(params, shape, count, axis)
    elif params.int8RawValue:
        raise UnsupportedError("weights for dynamic quantisation are not supported")
    else:
        found = np.zeros(0, np.float32)
    if found.size != count:
        raise UnsupportedError(f"it has {found.size:,} weights, expected {' x '.join(map(str, shape))}")
    return found.reshape(tuple(int(size) for size in shape))


def _quantised(params: Any, shape: Sequence[int], count: int, axis: int) -> Array:
    bits = params.quantization.numberOfBits
    packed = np.frombuffer(params.rawValue, np.uint8)
    if not 1 <= bits <= 8 or packed.size != -(-count * bits // 8):
        raise UnsupportedError(f"it has {packed.size:,} bytes of weights of {bits} bits for {count:,}")
    # From the highest bit of each byte on, unlike the blobs of programs.
    stored = np.unpackbits(packed)[: count * bits].reshape(count, bits)
    codes = np.packbits(stored, axis=1).reshape(count) >> (8 - bits)
    if params.quantization.HasField("lookupTableQuantization"):
        table = np.array(params.quantization.lookupTableQuantization.floatValue, np.float32)
        if table.size != 1 << bits:
            raise UnsupportedError(f"its table has {table.size} numbers, expected {1 << bits}")
        return np.asarray(table[codes].reshape(tuple(shape)))
    linear = params.quantization.linearQuantization
    along = [1] * len(shape)
    along[axis] = -1
    scale, bias = np.array(linear.scale, np.float32), np.array(linear.bias or [0.0], np.float32)
    if scale.size not in (1, shape[axis]) or bias.size not in (1, shape[axis]):
        raise UnsupportedError(f"it has {scale.size} scales, expected 1 or {shape[axis]}")
    return np.asarray(codes.reshape(tuple(shape)) * scale.reshape(along) + bias.reshape(along), np.float32)


def number(value: float) -> Array:
    """A float32 number."""
    return np.array(value, np.float32)


def ints(values: Sequence[int]) -> Array:
    """An int32 vector."""
    return np.array([int(value) for value in values], np.int32)


def pair(values: Sequence[int], default: int) -> list[int]:
    """Height and width, or the default twice."""
    if len(values) not in (0, 2):
        raise UnsupportedError(f"it has {len(values)} sizes for height and width")
    return [int(value) for value in values] or [default, default]


@dataclass
class Layer:
    """One layer and the operations made for it. `rank` is that of values in networks of rank-5 arrays, else None."""

    proto: Any
    rank: int | None
    ranks: dict[str, int]
    optional: frozenset[str] = frozenset()
    made: list[Operation] = field(default_factory=list)

    @property
    def params(self) -> Any:
        """The layer's own options."""
        return getattr(self.proto, kind_of(self.proto) or "name")

    def rank_of(self, name: str) -> int:
        """The rank of a value."""
        rank = self.rank or self.ranks.get(name)
        if not rank:
            raise UnsupportedError(f"the rank of {name!r} is not known")
        return rank

    def x(self, index: int = 0) -> Ref:
        """An input."""
        if index >= len(self.proto.input):
            raise UnsupportedError(f"it has {len(self.proto.input)} inputs")
        return Ref(self.proto.input[index])

    def typed(self, index: int = 0, dtype: str = "float32") -> Typed:
        """An output."""
        if index >= len(self.proto.output):
            raise UnsupportedError(f"it has {len(self.proto.output)} outputs")
        name = self.proto.output[index]
        shape: Shape | None = (None,) * self.rank if self.rank else None
        if not self.rank and index < len(self.proto.outputTensor):
            rank = self.proto.outputTensor[index].rank
            shape = (None,) * rank if 0 < rank <= 8 else None
        return Typed(name, dtype, shape)

    def op(self, kind: str, outputs: Sequence[Typed] | None = None, /, **inputs: Given) -> Ref:
        """An operation; without outputs, the layer's own."""
        found = tuple(outputs) if outputs is not None else (self.typed(),)
        self.made.append(Operation(kind, self.proto.name, inputs, found))
        return Ref(found[0].name)

    def step(self, kind: str, suffix: str, rank: int | None = None, dtype: str = "float32", /, **inputs: Given) -> Ref:
        """An operation whose result is not the layer's own."""
        own = self.typed().shape
        rank = rank if rank is not None or own is None else len(own)
        shape = (None,) * rank if rank else None
        name = self.proto.output[0] if self.proto.output else self.proto.name
        return self.op(kind, [Typed(f"{name}/{suffix}", dtype, shape)], **inputs)

    def windowed(self) -> None:
        """Raises UnsupportedError unless the input is [N, C, H, W]."""
        if self.rank_of(self.x().name) != 4:
            raise UnsupportedError("windows over values that are not [N, C, H, W] are not supported")

    def outputs(self) -> list[Typed]:
        """All outputs."""
        return [self.typed(index) for index in range(len(self.proto.output))]
