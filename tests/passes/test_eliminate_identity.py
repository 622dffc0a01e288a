from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pass_cases import check, only, operators, optimized, parse, random

from sardonyx.model.shapes import infer_shapes
from sardonyx.passes.eliminate_identity import ELIMINATE_IDENTITY
from sardonyx.passes.pipeline import optimize


def between(call, *, shape="2,3", opset=17, ir_version=8, reference=True, **weights):
    """Operators left of Relu, `call` on `a`, Neg."""
    text = f"(float[{shape}] x) => (float[{shape}] y) {{ a = Relu(x)\n b = {call}\n y = Neg(b) }}"
    model = parse(text, opset=opset, ir_version=ir_version, **weights)
    return operators(optimized(model, reference=reference))[1:-1]


@pytest.mark.parametrize(
    "call",
    [
        "Identity(a)",
        "Dropout(a)",
        "Dropout(a, ratio)",
        "Dropout(a, ratio, no)",
        "Cast<to=1>(a)",
        "CastLike(a, a)",
        "Transpose<perm=[0,1]>(a)",
        "Concat<axis=1>(a)",
        "Sum(a)",
        "Max(a)",
        "Min(a)",
        "Mean(a)",
        "Pad(a, no_pads)",
        "Reshape(a, same)",
        "Reshape(a, copied)",
        "Reshape(a, open)",
        "Reshape<allowzero=1>(a, open)",
    ],
)
def test_copies_go(call):
    used = {
        "ratio": np.float32(0.5),
        "no": np.bool_(False),
        "no_pads": np.zeros(4, np.int64),
        "same": np.array([2, 3]),
        "copied": np.array([0, 3]),
        "open": np.array([2, -1]),
    }
    types = "a = Relu(x)"
    text = f"(float[2,3] x) => (float[2,3] y) <float[2,3] a> {{ {types}\n b = {call}\n y = Neg(b) }}"
    model = parse(text, **{name: array for name, array in used.items() if name in call})
    assert operators(optimized(model)) == ["Relu", "Neg"]


@pytest.mark.parametrize(
    ("call", "weights"),
    [
        ("Transpose<perm=[1,0]>(a)", {}),
        ("Transpose(a)", {}),
        ("Concat<axis=1>(a, a)", {}),
        ("Sum(a, a)", {}),
        ("Pad(a, pads)", {"pads": np.array([0, 1, 0, 0])}),
        ("Pad(a, pads)", {"pads": np.array([0, 1, 0, -1])}),
        ("Cast<to=11>(a)", {}),
        ("Reshape(a, s)", {"s": np.array([3, 2])}),
        ("Reshape(a, s)", {"s": np.array([1, 2, 3])}),
    ],
)
def test_near_misses_stay(call, weights):
    kind = "double" if "to=11" in call else "float"
    text = f"(float[2,3] x) => ({kind}[M,K] y) <float[2,3] a> {{ a = Relu(x)\n b = {call}\n y = Neg(b) }}"
    if len(weights.get("s", ())) == 3:
        text = text.replace("[M,K]", "[M,K,L]")
    reference = bool(min(weights.get("pads", [0])) >= 0)  # onnx.reference does not crop
    assert len(operators(optimized(parse(text, **weights), reference=reference))) == 3


def test_reshape_of_a_symbolic_shape():
    text = "(float[N,3] x) => (float[N,3] y) <float[N,3] a> { a = Relu(x)\n b = Reshape(a, s)\n y = Neg(b) }"
    assert operators(optimized(parse(text, s=np.array([-1, 3])))) == ["Relu", "Neg"]
    assert operators(optimized(parse(text, s=np.array([0, -1])))) == ["Relu", "Neg"]
    assert operators(optimized(parse(text, s=np.array([2, 3])))) == ["Relu", "Reshape", "Neg"]


def test_pairs_of_transposes():
    text = """(float[2,3,4] x) => (float[2,3,4] y, float[4,2,3] z) {
        t = Transpose<perm=[1,2,0]>(x)
        u = Transpose<perm=[2,0,1]>(t)
        y = Neg(u)
        v = Transpose<perm=[1,2,0]>(t)
        z = Neg(v)
    }"""
    result = optimized(parse(text))
    assert operators(result) == ["Neg", "Transpose", "Neg"]
    assert list(result.graph.node(1).attributes["perm"].as_ints()) == [2, 0, 1]


