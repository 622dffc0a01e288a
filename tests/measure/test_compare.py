import math

import numpy as np
import pytest

from sardonyx.errors import InvalidInputError
from sardonyx.measure.compare import difference

ONE = np.array([3.0, 4.0], np.float32)


@pytest.mark.parametrize(
    ("output", "reference", "max_abs", "rel_l2"),
    [
        (ONE, ONE, 0, 0),
        (ONE + np.float32(0.5), ONE, 0.5, math.sqrt(0.5) / 5),
        (ONE, np.zeros(2, np.float32), 4, 5),  # the plain norm where the reference is zero
        (np.array([np.nan, 1]), np.array([np.nan, 1]), 0, 0),
        (np.array([np.inf, 1]), np.array([np.inf, 1]), 0, 0),
        (np.array([np.nan, 1]), np.array([2.0, 1]), math.inf, math.inf),
        (np.array([2.0, 1]), np.array([np.nan, 1]), math.inf, math.inf),
        (np.array([np.inf]), np.array([-np.inf]), math.inf, math.inf),
        (np.array([True, False]), np.array([True, True]), 1, 1 / math.sqrt(2)),
        (np.array([0], np.uint8), np.array([255], np.uint8), 255, 1),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), 1, 0.5),
        (np.empty((0, 3), np.float32), np.empty((0, 3), np.float32), 0, 0),
        (np.array([3 + 4j]), np.array([0j]), 5, 5),
    ],
)
def test_difference(output, reference, max_abs, rel_l2):
    found = difference([output], [reference])
    assert found.max_abs == pytest.approx(max_abs)
    assert found.rel_l2 == pytest.approx(rel_l2)


def test_the_worst_output_counts():
    assert difference([ONE, ONE + 2], [ONE, ONE]).max_abs == 2


def test_unlike_outputs_are_an_error():
    with pytest.raises(InvalidInputError, match="shapes differ"):
        difference([ONE], [ONE[:1]])
    with pytest.raises(InvalidInputError, match="numbers of outputs"):
        difference([ONE], [ONE, ONE])
