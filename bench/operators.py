"""The table of one-node models: every native operator at three sizes, small, medium and large.

Small is a call's overhead, large mostly memory's or arithmetic's limit, medium what networks do most. Arrays are made
when a row is built, not when this file is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.errors import InvalidInputError
from sardonyx.providers.base import Array

if TYPE_CHECKING:
    import onnx

Dims = tuple[int, ...]
SIZES = ("small", "medium", "large")
_OPSET = 21


@dataclass(frozen=True)
class Sample:
    """One node and what it reads: arrays in the order of its inputs (None: not given).

    Those whose places are in `constants` are initializers, the others are fed. `opset` is the oldest that will do.
    """

    inputs: Sequence[Array | None]
    constants: Sequence[int] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = _OPSET


Make = Callable[..., Sample]


@dataclass(frozen=True)
class Row:
    """An operator, what `make` is told for each of `SIZES`, and a word that tells apart rows of one operator."""

    op: str
    sizes: tuple[Dims, Dims, Dims]
    make: Make
    variant: str = ""

    @property
    def name(self) -> str:
        """The operator and, if there is one, the variant."""
        return f"{self.op} {self.variant}".strip()

    def sample(self, size: int) -> Sample:
        """The node at one of the sizes."""
        return self.make(*self.sizes[size])

    def model(self, sample: Sample) -> tuple[onnx.ModelProto, dict[str, Array]]:
        """The one-node model and its feeds."""
        from onnx import helper, numpy_helper

        given = {f"x{place}": array for place, array in enumerate(sample.inputs) if array is not None}
        names = [f"x{place}" if array is not None else "" for place, array in enumerate(sample.inputs)]
        outputs = [f"y{place}" for place in range(sample.outputs)]
        known = {f"x{place}" for place in sample.constants}
        feeds = {name: array for name, array in given.items() if name not in known}
        kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in feeds.items()}
        graph = helper.make_graph(
            [helper.make_node(self.op, names, outputs, name="node", **sample.attributes)],
            self.op,
            [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in feeds.items()],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(given[name], name) for name in sorted(known)],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", sample.opset)], ir_version=10), feeds


def rows(names: Sequence[str] = ()) -> tuple[Row, ...]:
    """The rows of these operators, all that are native for none; InvalidInputError for a name that has no row."""
    from sardonyx.ops import OPERATORS

    for name in names:
        if all(row.op != name for row in ROWS):
            raise InvalidInputError(f"no operator {name!r}", where="bench ops", expected="an operator of the table")
    return tuple(row for row in ROWS if row.op in names or (not names and ("", row.op) in OPERATORS))


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _random() -> np.random.Generator:
    return np.random.default_rng(7)


def _floats(*dims: int, low: float = -3.0, high: float = 3.0) -> Array:
    return _random().uniform(low, high, dims).astype(np.float32)


def _ints(*dims: int, below: int = 100, least: int = 0) -> Array:
    return _random().integers(least, below, dims)


def _bools(*dims: int) -> Array:
    return _random().random(dims) < 0.5


def _list(*values: int) -> Array:
    return np.array(values, np.int64)


# ---- elementwise -----------------------------------------------------------------------------------------------------

_FLAT = ((256,), (128, 768), (64, 64, 1024))
_MAPS = ((1, 8, 7, 7), (1, 64, 56, 56), (8, 64, 112, 112))


def _unary(low: float = -3.0, high: float = 3.0, opset: int = _OPSET, **attributes: Any) -> Make:
    return lambda *dims: Sample([_floats(*dims, low=low, high=high)], attributes=attributes, opset=opset)


def _same(count: int = 2, low: float = 0.5, **attributes: Any) -> Make:
    """Several floats of the same dims."""
    return lambda *dims: Sample([_floats(*dims, low=low) + np.float32(i) for i in range(count)], attributes=attributes)


def _whole(count: int = 2, **attributes: Any) -> Make:
    """Several positive int64 of the same dims."""
    return lambda *dims: Sample([_ints(*dims, least=1) for _ in range(count)], attributes=attributes)


def _unsigned(**attributes: Any) -> Make:
    return lambda *dims: Sample([_ints(*dims, below=8).astype(np.uint32)] * 2, attributes=attributes)


def _logic(count: int = 2) -> Make:
    return lambda *dims: Sample([_bools(*dims)] * count)


def _elementwise() -> Iterator[Row]:
    plain = (
        "Abs Ceil Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Mish Neg Relu Round Selu Sigmoid Sign Sin "
        "Softplus Softsign Tan Tanh ThresholdedRelu Celu Shrink Sinh Cosh Asinh Atan IsNaN IsInf"
    )
    for op in plain.split():
        yield Row(op, _FLAT, _unary())
    yield Row("Gelu", _FLAT, _unary(approximate="tanh"), "tanh")
    for op, low, high in (("Log", 0.1, 9), ("Sqrt", 0, 9), ("Reciprocal", 0.5, 9), ("Acosh", 1, 9)):
        yield Row(op, _FLAT, _unary(low, high))
    for op in ("Asin", "Acos", "Atanh"):
        yield Row(op, _FLAT, _unary(-0.99, 0.99))
    yield Row("Swish", _FLAT, _unary(opset=24))
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
        yield Row(op, _FLAT, _same())
    yield Row("Add", ((2, 8, 16), (1, 128, 768), (8, 512, 1024)), _bias, "bias")
    yield Row("Mod", _FLAT, _same(fmod=1), "fmod")
    for op in ("Sum", "Mean"):
        yield Row(op, _FLAT, _same(3))
    for op in ("Equal", "Mod"):
        yield Row(op, _FLAT, _whole())
    for op in ("And", "Or", "Xor"):
        yield Row(op, _FLAT, _logic())
    yield Row("Not", _FLAT, _logic(1))
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        yield Row(op, _FLAT, _whole())
    yield Row("BitwiseNot", _FLAT, _whole(1))
    yield Row("BitShift", _FLAT, _unsigned(direction="LEFT"))
    yield Row("PRelu", _MAPS, _prelu)
    yield Row("Clip", _FLAT, _clip)
    yield Row("Where", _FLAT, lambda *dims: Sample([_bools(*dims), _floats(*dims), _floats(*dims)]))
    yield Row("Cast", _FLAT, _unary(to=7), "to int64")
    yield Row("Cast", _FLAT, lambda *dims: Sample([_ints(*dims)], attributes={"to": 1}), "from int64")
    yield Row("CastLike", _FLAT, lambda *dims: Sample([_ints(*dims), _floats(1)], (1,)))
    yield Row("BitCast", _FLAT, _unary(opset=26, to=6))
    yield Row("SwiGLU", _FLAT, lambda *dims: Sample([_floats(*dims)] * 2, opset=28))


def _bias(*dims: int) -> Sample:
    return Sample([_floats(*dims), _floats(dims[-1])], (1,))


def _prelu(batch: int, channels: int, *sides: int) -> Sample:
    return Sample([_floats(batch, channels, *sides), _floats(channels, *(1,) * len(sides))], (1,))


def _clip(*dims: int) -> Sample:
    return Sample([_floats(*dims), np.array(-1, np.float32), np.array(1, np.float32)], (1, 2))


# ---- products --------------------------------------------------------------------------------------------------------


def _product(rows: int, depth: int, columns: int) -> Sample:
    return Sample([_floats(rows, depth), _floats(depth, columns)], (1,))


def _batched(groups: int, rows: int, depth: int, columns: int) -> Sample:
    return Sample([_floats(groups, rows, depth), _floats(groups, depth, columns)])


def _gemm(rows: int, depth: int, columns: int) -> Sample:
    inputs = [_floats(rows, depth), _floats(columns, depth), _floats(columns)]
    return Sample(inputs, (1, 2), {"transB": 1})


def _einsum(heads: int, length: int, size: int) -> Sample:
    q, k = _floats(1, length, heads, size), _floats(1, length, heads, size)
    return Sample([q, k], attributes={"equation": "bihd,bjhd->bhij"})


def _conv(channels: int, filters: int, side: int, window: int, group: int = 1) -> Sample:
    weights = _floats(filters, channels // group, window, window, low=-0.2, high=0.2)
    pads = {"pads": [window // 2] * 4, "group": group}
    return Sample([_floats(1, channels, side, side), weights, _floats(filters)], (1, 2), pads)


def _transposed(channels: int, filters: int, side: int) -> Sample:
    weights = _floats(channels, filters, 2, 2, low=-0.2, high=0.2)
    return Sample([_floats(1, channels, side, side), weights], (1,), {"strides": [2, 2]})


def _attention(heads: int, length: int, past: int) -> Sample:
    query, keys = _floats(1, heads, length, 64), _floats(1, heads, length + past, 64)
    return Sample([query, keys, keys], opset=23)


def _rotary(heads: int, length: int) -> Sample:
    angles = _floats(1, length, 32)
    return Sample([_floats(1, heads, length, 64), np.cos(angles), np.sin(angles)], opset=23)


def _recurrent(gates: int) -> Make:
    def make(steps: int, batch: int, size: int) -> Sample:
        weights = _floats(2, gates * size, size, low=-0.1, high=0.1)
        inputs = [_floats(steps, batch, size), weights, weights, _floats(2, 2 * gates * size)]
        return Sample(inputs, (1, 2, 3), {"hidden_size": size, "direction": "bidirectional"})

    return make


def _scatter_cache(heads: int, length: int) -> Sample:
    cache, update = _floats(1, heads, length, 64), _floats(1, heads, 1, 64)
    return Sample([cache, update, _list(length // 2)], attributes={"axis": 2}, opset=24)


def _linear() -> Iterator[Row]:
    yield Row("MatMul", ((1, 64, 64), (128, 768, 3072), (1024, 1024, 4096)), _product)
    yield Row("MatMul", ((1, 256, 256), (1, 768, 3072), (1, 2048, 8192)), _product, "one row")
    yield Row("MatMul", ((2, 8, 64, 8), (12, 128, 64, 128), (12, 512, 64, 512)), _batched, "fed")
    yield Row("Gemm", ((1, 64, 10), (16, 768, 768), (512, 1024, 1024)), _gemm)
    yield Row("Einsum", ((2, 8, 16), (12, 128, 64), (12, 512, 64)), _einsum)
    yield Row("Conv", ((8, 8, 7, 3), (64, 64, 56, 3), (256, 256, 56, 3)), _conv)
    yield Row("Conv", ((8, 8, 7, 1), (64, 256, 56, 1), (256, 512, 56, 1)), _conv, "pointwise")
    yield Row("Conv", ((8, 8, 7, 3, 8), (144, 144, 56, 3, 144), (512, 512, 56, 3, 512)), _conv, "depthwise")
    yield Row("ConvTranspose", ((8, 8, 7), (64, 32, 56), (256, 128, 56)), _transposed)
    yield Row("Attention", ((2, 8, 0), (12, 128, 0), (12, 1024, 0)), _attention)
    yield Row("Attention", ((2, 1, 15), (12, 1, 127), (12, 1, 1023)), _attention, "step")
    yield Row("RotaryEmbedding", ((2, 8), (12, 128), (32, 2048)), _rotary)
    yield Row("TensorScatter", ((2, 16), (12, 256), (32, 2048)), _scatter_cache)
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        yield Row(op, ((4, 1, 16), (100, 1, 256), (100, 16, 512)), _recurrent(gates))


# ---- reductions and normalisation ------------------------------------------------------------------------------------

_ROWS = ((1, 768), (128, 768), (4096, 1024))
_SCORES = ((1, 128), (1536, 128), (6144, 512))


def _reduced(axis: int) -> Make:
    def make(*dims: int) -> Sample:
        return Sample([_floats(*dims, low=0.5, high=1.5), _list(axis)], (1,), {"keepdims": 1})

    return make


def _scaled(bias: bool, opset: int = _OPSET, **attributes: Any) -> Make:
    """Rows, a scale and perhaps a bias of the last dim."""

    def make(*dims: int) -> Sample:
        scales = [_floats(dims[-1])] * (2 if bias else 1)
        return Sample([_floats(*dims), *scales], range(1, 1 + len(scales)), attributes, opset=opset)

    return make


def _channelwise(count: int, opset: int = _OPSET, **attributes: Any) -> Make:
    """Images and positive numbers of each channel."""

    def make(*dims: int) -> Sample:
        scales = [_floats(dims[1], low=0.5)] * count
        return Sample([_floats(*dims), *scales], range(1, 1 + count), attributes, opset=opset)

    return make


def _reductions() -> Iterator[Row]:
    for op in ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"]:
        yield Row(f"Reduce{op}", _ROWS, _reduced(-1))
    yield Row("ReduceMean", _ROWS, _reduced(0), "columns")
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        yield Row(op, _SCORES, _unary())
    yield Row("Softmax", ((8, 16), (128, 1024), (64, 256, 256)), _unary(axis=-2), "columns")
    yield Row("LayerNormalization", _ROWS, _scaled(True))
    yield Row("RMSNormalization", _ROWS, _scaled(False, 23))
    yield Row("LpNormalization", _ROWS, _unary(axis=-1, p=2))
    yield Row("MeanVarianceNormalization", _MAPS, _unary())
    yield Row("InstanceNormalization", _MAPS, _channelwise(2))
    yield Row("GroupNormalization", _MAPS, _channelwise(2, num_groups=4))
    yield Row("BatchNormalization", _MAPS, _channelwise(4))
    yield Row("LRN", _MAPS, _unary(size=5))
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        yield Row(op, _MAPS, _unary())
    for op in ("MaxPool", "AveragePool", "LpPool"):
        yield Row(op, _MAPS, _unary(kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))
    for op, opset in (("CumSum", _OPSET), ("CumProd", 26)):
        yield Row(op, _ROWS, _cumulative(opset))
    yield Row("NegativeLogLikelihoodLoss", ((4, 10), (128, 1000), (4096, 1000)), _loss)
    yield Row("SoftmaxCrossEntropyLoss", ((4, 10), (128, 1000), (4096, 1000)), _loss)
    yield Row("Det", ((2, 3), (100, 8), (64, 64)), lambda n, side: Sample([_floats(n, side, side)]))


def _cumulative(opset: int) -> Make:
    return lambda *dims: Sample([_floats(*dims, low=0.99, high=1.01), np.array(1)], (1,), opset=opset)


def _loss(batch: int, classes: int) -> Sample:
    return Sample([_floats(batch, classes), _ints(batch, below=classes)])


# ---- moving data -----------------------------------------------------------------------------------------------------

_HEADS = ((1, 16, 2, 16), (1, 128, 12, 64), (8, 512, 12, 64))


def _shaped(dims: Callable[..., Sequence[int]], **attributes: Any) -> Make:
    """A float tensor of the first argument's dims, and a known list made from them."""
    return lambda *sizes: Sample([_floats(*sizes), _list(*dims(*sizes))], (1,), attributes)


