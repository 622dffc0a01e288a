"""Recorded TFLite models (`scripts/record_tflite.py`), and small ones written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from flatbuffers import number_types

import sardonyx
from sardonyx.convert.tflite.schema import OPERATORS, OPTIONS, TABLES, TYPES
from sardonyx.model.opset import convert_opset

DATA = Path(__file__).parent.parent / "data" / "tflite"
NAMES = sorted(path.stem for path in DATA.glob("*.tflite"))

Array = np.ndarray[Any, Any]

_FLAGS = {
    "bool": number_types.BoolFlags, "i8": number_types.Int8Flags, "u8": number_types.Uint8Flags,
    "i32": number_types.Int32Flags, "u32": number_types.Uint32Flags, "i64": number_types.Int64Flags,
    "u64": number_types.Uint64Flags, "f32": number_types.Float32Flags,
}  # fmt: skip


def recorded(name: str, file: str = "recorded") -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and outputs by tensor, as TFLite's interpreter took and gave them."""
    with np.load(DATA / f"{file}.npz") as stored:
        sides = [
            {k.split(f"/{side}/")[1]: stored[k] for k in stored if k.startswith(f"{name}/{side}/")}
            for side in ("in", "out")
        ]
    return sides[0], sides[1]


def checked(model: ir.Model) -> onnx.ModelProto:
    """As protobuf, passed by onnx's full check."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def by_sardonyx(model: ir.Model, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs, every node on `cpu`."""
    session = sardonyx.InferenceSession(checked(model).SerializeToString())
    assert {place.provider for place in session.explain()} == {"cpu"}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def by_onnxruntime(model: ir.Model, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs, from an opset that onnxruntime has all kernels of. Changes the model."""
    convert_opset(model, 22)
    data = checked(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def assert_close(
    actual: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float = 1e-5, steps: int = 0
) -> None:
    """Of the same names, shapes and types; floats within `tolerance` of the largest, integers in `steps`."""
    assert set(actual) >= set(expected)
    for name, want in expected.items():
        got = actual[name]
        assert (got.shape, got.dtype) == (want.shape, want.dtype), name
        floats = want.dtype.kind == "f"
        limit = tolerance * float(np.abs(want).max(initial=1e-30)) if floats else steps
        apart = np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0)
        assert apart <= limit, (name, apart, limit)


def flatbuffer(value: Mapping[str, Any], table: str = "Model") -> bytes:
    """A file: tables as dicts by the schema's names; a union's value is (table, dict)."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, table, value), b"TFL3")
    return bytes(builder.Output())


def _table(builder: Any, name: str, value: Mapping[str, Any]) -> int:
    fields = TABLES[name]
    children = {
        key: _child(builder, fields[key].kind, item) for key, item in value.items() if fields[key].kind not in _FLAGS
    }
    builder.StartObject(len(fields))
    for key, item in value.items():
        field = fields[key]
        if key in children:
            builder.PrependUOffsetTRelativeSlot(field.slot, children[key], 0)
        else:
            builder.PrependSlot(_FLAGS[field.kind], field.slot, item, None)
    return int(builder.EndObject())


def _child(builder: Any, kind: str, item: Any) -> int:
    if kind == "union":
        return _table(builder, *item)
    if kind == "str":
        return int(builder.CreateString(item))
    if not kind.startswith("["):
        return _table(builder, kind, item)
    inner = kind[1:-1]
    if inner in _FLAGS:
        dtype = {"f32": "<f4"}.get(inner) or (inner if inner == "bool" else f"<{inner[0]}{int(inner[1:]) // 8}")
        array = np.asarray(item, dtype)
        return int(builder.CreateNumpyVector(array)) if array.size else _empty(builder)
    places = [_table(builder, inner, each) for each in item]
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())


def _empty(builder: Any) -> int:
    builder.StartVector(4, 0, 4)
    return int(builder.EndVector())


def tensor(
    kind: str, *shape: int, buffer: int = 0, scale: Sequence[float] = (), zero: Sequence[int] = (), **more: Any
) -> dict[str, Any]:
    """A tensor, which gets its name from `model`."""
    made: dict[str, Any] = {"shape": list(shape), "type": TYPES.index(kind), "buffer": buffer, "has_rank": True, **more}
    if scale:
        made["quantization"] = {"scale": list(scale), "zero_point": list(zero)}
    return made


def operator(
    name: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", custom: bytes = b"", **fields: Any
) -> dict[str, Any]:
    """An operator; `options` is its table of options without `Options`."""
    made: dict[str, Any] = {"name": name, "inputs": list(inputs), "outputs": list(outputs)}
    if options:
        made |= {"builtin_options_type": OPTIONS.index(options), "builtin_options": (f"{options}Options", fields)}
    if custom:
        made["custom_options"] = list(custom)
    return made


def model(
    tensors: Mapping[str, Mapping[str, Any]], operators: Sequence[Mapping[str, Any]],
    inputs: Sequence[int], outputs: Sequence[int],
    buffers: Sequence[Array] = (), **more: Any,
) -> bytes:  # fmt: skip
    """A file of one graph. Buffer 0 is the empty one; `buffers` follow."""
    names = [op["name"] for op in operators]
    codes = []
    for name in names:
        code = OPERATORS.index(name) if name in OPERATORS else OPERATORS.index("CUSTOM")
        custom = {} if name in OPERATORS else {"custom_code": name}
        codes.append({"deprecated_builtin_code": min(code, 127), "builtin_code": code, **custom})
    graph = {
        "name": "main",
        "tensors": [{**item, "name": name} for name, item in tensors.items()],
        "operators": [
            {**{k: v for k, v in op.items() if k != "name"}, "opcode_index": i} for i, op in enumerate(operators)
        ],
        "inputs": list(inputs),
        "outputs": list(outputs),
    }
    stored = [{}, *({"data": np.frombuffer(array.tobytes(), np.uint8)} for array in buffers)]
    return flatbuffer({"version": 3, "operator_codes": codes, "subgraphs": [graph], "buffers": stored, **more})
