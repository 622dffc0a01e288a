"""Floats to integers: truncated, saturated beyond the type's range, NaN as 0, as vectors and in tails."""

import numpy as np
import pytest
from onnx import helper

import sardonyx
from tests.suites.case import Case, node

EDGES = (0, 1.5, -1.5, -0.9, 127.9, 128, 255.9, 256, -128.9, -129, 32767.9, 32768, -32768.5, -32769, 65535.9, 65536)
EDGES += (4294967040, 4294967295, 4294967296, 9.2e18, 2.0**63, -(2.0**63), -9.3e18, 1.8e19, 2.0**64, 123456789012)
EDGES += (2147483520, 2147483648, -2147483648, -2147483904, 3e9, -3e9, 1e30, -1e30, np.inf, -np.inf, np.nan, -0.0)


@pytest.mark.parametrize("source", [np.float32, np.float64])
@pytest.mark.parametrize("target", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_edges(source: type, target: type) -> None:
    x = np.tile(np.array(EDGES, source), 5)[1:]
    case = Case("cast", [node("Cast", "x", to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))], {"x": x})
    (got,) = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"]).run(None, {"x": x})
    limits = np.iinfo(target)
    wide = np.nan_to_num(x.astype(np.float64), nan=0, posinf=1e300, neginf=-1e300)
    want = [min(max(int(value), int(limits.min)), int(limits.max)) for value in wide]
    np.testing.assert_array_equal(got, np.array(want, target))
