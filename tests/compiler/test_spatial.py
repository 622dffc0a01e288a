"""Resizing, transposed convolution and sampling: what the operator cases cannot say against onnxruntime."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import sardonyx
from sardonyx.providers.base import CompileOptions
from sardonyx.providers.cpu import CPUProvider
from tests.suites import onnx_backend
from tests.suites.case import Case, floats, node
from tests.suites.spatial import CASES

OPERATORS = {
    "AffineGrid",
    "ConvTranspose",
    "DepthToSpace",
    "GridSample",
    "Resize",
    "RoiAlign",
    "SpaceToDepth",
    "Upsample",
}


def doubles(*dims: int) -> np.ndarray:
    return floats(*dims).astype(np.float64)


def frozen(case: onnx_backend.Case) -> tuple[onnx.ModelProto, dict, list]:
    """The case with all inputs but the first as constants: onnx's own feed scales and sizes at run time."""
    feed, expected = next(iter(case.feeds))
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    first, *others = list(model.graph.input)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(feed[v.name]), v.name) for v in others)
    del model.graph.input[:]
    model.graph.input.append(first)
    return model, {first.name: feed[first.name]}, expected


def test_onnx_cases_are_native() -> None:
    count = 0
    for case in onnx_backend.cases().values():
        if case.kind == "node" and len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type in OPERATORS:
            model, feed, expected = frozen(case)
            session = sardonyx.InferenceSession(model, providers=["cpu"])
            assert all(placement.provider == "cpu" for placement in session.explain()), case.name
            onnx_backend.assert_same(case, session.run(None, feed), expected)
            count += 1
    assert count >= 80


def keys(t: float, a: float = -0.75) -> float:
    """The cubic kernel of Keys, IEEE TASSP 29 (1981)."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def triangle(t: float) -> float:
    return max(0.0, 1 - abs(t))


def interpolation(kernel, size: int, out: int, stretch: float) -> np.ndarray:
    """The matrix [out, size] of an axis' half-pixel interpolation, its ends repeated."""
    matrix = np.zeros((out, size))
    for j in range(out):
        place = (j + 0.5) * size / out - 0.5
        for i in range(-3 * size, 4 * size):
            matrix[j, min(max(i, 0), size - 1)] += kernel((i - place) * stretch)
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("last", [False, True], ids=["channels-first", "channels-last"])
@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_double_resize(mode: str, antialias: int, last: bool) -> None:
    """In float64, for which onnxruntime has nothing and onnx.reference computes weights in float32."""
    x, sizes = doubles(1, 21, 9, 8), (18, 12) if not antialias else (4, 12)
    down, across = (
        interpolation(triangle if mode == "linear" else keys, n, out, min(1.0, out / n) if antialias else 1.0)
        for n, out in zip(x.shape[2:], sizes, strict=True)
    )
    want = np.einsum("ih,nchw,jw->ncij", down, x, across)
    feed, nodes = x, [node("Resize", "t _ _ s", mode=mode, antialias=antialias)]
    if last:
        feed, nodes = x.transpose(0, 2, 3, 1).copy(), [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), *nodes]
    else:
        nodes = [node("Identity", "x", "t"), *nodes]
    case = Case("double", nodes, {"x": feed}, {"s": np.array([1, 21, *sizes])})
    session = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"])
    assert all(placement.provider == "cpu" for placement in session.explain())
    (got,) = session.run(None, {"x": feed})
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def _double_cases() -> list[Case]:
    image, scales = {"x": doubles(1, 3, 9, 8)}, {"s": np.array([1, 1, 2, 1.5], np.float32)}
    found = [Case("nearest", [node("Resize", "x _ s")], image, scales)]
    for filters in (3, 9):
        nodes = [node("ConvTranspose", "x w b", strides=[2, 2], pads=[1] * 4)]
        constants = {"w": doubles(3, filters, 4, 4), "b": doubles(filters)}
        found.append(Case(f"transposed-{filters}", nodes, image, constants))
    return found


