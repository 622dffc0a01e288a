"""A TFLite file as plain objects: subgraphs of tensors and operators, constants as arrays, sparse ones made dense."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from sardonyx.convert.reading.flatbuffer import FlatBuffer, Table
from sardonyx.convert.tflite.schema import IDENTIFIER, OPERATORS, OPTIONS, TABLES, TYPES
from sardonyx.errors import ModelFileError

Array = np.ndarray[Any, Any]

MAX_RANK = 16
DENSE_LIMIT = 1 << 30
"""Bytes that a sparse tensor may have once dense."""

_STORED: Mapping[str, Any] = {
    "FLOAT32": np.float32, "FLOAT16": np.float16, "INT32": np.int32, "UINT8": np.uint8, "INT64": np.int64,
    "BOOL": np.bool_, "INT16": np.int16, "INT8": np.int8, "FLOAT64": np.float64, "UINT64": np.uint64,
    "UINT32": np.uint32, "UINT16": np.uint16, "BFLOAT16": ml_dtypes.bfloat16, "COMPLEX64": np.complex64,
}  # fmt: skip
_NIBBLES: Mapping[str, tuple[Any, int]] = {"INT4": (np.int8, 4), "INT2": (np.int8, 2), "UINT4": (np.uint8, 4)}


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point), with one scale for all or one for each index of `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int

    @property
    def per_axis(self) -> bool:
        """Whether there is more than one scale."""
        return len(self.scale) > 1


@dataclass(frozen=True)
class Tensor:
    """What the file says of a tensor. `dims` has None for open dims, and is None where not even the rank is known.

    `data` are the elements of a constant, unpacked (int4 as int8). `kind` is the schema's name of the type.
    """

    name: str
    kind: str
    dims: tuple[int | None, ...] | None
    data: Array | None = None
    quantization: Quantization | None = None
    variable: bool = False


@dataclass(frozen=True)
class Operator:
    """An operator: its name in the schema, or for custom ones their own. -1 among the inputs is one left out."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None
    custom: bytes | None = None

    def get(self, key: str, default: Any = None) -> Any:
        """An option; `default` where the operator has no table of options."""
        return self.options[key] if self.options is not None else default


@dataclass(frozen=True)
class Subgraph:
    """A graph: indices of tensors, operators in an order that runs."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True)
class Signature:
    """Names of a subgraph's inputs and outputs, by index of the tensor."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True)
class Model:
    """A file. `metadata` are the buffers that its metadata names."""

    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    metadata: Mapping[str, bytes] = field(default_factory=dict)


def is_tflite(head: bytes) -> bool:
    """Whether a file that starts so is a TFLite model."""
    return head[4:8] == IDENTIFIER


def load(path: Path) -> Model:
    """The model in the file; constants are views of it. Raises ModelFileError when it is damaged."""
    try:
        with path.open("rb") as stream:
            data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=str(error)) from error
    return parse(data, str(path))


def parse(data: bytes | memoryview, where: str) -> Model:
    """The model in `data`."""
    return _Reader(data, where).model()


