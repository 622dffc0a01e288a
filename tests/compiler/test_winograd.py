"""Winograd convolution: chosen where it pays, and as exact as promised."""

import dataclasses
from math import prod

import numpy as np
import onnx_ir as ir
import pytest

import sardonyx
from sardonyx.compiler.dtypes import DType
from sardonyx.compiler.jit import host_target
from sardonyx.compiler.kernels.winograd import transforms
from sardonyx.ops.winograd import Geometry, WinogradPlan, _Model
from sardonyx.providers.base import CompileOptions
from sardonyx.providers.cpu import CPUProvider
from tests.suites.case import Case, floats, node

LIMIT = {2: 1.5e-6, 4: 4e-6}
"""Relative L2 error of a layer, by outputs of a tile."""


def case(
    batch: int, channels: int, filters: int, size: tuple[int, ...], pads: list[int], extra=(), **attributes
) -> Case:
    """A convolution of [batch, channels, *size] with 3x3 filters, `depth` deep (an attribute) for three sizes."""
    window = (attributes.pop("depth", 3), 3, 3)[-len(size) :]
    scale = np.float32(np.sqrt(channels * prod(window)))
    weights = {"w": floats(filters, channels, *window) / scale, "b": floats(filters)}
    nodes = [node("Conv", "x w b", "c", pads=pads, **attributes), *(extra or [node("Relu", "c")])]
    return Case("winograd", nodes, {"x": floats(batch, channels, *size)}, weights)


def plans(monkeypatch, outputs: int, tile_block: int, depth_block: int, panel_block: int, tile=(3, 1)) -> None:
    """Let every convolution that Winograd's algorithm can do be cut like this."""

    def candidates(model: _Model, geometry: Geometry) -> list[WinogradPlan]:
        return [WinogradPlan(geometry, outputs, *tile, tile_block, depth_block, panel_block)]

    monkeypatch.setattr(_Model, "candidates", candidates)
    monkeypatch.setattr(_Model, "cycles", lambda model, plan: 0.0)


def kernels(model: Case) -> list[str]:
    program = CPUProvider().compile(ir.from_proto(model.model()), CompileOptions(threads=2)).program()
    return [step.kernel.name for step in program.steps]


def convolved(model: Case) -> np.ndarray:
    """The convolution in float64."""
    w, given = model.weights["w"].astype(np.float64), {a.name: list(a.ints) for a in model.nodes[0].attribute}
    rank = w.ndim - 2
    pads = list(zip(given["pads"][:rank], given["pads"][rank:], strict=True))
    x = np.pad(model.feeds["x"].astype(np.float64), [(0, 0), (0, 0), *pads])
    strides, dilations = given.get("strides", [1] * rank), given.get("dilations", [1] * rank)
    reach = [(taps - 1) * dilation + 1 for taps, dilation in zip(w.shape[2:], dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(2, 2 + rank)))
    steps = tuple(slice(None, None, step) for step in (*strides, *dilations))
    windows = windows[(slice(None), slice(None), *steps)]
    axes = [1, *range(2 + rank, 2 + 2 * rank)]
    y = np.moveaxis(np.tensordot(windows, w, (axes, [1, *range(2, 2 + rank)])), -1, 1)
    return y + model.weights["b"].astype(np.float64).reshape(-1, *[1] * rank)


def run(model: Case, threads: int = 2) -> np.ndarray:
    options = sardonyx.SessionOptions()
    options.intra_op_num_threads = threads
    session = sardonyx.InferenceSession(model.model().SerializeToString(), options)
    return session.run(None, dict(model.feeds))[0]


def check(got: np.ndarray, want: np.ndarray, outputs: int = 4) -> None:
    assert got.shape == want.shape
    assert np.linalg.norm(got - want) <= LIMIT[outputs] * np.linalg.norm(want)
    assert np.abs(got - want).max() <= 8 * LIMIT[outputs] * np.abs(want).max()


