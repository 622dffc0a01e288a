"""Winograd convolution: chosen where it pays, and as exact as promised."""

import numpy as np
import onnx_ir as ir
import pytest

import sardonyx
from sardonyx.compiler.kernels.winograd import _A, _B, _G
from sardonyx.providers.base import CompileOptions
from sardonyx.providers.cpu import CPUProvider
from tests.suites.operators import Case, floats, node


def case(batch: int, channels: int, filters: int, height: int, width: int, pads: list[int], extra=()) -> Case:
    weights = {"w": floats(filters, channels, 3, 3) / np.float32(3 * np.sqrt(channels)), "b": floats(filters)}
    nodes = [node("Conv", "x w b", "c", pads=pads), *(extra or [node("Relu", "c")])]
    return Case("winograd", nodes, {"x": floats(batch, channels, height, width)}, weights)


def kernels(model: Case) -> list[str]:
    program = CPUProvider().compile(ir.from_proto(model.model()), CompileOptions(threads=2)).program()
    return [step.kernel.name for step in program.steps]


def convolved(model: Case) -> np.ndarray:
    """The convolution in float64."""
    pads = model.nodes[0].attribute[0].ints
    x = np.pad(model.feeds["x"].astype(np.float64), ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows, model.weights["w"].astype(np.float64), optimize=True)
    return y + model.weights["b"].astype(np.float64)[:, None, None]


def run(model: Case, threads: int = 2) -> np.ndarray:
    options = sardonyx.SessionOptions()
    options.intra_op_num_threads = threads
    session = sardonyx.InferenceSession(model.model().SerializeToString(), options)
    return session.run(None, dict(model.feeds))[0]


SHAPES = [
    (1, 64, 64, 28, 28, [1, 1, 1, 1]),
    (2, 33, 47, 17, 22, [1, 1, 1, 1]),
    (1, 40, 130, 13, 40, [0, 0, 0, 0]),
    (1, 64, 48, 20, 21, [0, 2, 1, 0]),
    (3, 32, 32, 9, 9, [2, 2, 2, 2]),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_against_float64(shape, threads) -> None:
    model = case(*shape)
    assert "winograd" in kernels(model)
    want = np.maximum(convolved(model), 0)
    got = run(model, threads)
    assert got.shape == want.shape
    assert np.linalg.norm(got - want) < 4e-6 * np.linalg.norm(want)
    assert np.abs(got - want).max() < 3e-5 * np.abs(want).max()


def test_residual_epilogue() -> None:
    extra = [node("Add", "c r", "s"), node("Relu", "s")]
    model = case(1, 32, 40, 18, 15, [1, 1, 1, 1], extra)
    model = Case(model.name, model.nodes, {**model.feeds, "r": floats(1, 40, 1, 1)}, model.weights)
    assert kernels(model).count("winograd") == 1
    assert "implicitgemm" not in kernels(model)
    want = np.maximum(convolved(model) + model.feeds["r"], 0)
    assert np.linalg.norm(run(model) - want) < 4e-6 * np.linalg.norm(want)


@pytest.mark.parametrize(
    "shape",
    [(1, 3, 64, 32, 32, [1] * 4), (1, 64, 8, 32, 32, [1] * 4), (1, 512, 512, 4, 4, [1] * 4)],
    ids=["few-channels", "few-filters", "few-tiles-of-large-weights"],
)
def test_direct_where_that_is_faster(shape) -> None:
    assert "winograd" not in kernels(case(*shape))


def test_exact_rules_it_out(monkeypatch) -> None:
    model = case(*SHAPES[0])
    monkeypatch.setenv("SARDONYX_ACCURACY", "exact")
    assert "winograd" not in kernels(model)
    want = np.maximum(convolved(model), 0)
    assert np.linalg.norm(run(model) - want) < 5e-7 * np.linalg.norm(want)


def test_matrices_are_an_exact_algorithm() -> None:
    """A' [(G g) * (B' d)] is the valid correlation of d with g, for every d and g."""
    d, g = np.random.default_rng(0).standard_normal((2, 6))
    a, b, w = (np.array(m, float) for m in (_A, _B, _G))
    got = a @ ((w @ g[:3]) * (b @ d))
    np.testing.assert_allclose(got, np.correlate(d, g[:3], "valid"), rtol=1e-12)
