"""Strides against NumPy's own."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.layout import collapse, dense_like, reshape_view, uniform_stride
from sardonyx.compiler.program import Buffer, BufferKind, View, channels_last, row_major

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def view_of(array: np.ndarray) -> View:
    strides = tuple(s // array.itemsize for s in array.strides)
    return View(Buffer(0, BufferKind.ARENA, 1 << 20), DType.F32, array.shape, strides)


def addresses(view: View) -> np.ndarray:
    """Offset of every element, in row-major order."""
    grid = np.indices(view.dims).reshape(len(view.dims), -1)
    return view.offset + np.array(view.strides) @ grid


@given(shapes, st.randoms(use_true_random=False), st.data())
@settings(max_examples=200, deadline=None)
def test_reshape_keeps_the_elements(dims, random, data) -> None:
    order = list(range(len(dims)))
    random.shuffle(order)
    view = view_of(np.zeros(dims, np.float32).transpose(order))
    factors = [f for d in view.dims for f in ((2, 2) if d == 4 else (d,))]
    cut = data.draw(st.integers(0, len(factors)))
    wanted = (int(np.prod(factors[:cut])), 1, int(np.prod(factors[cut:])))
    reshaped = reshape_view(view, wanted)
    if reshaped is not None:
        assert reshaped.dims == wanted
        np.testing.assert_array_equal(addresses(reshaped), addresses(view))
    else:
        assert not view.is_row_major


@given(shapes, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_collapse_visits_the_same_pairs(dims, random) -> None:
    order = list(range(len(dims)))
    random.shuffle(order)
    a = row_major(dims)
    b = tuple(s // 4 for s in np.zeros([dims[i] for i in order], np.float32).transpose(np.argsort(order)).strides)
    nest = collapse(dims, [a, b])
    grid = np.indices(nest.sizes).reshape(len(nest.sizes), -1) if nest.sizes else np.zeros((0, 1), int)
    walked = {tuple(int(np.dot(s, g)) for s in nest.strides) for g in grid.T}
    full = np.indices(dims).reshape(len(dims), -1)
    assert walked == {(int(np.dot(a, g)), int(np.dot(b, g))) for g in full.T}


def test_uniform_stride() -> None:
    assert uniform_stride((2, 3), (3, 1)) == 1
    assert uniform_stride((2, 3), (12, 4)) == 4
    assert uniform_stride((2, 3), (4, 1)) is None
    assert uniform_stride((2, 3), (0, 0)) == 0
    assert uniform_stride((1, 1), (7, 9)) == 0


def test_dense_like_keeps_channels_last() -> None:
    dims = (2, 5, 3, 4)
    padded = tuple(s * 2 for s in channels_last(dims))
    assert dense_like(dims, padded) == channels_last(dims)