def _joined(past: int, fresh: int) -> Sample:
    return Sample([_floats(1, 12, past, 64), _floats(1, 12, fresh, 64)], attributes={"axis": 2})


def _split(*dims: int) -> Sample:
    parts = _list(*[dims[-1] // 3] * 3)
    return Sample([_floats(*dims), parts], (1,), {"axis": -1}, outputs=3)


def _slice(*dims: int) -> Sample:
    """The second half of the last axis."""
    return Sample([_floats(*dims), _list(dims[-1] // 2), _list(dims[-1]), _list(-1)], (1, 2, 3))


def _padded(mode: str) -> Make:
    def make(batch: int, channels: int, height: int, width: int, border: int) -> Sample:
        pads = _list(0, 0, border, border, 0, 0, border, border)
        return Sample([_floats(batch, channels, height, width), pads], (1,), {"mode": mode})

    return make


def _layout() -> Iterator[Row]:
    yield Row("Transpose", _HEADS, _unary(perm=[0, 2, 1, 3]), "heads")
    yield Row("Transpose", ((1, 2, 16, 16), (1, 12, 128, 64), (8, 12, 512, 64)), _unary(perm=[0, 1, 3, 2]), "keys")
    yield Row("Transpose", ((8, 8), (768, 768), (4096, 2048)), _unary(perm=[1, 0]))
    yield Row("Transpose", ((1, 3, 8, 8), (1, 64, 56, 56), (8, 64, 112, 112)), _unary(perm=[0, 2, 3, 1]), "to last")
    yield Row("Transpose", ((1, 8, 8, 3), (1, 56, 56, 64), (8, 112, 112, 64)), _unary(perm=[0, 3, 1, 2]), "to first")
    yield Row("Transpose", ((4, 4, 4), (64, 64, 64), (160, 160, 160)), _unary(perm=[2, 1, 0]), "reversed")
    yield Row("Concat", ((15, 1), (128, 1), (1023, 1)), _joined, "cache")
    yield Row("Concat", ((8, 8), (64, 64), (4096, 4096)), _joined)
    yield Row("Split", ((4, 48), (128, 2304), (2048, 3072)), _split)
    yield Row("Slice", ((4, 16), (128, 768), (4096, 2048)), _slice)
    images = ((1, 3, 8, 8, 1), (1, 64, 56, 56, 1), (1, 64, 224, 224, 3))
    for mode in ("constant", "edge", "reflect"):
        yield Row("Pad", images, _padded(mode), mode)
    yield Row("Pad", ((1, 3, 8, 8, 4), (1, 3, 224, 224, 40), (1, 16, 224, 224, 100)), _padded("reflect"), "wide border")
    yield Row("Tile", ((4, 16), (128, 96), (1024, 512)), _shaped(lambda *dims: (2, 4)))
    yield Row("Expand", ((4, 1, 16), (12, 1, 768), (64, 1, 4096)), _shaped(lambda n, _, m: (n, 64, m)))
    for op, dims in (
        ("Reshape", lambda *sizes: (sizes[0], -1)),
        ("Squeeze", lambda *_: (0,)),
        ("Unsqueeze", lambda *_: (0,)),
    ):
        yield Row(op, ((1, 4, 64), (1, 128, 768), (1, 4096, 1024)), _shaped(dims))
    for op in ("Flatten", "Identity", "Dropout", "Shape", "Size"):
        yield Row(op, _HEADS, _unary())
    yield Row("DepthToSpace", ((1, 16, 4, 4), (1, 64, 56, 56), (1, 256, 128, 128)), _unary(blocksize=4))
    yield Row("SpaceToDepth", ((1, 3, 8, 8), (1, 16, 112, 112), (1, 16, 512, 512)), _unary(blocksize=4))
    yield Row("Trilu", ((8, 8), (512, 512), (12, 1024, 1024)), _unary())
    yield Row("ReverseSequence", ((8, 2, 16), (100, 4, 256), (512, 16, 512)), _reversed)
    yield Row("CenterCropPad", ((8, 8), (512, 512), (4096, 1024)), _shaped(lambda n, m: (n // 2, 2 * m)))
    yield Row("Range", ((16,), (4096,), (4_000_000,)), lambda n: Sample([np.array(0), np.array(n), np.array(1)]))
    yield Row("ConstantOfShape", ((16,), (98304,), (4_000_000,)), lambda n: Sample([_list(n)]))
    yield Row("EyeLike", ((8, 8), (512, 512), (2048, 2048)), _unary())
    yield Row("OneHot", ((4, 10), (128, 1000), (4096, 1000)), _one_hot)
    for op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        yield Row(op, ((16,), (400,), (65536,)), lambda n: Sample([np.array(n)]))


def _reversed(steps: int, batch: int, size: int) -> Sample:
    return Sample([_floats(steps, batch, size), _ints(batch, below=steps + 1, least=1)])


def _one_hot(count: int, depth: int) -> Sample:
    values = np.array([0, 1], np.float32)
    return Sample([_ints(count, below=depth), np.array(depth), values], (1, 2))


# ---- places and choices ----------------------------------------------------------------------------------------------


def _embedding(words: int, size: int, count: int) -> Sample:
    return Sample([_floats(words, size), _ints(1, count, below=words)], (0,))


def _tuples(rows: int, size: int, count: int) -> Sample:
    return Sample([_floats(rows, size), _ints(count, 1, below=rows)])


def _chosen(rows: int, columns: int, count: int) -> Sample:
    """Places along the first axis, for each column its own."""
    return Sample([_floats(rows, columns), _ints(count, columns, below=rows)], attributes={"axis": 0})


def _scattered(opset: int = _OPSET, **attributes: Any) -> Make:
    def make(rows: int, columns: int, count: int) -> Sample:
        order = np.argsort(_random().random((rows, columns)), axis=0)[:count]  # no two meet
        return Sample([_floats(rows, columns), order, _floats(count, columns)], attributes=attributes, opset=opset)

    return make


def _scattered_rows(rows: int, size: int, count: int) -> Sample:
    places = _random().permutation(rows)[:count, None]
    return Sample([_floats(rows, size), places, _floats(count, size)])


def _top(rows: int, length: int, count: int) -> Sample:
    return Sample([_floats(rows, length), _list(count)], (1,), outputs=2)


def _boxes(count: int, classes: int) -> Sample:
    corner, size = _floats(1, count, 2, low=0, high=9), _floats(1, count, 2, low=0.5, high=2)
    boxes = np.concatenate([corner, corner + size[..., ::-1]], axis=2)
    scores = _random().random((1, classes, count), np.float32)
    return Sample([boxes, scores, _list(100), np.array([0.5], np.float32), np.array([0.3], np.float32)], (2, 3, 4))


def _sparse(*dims: int) -> Sample:
    return Sample([(_random().random(dims) < 0.1).astype(np.float32)])


def _grid(batch: int, channels: int, side: int) -> Sample:
    places = _floats(batch, side, side, 2, low=-1, high=1)
    return Sample([_floats(batch, channels, side, side), places])


def _regions(channels: int, side: int, count: int) -> Sample:
    corner = _floats(count, 2, low=0, high=side / 2)
    boxes = np.concatenate([corner, corner + _floats(count, 2, low=1, high=side / 2)], axis=1)
    attributes = {"output_height": 7, "output_width": 7, "sampling_ratio": 2}
    return Sample([_floats(1, channels, side, side), boxes, np.zeros(count, np.int64)], attributes=attributes)


def _resized(opset: int = _OPSET, **attributes: Any) -> Make:
    def make(batch: int, channels: int, side: int, percent: int) -> Sample:
        scales = np.array([1, 1, percent / 100, percent / 100], np.float32)
        inputs = [_floats(batch, channels, side, side), *([None] if opset > 9 else []), scales]
        return Sample(inputs, (len(inputs) - 1,), attributes, opset=opset)

    return make


def _picked() -> Iterator[Row]:
    yield Row("Gather", ((1000, 384, 8), (30522, 768, 128), (30522, 768, 4096)), _embedding, "words")
    yield Row("Gather", ((4, 16, 2), (128, 768, 64), (512, 4096, 1024)), lambda n, m, count: Sample(
        [_floats(n, m), _ints(count, below=m)], attributes={"axis": 1}), "columns")  # fmt: skip
    yield Row("GatherND", ((16, 32, 8), (1000, 256, 300), (30000, 256, 10000)), _tuples)
    yield Row("GatherElements", ((8, 8, 4), (1000, 64, 300), (4000, 512, 2000)), _chosen)
    yield Row("ScatterND", ((16, 32, 8), (1000, 256, 300), (30000, 256, 10000)), _scattered_rows)
    yield Row("ScatterElements", ((8, 8, 4), (1000, 64, 300), (4000, 512, 2000)), _scattered(axis=0))
    yield Row("ScatterElements", ((8, 8, 4), (1000, 64, 300), (4000, 512, 2000)), _scattered(axis=0, reduction="add"),
              "add")  # fmt: skip
    yield Row("Scatter", ((8, 8, 4), (1000, 64, 300), (4000, 512, 2000)), _scattered(9, axis=0))
    yield Row("TopK", ((1, 100, 5), (1, 50257, 50), (64, 8400, 100)), _top)
    yield Row("TopK", ((1, 200, 100), (1, 8400, 1000), (16, 30000, 1000)), _top, "many")
    for op in ("ArgMax", "ArgMin"):
        yield Row(op, ((1, 100), (1, 50257), (4096, 1024)), _unary(axis=-1))
    yield Row("ArgMax", ((1, 5, 8, 8), (1, 21, 64, 64), (1, 21, 512, 512)), _unary(axis=1), "classes")
    yield Row("NonMaxSuppression", ((20, 1), (1000, 4), (8400, 20)), _boxes)
    yield Row("NonZero", ((4, 8), (128, 768), (2048, 2048)), _sparse)
    yield Row("Compress", ((16,), (98304,), (4_000_000,)), lambda n: Sample([_floats(n), _bools(n)]))
    yield Row("Unique", ((16,), (4096,), (1_000_000,)), lambda n: Sample([_ints(n, below=n // 4)]))
    yield Row("GridSample", ((1, 3, 8), (1, 64, 56), (1, 64, 256)), _grid)
    yield Row("GridSample", ((1, 3, 8), (1, 3, 224), (1, 3, 1024)), _grid, "pictures")
    yield Row("AffineGrid", ((1, 8), (1, 64), (4, 512)), _affine)
    yield Row("RoiAlign", ((4, 8, 2), (256, 50, 20), (256, 50, 500)), _regions)
    sizes = ((1, 3, 8, 200), (1, 64, 56, 200), (1, 64, 128, 400))
    pictures = ((1, 3, 16, 50), (1, 3, 480, 47), (1, 3, 1080, 200))
    for op, opset in (("Resize", _OPSET), ("Upsample", 9)):
        yield Row(op, sizes, _resized(opset, mode="nearest"), "nearest")
    yield Row("Resize", sizes, _resized(mode="linear"), "linear")
    yield Row("Resize", pictures, _resized(mode="linear"), "pictures linear")
    yield Row("Resize", pictures, _resized(mode="cubic"), "pictures cubic")
    yield Row("MaxUnpool", ((1, 3, 4), (1, 64, 28), (8, 64, 56)), _unpooled)
    yield Row("Col2Im", ((4, 4), (64, 56), (64, 224)), _columns)


def _signal() -> Iterator[Row]:
    yield Row("DFT", ((1, 16), (32, 512), (64, 4096)), lambda rows, n: Sample([_floats(rows, n, 1)]))
    yield Row("DFT", ((1, 15), (32, 500), (64, 4095)), lambda rows, n: Sample([_floats(rows, n, 2)]), "pairs")
    yield Row("STFT", ((1, 64, 16), (1, 16000, 400), (8, 160000, 512)), lambda batch, n, size: Sample(
        [_floats(batch, n, 1), np.array(size // 4), _floats(size, low=0.0)], (1, 2)))  # fmt: skip
    yield Row("MaxRoiPool", ((4, 8, 2), (256, 50, 20), (256, 50, 300)), _pooled_regions)


def _pooled_regions(channels: int, side: int, count: int) -> Sample:
    corners = np.sort(_floats(count, 2, 2, low=0.0, high=float(side)), axis=1).reshape(count, 4)
    rois = np.concatenate([np.zeros((count, 1), np.float32), corners], axis=1)
    return Sample([_floats(1, channels, side, side), rois], attributes={"pooled_shape": [7, 7]})


def _affine(batch: int, side: int) -> Sample:
    return Sample([_floats(batch, 2, 3), _list(batch, 3, side, side)], (1,))


def _unpooled(batch: int, channels: int, side: int) -> Sample:
    cells = np.arange(side)
    corners = 4 * side * cells[:, None] + 2 * cells  # the first of each 2x2 window of [2 side, 2 side]
    planes = 4 * side * side * np.arange(batch * channels).reshape(batch, channels, 1, 1)
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    return Sample([_floats(batch, channels, side, side), planes + corners], attributes=attributes)


def _columns(channels: int, side: int) -> Sample:
    inputs = [_floats(1, 9 * channels, side * side), _list(side, side), _list(3, 3)]
    return Sample(inputs, (1, 2), {"pads": [1, 1, 1, 1]})


ROWS: tuple[Row, ...] = (*_elementwise(), *_linear(), *_reductions(), *_layout(), *_picked(), *_signal())

_CHANCE = ("Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
UNMEASURED: Mapping[str, str] = {
    **dict.fromkeys(("If", "Loop", "Scan"), "what they cost is what their bodies do"),
    **dict.fromkeys(_CHANCE, "there is nothing to compare: results are left to chance"),
}
"""Native operators without a row, and why."""
