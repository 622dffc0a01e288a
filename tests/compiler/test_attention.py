"""Attention and its cache against onnx.reference in float64: what onnxruntime does not take or sees otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

import sardonyx
from sardonyx.compiler.jit import host_target
from sardonyx.compiler.kernels.attention import AttentionBlocks
from sardonyx.compiler.kernels.attention_row import AttentionParts, AttentionRow
from sardonyx.compiler.kernels.matmul import MatMul, PackRows
from sardonyx.providers.base import CompileOptions
from sardonyx.providers.cpu import CPUExecutable, CPUProvider
from tests.compiler.programs import program_of
from tests.suites.attention import attention, heads
from tests.suites.case import Array, Case, floats, node


def run(case: Case) -> Array:
    """The case's `y`, all of it from native code."""
    session = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"])
    assert {placement.provider for placement in session.explain()} <= {"cpu"}
    (y,) = session.run(None, dict(case.feeds))
    return np.asarray(y)


def double(feeds: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in feeds.items()}


def expected(case: Case) -> Array:
    """The same from onnx.reference in float64."""
    feeds = double(case.feeds)
    (y,) = ReferenceEvaluator(Case(case.name, case.nodes, feeds, opset=case.opset).model()).run(None, feeds)
    return np.asarray(y)


def assert_close(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    assert np.linalg.norm(got[finite] - want[finite]) <= 1e-6 * np.linalg.norm(want[finite])


@pytest.mark.parametrize("shape", [(40,), (1, 40), (2, 1, 1, 40), (4, 1, 40), (1, 1)])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("rows", [1, 30])
def test_masks_for_all_queries(shape: tuple[int, ...], causal: int, rows: int) -> None:
    """onnx.reference applies the causal bound to the rows of the mask, so it gets one with all of them."""
    feeds = heads(rows, shape[-1])
    mask = floats(*shape)
    got = run(attention("shared", {**feeds, "m": mask}, "q k v m", is_causal=causal))
    full = np.broadcast_to(mask, np.broadcast_shapes(shape, (rows, shape[-1])))
    assert_close(got, expected(attention("full", {**feeds, "m": np.array(full)}, "q k v m", is_causal=causal)))


@pytest.mark.parametrize("rows", [1, 30])
@pytest.mark.parametrize("length", [0, 1, 5, 39, 40])
@pytest.mark.parametrize("kind", [np.float32, np.bool_])
def test_short_masks_exclude_the_rest(rows: int, length: int, kind: type) -> None:
    mask = (floats(rows, length) > -1).astype(kind)
    case = attention("short", {**heads(rows, 40), "m": mask}, "q k v m", opset=24)
    full = np.pad(mask, [(0, 0), (0, 40 - length)], constant_values=False if kind is np.bool_ else -np.inf)
    whole = attention("whole", {**case.feeds, "m": full}, "q k v m", opset=24)
    assert_close(run(case), expected(whole))


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("lengths", [(40, 1), (0, 17), (100, -3), (20, 21), (1 << 62, -(1 << 63))])
def test_counted_keys(rows: int, causal: int, lengths: tuple[int, int]) -> None:
    """Any number of keys: those that are not there are not read."""
    feeds = {**heads(rows, 40), "n": np.array(lengths)}
    got = run(attention("counted", feeds, "q k v _ _ _ n", is_causal=causal, opset=24))
    near = {**feeds, "n": np.clip(feeds["n"], 0, 40 + rows)}
    assert_close(got, expected(attention("near", near, "q k v _ _ _ n", is_causal=causal, opset=24)))


@pytest.mark.parametrize("rows", [1, 50])
@pytest.mark.parametrize(("left", "right"), [(0, 0), (3, -1), (-1, 2), (20, 5), (1 << 62, 1), (100, 1 << 62)])
@pytest.mark.parametrize("causal", [0, 1])
def test_windows(rows: int, left: int, right: int, causal: int) -> None:
    past = {"pk": floats(2, 2, 70, 16), "pv": floats(2, 2, 70, 16)}
    window = {"left_window_size": left, "right_window_size": right, "is_causal": causal, "opset": 25}
    for feeds, inputs in ((heads(rows, rows), "q k v"), ({**heads(rows, rows), **past}, "q k v _ pk pv")):
        case = attention("window", feeds, inputs, **window)
        assert_close(run(case), expected(case))


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("rows", [1, 18])
@pytest.mark.parametrize("causal", [0, 1])
def test_scores(mode: int, rows: int, causal: int) -> None:
    """The fourth output: every score, also those of keys that take no part. Mode 0 is before the cap, which
    onnx.reference forgets.
    """
    feeds = {**heads(rows, 110), "m": floats(2, 1, rows, 110), "n": np.array([110, 30])}
    given = {"qk_matmul_output_mode": mode, "softcap": 2.0 if mode else 0.0, "is_causal": causal, "opset": 24}
    for inputs in ("q k v m _ _ n", "q k v m", "q k v"):
        used = {name: feeds[name] for name in inputs.replace("_", "").split()}
        case = attention("scores", used, inputs, "a _ _ y", **given)
        assert_close(run(case), expected(case))
        result = attention("result", used, inputs, "y _ _ s", **given)
        assert_close(run(result), expected(result))
        raw = attention("raw", used, inputs, "a _ _ y", **{**given, "softcap": 2.0, "qk_matmul_output_mode": 0})
        plain = attention("plain", used, inputs, "a _ _ y", **{**given, "softcap": 0.0, "qk_matmul_output_mode": 0})
        np.testing.assert_array_equal(run(raw), run(plain))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("precision", [1, 10, 11, 16])
def test_precision_of_softmax(kind: type, precision: int) -> None:
    """Never less than asked: in float64, as it should be, onnx.reference has what float32 gives to 1e-6."""
    feeds = {name: array.astype(kind) for name, array in heads(20, 40).items()}
    got = run(attention("precise", feeds, softmax_precision=precision))
    want = expected(attention("plain", feeds))
    assert got.dtype == kind
    assert np.linalg.norm(got - want) <= (1e-14 if kind is np.float64 else 1e-6) * np.linalg.norm(want)
    exact = attention("scores", feeds, outputs="a _ _ y", softmax_precision=11, qk_matmul_output_mode=3)
    assert_close(run(exact), expected(exact))


@pytest.mark.parametrize("rows", [1, 20])
def test_nobody_to_attend(rows: int) -> None:
    """Zeros, and no trace of scores that are not finite where they take no part."""
    feeds = {**heads(rows, 40), "m": np.zeros((2, 1, rows, 40), np.bool_)}
    feeds["m"][1, 0, :, 7] = True
    feeds["k"][:, :, 8:] = np.nan
    y = run(attention("nobody", feeds, "q k v m"))
    assert not y[0].any()
    np.testing.assert_array_equal(y[1], np.broadcast_to(feeds["v"][1, [0, 0, 1, 1], 7:8], y[1].shape))
    bias = {**feeds, "m": np.where(feeds["m"], np.float32(3), np.float32(-np.inf))}
    np.testing.assert_allclose(run(attention("bias", bias, "q k v m")), y, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 20])