SHAPES = [
    (1, 64, 64, (28, 28), [1, 1, 1, 1]),
    (2, 33, 47, (17, 22), [1, 1, 1, 1]),
    (1, 40, 130, (13, 40), [0, 0, 0, 0]),
    (1, 64, 48, (20, 21), [0, 2, 1, 0]),
    (3, 32, 32, (9, 9), [2, 2, 2, 2]),
    (1, 64, 64, (6, 20, 20), [1, 1, 1, 1, 1, 1]),
    (2, 32, 40, (5, 15, 13), [0, 1, 1, 1, 0, 2]),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_against_float64(shape, threads) -> None:
    model = case(*shape)
    assert "winograd" in kernels(model)
    check(run(model, threads), np.maximum(convolved(model), 0))


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("tile_block", [1, 4, 100])
@pytest.mark.parametrize("panel_block", [1, 2, 100])
def test_any_cut_computes_the_same(monkeypatch, outputs, tile_block, panel_block) -> None:
    """Tiles, depths and panels of a block, at an image no multiple of any of them."""
    lanes = host_target().lanes(DType.F32)
    for depth, depth_block in ((1, 1), (3, 1), (3, 2), (2, 100)):
        plans(monkeypatch, outputs, tile_block, depth_block, panel_block)
        model = case(2, 2 * lanes + 3, 5 * lanes - 2, (5, 7, 6), [1, 1, 1, 0, 0, 1], depth=depth)
        assert "winograd" in kernels(model)
        check(run(model), np.maximum(convolved(model), 0), outputs)


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (2, 5)], ids=str)
def test_images_smaller_than_a_tile(monkeypatch, outputs, size) -> None:
    plans(monkeypatch, outputs, 3, 1, 2)
    model = case(2, 64, 64, size, [1, 2, 1, 1])
    check(run(model), np.maximum(convolved(model), 0), outputs)


@pytest.mark.parametrize("given", [{"strides": [2, 1, 1]}, {"dilations": [3, 1, 1]}, {"strides": [3, 1, 1]}], ids=str)
def test_depths_apart(monkeypatch, given) -> None:
    """Strides and dilations along the depth, where pads reach further than the volume."""
    plans(monkeypatch, 4, 5, 1, 2)
    model = case(2, 64, 32, (7, 9, 8), [4, 1, 1, 7, 1, 1], **given)
    assert "winograd" in kernels(model)
    check(run(model), np.maximum(convolved(model), 0))


@pytest.mark.parametrize("size", [(18, 15), (4, 10, 9)], ids=str)
def test_residual_epilogue(size) -> None:
    extra = [node("Add", "c r", "s"), node("Relu", "s", "t"), node("Mul", "t q")]
    model = case(1, 64, 40, size, [1] * 2 * len(size), extra)
    others = {"r": floats(1, 40, *[1] * len(size)), "q": floats(1, 40, *size)}
    model = Case(model.name, model.nodes, {**model.feeds, **others}, model.weights)
    assert kernels(model).count("winograd") == 1
    check(run(model), np.maximum(convolved(model) + others["r"], 0) * others["q"])


def test_results_of_another_type(monkeypatch) -> None:
    """Results beside the image go to spare memory, whose place must not depend on their type."""
    plans(monkeypatch, 4, 5, 1, 2)
    model = case(1, 64, 64, (5, 5), [1] * 4, [node("Cast", "c", to=11)])
    assert "winograd" in kernels(model)
    got = run(model)
    assert got.dtype == np.float64
    check(got, convolved(model))


