"""What the reference provider adds to onnx.reference: control flow, views of weights, errors, old opsets."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import TensorProto, helper

import sardonyx
from sardonyx.errors import ExecutionError
from sardonyx.model import file
from sardonyx.providers.base import CompileOptions
from sardonyx.providers.reference import ReferenceProvider

PROVIDER = ReferenceProvider()


def parse(body: str, opset: int = 21, functions: str = "", domains: str = "") -> bytes:
    header = f'<ir_version: 8, opset_import: ["" : {opset}{domains}]>'
    return onnx.parser.parse_model(f"{header}\n{body}\n{functions}").SerializeToString()


def compiled(source: bytes, profile: bool = False):
    model = file.load(source)
    assert all(claim.accepted for claim in PROVIDER.claims(model).values())
    return PROVIDER.compile(model, CompileOptions(profile=profile))


def peer(source: bytes, *inputs):
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, {arg.name: value for arg, value in zip(session.get_inputs(), inputs, strict=True)})


def assert_as_onnxruntime(source: bytes, *inputs, rtol=1e-6):
    for one, other in zip(compiled(source).run(inputs), peer(source, *inputs), strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=rtol)


LOOP = """g (int64 trips, float[2, 3] x) => (float[2, 3] last, float[K, 2, 3] steps, int64[K] counts)
    <bool go = {1}, float two = {2}> {
    last, steps, counts = Loop(TRIPS, CONDITION, x) <body = b (int64 i, bool c, float[2, 3] s)
        => (bool d, float[2, 3] t, float[2, 3] u, int64 j)
        { d = Identity(c)  t = Mul(s, two)  u = Add(s, x)  j = Identity(i) }>
    }"""


@pytest.mark.parametrize("condition", ["go", ""])
@pytest.mark.parametrize("trips", [0, 1, 4])
def test_loop(condition, trips):
    source = parse(LOOP.replace("TRIPS", "trips").replace("CONDITION", condition))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert_as_onnxruntime(source, np.array(trips), x)


def test_loop_until_the_condition_fails():
    source = parse(
        """g (float x) => (float y, float[K] seen) <float limit = {100}, float two = {2}, bool go = {1}> {
        y, seen = Loop(, go, x) <body = b (int64 i, bool c, float s) => (bool d, float t, float u)
            { t = Mul(s, two)  d = Less(t, limit)  u = Identity(s) }> }"""
    )
    assert_as_onnxruntime(source, np.array(3, np.float32))


def test_scan_axes_and_directions():
    body = helper.make_graph(
        [
            helper.make_node("Add", ["sum", "item"], ["next"]),
            helper.make_node("Mul", ["next", "scale"], ["out"]),
        ],
        "body",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("sum", "item")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("next", "out")],
    )
    graph = helper.make_graph(
        [
            helper.make_node(
                "Scan",
                ["start", "items"],
                ["sum", "all"],
                body=body,
                num_scan_inputs=1,
                scan_input_axes=[1],
                scan_input_directions=[1],
                scan_output_axes=[-1],
                scan_output_directions=[1],
            )
        ],
        "g",
        [
            helper.make_tensor_value_info("start", TensorProto.FLOAT, [2]),
            helper.make_tensor_value_info("items", TensorProto.FLOAT, [2, None]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [2]),
            helper.make_tensor_value_info("all", TensorProto.FLOAT, [2, None]),
        ],
        value_info=[],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)
    source = model.SerializeToString()
    items = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    assert_as_onnxruntime(source, np.ones(2, np.float32), items, np.array(3, np.float32))


def test_nested_bodies_see_all_scopes():
    source = parse(
        """g (float[3] x, bool outer, bool inner) => (float[3] y) <float[3] w = {1, 2, 3}> {
        h = Exp(x)
        y = If(outer) <
            then_branch = t () => (float[3] u) {
                k = Add(h, w)
                u = If(inner) <then_branch = tt () => (float[3] p) { p = Mul(k, h) },
                               else_branch = te () => (float[3] q) { q = Sub(k, x) }>
            },
            else_branch = e () => (float[3] v) { v = Neg(h) }> }"""
    )
    x = np.array([0.5, -1, 2], np.float32)
    for outer in (True, False):
        for inner in (True, False):
            assert_as_onnxruntime(source, x, np.array(outer), np.array(inner))


def test_dequantize_linear_before_opset_19():
    per_tensor = parse(
        """g (uint8[4] x) => (float[4] y) <float s = {0.5}, uint8 z = {128}>
        { y = DequantizeLinear(x, s, z) }""",
        13,
    )
    x = np.array([0, 3, 128, 255], np.uint8)
    assert_as_onnxruntime(per_tensor, x)
    per_axis = parse(
        """g (int8[2, 3] x) => (float[2, 3] y) <float[2] s = {0.5, 0.25}, int8[2] z = {1, -2}>
        { y = DequantizeLinear <axis = 0> (x, s, z) }""",
        13,
    )
    assert_as_onnxruntime(per_axis, np.arange(6, dtype=np.int8).reshape(2, 3))


def test_global_lp_pool_and_scatter():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    assert_as_onnxruntime(
        parse("g (float[2,3,4,5] x) => (float[2,3,1,1] y) { y = GlobalLpPool <p = 3> (x) }"), x, rtol=1e-5
    )
    scatter = parse("g (float[3] x, int64[2] i, float[2] u) => (float[3] y) { y = Scatter <axis = 0> (x, i, u) }", 9)
    assert_as_onnxruntime(scatter, np.zeros(3, np.float32), np.array([2, 0]), np.array([5, 6], np.float32))


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_lrn_of_every_channel(size):
    x = np.random.default_rng(0).normal(scale=5, size=(2, 7, 3, 2)).astype(np.float32)
    node = f"LRN <size = {size}, alpha = 0.5, beta = 0.6, bias = 1.5> (x)"
    assert_as_onnxruntime(parse(f"g (float[2,7,3,2] x) => (float[2,7,3,2] y) {{ y = {node} }}"), x, rtol=1e-5)


def test_zip_map_and_category_mapper():
    ml = ', "ai.onnx.ml" : 3'
    zip_map = helper.make_model(
        helper.make_graph(
            [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_strings=["a", "b"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
            [
                onnx.ValueInfoProto(
                    name="y",
                    type=helper.make_sequence_type_proto(
                        helper.make_map_type_proto(
                            TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
                        )
                    ),
                )
            ],
        ),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=8,
    ).SerializeToString()
    x = np.array([[0.25, 0.75], [1, 0]], np.float32)
    assert compiled(zip_map).run([x]) == peer(zip_map, x)
    mapper = parse(
        """g (string[N] x) => (int64[N] y) {
        y = ai.onnx.ml.CategoryMapper
            <cats_int64s = [4, 5], cats_strings = ["a", "b"], default_int64 = -7> (x) }""",
        domains=ml,
    )
    words = np.array(["b", "c", "a"], object)
    assert compiled(mapper).run([words])[0].tolist() == peer(mapper, words)[0].tolist() == [5, -7, 4]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("bfloat16", ml_dtypes.bfloat16), ("float8e4m3fn", ml_dtypes.float8_e4m3fn), ("int4", ml_dtypes.int4)],
)
def test_types_numpy_lacks(name, dtype):
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "one"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["y"], to=getattr(TensorProto, name.upper())),
            helper.make_node("Cast", ["weight"], ["w"], to=TensorProto.FLOAT),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [
            helper.make_tensor_value_info("y", getattr(TensorProto, name.upper()), [3]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]),
        ],
        [
            helper.make_tensor("one", TensorProto.FLOAT, [], [1]),
            helper.make_tensor("weight", getattr(TensorProto, name.upper()), [3], [-2, 0, 3]),
        ],
    )
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    y, w = compiled(source).run([np.array([1, 2, 3], np.float32)])
    assert y.dtype == dtype
    assert y.astype(np.float32).tolist() == [2, 3, 4]
    assert w.tolist() == [-2, 0, 3]


def test_strings_and_sequences():
    source = parse(
        """g (string[2] x) => (bool[2] same, seq(string[2]) both) <string[2] w = {"a", "ü"}>
        { same = Equal(x, w)  both = SequenceConstruct(x, w) }"""
    )
    same, both = compiled(source).run([np.array(["a", "b"], object)])
    assert same.tolist() == [True, False]
    assert [item.tolist() for item in both] == [["a", "b"], ["a", "ü"]]


def test_weights_are_not_copied():
    weight = np.zeros((256, 256), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 256])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8).SerializeToString()
    model = file.load(source)
    executable = PROVIDER.compile(model, CompileOptions())
    used = executable._weights["w"]
    assert np.shares_memory(used, np.frombuffer(source, np.uint8))


def test_claims_say_why_not():
    source = parse(
        """g (float[N] x, bool c) => (float[N] y, float[N] z, float[N] w) {
        y = com.example.Own(x)
        z = If(c) <then_branch = t () => (float[N] u) { u = com.example.Own(x) },
                   else_branch = e () => (float[N] v) { v = Neg(x) }>
        w = local.Twice(x) }""",
        functions="""<domain: "local", opset_import: ["" : 21]> Twice (a) => (b) { b = Add(a, a) }""",
        domains=', "com.example" : 1, "local" : 1',
    )
    own, branch, function = PROVIDER.claims(file.load(source)).values()
    assert not own.accepted and "com.example" in own.reason
    assert not branch.accepted and "in its body, 'u' (com.example::Own)" in branch.reason
    assert function.accepted and not function.reason


def test_functions_run_unexpanded_whatever_their_order():
    source = parse(
        "g (float[N] x) => (float[N] y) { y = local.Quad(x) }",
        functions="""<domain: "local", opset_import: ["" : 21, "local" : 1]> Quad (a) => (b)
            { c = local.Twice(a)  b = local.Twice(c) }
            <domain: "local", opset_import: ["" : 21]> Twice (a) => (b) { b = Add(a, a) }""",
        domains=', "local" : 1',
    )
    assert compiled(source).run([np.ones(2, np.float32)])[0].tolist() == [4, 4]


def test_errors_name_the_node():
    source = parse("g (float[N] x, int64[K] s) => (float[A, B] y) { h = Neg(x)  y = Reshape(h, s) }")
    session = sardonyx.InferenceSession(source, providers=["reference"])
    with pytest.raises(ExecutionError) as caught:
        session.run(None, {"x": np.ones(4, np.float32), "s": np.array([3, 2])})
    for word in ("node 'y' (Reshape)", "cannot reshape", "float32[4], int64[2]"):
        assert word in str(caught.value)
    assert session.run(None, {"x": np.ones(6, np.float32), "s": np.array([3, 2])})[0].shape == (3, 2)


def test_profile_has_every_node():
    executable = compiled(parse("g (float[N] x) => (float[N] y) { h = Neg(x)  y = Exp(h) }"), profile=True)
    executable.run([np.ones(4, np.float32)])
    times = executable.profile()
    assert [step.kernel for step in times] == ["reference Neg", "reference Exp"]
    assert times[0].start_ns + times[0].duration_ns <= times[1].start_ns
    assert compiled(parse("g (float[N] x) => (float[N] y) { y = Exp(x) }")).profile() == []


def test_no_numpy_warnings(recwarn):
    executable = compiled(parse("g (float[N] x) => (float[N] y, float[N] z) { y = Log(x)  z = Exp(x) }"))
    y, z = executable.run([np.array([0, -1, 1000], np.float32)])
    assert y[0] == -np.inf and np.isnan(y[1]) and z[2] == np.inf
    assert not recwarn.list