def test_not_finite_where_it_takes_part(rows: int) -> None:
    feeds = heads(rows, 40)
    feeds["q"][0, 0, 0, 0] = np.nan
    feeds["k"][1, 1, 5, 0], feeds["q"][1, 2:, :, 0] = np.inf, 1
    y = run(attention("nan", feeds))
    assert np.isnan(y[0, 0, 0]).all()
    assert np.isnan(y[1, 2:]).all()
    assert np.isfinite(y[0, 1]).all()
    assert np.isfinite(y[1, :2]).all()


@pytest.mark.parametrize(
    "dims", [(0, 4, 5, 8), (2, 4, 0, 8), (2, 4, 5, 0), (0, 1, 1, 8)], ids=lambda dims: "x".join(map(str, dims))
)
def test_nothing(dims: tuple[int, ...]) -> None:
    batch, q, rows, size = dims
    feeds = {"q": floats(batch, q, rows, size), "k": floats(batch, 1, 6, size), "v": floats(batch, 1, 6, 3)}
    y = run(attention("nothing", feeds))
    assert y.shape == (batch, q, rows, 3)
    if size == 0:
        np.testing.assert_allclose(y, np.broadcast_to(feeds["v"].mean(2, keepdims=True), y.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 5])
def test_no_keys(rows: int) -> None:
    assert not run(attention("no-keys", heads(rows, 0))).any()


