"""Comparing converted classical models: the result with what its library says, on onnxruntime and on ours, and what
readers do with damaged files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

import sardonyx
from sardonyx.convert.api import read
from sardonyx.convert.base import Array, Converted
from sardonyx.errors import SardonyxError

TOLERANCE = 1e-5
ROWS = 200


def sessions(model: ir.Model, *, native: bool = True) -> list[Any]:
    """Both runtimes with the model, checked in full; ours runs all of it in its own code."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    ours = sardonyx.InferenceSession(proto)
    assert not native or {place.provider for place in ours.explain()} == {"cpu"}, ours.explain()
    return [onnxruntime.InferenceSession(proto.SerializeToString()), ours]


def assert_says(model: ir.Model, inputs: Mapping[str, Array], want: Mapping[str, Any], *, native: bool = True) -> None:
    """The model's outputs are those, labels exactly."""
    for session in sessions(model, native=native):
        names = [value.name for value in session.get_outputs()]
        for name, got in zip(names, session.run(None, dict(inputs)), strict=True):
            expected = np.asarray(want[name])
            assert got.shape == expected.shape, name
            if name == "label":
                assert got.tolist() == expected.tolist()
            else:
                assert got.dtype == np.float32
                scale = float(np.abs(expected).max()) or 1.0
                np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * scale, err_msg=name)


def assert_right(source: Any, *, native: bool = True, seed: int = 0) -> Converted:
    """The source's conversion says what all its oracles say, on inputs at its thresholds."""
    converted = read(source)
    assert converted.make_inputs is not None
    inputs = converted.make_inputs(ROWS, np.random.default_rng(seed))
    oracles = [oracle for make in converted.oracles if (oracle := make()) is not None]
    assert len(oracles) == len(converted.oracles)
    for oracle in oracles:
        assert_says(converted.model, inputs, oracle.run(inputs), native=native)
    return converted


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, or with some bytes changed, left out or doubled."""
    at = int(rng.integers(0, len(data)))
    kind = int(rng.integers(0, 4))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes(rng.integers(0, 256, 1 + int(rng.integers(0, 4)), np.uint8)) + data[at + 1 :]
    width = int(rng.integers(1, 40))
    return data[:at] + (data[at + width :] if kind == 2 else data[at : at + width] + data[at:])


def assert_survives(data: bytes, path: Path, kind: str, *, count: int, seconds: float = 5.0) -> None:
    """Damaged files end in an error of ours or in a model, in time."""
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(count):
        path.write_bytes(damage(data, rng))
        start = time.perf_counter()
        try:
            read(path, kind=kind)
        except SardonyxError:
            failed += 1
        assert time.perf_counter() - start < seconds
    assert failed > count // 5