@pytest.mark.parametrize("call", ["Mul(a, one)", "Mul(one, a)", "Div(a, one)", "Sub(a, zero)", "Mul(a, ones)"])
def test_neutral_operands_go(call):
    text = f"(float[2,3] x) => (float[2,3] y) <float[2,3] a> {{ a = Relu(x)\n b = {call}\n y = Neg(b) }}"
    numbers = {"one": np.float32(1), "ones": np.ones((1, 1), np.float32), "zero": np.float32(0)}
    model = parse(text, **{name: array for name, array in numbers.items() if f"{name})" in call or f"{name}," in call})
    assert operators(optimized(model)) == ["Relu", "Neg"]


@pytest.mark.parametrize("call", ["Mul(a, two)", "Div(one, a)", "Sub(one, a)", "Add(a, zero)", "Mul(a, deep)"])
def test_operands_that_change_something_stay(call):
    """Adding zero turns -0 into 0; a constant of a higher rank adds an axis."""
    kind = "float[1,2,3]" if "deep" in call else "float[2,3]"
    text = f"(float[2,3] x) => ({kind} y) <float[2,3] a> {{ a = Softplus(x)\n b = {call}\n y = Neg(b) }}"
    numbers = {
        "one": np.float32(1),
        "two": np.float32(2),
        "zero": np.float32(0),
        "deep": np.ones((1, 1, 1), np.float32),
    }
    model = parse(text, **{name: array for name, array in numbers.items() if f"{name})" in call or f"{name}," in call})
    assert len(operators(optimized(model))) == 3


@pytest.mark.parametrize(
    ("start", "between", "to", "left"),
    [
        ("float", "double", "float", []),
        ("float16", "float", "float16", []),
        ("float16", "double", "float", ["Cast"]),
        ("int32", "int64", "float", ["Cast"]),
        ("bool", "float", "int64", ["Cast"]),
        ("float", "float16", "float", ["Cast", "Cast"]),
        ("int64", "int32", "int64", ["Cast", "Cast"]),
        ("int64", "float", "int64", ["Cast", "Cast"]),
        ("float", "int64", "float", ["Cast", "Cast"]),
    ],
)
def test_pairs_of_casts(start, between, to, left):
    codes = {"float": 1, "float16": 10, "double": 11, "int32": 6, "int64": 7, "bool": 9}
    text = f"""({start}[2,3] x) => ({to}[3,2] y) {{
        a = Transpose(x) b = Cast<to={codes[between]}>(a) c = Cast<to={codes[to]}>(b) y = Identity(c)
    }}"""
    model = infer_shapes(parse(text))
    assert operators(optimized(model)) == ["Transpose", *left]


def test_squeeze_after_unsqueeze():
    text = "(float[2,3] x) => (float[2,3] y) { a = Relu(x) b = Unsqueeze(a, axes) c = Squeeze(b, axes) y = Neg(c) }"
    assert operators(optimized(parse(text, axes=np.array([1])))) == ["Relu", "Neg"]
    other = text.replace("Squeeze(b, axes)", "Squeeze(b, last)").replace("float[2,3] x", "float[1,3] x")
    other = other.replace("(float[2,3] y)", "(float[A,B] y)")
    assert len(operators(optimized(parse(other, axes=np.array([1]), last=np.array([0]))))) == 4


def test_dropout_before_opset_7():
    text = "(float[2] x) => (float[2] y) {{ a = Relu(x)\n b = Dropout<is_test={}>(a)\n y = Neg(b) }}"
    for is_test, left in ((1, ["Relu", "Neg"]), (0, ["Relu", "Dropout", "Neg"])):
        assert operators(optimize(parse(text.format(is_test), opset=6, ir_version=4))) == left


def test_dropout_whose_mode_is_an_input_stays():
    text = "(float[2] x, bool t) => (float[2] y) { a = Relu(x)\n b = Dropout(a, r, t)\n y = Neg(b) }"
    assert operators(optimize(parse(text, r=np.float32(0.5)))) == ["Relu", "Dropout", "Neg"]