@pytest.mark.parametrize("case", _double_cases(), ids=lambda case: case.name)
def test_double(case: Case) -> None:
    """Other operators of float64 that onnxruntime does not have, against onnx.reference."""
    model = case.model()
    session = sardonyx.InferenceSession(model.SerializeToString(), providers=["cpu"])
    assert all(placement.provider == "cpu" for placement in session.explain())
    (got,), (want,) = (runner.run(None, dict(case.feeds)) for runner in (session, ReferenceEvaluator(model)))
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def kernels(case: Case) -> list[str]:
    program = CPUProvider().compile(ir.from_proto(case.model()), CompileOptions(threads=2)).program()
    return [step.kernel.name for step in program.steps]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_nothing_is_copied_between_layers(mode: str) -> None:
    """A decoder: its parts are written where they are joined, in the layout of the convolutions."""
    case = next(case for case in CASES if case.name == f"Resize-{mode}-joined")
    first, *middle, last = kernels(case)
    assert {first, last} <= {"elementwise", "turn"}  # from and to channels first
    assert not {"elementwise", "turn"} & set(middle)
    assert middle.count("resample") == 1
    assert middle.count("implicitgemm") == 2 + 4


SPECIAL = [np.nan, np.inf, -np.inf, 1e38, -1e38, 1e18, -1e18, 3e9, -3e9, 0.0]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grids_out_of_this_world(mode: str, padding: str) -> None:
    """Nothing but the image is read: its values are all 1, so every finite result is a sum of weights."""
    grid = np.array([[[[a, b] for a in SPECIAL] for b in SPECIAL]], np.float32)
    nodes = [node("GridSample", "x g", mode=mode, padding_mode=padding)]
    case = Case("grid", nodes, {"x": np.ones((1, 5, 4, 4), np.float32), "g": grid})
    (got,) = sardonyx.InferenceSession(case.model().SerializeToString()).run(None, dict(case.feeds))
    finite = got[np.isfinite(got)]
    assert np.isfinite(got[0, :, -1, -1]).all()
    assert (np.abs(finite) < 1.5).all()


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("places", [0, 2])
def test_regions_out_of_this_world(mode: str, places: int) -> None:
    rois = np.array([[a, b, c, 5] for a in SPECIAL for b in SPECIAL for c in SPECIAL] + [[0, 0, 4, 4]] * 2, np.float32)
    images = np.zeros(len(rois), np.int64)
    images[-1] = 7
    nodes = [node("RoiAlign", "x r i", output_height=2, output_width=2, mode=mode, sampling_ratio=places)]
    case = Case("regions", nodes, {"x": np.ones((1, 5, 4, 4), np.float32), "r": rois, "i": images})
    (got,) = sardonyx.InferenceSession(case.model().SerializeToString()).run(None, dict(case.feeds))
    assert (np.abs(got[np.isfinite(got)]) <= 1.0001).all()
    assert np.isfinite(got[-2]).all()
    assert np.isnan(got[-1]).all()


IMAGE = {"x": floats(1, 3, 4, 4)}
FILTERS = {"w": floats(3, 2, 3, 3)}
HUGE = 1 << 40


def _resize(name: str, inputs: str = "x _ s", constant: list | None = None, **attributes: object) -> Case:
    kind = np.int64 if "_ _ s" in inputs else np.float32
    return Case(f"Resize-{name}", [node("Resize", inputs, **attributes)], IMAGE, {"s": np.array(constant, kind)})


