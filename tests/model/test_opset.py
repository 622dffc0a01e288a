"""Models in newer and older opsets: the standard's own cases, run before and after."""

from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx.backend.test.case.node import collect_testcases

from sardonyx.errors import InvalidModelError
from sardonyx.model.file import load
from sardonyx.model.opset import Obstacle, convert_opset, raise_opset
from sardonyx.model.proto import to_proto
from sardonyx.model.shapes import infer_shapes

NEWEST = onnx.defs.onnx_opset_version()
EVERY = 12
"""Of the standard's cases every so-manyth is taken."""

# What the runtime that judges lacks, or onnx's own checker: it is the same for a model written in that opset.
_NOT_JUDGED = ("MeanVarianceNormalization", "Swish", "Optional", "OptionalHasElement")


@cache
def _cases() -> list[tuple[str, onnx.ModelProto, dict, list]]:
    found = []
    with np.errstate(all="ignore"):
        everything = collect_testcases(None)
    for case in everything[::EVERY]:
        foreign = any(entry.domain not in ("", "ai.onnx") for entry in case.model.opset_import)
        if foreign or not case.data_sets or any(node.op_type in _NOT_JUDGED for node in case.model.graph.node):
            continue
        given, wanted = case.data_sets[0]
        names = [value.name for value in case.model.graph.input]
        feeds = dict(zip(names, given, strict=False))
        try:
            results = _run(case.model, feeds)
        except Exception:  # what the runtime does not know it cannot judge
            continue
        found.append((case.name, case.model, feeds, [results, list(wanted)]))
    return found


def _run(model: onnx.ModelProto, feeds: dict) -> list:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def _same(got: object, want: object) -> bool:
    if not isinstance(want, np.ndarray):
        return True  # sequences and optionals: that they run is what is asked
    assert isinstance(got, np.ndarray)
    if got.dtype != want.dtype or got.shape != want.shape:
        return False
    if got.dtype.kind != "f":
        return bool(np.array_equal(got, want))
    bound = 1e-4 if got.dtype.itemsize >= 4 else 2e-2
    return bool(np.allclose(got.astype(np.float64), want.astype(np.float64), bound, bound / 10, equal_nan=True))


@pytest.mark.parametrize(("version", "least"), [(7, 15), (9, 25), (13, 35), (18, 55), (21, 65), (NEWEST, 75)])
def test_cases_compute_the_same_or_are_refused(version: int, least: int) -> None:
    """`least` of them must be converted and the same."""
    converted, wrong = 0, []
    for name, proto, feeds, wanted in _cases():
        model = infer_shapes(load(proto.SerializeToString()))
        if convert_opset(model, version):
            continue
        after = to_proto(model, name)
        try:
            onnx.checker.check_model(after, full_check=True)
            results = _run(after, feeds)
        except Exception as error:
            if "NOT_IMPLEMENTED" in str(error):  # the runtime is behind the standard
                continue
            wrong.append(f"{name}: {str(error)[:200]}")
            continue
        converted += 1
        if not any(all(map(_same, results, one)) for one in wanted):
            wrong.append(f"{name}: other values")
    assert wrong == []
    assert converted >= least


def model_of(text: str, version: int) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {version}]>\n{text}')


def test_all_obstacles_are_told() -> None:
    model = load(
        model_of(
            "g (float[2, 3] x, int64[1] a) => (float y) { p = ReduceMean(x, a) q = BitwiseNot(a) y = Gelu(x) }", 20
        ).SerializeToString()
    )
    infer_shapes(model)
    found = convert_opset(model, 13)
    assert [one.op for one in found] == ["ReduceMean", "BitwiseNot"]
    assert found[0] == Obstacle("p", "ReduceMean", "axes are an attribute, and here not constant")


def test_what_newer_opsets_define_is_written_out() -> None:
    model = load(model_of("g (float[2, 3] x) => (float[2, 3] y) { y = Gelu(x) }", 20).SerializeToString())
    assert convert_opset(infer_shapes(model), 13) == []
    assert {node.op_type for node in model.graph} >= {"Erf", "Mul"}
    x = np.linspace(-3, 3, 6, dtype=np.float32).reshape(2, 3)
    (got,) = _run(to_proto(model, "m"), {"x": x})
    (want,) = _run(model_of("g (float[2, 3] x) => (float[2, 3] y) { y = Gelu(x) }", 20), {"x": x})
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_softmax_of_several_dims() -> None:
    """Before opset 13 it was over all dims from its axis on."""
    text = "g (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Softmax <axis = 1> (x) }"
    model = load(model_of(text, 11).SerializeToString())
    assert convert_opset(infer_shapes(model), NEWEST) == []
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    (got,) = _run(to_proto(model, "m"), {"x": x})
    powers = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(got, powers / powers.sum((1, 2), keepdims=True), rtol=1e-5)


def test_names_weights_and_bodies_stay() -> None:
    text = """
    g (float[2, 3] x, bool c) => (float[2, 3] y) <float[3] w = {1, 2, 3}> {
        y = If (c) <then_branch = t () => (float[2, 3] z) { z = Clip <min = 0.0> (x) },
                    else_branch = e () => (float[2, 3] v) { v = Add(x, w) }>
    }
    """
    proto = model_of(text, 9)
    proto.graph.node[0].attribute[0].g.node[0].name = "clipped"
    model = load(proto.SerializeToString())
    weight = model.graph.initializers["w"].const_value
    assert convert_opset(infer_shapes(model), 21) == []
    assert model.graph.initializers["w"].const_value is weight
    names = [node.name for graph in model.graphs() for node in graph]
    assert "clipped" in names
    x = np.array([[-1, 2, -3], [4, -5, 6]], np.float32)
    (got,) = _run(to_proto(model, "m"), {"x": x, "c": np.array(True)})
    np.testing.assert_array_equal(got, np.maximum(x, 0))


def test_there_is_no_such_opset() -> None:
    model = load(model_of("g (float[2] x) => (float[2] y) { y = Relu(x) }", 9).SerializeToString())
    with pytest.raises(InvalidModelError, match="opset 999 does not exist"):
        raise_opset(model, 999)


def test_domains_of_others_stay() -> None:
    values = [helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], "g", values[:1], values[1:]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = load(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    assert convert_opset(infer_shapes(model), 11) == []
    assert [node.domain for node in model.graph] == ["com.microsoft"]