def test_dropout_in_training_or_with_its_mask_used_stays():
    text = """(float[2] x) => (float[2] y, bool[2] k) { a = Relu(x)
        b, k = Dropout(a)
        y = Neg(b) }"""
    assert operators(optimized(parse(text))) == ["Relu", "Dropout", "Neg"]
    assert between("Dropout(a, r, t)", r=np.float32(0), t=np.bool_(True)) == ["Dropout"]


def test_a_name_moves_to_the_value_that_stays():
    result = optimized(parse("(float[2] x) => (float[2] y) { a = Relu(x)\n y = Identity(a) }"))
    assert operators(result) == ["Relu"]
    assert result.graph.node(0).outputs[0].name == "y"


def test_a_scalar_output_keeps_its_shape():
    result = optimized(parse("(float[2] x) => (float y) { a = ReduceSum<keepdims=0>(x)\n y = Identity(a) }"))
    assert operators(result) == ["ReduceSum"]
    assert result.graph.outputs[0].shape == ir.Shape([])


@pytest.mark.parametrize(
    "text",
    [
        "(float[2] x) => (float[2] y) { y = Identity(x) }",
        "(float[2] x) => (float[2] y, float[2] z) { y = Relu(x)\n z = Identity(y) }",
        "(float[2] x) => (float[2] y, float[2] z) { y = Relu(x)\n z = Identity(c) }",
    ],
)
def test_outputs_that_are_inputs_constants_or_other_outputs_stay(text):
    model = parse(text, c=random(2))
    before = operators(model)
    assert operators(optimized(model)) == before
    assert only(ELIMINATE_IDENTITY, model)[2]


def test_two_outputs_of_one_value():
    text = "(float[2] x) => (float[2] y, float[2] z) { a = Relu(x)\n y = Identity(a)\n z = Identity(a) }"
    assert operators(optimized(parse(text))) == ["Relu", "Identity"]


IF = """(bool cond, float[2] x) => (float[2] y) {
    o = Neg(x)
    y = If (cond) <
        then_branch = t () => (float[2] p) { THEN },
        else_branch = e () => (float[2] q) { q = Relu(o) }
    >
}"""


def branch(model):
    (node,) = (node for node in model.graph if node.op_type == "If")
    return [inner.op_type for inner in node.attributes["then_branch"].as_graph()]


def test_a_branch_that_returns_an_outer_value_keeps_its_identity():
    result = optimized(parse(IF.replace("THEN", "p = Identity(o)")))
    assert branch(result) == ["Identity"]


def test_copies_of_captured_values_go():
    result = optimized(parse(IF.replace("THEN", "h = Identity(o)\n p = Abs(h)")))
    assert branch(result) == ["Abs"]


def test_a_captured_value_that_becomes_an_output_keeps_its_readers():
    text = IF.replace("float[2] y)", "float[2] y, float[2] z)").replace("THEN", "p = Abs(o)")
    text = text.replace("o = Neg(x)", "o = Neg(x)\n z = Identity(o)")
    result = optimized(parse(text))
    assert operators(result) == ["Neg", "If"]
    assert result.graph.outputs[1].name == "z"


def test_an_outer_value_returned_by_its_bare_name():
    """onnxruntime refuses such a branch, onnx.reference does not; the result runs on both."""
    model = parse(IF.replace("THEN", "p = Identity(o)"))
    proto = ir.to_proto(model)
    then = proto.graph.node[1].attribute[0].g
    del then.node[:]
    then.output[0].name = "o"
    result = optimize(ir.from_proto(proto))
    assert operators(result) == ["Neg", "If"]
    assert branch(result) == ["Identity"]
    check(parse(IF.replace("THEN", "p = Identity(o)")), result)


def test_loop_bodies():
    text = """(int64 n, float[2] x) => (float[2] y) {
        yes = Constant<value = bool {1}>()
        y = Loop (n, yes, x) <
            body = b (int64 i, bool c, float[2] s) => (bool co, float[2] so) {
                co = Identity(c)
                d = Dropout(s)
                t = Add(d, one)
                so = Identity(t)
            }
        >
    }"""
    model = parse(text, one=np.ones(2, np.float32))
    result = optimized(model)
    body = result.graph.node(0).attributes["body"].as_graph()
    assert [node.op_type for node in body] == ["Identity", "Add"]
