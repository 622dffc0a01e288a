"""Convolution networks with open dims: one lowering for all batches and image sizes, against onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

import sardonyx
from sardonyx.model.proto import to_proto
from sardonyx.providers.cpu import CPUExecutable
from sardonyx.runtime.executable import NativeExecutable
from sardonyx.zoo import architectures
from tests.suites.operators import CASES, Case, floats, node

CLASSIFIERS = ("resnet18", "mobilenetv2", "shufflenetv2", "densenet121", "efficientnet-b0", "c3d")
OF_ANY_SIZE = {
    "resnet18": (1, 1),
    "mobilenetv2": (1, 3),
    "tinyyolov2": (1, 1),
    "unet": (16, 1),
    "fast-style": (1, 1),
    "r2plus1d-18": (1, 1),
}
"""Networks without a place that fixes the image's size: what a side must be a multiple of, and how many programs there
may be. Tiles of depthwise convolutions are for rows of at least so many pixels.
"""


def small(name: str, *, sides: bool) -> bytes:
    """A thin network with an open batch and, on demand, open frames, heights and widths."""
    model = architectures.build(name, batch="batch", image=32, width=0.25)
    if sides:
        (source,), names = model.graph.inputs, ("frames", "height", "width")
        assert source.shape is not None
        spatial = len(source.shape) - 2
        source.shape = ir.Shape([*list(source.shape)[:2], *names[-spatial:]])
        for value in (*model.graph.outputs, *(output for node in model.graph for output in node.outputs)):
            value.shape = None
    data: bytes = to_proto(model, name).SerializeToString()
    return data


def native(session: sardonyx.InferenceSession) -> NativeExecutable:
    ((_, found),) = session._executables
    assert isinstance(found, CPUExecutable)
    return found._native


def compare(ours: sardonyx.InferenceSession, theirs: onnxruntime.InferenceSession, dims: Sequence[int]) -> None:
    x = np.random.default_rng(0).standard_normal(dims).astype(np.float32)
    name = ours.get_inputs()[0].name
    for got, want in zip(ours.run(None, {name: x}), theirs.run(None, {name: x}), strict=True):
        assert got.shape == want.shape
        assert np.linalg.norm(got - want) <= 2e-5 * np.linalg.norm(want), dims


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_all_batches_from_one_lowering(name: str) -> None:
    """But for a batch of 1, whose dims broadcast and vanish."""
    data = small(name, sides=False)
    ours, theirs = sardonyx.InferenceSession(data), onnxruntime.InferenceSession(data)
    _, *rest = ours.get_inputs()[0].shape
    for batch in (3, 2, 9, 4, 17):
        compare(ours, theirs, [batch, *(int(size) for size in rest)])
    assert native(ours).lowerings == 1
    compare(ours, theirs, [1, *(int(size) for size in rest)])
    assert native(ours).lowerings == 2


@pytest.mark.parametrize("name", OF_ANY_SIZE)
def test_all_images_from_one_lowering(name: str) -> None:
    data, (unit, programs) = small(name, sides=True), OF_ANY_SIZE[name]
    ours, theirs = sardonyx.InferenceSession(data), onnxruntime.InferenceSession(data)
    random = np.random.default_rng(7)
    frames = [11] if len(ours.get_inputs()[0].shape) == 5 else []
    compare(ours, theirs, [2, 3, *frames, 64, 64])
    for _ in range(8):
        height, width = (int(random.integers(-(-33 // unit), 128 // unit)) * unit for _ in range(2))
        frames = [int(random.integers(9, 20)) for _ in frames]
        compare(ours, theirs, [int(random.integers(2, 5)), 3, *frames, height, width])
    assert native(ours).lowerings <= programs


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resized_to_the_size_of_another(mode: str) -> None:
    """As decoders do it: the sizes are computed in the graph."""
    nodes = [
        node("Conv", "x w", "low", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Shape", "x", "sides", start=2),
        node("Shape", "low", "rest", end=2),
        node("Concat", "rest sides", "sizes", axis=0),
        node("Resize", "low _ _ sizes", "wide", mode=mode, coordinate_transformation_mode="asymmetric"),
        node("Conv", "x w", "high", pads=[1, 1, 1, 1]),
        node("Add", "wide high"),
    ]
    model = Case("decoder", nodes, {"x": floats(2, 3, 16, 16)}, {"w": floats(20, 3, 3, 3)}).model(infer=False)
    for axis in (0, 2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"d{axis}"
    data = onnx.shape_inference.infer_shapes(model).SerializeToString()
    ours, theirs = sardonyx.InferenceSession(data), onnxruntime.InferenceSession(data)
    for dims in ((2, 3, 16, 16), (3, 3, 40, 28), (2, 3, 12, 64), (5, 3, 8, 10), (2, 3, 96, 80)):
        compare(ours, theirs, dims)
    assert native(ours).lowerings == 1


def test_tables_are_shared_by_frames_and_freed_with_them() -> None:
    """What depends on dims is computed once a binding, and is not kept for dims that were used long ago."""
    ours = sardonyx.InferenceSession(small("resnet18", sides=True))
    executable, name = native(ours), ours.get_inputs()[0].name
    for size in range(40, 80):
        ours.run(None, {name: np.zeros((2, 3, size, size), np.float32)})
    alive = [binding for binding in executable._bindings.values() if binding._computed() is not None]
    assert len(executable._bindings) >= 40
    assert 0 < len(alive) <= 16
    assert alive[0].computed() is alive[0].computed()


# ---- operators -------------------------------------------------------------------------------------------------


FAMILIES = ("Conv", "MaxPool", "AveragePool", "LpPool", "Global", "Resize", "Upsample", "Pad", "DepthToSpace", "Reduce")
FAMILIES += ("Softmax", "LogSoftmax", "Instance", "Group", "Layer", "RMS", "LRN", "MeanVariance", "LpNorm", "Batch")
TIES = ("Resize-round", "Resize-floor", "Resize-ceil", "tf_crop_and_resize")
"""Which pixel is nearest, or still inside, hangs there on how ratios of lengths are rounded."""


def _open_cases() -> Iterator[Case]:
    """Cases of one image or one tensor of floats, whose dims can be others."""
    for case in CASES:
        arrays = list(case.feeds.values())
        plain = len(arrays) == 1 and arrays[0].dtype == np.float32 and arrays[0].ndim > 1 and arrays[0].size > 1
        if plain and case.name.startswith(FAMILIES) and not any(tie in case.name for tie in TIES):
            yield case


@pytest.mark.parametrize("case", list(_open_cases()), ids=lambda case: case.name)
def test_case_with_open_dims(case: Case) -> None:
    """The dims that onnxruntime takes, whatever they are, give what it gives; all others are refused, too."""
    ((name, x),) = case.feeds.items()
    first = 2 if case.name.startswith("Resize") else 0  # sizes are those of all axes, and onnxruntime resizes few
    axes = [axis for axis in range(first, x.ndim) if axis != 1 and x.shape[axis] > 1]
    model = case.model(infer=False)
    (source,) = model.graph.input
    for axis in axes:
        source.type.tensor_type.shape.dim[axis].dim_param = f"d{axis}"
    data = onnx.shape_inference.infer_shapes(model).SerializeToString()
    ours, theirs = sardonyx.InferenceSession(data), onnxruntime.InferenceSession(data)
    random = np.random.default_rng(len(case.name))
    for turn in range(4):
        dims = list(x.shape)
        for axis in axes if turn else ():
            dims[axis] = int(random.integers(max(2, dims[axis] - 2), 2 * dims[axis] + 4))
        given = random.standard_normal(dims).astype(np.float32)
        try:
            (want,) = theirs.run(None, {name: given})
        except (Fail, InvalidArgument, RuntimeException):
            continue
        (got,) = ours.run(None, {name: given})
        scale = np.nanmax(np.abs(want[np.isfinite(want)]), initial=1e-6)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * scale, err_msg=str(dims))