@pytest.mark.parametrize("size", [(9, 14), (3, 6, 7)], ids=str)
def test_slices_of_a_wider_result(monkeypatch, size) -> None:
    """Two results share the rows of one; that which is made later comes first, so channels past its end would show."""
    plans(monkeypatch, 4, 4, 2 if len(size) == 3 else 1, 3)
    first = case(2, 64, 43, size, [1] * 2 * len(size), [node("Conv", "x v b", "d", pads=[1] * 2 * len(size))])
    second = Case("second", first.nodes[1:], first.feeds, {**first.weights, "w": -first.weights["w"][::-1]})
    nodes, weights = [*first.nodes, node("Concat", "d c", axis=1)], {**first.weights, "v": second.weights["w"]}
    model = Case("slices", nodes, first.feeds, weights)
    program = CPUProvider().compile(ir.from_proto(model.model()), CompileOptions(threads=2)).program()
    results = [step.arguments[step.writes[0]] for step in program.steps if step.kernel.name == "winograd"]
    assert [view.strides[-1] for view in results] == [86, 86]
    check(run(model), np.concatenate([convolved(second), convolved(first)], axis=1))


@pytest.mark.parametrize(
    "shape",
    [(1, 3, 64, (32, 32), [1] * 4), (1, 64, 3, (32, 32), [1] * 4)],
    ids=["few-channels", "few-filters"],
)
def test_direct_where_that_is_faster(shape) -> None:
    assert "winograd" not in kernels(case(*shape))


@pytest.mark.parametrize(
    "given",
    [{"strides": [2, 2]}, {"strides": [1, 2]}, {"dilations": [2, 2]}, {"strides": [1, 1, 2]}, {"dilations": [1, 2, 1]}],
    ids=str,
)
def test_direct_where_planes_are_strided_or_dilated(given) -> None:
    size = (6, 24, 24)[-len(next(iter(given.values()))) :]
    assert "winograd" not in kernels(case(1, 64, 64, size, [1] * 2 * len(size), **given))


def test_late_layers_take_smaller_tiles() -> None:
    """Where weights are read for few pixels, F(2x2) reads less than half as many as F(4x4)."""
    target = dataclasses.replace(
        host_target(), vector_bytes=32, vector_registers=16, l2_bytes=1 << 19, l3_bytes=1 << 25
    )

    def chosen(channels: int, size: int) -> WinogradPlan | None:
        whole, strides = (1, size, size), (channels * size**2, 0, channels * size, channels)
        layer = Geometry(1, channels, channels, 1, 1, 1, 0, whole, whole, (1, 1), strides, channels)
        model = _Model(target, 2)
        return min((None, *model.candidates(layer)), key=lambda plan: model.cost(layer, plan))

    early, late = chosen(64, 56), chosen(512, 7)
    assert early is not None
    assert late is not None
    assert (early.outputs, late.outputs) == (4, 2)
    # Two threads share the weights of the late layer, and each reads its half once for all tiles.
    panels = -(-512 // (late.vectors * 8))
    assert (late.tile_block, late.panel_block) == (16, -(-panels // 2))
    # Fewer still, and reading even those weights takes longer than direct convolution.
    assert chosen(512, 4) is None


def test_exact_rules_it_out(monkeypatch) -> None:
    model = case(*SHAPES[0])
    monkeypatch.setenv("SARDONYX_ACCURACY", "exact")
    assert "winograd" not in kernels(model)
    want = np.maximum(convolved(model), 0)
    assert np.linalg.norm(run(model) - want) < 5e-7 * np.linalg.norm(want)


@pytest.mark.parametrize("outputs", [2, 4])
def test_matrices_are_an_exact_algorithm(outputs: int) -> None:
    """A [(G g) * (B d)] is the valid correlation of d with g, for every d and g; A and B are exact in float32."""
    d, g = np.random.default_rng(0).standard_normal((2, outputs + 2))
    matrices = transforms(outputs)
    a, b, w = (np.array(m) for m in (matrices.a, matrices.b, matrices.g))
    np.testing.assert_allclose(a @ ((w @ g[:3]) * (b @ d)), np.correlate(d, g[:3], "valid"), rtol=1e-12)
    for matrix in (a, b):
        assert (matrix == matrix.astype(np.float32)).all()
