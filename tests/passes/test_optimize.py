from __future__ import annotations

import time

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pass_cases import check, norm, operators, optimized, parse, random, run_onnxruntime

from sardonyx.passes.pipeline import optimize
from sardonyx.passes.verify import structure_problem
from sardonyx.zoo.architectures import build

TEXT = """(float[1,3,6,6] x) => (float[1,4,4,4] y) {
    i = Identity(x)
    c = Conv(i, w)
    y = BatchNormalization(c, s, b, m, v)
}"""


def test_levels():
    model = parse(TEXT, w=random(4, 3, 3, 3), **norm(4))
    assert optimize(model, level="off") is model
    assert operators(optimize(model, level="basic")) == ["Conv", "BatchNormalization"]
    assert operators(optimize(model, level="all")) == ["Conv"]
    with pytest.raises(ValueError, match="not one of 'off', 'basic', 'all'"):
        optimize(model, level="more")


def test_weights_are_shared_with_the_given_model():
    model = parse("(float[2,3] x) => (float[2,4] y) { y = MatMul(x, w) }", w=random(3, 4))
    assert optimize(model).graph.initializers["w"].const_value is model.graph.initializers["w"].const_value


def test_metadata_and_functions_stay():
    proto = ir.to_proto(parse("(float[2] x) => (float[2] y) { y = Relu(x) }"))
    proto.graph.node[0].domain, proto.graph.node[0].op_type = "local", "Twice"
    body = [onnx.helper.make_node("Add", ["a", "a"], ["b"])]
    opsets = [onnx.helper.make_opsetid("", 17)]
    proto.functions.append(onnx.helper.make_function("local", "Twice", ["a"], ["b"], body, opsets))
    proto.opset_import.append(onnx.helper.make_opsetid("local", 1))
    proto.metadata_props.add(key="author", value="someone")
    proto.producer_name, proto.model_version, proto.doc_string = "exporter", 7, "text"
    result = optimized(ir.from_proto(proto))
    assert operators(result) == ["Twice"]
    assert dict(result.metadata_props) == {"author": "someone"}
    assert (result.producer_name, result.model_version, result.doc_string) == ("exporter", 7, "text")


# Random networks ------------------------------------------------------------------------------------------

LAYERS = (
    "conv",
    "depthwise",
    "norm",
    "relu",
    "identity",
    "dropout",
    "pad",
    "transpose",
    "add",
    "cast",
    "pool",
)


@st.composite
def networks(draw):
    """Chains of layers with a second reader now and then, and an output in the middle now and then."""
    lines, weights, channels, skip = [], {}, draw(st.integers(1, 4)), None
    start, value, outputs = channels, "x", []
    for index, layer in enumerate(draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=10))):
        name, weight = f"h{index}", f"w{index}"
        if layer in {"conv", "depthwise"}:
            out = channels if layer == "depthwise" else draw(st.integers(1, 4))
            group = channels if layer == "depthwise" else 1
            weights[weight] = random(out, channels // group, 3, 3, seed=index, low=-0.5, high=0.5)
            bias = ""
            if draw(st.booleans()):
                weights[f"d{index}"], bias = random(out, seed=index), f", d{index}"
            call, channels = f"Conv<group={group}, pads=[1,1,1,1]>({value}, {weight}{bias})", out
            skip = None
        elif layer == "norm":
            named = {f"{key}{index}": array for key, array in norm(channels, seed=index).items()}
            weights |= named
            call = f"BatchNormalization({value}, {', '.join(named)})"
        elif layer == "pad":
            weights[weight] = np.array([0, 0, 1, 0, 0, 0, 0, 1])
            lines.append(f"p{index} = Pad({value}, {weight})")
            weights[f"u{index}"] = random(channels, channels, 2, 2, seed=index, low=-0.5, high=0.5)
            call = f"Conv(p{index}, u{index})"
        elif layer == "transpose":
            lines.append(f"t{index} = Transpose<perm=[0,2,3,1]>({value})")
            call = f"Transpose<perm=[0,3,1,2]>(t{index})"
        elif layer == "add":
            call = f"Add({value}, {skip or value})"
        elif layer == "cast":
            call = f"Cast<to=1>({value})"
        elif layer == "pool":
            call = f"AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>({value})"
        else:
            call = f"{ {'relu': 'Relu', 'identity': 'Identity', 'dropout': 'Dropout'}[layer] }({value})"
        lines.append(f"{name} = {call}")
        skip, value = draw(st.sampled_from([skip, name])) if layer != "pad" else None, name
        if skip is not None and draw(st.integers(0, 5)) == 0:
            outputs.append((name, channels))
    outputs = dict([*outputs, (value, channels)])
    declared = ", ".join(f"float[2,{count},5,5] {name}" for name, count in outputs.items())
    text = f"(float[2,{start},5,5] x) => ({declared}) {{ {chr(10).join(lines)} }}"
    return parse(text, **weights)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_random_networks_compute_the_same(model):
    result = optimized(model, tolerance=1e-5, reference=False)
    assert len(operators(result)) <= len(operators(model))


# Whole networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("resnet18", {"Conv", "Relu", "Add", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"}),
        ("mobilenetv2", {"Conv", "Clip", "Add", "GlobalAveragePool", "Flatten", "Gemm"}),
        ("efficientnet-b0", {"Conv", "Sigmoid", "Mul", "Add", "GlobalAveragePool", "Flatten", "Gemm"}),
        ("ferplus", {"Conv", "Relu", "MaxPool", "Flatten", "Gemm"}),
    ],
)
def test_architectures_lose_their_norms_and_dropouts(name, left):
    model = build(name, image=64, width=0.25, batch="N")
    result = optimize(model)
    assert set(operators(result)) == left
    check(model, result, tolerance=1e-5, reference=False)