HOSTILE = [
    _resize("few-scales", constant=[2, 2]),
    _resize("negative", constant=[1, 1, -1, 1]),
    _resize("nan", constant=[1, 1, np.nan, 1]),
    _resize("infinite", constant=[1, 1, np.inf, 1]),
    _resize("zero", constant=[1, 1, 0, 1]),
    _resize("huge", constant=[1, 1, 1e30, 1]),
    _resize("terabytes", constant=[1, 1, 1e6, 1e6]),
    _resize("huge-sizes", inputs="x _ _ s", constant=[1, 3, HUGE, 4]),
    _resize("negative-sizes", inputs="x _ _ s", constant=[1, 3, -4, 4]),
    _resize("axes-twice", constant=[2, 2], axes=[2, 2]),
    _resize("axes-nowhere", constant=[2, 2], axes=[2, 9]),
    _resize("no-region", constant=[1, 1, 2, 2], coordinate_transformation_mode="tf_crop_and_resize"),
    *(
        Case(f"ConvTranspose-{name}", [node("ConvTranspose", "x w", **attributes)], IMAGE, FILTERS)
        for name, attributes in {
            "stride-0": {"strides": [0, 1]},
            "stride-huge": {"strides": [1 << 30, 1 << 30]},
            "stride-beyond-64-bits": {"strides": [1 << 62, 1 << 62]},
            "dilation-huge": {"dilations": [HUGE, HUGE]},
            "pads-huge": {"pads": [1 << 20] * 4},
            "pads-negative-huge": {"pads": [-(1 << 30)] * 4},
            "pads-short": {"pads": [1, 1]},
            "group": {"group": 2},
            "group-0": {"group": 0},
            "output-huge": {"output_shape": [HUGE, 4]},
            "output-negative": {"output_shape": [-4, 4]},
            "output-short": {"output_shape": [4]},
            "padding-huge": {"output_padding": [1 << 61, 0]},
        }.items()
    ),
    Case("ConvTranspose-rank", [node("ConvTranspose", "x w")], IMAGE, {"w": floats(3, 2, 3)}),
    Case("ConvTranspose-bias", [node("ConvTranspose", "x w b")], IMAGE, {**FILTERS, "b": floats(5)}),
    Case("DepthToSpace-0", [node("DepthToSpace", "x", blocksize=0)], IMAGE),
    Case("DepthToSpace-odd", [node("DepthToSpace", "x", blocksize=2)], IMAGE),
    Case("DepthToSpace-huge", [node("DepthToSpace", "x", blocksize=HUGE)], IMAGE),
    Case("SpaceToDepth-odd", [node("SpaceToDepth", "x", blocksize=3)], IMAGE),
    Case("GridSample-rank", [node("GridSample", "x g")], {**IMAGE, "g": floats(1, 3, 3, 3)}),
    Case("GridSample-empty", [node("GridSample", "x g")], {"x": floats(1, 3, 0, 4), "g": floats(1, 3, 3, 2)}),
    *(
        Case(
            f"RoiAlign-{name}",
            [node("RoiAlign", "x r i", **attributes)],
            {**IMAGE, "r": floats(2, 4), "i": np.zeros(count, np.int64)},
        )
        for name, attributes, count in (
            ("count", {}, 3),
            ("huge", {"output_height": HUGE, "output_width": HUGE}, 2),
            ("zero", {"output_height": 0}, 2),
            ("places", {"sampling_ratio": 1 << 40}, 2),
        )
    ),
    Case("AffineGrid-size", [node("AffineGrid", "t s")], {"t": floats(1, 2, 3)}, {"s": np.array([1, 1, HUGE, HUGE])}),
    Case("AffineGrid-theta", [node("AffineGrid", "t s")], {"t": floats(1, 3, 3)}, {"s": np.array([1, 1, 4, 4])}),
]


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
@pytest.mark.parametrize("open_dims", [False, True], ids=["declared", "open"])
def test_typed_error(case: Case, open_dims: bool) -> None:
    model = case.model(infer=False)
    if open_dims:
        for value in model.graph.input:
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                dim.dim_param = f"{value.name}{axis}"
    with pytest.raises(sardonyx.SardonyxError) as caught:
        sardonyx.InferenceSession(model.SerializeToString()).run(None, dict(case.feeds))
    assert not isinstance(caught.value, sardonyx.CompileError)


@pytest.mark.parametrize(
    "case",
    [
        Case("Resize", [node("Resize", "x _ s")], {"x": floats(0, 3, 4, 4)}, {"s": np.array([1, 1, 2, 2], np.float32)}),
        Case("Resize-away", [node("Resize", "x _ _ s")], IMAGE, {"s": np.array([1, 3, 0, 4])}),
        Case("ConvTranspose", [node("ConvTranspose", "x w")], {"x": floats(0, 3, 4, 4)}, FILTERS),
        Case("ConvTranspose-away", [node("ConvTranspose", "x w", pads=[3] * 4)], IMAGE, FILTERS),
        Case("GridSample", [node("GridSample", "x g")], {**IMAGE, "g": floats(1, 0, 3, 2)}),
        Case("DepthToSpace", [node("DepthToSpace", "x", blocksize=2)], {"x": floats(1, 4, 0, 4)}),
        Case("RoiAlign", [node("RoiAlign", "x r i")], {**IMAGE, "r": floats(0, 4), "i": np.zeros(0, np.int64)}),
    ],
    ids=lambda case: case.name,
)
def test_empty_results(case: Case) -> None:
    (got,) = sardonyx.InferenceSession(case.model(infer=False).SerializeToString()).run(None, dict(case.feeds))
    assert got.size == 0
    assert got.ndim == 4
