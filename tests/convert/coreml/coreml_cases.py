"""Recorded CoreML models (`scripts/record_coreml.py`) and what runs them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

import sardonyx
from sardonyx.convert import coreml
from sardonyx.convert.base import Options, Source

DATA = Path(__file__).parent.parent / "data" / "coreml"
NAMES = sorted(path.stem for path in DATA.glob("*.ml*"))


def path_of(name):
    return next(path for path in DATA.glob(f"{name}.ml*"))


@cache
def converted(name):
    return coreml.read(Source(path_of(name)), Options())


def recorded(name):
    """Inputs and outputs by name; a quantised network's are those of the network before."""
    key = "legacy" if name.startswith("legacy") else name
    found = {"in": {}, "out": {}}
    with np.load(DATA / "recorded.npz") as stored:
        for entry in stored.files:
            model, kind, tensor = entry.split("/")
            if model == key:
                found[kind][tensor] = stored[entry]
    return found["in"], found["out"]


def checked(model):
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def by_onnxruntime(model, feeds):
    session = onnxruntime.InferenceSession(checked(model), providers=["CPUExecutionProvider"])
    return dict(zip([item.name for item in session.get_outputs()], session.run(None, feeds), strict=True))


def by_sardonyx(model, feeds):
    session = sardonyx.InferenceSession(checked(model))
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True)), session


def assert_same(got, wanted, tolerance=1e-5):
    """Labels exactly, numbers within `tolerance` of the largest."""
    wanted = np.asarray(wanted)
    if wanted.dtype.kind in "OUi":
        assert [str(value) for value in np.ravel(got)] == [str(value) for value in wanted.ravel()]
        return
    assert np.size(got) == wanted.size
    np.testing.assert_allclose(np.reshape(got, wanted.shape), wanted, rtol=0, atol=tolerance * np.abs(wanted).max())
