"""What selection and padding promise where onnxruntime differs, says nothing, or has no such form."""

import numpy as np
import pytest

import sardonyx
from sardonyx.compiler.kernels.select import SortRows, TopK
from sardonyx.providers.base import CompileOptions
from sardonyx.providers.cpu import CPUProvider
from tests.suites.case import Array, Case, floats, node


def run(case: Case) -> Array:
    session = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"])
    assert {placement.provider for placement in session.explain()} <= {"cpu"}
    (y,) = session.run(None, dict(case.feeds))
    return np.asarray(y)


def top(x: Array, count: int, largest: int = 1) -> Array:
    """Indices of the largest or smallest elements of rows."""
    nodes = [node("TopK", "x k", "v y", largest=largest)]
    return run(Case("top", nodes, {"x": x}, {"k": np.array([count])}))


@pytest.mark.parametrize("count", [1, 5, 40])
@pytest.mark.parametrize("largest", [0, 1])
def test_nan_is_the_largest(count: int, largest: int) -> None:
    x = floats(3, 40)
    x[:, [3, 17]] = np.nan
    x[:, 5], x[:, 6] = np.inf, -np.inf
    order = np.argsort(x, axis=1, kind="stable")  # NaN last
    if largest:
        order = x.shape[1] - 1 - np.argsort(x[:, ::-1], axis=1, kind="stable")[:, ::-1]
    np.testing.assert_array_equal(top(x, count, largest), order[:, :count])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "uint64", "int64", "float64"])
@pytest.mark.parametrize("count", [3, 500])
def test_every_kind_of_number(dtype: str, count: int) -> None:
    """From one end of its range to the other, with ties."""
    kind = np.dtype(dtype)
    raw = np.random.default_rng(5).integers(0, 256, (2, 700, kind.itemsize), np.uint8)
    raw[:, 300:310] = raw[:, 20:30]
    x = raw.view(kind).reshape(2, 700)
    if kind.kind == "f":
        x = np.nan_to_num(x)
    for largest in (0, 1):
        keys = x.astype(object) if kind.kind != "f" else x
        order = [
            sorted(range(700), key=lambda i, row=row: (-row[i] if largest else row[i], i)) for row in keys.tolist()
        ]
        np.testing.assert_array_equal(top(x, count, largest), np.array(order)[:, :count])


def test_both_algorithms_are_used() -> None:
    """A heap for a few of many, sorting for many."""

    def kernels(length: int, count: int) -> set[type]:
        import onnx_ir as ir

        case = Case("top", [node("TopK", "x k", "v y")], {"x": floats(1, length)}, {"k": np.array([count])})
        program = CPUProvider().compile(ir.from_proto(case.model()), CompileOptions()).program()
        return {type(step.kernel) for step in program.steps}

    assert kernels(1000, 5) == {TopK}
    assert kernels(1000, 1000) == {SortRows}


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("last", [0, 1])
def test_nan_is_the_extreme(op: str, axis: int, last: int) -> None:
    """As in NumPy; of several NaN the first, or the last when that is asked for."""
    x = floats(50, 45)
    x[7, 9] = x[7, 31] = x[40, 9] = np.nan
    flipped = np.flip(x, axis) if last else x
    want = {"ArgMax": np.argmax, "ArgMin": np.argmin}[op](flipped, axis)
    want = x.shape[axis] - 1 - want if last else want
    nodes = [node(op, "x", axis=axis, keepdims=0, select_last_index=last)]
    np.testing.assert_array_equal(run(Case("extreme", nodes, {"x": x})), want)


def test_places_of_nan_in_pools() -> None:
    x = floats(1, 20, 6, 6)
    x[0, :, 2, 3] = x[0, :, 3, 3] = np.nan
    values, places = (
        run(Case("pool", [node("MaxPool", "x", outputs, kernel_shape=[3, 3], strides=[3, 3])], {"x": x}))
        for outputs in ("y i", "v y")
    )
    np.testing.assert_array_equal(np.isnan(values[0, :, 0, 1]), True)
    np.testing.assert_array_equal(places[0, :, 0, 1], np.arange(20) * 36 + 15)
    np.testing.assert_array_equal(x.reshape(-1)[places], values)


@pytest.mark.parametrize("mode", ["reflect", "wrap", "edge"])
@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("pads", [(0, 9), (9, 0), (1, 1), (23, 31)])
def test_pads_longer_than_what_they_repeat(mode: str, length: int, pads: tuple[int, int]) -> None:
    """As in NumPy; onnxruntime reflects once only."""
    x = floats(2, length)
    p = np.array([0, pads[0], 0, pads[1]])
    got = run(Case("pad", [node("Pad", "x p", mode=mode)], {"x": x}, {"p": p}))
    np.testing.assert_array_equal(got, np.pad(x, ((0, 0), pads), mode=mode))


def test_long_pads_take_few_steps() -> None:
    import onnx_ir as ir

    x, p = {"x": floats(1, 2)}, {"p": np.array([0, 0, 0, 100_000])}
    model = ir.from_proto(Case("pad", [node("Pad", "x p", mode="reflect")], x, p).model())
    assert len(CPUProvider().compile(model, CompileOptions()).program().steps) < 25


def test_padding_keeps_images_channels_last() -> None:
    import onnx_ir as ir

    nodes = [node("Conv", "x k", "c"), node("Pad", "c p", "d", mode="reflect"), node("Conv", "d k")]
    weights = {"k": floats(16, 16, 1, 1), "p": np.array([0, 0, 2, 2, 0, 0, 2, 2])}
    program = (
        CPUProvider()
        .compile(ir.from_proto(Case("pad", nodes, {"x": floats(1, 16, 8, 8)}, weights).model()), CompileOptions())
        .program()
    )
    labels = [step.label for step in program.steps if step.kernel.name in ("elementwise", "turn")]
    assert [label for label in labels if not label.startswith("Pad")] == ["copy", "output y"]
    assert len(labels) == 2 + 5
