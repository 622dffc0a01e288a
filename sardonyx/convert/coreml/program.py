"""ML Programs (MIL in protobuf): their constants, types and operations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.convert.base import Array
from sardonyx.convert.coreml.file import Files, unpacked
from sardonyx.convert.coreml.operations import Given, Operation, Ref, Shape, Typed, UnsupportedError
from sardonyx.errors import ConversionError, ModelFileError

_TYPES = {
    1: "bool", 2: "string", 10: "float16", 11: "float32", 12: "float64", 13: "bfloat16", 21: "int8", 22: "int16",
    23: "int32", 24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64", 35: "uint4",
    36: "uint2", 37: "uint1", 38: "uint6", 39: "uint3",
}  # fmt: skip
_RAW = {"float16": np.float16, "int8": np.int8, "uint8": np.uint8, "int16": np.int16, "uint16": np.uint16}
_RAW |= {"uint32": np.uint32, "float32": np.float32, "int32": np.int32}
_WIDE = {"bool": np.bool_, "int32": np.int32, "int64": np.int64, "uint32": np.uint32, "uint64": np.uint64}
_WIDE |= {"int8": np.int8, "uint8": np.uint8, "int16": np.int16, "uint16": np.uint16}
_WIDE |= {"float16": np.float16, "float32": np.float32, "float64": np.float64}
MAX_ELEMENTS = 1 << 31


@dataclass(frozen=True)
class Program:
    """A program's operations in order; `inputs` and the names of `outputs`."""

    inputs: tuple[Typed, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    opset: str


def parse(program: Any, name: str, files: Files, problems: dict[str, str]) -> Program:
    """The function called `name`, constants resolved. What cannot be read goes into `problems`.

    Raises ConversionError where there is no such function, ModelFileError for damage.
    """
    if name not in program.functions:
        raise ConversionError("the program has no such function", where=files.where, got=repr(name))
    function = program.functions[name]
    if function.opset not in function.block_specializations:
        raise ModelFileError("the program has no operations for its opset", where=files.where, got=function.opset)
    block = function.block_specializations[function.opset]
    constants: dict[str, Given] = {}
    operations = []
    for op in block.operations:
        title = op.outputs[0].name if op.outputs else op.type
        try:
            made = _operation(op, title, constants, files)
        except UnsupportedError as error:
            problems.setdefault(f"{title!r} ({op.type})", str(error))
            continue
        if isinstance(made, Operation):
            operations.append(made)
        else:
            constants[title] = made
    # Outputs that are constants become operations, so that they are values.
    for output in block.outputs:
        if isinstance(found := constants.get(output), np.ndarray):
            typed = Typed(output, found.dtype.name, found.shape)
            operations.append(Operation("identity", output, {"x": found}, (typed,)))
    inputs = tuple(_typed(item) for item in function.inputs)
    return Program(inputs, tuple(operations), tuple(block.outputs), function.opset)


def _operation(op: Any, title: str, constants: dict[str, Given], files: Files) -> Operation | Given:
    if op.type == "const":
        if "val" not in op.attributes:
            raise UnsupportedError("it has no value")
        return _value(op.attributes["val"], files)
    inputs: dict[str, Given] = {}
    for key, argument in op.inputs.items():
        bound = [_bound(binding, constants, files) for binding in argument.arguments]
        inputs[key] = bound[0] if len(bound) == 1 and key != "values" else tuple(bound)
    for key, value in op.attributes.items():
        # Old programs keep weights of compressed constants as attributes.
        if key != "name" and op.type.startswith("constexpr_"):
            inputs.setdefault(key, _value(value, files))
    outputs = tuple(_typed(item) for item in op.outputs)
    if op.blocks:
        raise UnsupportedError("control flow is not supported")
    if op.type.startswith("constexpr_"):
        return _decompressed(op.type, inputs, outputs)
    return Operation(op.type, title, inputs, outputs)


def _bound(binding: Any, constants: dict[str, Given], files: Files) -> Given:
    if binding.HasField("value"):
        return _value(binding.value, files)
    return constants.get(binding.name, Ref(binding.name))


def _typed(item: Any) -> Typed:
    kind = item.type
    if not kind.HasField("tensorType"):
        return Typed(item.name, "other", None)
    tensor = kind.tensorType
    if tensor.rank != len(tensor.dimensions):
        return Typed(item.name, _TYPES.get(tensor.dataType, "other"), None)
    return Typed(item.name, _TYPES.get(tensor.dataType, "other"), _shape(tensor))


def _shape(tensor: Any) -> Shape:
    return tuple(int(dim.constant.size) if dim.HasField("constant") else None for dim in tensor.dimensions)


def _value(value: Any, files: Files) -> Given:
    """A constant. Raises UnsupportedError for dictionaries and types that are not known."""
    immediate = value.immediateValue
    if value.HasField("immediateValue") and not immediate.HasField("tensor"):
        kind = "tuple" if immediate.HasField("tuple") else "list" if immediate.HasField("list") else ""
        if not kind:
            raise UnsupportedError("constants that are dictionaries are not supported")
        return _listed([_value(item, files) for item in getattr(immediate, kind).values])
    tensor = value.type.tensorType
    dtype, dims = _TYPES.get(tensor.dataType, ""), _shape(tensor)
    shape = [dim for dim in dims if dim is not None]
    count = math.prod(shape)
    if len(shape) != len(dims) or count > MAX_ELEMENTS:
        raise UnsupportedError(f"the shape {dims} of a constant is not known")
    if value.HasField("blobFileValue"):
        blob = value.blobFileValue
        return files.blob(blob.fileName, blob.offset, count).reshape(shape)
    if dtype == "string":
        texts = list(immediate.tensor.strings.values)
        return texts[0] if not shape and len(texts) == 1 else np.array(texts, object).reshape(shape)
    return _immediate(immediate.tensor, dtype, count).reshape(shape)


def _listed(items: list[Given]) -> Given:
    if items and all(isinstance(item, str) for item in items):
        return np.array(items, object)
    if items and all(isinstance(item, np.ndarray) and item.shape == () for item in items):
        return np.array(items)
    return tuple(items)


def _immediate(tensor: Any, dtype: str, count: int) -> Array:
    kinds = ("floats", "ints", "bools", "longInts", "doubles", "bytes")
    kind = next((name for name in kinds if tensor.HasField(name)), "floats")
    stored = getattr(tensor, kind).values
    if kind == "bytes":
        if dtype in _RAW:
            return np.frombuffer(stored, np.dtype(_RAW[dtype]).newbyteorder("<")).astype(_RAW[dtype])
        narrow = {"int4": (4, True), "uint4": (4, False), "uint6": (6, False), "uint3": (3, False)}
        narrow |= {"uint2": (2, False), "uint1": (1, False)}
        if dtype in narrow and len(stored) == -(-count * narrow[dtype][0] // 8):
            return unpacked(np.frombuffer(stored, np.uint8), count, *narrow[dtype])
    if dtype not in _WIDE or kind == "bytes":
        raise UnsupportedError(f"constants of type {dtype or 'unknown'} are not supported")
    return np.array(stored, _WIDE[dtype])


# Compressed constants


def _decompressed(kind: str, inputs: dict[str, Given], outputs: tuple[Typed, ...]) -> Array:
    rule = {
        "constexpr_affine_dequantize": _affine,
        "constexpr_lut_to_dense": _looked_up,
        "constexpr_sparse_to_dense": _sparse,
        "constexpr_cast": lambda given: given["source_val"].astype(np.float32),
        "constexpr_blockwise_shift_scale": _blockwise,
    }.get(kind)
    if rule is None:
        raise UnsupportedError("constants compressed in this way are not supported")
    arrays: dict[str, Any] = dict(inputs)
    found: Array = rule(arrays)
    shape = outputs[0].shape if outputs else None
    if shape is not None and found.shape != shape:
        raise UnsupportedError(f"it is of shape {found.shape}, its program says {shape}")
    return found


def _affine(given: dict[str, Any]) -> Array:
    data, axis = given["quantized_data"], int(given["axis"])
    shape = [1] * data.ndim
    shape[axis] = -1
    sides = [given[key].reshape(shape) if given[key].ndim else given[key] for key in ("scale", "zero_point")]
    scale, zero = sides[0].astype(np.float32), sides[1].astype(np.float32)
    return np.asarray(scale * (data.astype(np.float32) - zero), np.float32)


def _looked_up(given: dict[str, Any]) -> Array:
    indices, lut = given["indices"], given["lut"]
    if "shape" in given:
        shape = [int(size) for size in given["shape"]]
        bits = max(lut.size - 1, 1).bit_length()
        count = math.prod(shape)
        if lut.ndim != 1 or indices.size != -(-count * bits // 8):
            raise UnsupportedError("its indices do not fit its shape")
        return np.asarray(lut[unpacked(indices.view(np.uint8), count, bits, False)].reshape(shape))
    if lut.shape[-1] != 1 or lut.ndim != indices.ndim + 2:
        raise UnsupportedError("tables of vectors are not supported")
    blocks = [-(-size // tables) for size, tables in zip(indices.shape, lut.shape, strict=False)]
    places = np.ix_(*(np.arange(size) // block for size, block in zip(indices.shape, blocks, strict=True)))
    return np.asarray(lut[(*places, indices.astype(np.int64), 0)])


def _sparse(given: dict[str, Any]) -> Array:
    data, mask = given["nonzero_data"], given["mask"]
    if "shape" in given:
        shape = tuple(int(size) for size in given["shape"])
        count = math.prod(shape)
        if mask.size != -(-count // 8):
            raise UnsupportedError("its mask does not fit its shape")
        mask = unpacked(mask.view(np.uint8), count, 1, False).reshape(shape)
    result = np.zeros(mask.shape, data.dtype)
    result[mask.astype(np.bool_)] = data
    return result


def _blockwise(given: dict[str, Any]) -> Array:
    data, scale = given["data"].astype(np.float32), given["scale"].astype(np.float32)
    offset = given["offset"].astype(np.float32) if "offset" in given else np.zeros_like(scale)
    if scale.ndim != data.ndim or any(size % parts for size, parts in zip(data.shape, scale.shape, strict=True)):
        raise UnsupportedError("its blocks do not fit its data")
    for axis, (size, parts) in enumerate(zip(data.shape, scale.shape, strict=True)):
        scale, offset = scale.repeat(size // parts, axis), offset.repeat(size // parts, axis)
    return np.asarray(scale * (data - offset), np.float32)