def test_resnet50_takes_well_under_a_second():
    model = build("resnet50")
    for value in model.graph.initializers.values():
        value.const_value.numpy()
    start = time.perf_counter()
    result = optimize(model)
    assert time.perf_counter() - start < 1.0
    assert operators(result).count("Conv") == 53 and "BatchNormalization" not in operators(result)


def test_the_result_is_what_onnxruntime_makes_of_a_folded_export():
    x = {"input": random(1, 3, 32, 32)}
    model = build("resnet18", image=32, width=0.125)
    want = run_onnxruntime(model, x)[0].astype(np.float64)
    have = run_onnxruntime(optimize(model), x)[0].astype(np.float64)
    assert np.linalg.norm(want - have) <= 1e-5 * np.linalg.norm(want)


# ONNX's own operator tests --------------------------------------------------------------------------------


def with_constants(case, kept):
    """The case's model with all inputs but the first `kept` made initializers, and what is left to feed."""
    proto, feeds = onnx.ModelProto(), {}
    proto.CopyFrom(case.model)
    for index, (value, data) in enumerate(zip(case.model.graph.input, case.data_sets[0][0], strict=True)):
        if index < kept:
            feeds[value.name] = onnx.numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else data
        elif isinstance(data, np.ndarray) and data.dtype.kind != "V":
            proto.graph.initializer.append(onnx.numpy_helper.from_array(data, value.name))
            proto.graph.input.remove(value)
        else:
            return None
    return proto, feeds


def same(want, have):
    if not isinstance(want, np.ndarray):
        return str(want) == str(have)
    if want.dtype != have.dtype or want.shape != have.shape:
        return False
    if want.dtype.kind in "fV":
        return np.allclose(want.astype(float), have.astype(float), rtol=1e-6, atol=1e-7, equal_nan=True)
    return np.array_equal(want, have)


@pytest.mark.parametrize("step", [20, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_operators_with_constant_inputs(step):
    """No pass changes what onnx.reference computes, whichever inputs are constant."""
    from onnx.backend.test.loader import load_model_tests
    from onnx.reference import ReferenceEvaluator

    random_ones, checked, wrong = ("bernoulli", "dropout", "random", "multinomial"), 0, []
    for case in load_model_tests(kind="node")[::step]:
        if case.model is None or any(word in case.name for word in random_ones):
            continue
        for kept in (0, 1, len(case.model.graph.input)):
            changed = with_constants(case, kept)
            if changed is None:
                continue
            proto, inputs = changed
            try:
                want = ReferenceEvaluator(proto).run(None, inputs)
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
                continue  # onnx.reference cannot run the case; others judge those
            result = optimize(ir.from_proto(proto))
            have = ReferenceEvaluator(ir.to_proto(result)).run(None, inputs)
            if structure_problem(result) or not all(map(same, want, have)):
                wrong.append((case.name, kept))
            checked += 1
    assert not wrong
    assert checked > 4000 // step
