"""Recorded TensorFlow models (`scripts/record_tensorflow.py`) and the means to check and break them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

import sardonyx
from sardonyx.convert import tensorflow
from sardonyx.convert.base import Converted, Options, Source

DATA = Path(__file__).parent / "data" / "tensorflow"

Array = np.ndarray[Any, Any]

FROZEN = {
    "arithmetic": 1e-5, "products": 1e-5, "shapes": 0.0, "windows": 1e-5, "windows_3d": 1e-5, "open_sizes": 1e-5,
    "pictures": 1e-5, "boxes": 1e-5,
}  # fmt: skip
"""Files of many outputs, each named after what it tests, and how far off these may be."""
OTHERS = ("conditions", "checkpoint", "saved_v1", "module", "keras_cnn", "keras_rnn")


def path_of(name: str) -> Path:
    return DATA / (f"{name}.pb" if (DATA / f"{name}.pb").exists() else name)


def recorded(name: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """The inputs and the outputs, as TensorFlow computed them."""
    with np.load(DATA / "recorded.npz") as stored:
        found: dict[str, dict[str, Array]] = {"in": {}, "out": {}}
        for key in stored.files:
            case, kind, value = key.split("|")
            if case == name:
                found[kind][value] = stored[key]
    return found["in"], found["out"]


def read(path: Path, **options: Any) -> Converted:
    """The path, which must be recognised."""
    source = Source(path=path)
    assert tensorflow.recognises(source)
    return tensorflow.read(source, Options(**options))


def read_case(name: str) -> Converted:
    outputs = recorded(name)[1]
    named = name in (*FROZEN, "conditions", "checkpoint")
    return read(path_of(name), outputs=tuple(outputs) if named else (), signature={"module": "main"}.get(name))


def proto(model: ir.Model) -> onnx.ModelProto:
    """The model as protobuf, fully checked by onnx: shapes that we declare must be those it infers."""
    checked = ir.to_proto(model)
    onnx.checker.check_model(checked, full_check=True)
    return checked


def run(model: ir.Model, inputs: dict[str, Array]) -> dict[str, Array]:
    """The outputs by onnxruntime."""
    session = onnxruntime.InferenceSession(proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return _run(session, inputs)


def run_here(model: ir.Model, inputs: dict[str, Array]) -> tuple[dict[str, Array], set[str]]:
    """The outputs by Sardonyx, and the providers of all nodes."""
    session = sardonyx.InferenceSession(proto(model).SerializeToString())
    found = _run(session, inputs)
    return found, {placement.provider for placement in session.explain()}


def _run(session: Any, inputs: dict[str, Array]) -> dict[str, Array]:
    names = [value.name for value in session.get_outputs()]
    taken = {value.name: inputs[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(None, taken), strict=True))


def differences(got: dict[str, Array], want: dict[str, Array], tolerance: float, exact_types: bool = True) -> list[str]:
    """What differs: in names, shapes, types, or by more than `tolerance` of each output's largest element."""
    if set(got) < set(want):
        return [f"lacks {sorted(set(want) - set(got))}"]
    found = []
    for name, expected in want.items():
        actual = np.asarray(got[name])
        if actual.shape != expected.shape:
            found.append(f"{name}: {actual.shape} instead of {expected.shape}")
        elif exact_types and actual.dtype != expected.dtype:
            found.append(f"{name}: {actual.dtype} instead of {expected.dtype}")
        elif expected.dtype.kind in "biu":
            if not np.array_equal(actual, expected):
                found.append(f"{name}: other integers")
        elif (error := _error(actual, expected)) > tolerance:
            found.append(f"{name}: off by {error:.2g}")
    return found


def _error(actual: Array, expected: Array) -> float:
    finite = np.isfinite(expected)
    if not np.array_equal(np.nan_to_num(actual[~finite]), np.nan_to_num(expected[~finite])):
        return float("inf")
    if not finite.any():
        return 0.0
    off = np.abs(actual[finite].astype(np.float64) - expected[finite]).max()
    scale = np.abs(expected[finite]).max()
    return float(off / scale) if scale else float(off)