def test_ways() -> None:
    """One query a head streams its keys; threads share those of few heads; nothing is copied of dense matrices."""

    def kernels(case: Case) -> list[type]:
        program = program_of(ir.from_proto(case.model()), case.feeds, host_target())
        return [type(step.kernel) for step in program.steps]

    assert kernels(attention("rows", heads(20, 40))) == [AttentionBlocks]
    assert kernels(attention("row", heads(1, 40))) == [AttentionRow]
    assert kernels(attention("parts", heads(1, 40, batch=1, q=3, kv=1))) == [AttentionRow, AttentionParts]
    back = [node("Transpose", "t", "r", perm=[0, 2, 1, 3]), node("Reshape", "r shape", "z"), node("MatMul", "z w")]
    weights = {"shape": np.array([2, 20, -1]), "w": floats(4 * 16, 8)}
    turned = Case("back", [node("Attention", "q k v", "t"), *back], heads(20, 40), weights, opset=23)
    assert kernels(turned) == [AttentionBlocks, PackRows, MatMul]
    flat = {"q": floats(2, 20, 64), "k": floats(2, 40, 64), "v": floats(2, 40, 64)}
    assert kernels(attention("flat", flat, q_num_heads=4, kv_num_heads=4)) == [AttentionBlocks]


def test_open_dims() -> None:
    """One program for all batches, lengths and pasts, and one for single queries."""
    graph = onnx.helper.make_graph(
        [node("Attention", "q k v m pk pv", "y a b", q_num_heads=4, kv_num_heads=2, is_causal=1)],
        "open",
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
            for name, dims in {
                "q": ("b", "s", 64),
                "k": ("b", "s", 32),
                "v": ("b", "s", 32),
                "m": ("b", 1, 1, "t"),
                "pk": ("b", 2, "p", 16),
                "pv": ("b", 2, "p", 16),
            }.items()
        ],
        [onnx.helper.make_empty_tensor_value_info("y")],
    )
    opsets = [onnx.helper.make_opsetid("", 23)]
    model = onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))
    executable = CPUProvider().compile(ir.from_proto(model), CompileOptions())
    assert isinstance(executable, CPUExecutable)
    lowerings = []
    for batch, rows, past in ((2, 5, 7), (3, 100, 29), (2, 1, 200), (4, 1, 31), (2, 64, 2)):
        feeds = {"q": floats(batch, rows, 64), "k": floats(batch, rows, 32), "v": floats(batch, rows, 32)}
        feeds |= {"m": floats(batch, 1, 1, past + rows)}
        feeds |= {"pk": floats(batch, 2, past, 16), "pv": floats(batch, 2, past, 16)}
        full = {**feeds, "m": np.broadcast_to(feeds["m"], (batch, 1, rows, past + rows))}
        assert_close(executable.run(list(feeds.values()))[0], ReferenceEvaluator(model).run(None, double(full))[0])
        lowerings.append(executable._native.lowerings)
    assert lowerings == [1, 1, 2, 2, 2]


