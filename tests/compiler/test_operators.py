"""Every operator case, all nodes native, against onnxruntime."""

import numpy as np
import onnxruntime
import pytest

import sardonyx
from tests.suites.operators import CASES, Case

PROVIDERS = ("cpu",)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, provider: str) -> None:
    blob = case.model().SerializeToString()
    options = sardonyx.SessionOptions()
    options.graph_optimization_level = sardonyx.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = sardonyx.InferenceSession(blob, options, providers=[provider])
    hosted = [placement for placement in session.explain() if placement.provider != provider]
    assert not hosted
    (got,) = session.run(None, dict(case.feeds))
    (want,) = onnxruntime.InferenceSession(blob).run(None, dict(case.feeds))
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype.kind == "f":
        scale = np.nanmax(np.abs(want[np.isfinite(want)]), initial=1e-6)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6 * scale)
    else:
        np.testing.assert_array_equal(got, want)
