"""Classical models as their converters write them: the answers of onnxruntime and of the estimators themselves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import sardonyx
from tests.session.classical_models import MODELS, fitted

onnxruntime = pytest.importorskip("onnxruntime")
for package in ("sklearn", "skl2onnx", "onnxmltools", "pandas", "xgboost", "lightgbm", "catboost"):
    pytest.importorskip(package, reason="the extra `classical`")


def _as_matrix(value):
    """Dictionaries by label as rows, in the order of the labels."""
    if isinstance(value, list):
        return np.array([[row[key] for key in sorted(row)] for row in value], np.float32)
    return np.asarray(value)


def _agree(ours, theirs, rtol=1e-5, atol=2e-6):
    """Labels exactly; numbers to a few roundings in float32."""
    if ours.dtype.kind in "OUSib":
        assert ours.reshape(-1).tolist() == theirs.reshape(-1).tolist()
    else:
        scale = max(1.0, float(np.nanmax(np.abs(theirs), initial=0)))
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=rtol, atol=atol * scale)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.name.split(' {')[0]}-{model.data}")
def test_same_answers(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = fitted(model)
    session = sardonyx.InferenceSession(made.onnx)
    outputs = session.run(None, made.feed)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    peer = onnxruntime.InferenceSession(made.onnx, options, providers=["CPUExecutionProvider"])
    for name, ours, theirs in zip(peer.get_outputs(), outputs, peer.run(None, made.feed), strict=True):
        assert isinstance(ours, list) == isinstance(theirs, list), name.name
        if isinstance(theirs, list):
            assert [list(row) for row in ours] == [list(row) for row in theirs]
        _agree(_as_matrix(ours), _as_matrix(theirs))
    for ours, own in zip(outputs, made.expected, strict=False):
        found, wanted = _as_matrix(ours), np.asarray(own)
        if wanted.dtype.kind == "f" and found.dtype.kind != "f":
            continue
        _agree(found, wanted.astype(found.dtype) if found.dtype.kind in "fi" else wanted.astype(object), 1e-4, 1e-5)