WRONG = {
    "heads-uneven": ("Attention", "q k v", {"q": (1, 3, 4, 8), "k": (1, 2, 4, 8), "v": (1, 2, 4, 8)}, {}),
    "heads-0": ("Attention", "q k v", {"q": (1, 4, 8), "k": (1, 4, 8), "v": (1, 4, 8)}, {"q_num_heads": 0}),
    "heads-huge": ("Attention", "q k v", {"q": (1, 4, 8), "k": (1, 4, 8), "v": (1, 4, 8)}, {"q_num_heads": 1 << 60}),
    "no-heads-of-keys": ("Attention", "q k v", {"q": (1, 2, 4, 8), "k": (1, 0, 4, 8), "v": (1, 0, 4, 8)}, {}),
    "sizes": ("Attention", "q k v", {"q": (1, 2, 4, 8), "k": (1, 2, 4, 9), "v": (1, 2, 4, 8)}, {}),
    "lengths": ("Attention", "q k v", {"q": (1, 2, 4, 8), "k": (1, 2, 4, 8), "v": (1, 2, 5, 8)}, {}),
    "batches": ("Attention", "q k v", {"q": (2, 2, 4, 8), "k": (1, 2, 4, 8), "v": (1, 2, 4, 8)}, {}),
    "mask": ("Attention", "q k v m", {"q": (1, 2, 4, 8), "k": (1, 2, 4, 8), "v": (1, 2, 4, 8), "m": (3, 4)}, {}),
    "mask-long": ("Attention", "q k v m", {"q": (1, 2, 4, 8), "k": (1, 2, 4, 8), "v": (1, 2, 4, 8), "m": (4, 5)}, {}),
    "past": (
        "Attention",
        "q k v _ p p",
        {"q": (1, 2, 4, 8), "k": (1, 2, 4, 8), "v": (1, 2, 4, 8), "p": (1, 1, 4, 8)},
        {},
    ),
    "rotation-odd": ("RotaryEmbedding", "x c c", {"x": (1, 2, 4, 7), "c": (1, 4, 3)}, {}),
    "rotation-wide": (
        "RotaryEmbedding",
        "x c c",
        {"x": (1, 2, 4, 8), "c": (1, 4, 8)},
        {"rotary_embedding_dim": 16},
    ),
    "rotation-angles": ("RotaryEmbedding", "x c c", {"x": (1, 2, 4, 8), "c": (1, 4, 3)}, {}),
    "rotation-heads": ("RotaryEmbedding", "x c c", {"x": (1, 4, 8), "c": (1, 4, 4)}, {"num_heads": 3}),
    "scatter-batch": ("TensorScatter", "x u", {"x": (2, 4, 8), "u": (2, 4, 8)}, {"axis": 0}),
    "scatter-dims": ("TensorScatter", "x u", {"x": (2, 4, 8), "u": (2, 3, 7)}, {}),
    "scatter-more": ("TensorScatter", "x u", {"x": (2, 4, 8), "u": (2, 5, 8)}, {}),
    "scatter-mode": ("TensorScatter", "x u", {"x": (2, 4, 8), "u": (2, 3, 8)}, {"mode": "spiral"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_typed_errors(name: str) -> None:
    op, inputs, shapes, attributes = WRONG[name]
    given = {"kv_num_heads": 1, **attributes} if "q_num_heads" in attributes else attributes
    case = Case(name, [node(op, inputs, **given)], {key: floats(*dims) for key, dims in shapes.items()}, opset=25)
    with pytest.raises(sardonyx.SardonyxError) as caught:
        sardonyx.InferenceSession(case.model(infer=False).SerializeToString()).run(None, dict(case.feeds))
    assert not isinstance(caught.value, sardonyx.CompileError)


# ---- caches that are updated, and positions -----------------------------------------------------------------------


def scatter(
    shape: tuple[int, ...],
    count: int,
    start: tuple[int, ...] | None,
    kind: type,
    axis: int = -2,
    mode: str = "linear",
) -> Case:
    axis %= len(shape)
    update = (*shape[:axis], count, *shape[axis + 1 :])
    feeds = {"x": (floats(*shape) * 9).astype(kind), "u": (floats(*update) * 9).astype(kind)}
    if start is not None:
        feeds["i"] = np.array(start)
    inputs = "x u" if start is None else "x u i"
    return Case("scatter", [node("TensorScatter", inputs, axis=axis, mode=mode)], feeds, opset=24)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int8, np.int64, np.bool_])
@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 3, 70, 20), -2), ((2, 70, 5), 1), ((2, 3, 70), 2), ((2, 3, 2, 70, 2), 3)]
)
def test_scatter(kind: type, shape: tuple[int, ...], axis: int) -> None:
    for mode, start in (("linear", (5, 63)), ("linear", None), ("circular", (66, -3)), ("circular", (1 << 40, 69))):
        for count in (7, 1, 0):
            case = scatter(shape, count, start, kind, axis=axis, mode=mode)
            (want,) = ReferenceEvaluator(case.model()).run(None, dict(case.feeds))
            np.testing.assert_array_equal(run(case), want)


@pytest.mark.parametrize("number", [-1, 64, 1 << 62, -(1 << 63), (1 << 63) - 1])
def test_scatter_without_room(number: int) -> None:
    case = scatter((2, 3, 70, 20), 7, (0, number), np.float32)
    session = sardonyx.InferenceSession(case.model().SerializeToString(), providers=["cpu"])
    with pytest.raises(sardonyx.ExecutionError, match="no room") as caught:
        session.run(None, dict(case.feeds))
    assert caught.value.got == str(number)


@pytest.mark.parametrize("number", [50, -51, 1 << 62])
def test_position_out_of_range(number: int) -> None:
    feeds = {"x": floats(1, 2, 3, 8), "c": floats(50, 4), "s": floats(50, 4), "p": np.array([[0, 49, -50]])}
    case = Case("position", [node("RotaryEmbedding", "x c s p")], feeds, opset=23)
    assert_close(run(case), expected(case))
    feeds["p"][0, 1] = number
    with pytest.raises(sardonyx.ExecutionError, match="position"):
        run(case)