class _Reader:
    def __init__(self, data: bytes | memoryview, where: str) -> None:
        self.file = FlatBuffer(data, TABLES, where)
        self.where = where
        self.dense = 0

    def model(self) -> Model:
        if not is_tflite(bytes(self.file.data[:8])):
            raise ModelFileError("the file is no TFLite model of version 3", where=self.where)
        root = self.file.root("Model")
        self.buffers: list[Table] = root["buffers"]
        codes = [self._code(table) for table in root["operator_codes"]]
        tables = root["subgraphs"]
        self.ranked = any(tensor["has_rank"] for graph in tables for tensor in graph["tensors"])
        subgraphs = tuple(self._subgraph(table, codes) for table in tables)
        if not subgraphs:
            raise self._damaged("it holds no graph")
        signatures = tuple(self._signature(table, subgraphs) for table in root["signature_defs"])
        metadata = {table["name"]: bytes(self._buffer(table["buffer"]) or b"") for table in root["metadata"]}
        return Model(root["version"], root["description"], subgraphs, signatures, metadata)

    def _damaged(self, what: str) -> ModelFileError:
        return ModelFileError(what, where=self.where, fix="fetch or export the file again")

    def _code(self, table: Table) -> tuple[str, str]:
        # Codes below 127 once were a byte; newer files have both fields, the larger is meant.
        code = max(table["deprecated_builtin_code"], table["builtin_code"])
        if not 0 <= code < len(OPERATORS):
            return f"operator {code}", ""
        return OPERATORS[code], table["custom_code"] if OPERATORS[code] == "CUSTOM" else ""

    def _subgraph(self, table: Table, codes: list[tuple[str, str]]) -> Subgraph:
        tensors = tuple(self._tensor(tensor) for tensor in table["tensors"])
        count = len(tensors)
        inputs, outputs = (self._indices(table[key], 0, count) for key in ("inputs", "outputs"))
        operators = tuple(self._operator(operator, codes, count) for operator in table["operators"])
        return Subgraph(table["name"], tensors, inputs, outputs, operators)

    def _indices(self, found: Array, least: int, count: int) -> tuple[int, ...]:
        if found.size and not (found.min() >= least and found.max() < count):
            raise self._damaged("an operator or a graph refers to a tensor that is not there")
        return tuple(found.tolist())

    def _operator(self, table: Table, codes: list[tuple[str, str]], count: int) -> Operator:
        if table["opcode_index"] >= len(codes):
            raise self._damaged("an operator has no code")
        name, custom = codes[table["opcode_index"]]
        inputs = self._indices(table["inputs"], -1, count)
        outputs = self._indices(table["outputs"], 0, count)
        data: bytes | None = None
        if name == "CUSTOM":
            name, data = f"custom operator {custom!r}", bytes(table["custom_options"])
            start, size = table["large_custom_options_offset"], table["large_custom_options_size"]
            data = bytes(self._outside(start, size)) if start > 1 else data
        return Operator(name, inputs, outputs, self._options(table), data)

    def _options(self, table: Table) -> Table | None:
        code = table["builtin_options_type"]
        name = f"{OPTIONS[code]}Options" if 0 < code < len(OPTIONS) else ""
        return table.union("builtin_options", name) if name in TABLES else None

    def _signature(self, table: Table, subgraphs: tuple[Subgraph, ...]) -> Signature:
        index = table["subgraph_index"]
        if index >= len(subgraphs):
            raise self._damaged("a signature refers to a graph that is not there")
        sides = [{item["name"]: item["tensor_index"] for item in table[side]} for side in ("inputs", "outputs")]
        if any(at >= len(subgraphs[index].tensors) for side in sides for at in side.values()):
            raise self._damaged("a signature refers to a tensor that is not there")
        return Signature(table["signature_key"], index, sides[0], sides[1])

    # Tensors

    def _tensor(self, table: Table) -> Tensor:
        kind = TYPES[table["type"]] if 0 <= table["type"] < len(TYPES) else f"type {table['type']}"
        shape = table["shape"].tolist()
        signature = table["shape_signature"].tolist() or shape
        if len(shape) > MAX_RANK or len(signature) != len(shape) or min(shape, default=0) < 0:
            raise self._damaged(f"the tensor {table['name']!r} has the shape {shape[:MAX_RANK]}")
        name, data = table["name"], self._data(table, kind, shape)
        dims: tuple[int | None, ...] | None = tuple(None if dim < 0 else dim for dim in signature)
        # Exporters write no dims both for scalars and where they do not know; newer ones tell which.
        if not shape and data is None and self.ranked and not table["has_rank"]:
            dims = None
        return Tensor(name, kind, dims, data, self._quantization(table, name, shape), table["is_variable"])

    def _quantization(self, table: Table, name: str, shape: list[int]) -> Quantization | None:
        found = table["quantization"]
        if found is None or not found["scale"].size:
            return None
        if found["details_type"]:
            raise self._damaged(f"the tensor {name!r} is quantised in blocks or by a scheme of its own")
        scale, zero, axis = found["scale"].tolist(), found["zero_point"].tolist(), found["quantized_dimension"]
        zero = zero * len(scale) if len(zero) == 1 else zero or [0] * len(scale)
        fits = len(scale) == 1 or (0 <= axis < len(shape) and shape[axis] == len(scale))
        if not fits or len(zero) != len(scale) or not all(0 <= value < math.inf for value in scale):
            raise self._damaged(f"the quantisation of the tensor {name!r} does not fit it")
        return Quantization(tuple(scale), tuple(zero), axis)

    def _buffer(self, index: int) -> memoryview | None:
        """The bytes of a buffer, inside the tables or (files of more than 2 GB) after them; None where it has none."""
        if index >= len(self.buffers):
            raise self._damaged("a tensor refers to a buffer that is not there")
        table = self.buffers[index]
        if table["offset"] > 1:
            return self._outside(table["offset"], table["size"])
        data = memoryview(table["data"])
        return data if data else None

    def _outside(self, start: int, size: int) -> memoryview:
        self.file.check(start, size)
        return self.file.data[start : start + size]

    def _data(self, table: Table, kind: str, shape: list[int]) -> Array | None:
        data = self._buffer(table["buffer"]) if table["buffer"] else None
        if data is None or kind not in (*_STORED, *_NIBBLES):
            return None
        if table["sparsity"] is not None:
            return self._densified(table, _elements(data, kind), shape)
        values = _elements(data, kind)
        count = math.prod(shape)
        if kind in _NIBBLES and count <= len(values) < count + 4:
            values = values[:count]
        if len(values) != count:
            raise self._damaged(f"the tensor {table['name']!r} has {len(values):,} elements, not {count:,}")
        return values.reshape(shape)

    def _densified(self, table: Table, values: Array, shape: list[int]) -> Array:
        """A sparse tensor made dense (tensorflow/lite/kernels/internal/utils/sparsity_format_converter.cc).

        Levels lie within one another in the order of traversal: those of the dims, then those of the blocks.
        """
        sparsity, name = table["sparsity"], table["name"]
        order, blocks, levels = (
            sparsity["traversal_order"].tolist(),
            sparsity["block_map"].tolist(),
            sparsity["dim_metadata"],
        )
        total = len(shape) + len(blocks)
        sound = sorted(order) == list(range(total)) and len(levels) == total
        if not sound or not all(0 <= dim < len(shape) for dim in blocks):
            raise self._damaged(f"the sparsity of the tensor {name!r} does not fit it")
        self.dense += math.prod(shape) * values.itemsize
        if self.dense > DENSE_LIMIT:
            raise self._damaged(f"sparse tensors as large as {name!r} are not supported")
        at = np.zeros(1, np.int64)  # the place of each entry so far in the next level
        places: dict[int, Array] = {}
        sizes: dict[int, int] = {}
        for dim, level in zip(order, levels, strict=True):
            parents, at, index = self._level(level, at, len(values), name)
            places = {key: coordinates[parents] for key, coordinates in places.items()}
            places[dim], sizes[dim] = index, level["dense_size"]
        if len(at) > len(values) or (len(at) and at.max() >= len(values)):
            raise self._damaged(f"the tensor {name!r} has fewer elements than its sparsity says")
        coordinates = []
        for dim, size in enumerate(shape):
            place = places[dim]
            for block, target in enumerate(blocks, len(shape)):
                place = place * sizes[block] + places[block] if target == dim else place
            if len(place) and not 0 <= place.min() <= place.max() < size:
                raise self._damaged(f"the sparsity of the tensor {name!r} leads out of it")
            coordinates.append(place)
        dense = np.zeros(shape, values.dtype)
        dense[tuple(coordinates)] = values[at]
        return dense

    def _level(self, level: Table, at: Array, limit: int, name: str) -> tuple[Array, Array, Array]:
        """For each entry of a level: the entry it lies in, its place, and its index along the level's dim."""
        if level["format"] == 0:
            size = level["dense_size"]
            # No more entries than values can come out, unless a later level has none for some of them.
            if size < 0 or len(at) * size > max(DENSE_LIMIT // 64, limit):
                raise self._damaged(f"the sparsity of the tensor {name!r} is larger than its elements")
            parents = np.repeat(np.arange(len(at)), size)
            index = np.tile(np.arange(size), len(at))
            return parents, at[parents] * size + index, index
        segments, indices = (self._integers(level, key) for key in ("array_segments", "array_indices"))
        if len(at) and (at.max() + 1 >= len(segments)):
            raise self._damaged(f"the sparsity of the tensor {name!r} has too few segments")
        starts, ends = segments[at], segments[at + 1]
        counts = ends - starts
        if len(counts) and (counts.min() < 0 or starts.min() < 0 or ends.max() > len(indices) or counts.sum() > limit):
            raise self._damaged(f"the sparsity of the tensor {name!r} is damaged")
        parents = np.repeat(np.arange(len(at)), counts)
        inner = np.arange(len(parents)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = starts[parents] + inner
        return parents, places, indices[places]

    def _integers(self, level: Table, key: str) -> Array:
        kinds = ("", "Int32Vector", "Uint16Vector", "Uint8Vector")
        code = level[f"{key}_type"]
        if not 0 < code < len(kinds):
            raise self._damaged("a sparse tensor lacks its indices")
        table = level.union(key, kinds[code])
        values: Array = table["values"].astype(np.int64) if table is not None else np.empty(0, np.int64)
        return values


def _elements(data: memoryview, kind: str) -> Array:
    """All elements in the bytes; those of less than a byte are packed from the low bits on."""
    if kind in _STORED:
        dtype = np.dtype(_STORED[kind])
        return np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype)
    dtype, bits = _NIBBLES[kind]
    raw = np.frombuffer(data, np.uint8)
    parts = np.stack([raw << (8 - bits - shift) & 0xFF for shift in range(0, 8, bits)], 1).astype(np.uint8).ravel()
    values: Array = parts.view(dtype) >> (8 - bits)
    return values
