"""Models that are well formed but cannot run: each ends in a typed error that names the node, never in a crash."""

import numpy as np
import pytest

import sardonyx
from tests.suites.operators import Case, floats, node

IMAGE = {"x": floats(1, 3, 4, 4)}
FILTERS = {"w": floats(2, 3, 3, 3)}

CASES = [
    Case("bias-too-long", [node("Conv", "x w b")], IMAGE, {**FILTERS, "b": floats(7)}),
    Case("group-0", [node("Conv", "x w", group=0)], IMAGE, FILTERS),
    Case("dilation-huge", [node("Conv", "x w", dilations=[1 << 60] * 2)], IMAGE, FILTERS),
    Case("stride-0", [node("Conv", "x w", strides=[0, 1])], IMAGE, FILTERS),
    Case("pads-huge", [node("Conv", "x w", pads=[1 << 20] * 4)], IMAGE, FILTERS),
    Case("pads-beyond-64-bits", [node("Conv", "x w", pads=[1 << 62] * 4)], IMAGE, FILTERS),
    Case("pads-negative", [node("Conv", "x w", pads=[-3] * 4)], IMAGE, FILTERS),
    Case("filters-of-another-rank", [node("Conv", "x w")], IMAGE, {"w": floats(2, 3, 3)}),
    Case("expand-huge", [node("Expand", "x s", "e"), node("Neg", "e")], IMAGE, {"s": np.array([1 << 40, 1, 1, 1])}),
    Case("expand-to-terabytes", [node("Expand", "x s")], IMAGE, {"s": np.array([1 << 33, 1, 1, 1])}),
    Case("constant-huge", [node("ConstantOfShape", "s", "c"), node("Add", "x c")], IMAGE, {"s": np.array([1 << 40])}),
    Case("window-of-another-rank", [node("MaxPool", "x", kernel_shape=[2])], IMAGE),
    Case("permutation-wrong", [node("Transpose", "x", perm=[0, 0, 1, 9])], IMAGE),
    Case("axis-of-concat", [node("Concat", "x x", axis=9)], IMAGE),
    Case("axis-of-softmax", [node("Softmax", "x", axis=9)], IMAGE),
    Case("axis-of-reduction", [node("ReduceSum", "x a")], IMAGE, {"a": np.array([7])}),
    Case("axes-twice", [node("ReduceSum", "x a")], IMAGE, {"a": np.array([1, -3])}),
    Case("unsqueeze-nowhere", [node("Unsqueeze", "x a")], IMAGE, {"a": np.array([0, 0, 99])}),
    Case("reshape-to-other-size", [node("Reshape", "x s")], IMAGE, {"s": np.array([7, -1])}),
    Case("matrices", [node("Gemm", "a b")], {"a": floats(3, 4)}, {"b": floats(5, 6)}),
    Case("step-0", [node("Slice", "x s e a t")], IMAGE,
         {"s": np.array([0]), "e": np.array([4]), "a": np.array([1]), "t": np.array([0])}),
    Case("pads-short", [node("Pad", "x p")], IMAGE, {"p": np.array([1, 2])}),
    Case("pads-cut-everything", [node("Pad", "x p")], IMAGE, {"p": np.array([0, 0, 0, -9, 0, 0, 0, 0])}),
    Case("broadcast", [node("Add", "x b")], IMAGE, {"b": floats(7)}),
    Case("batchnorm", [node("BatchNormalization", "x s s s s")], IMAGE, {"s": floats(5)}),
    Case("layer-scale", [node("LayerNormalization", "x s")], IMAGE, {"s": floats(7)}),
    Case("layer-axis", [node("LayerNormalization", "x s", axis=9)], IMAGE, {"s": floats(4)}),
    Case("instance-scale", [node("InstanceNormalization", "x s s")], IMAGE, {"s": floats(5)}),
    Case("groups-0", [node("GroupNormalization", "x s s", num_groups=0)], IMAGE, {"s": floats(3)}),
    Case("groups-uneven", [node("GroupNormalization", "x s s", num_groups=2)], IMAGE, {"s": floats(3)}),
    Case("norm-p", [node("LpNormalization", "x", p=3)], IMAGE),
    Case("window-of-no-channels", [node("LRN", "x", size=0)], IMAGE),
    Case("pool-p", [node("LpPool", "x", kernel_shape=[2, 2], p=-1)], IMAGE),
    Case("pool-window-huge", [node("MaxPool", "x", "y i", kernel_shape=[1 << 40] * 2)], IMAGE),
    Case("pool-places-huge", [node("MaxPool", "x", "m y", kernel_shape=[1 << 14] * 2, pads=[1 << 14] * 4)], IMAGE),
    Case("pool-pads-huge", [node("LpPool", "x", kernel_shape=[2, 2], pads=[1 << 62] * 4)], IMAGE),
    Case("pad-huge", [node("Pad", "x p", mode="reflect")], IMAGE, {"p": np.array([1 << 40] * 8)}),
    Case("pad-nothing", [node("Pad", "x p", mode="edge")], IMAGE, {"p": np.array([0, 0, 0, -4, 0, 0, 0, 1])}),
    Case("top-too-many", [node("TopK", "x k", "y i")], IMAGE, {"k": np.array([5])}),
    Case("top-negative", [node("TopK", "x k", "y i")], IMAGE, {"k": np.array([-1])}),
    Case("axis-of-argmax", [node("ArgMax", "x", axis=4)], IMAGE),
    Case("gather-axis", [node("Gather", "x i", axis=4)], {**IMAGE, "i": np.array([0])}),
    Case("gather-beyond", [node("Gather", "x i")], {**IMAGE, "i": np.array([0, 1])}),
    Case("gather-beyond-known", [node("Gather", "x i", axis=1)], IMAGE, {"i": np.array(-4)}),
    Case("gather-of-nothing", [node("Gather", "x i")], {"x": floats(0, 3), "i": np.array([0])}),
    Case("gather-tuples-of-5", [node("GatherND", "x i")], {**IMAGE, "i": np.zeros((2, 5), np.int64)}),
    Case("gather-tuples-of-0", [node("GatherND", "x i")], {**IMAGE, "i": np.zeros((2, 0), np.int64)}),
    Case("gather-batches", [node("GatherND", "x i", batch_dims=1)], {**IMAGE, "i": np.zeros((2, 1), np.int64)}),
    Case("gather-batches-huge", [node("GatherND", "x i", batch_dims=1 << 40)],
         {**IMAGE, "i": np.zeros((1, 1), np.int64)}),
    Case("gather-elements-of-more", [node("GatherElements", "x i")], {**IMAGE, "i": np.zeros((1, 3, 4, 5), np.int64)}),
    Case("gather-elements-beyond", [node("GatherElements", "x i")], {**IMAGE, "i": np.ones((1, 3, 4, 4), np.int64)}),
    Case("scatter-tuples-beyond", [node("ScatterND", "x i u")],
         {**IMAGE, "i": np.array([[0, 3]]), "u": floats(1, 4, 4)}),
    Case("scatter-tuples-least", [node("ScatterND", "x i u")],
         {**IMAGE, "i": np.array([[-(1 << 63)]]), "u": floats(1, 3, 4, 4)}),
    Case("scatter-fewer-updates", [node("ScatterND", "x i u")], {**IMAGE, "i": np.array([[0, 2]]), "u": floats(1, 4)}),
    Case("scatter-elements-beyond", [node("ScatterElements", "x i u", axis=3)],
         {**IMAGE, "i": np.full((1, 1, 1, 1), (1 << 63) - 1), "u": floats(1, 1, 1, 1)}),
    Case("scatter-elements-updates", [node("ScatterElements", "x i u")],
         {**IMAGE, "i": np.zeros((1, 2, 1, 1), np.int64), "u": floats(1, 1, 1, 1)}),
    Case("boxes-of-5", [node("NonMaxSuppression", "b s m")],
         {"b": floats(1, 6, 5), "s": floats(1, 1, 6)}, {"m": np.array([2])}),
    Case("boxes-fewer", [node("NonMaxSuppression", "b s m")],
         {"b": floats(1, 6, 4), "s": floats(2, 1, 6)}, {"m": np.array([2])}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("open_dims", [False, True], ids=["declared", "open"])
def test_typed_error(case: Case, open_dims: bool) -> None:
    model = case.model(infer=False)
    if open_dims:  # only the ranks are known before the run, so lowering has to find out
        for value in model.graph.input:
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                dim.dim_param = f"{value.name}{axis}"
    with pytest.raises(sardonyx.SardonyxError) as caught:
        sardonyx.InferenceSession(model.SerializeToString()).run(None, dict(case.feeds))
    assert not isinstance(caught.value, sardonyx.CompileError)


def test_memory_limit(monkeypatch) -> None:
    case = Case("neg", [node("Neg", "x")], {"x": floats(1000)})
    monkeypatch.setenv("SARDONYX_MEMORY", "3999")
    with pytest.raises(sardonyx.ExecutionError, match="too much memory"):
        sardonyx.InferenceSession(case.model().SerializeToString()).run(None, dict(case.feeds))
    monkeypatch.setenv("SARDONYX_MEMORY", "4000")
    sardonyx.InferenceSession(case.model().SerializeToString()).run(None, dict(case.feeds))
