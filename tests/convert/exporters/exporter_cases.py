"""Checks that all wrapped exporters' results are held to."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

import sardonyx
from sardonyx.convert.base import Converted

Array = np.ndarray[Any, Any]


def proto(model: ir.Model) -> onnx.ModelProto:
    """As protobuf, fully checked."""
    made = ir.to_proto(model)
    onnx.checker.check_model(made, full_check=True)
    return made


def agrees(converted: Converted, inputs: dict[str, Array], expected: dict[str, Any], tolerance: float = 1e-5) -> float:
    """The largest relative difference of onnxruntime and of Sardonyx, all on `cpu`, from what is expected by output."""
    data = proto(converted.model).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    peer = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    own = sardonyx.InferenceSession(data)
    assert {placement.provider for placement in own.explain()} <= {"cpu"}, own.explain()
    names = [value.name for value in peer.get_outputs()]
    assert set(names) == set(expected)
    worst = 0.0
    for session in (peer, own):
        for name, got in zip(names, session.run(None, inputs), strict=True):
            worst = max(worst, _difference(np.asarray(got), np.asarray(expected[name]), tolerance))
    return worst


def _difference(got: Array, want: Array, tolerance: float) -> float:
    assert got.shape == want.shape
    if want.dtype.kind in "OUSibu":
        assert got.reshape(-1).tolist() == want.reshape(-1).tolist()
        return 0.0
    relative = float(np.linalg.norm(got.astype(np.float64) - want) / max(float(np.linalg.norm(want)), 1e-30))
    assert relative <= tolerance
    return relative


def dims(values: Any) -> dict[str, list[Any]]:
    """Shapes of inputs or outputs, by name."""
    return {value.name: [dim if isinstance(dim, int) else dim.value for dim in value.shape] for value in values}
