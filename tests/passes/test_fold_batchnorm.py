from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pass_cases import norm, only, operators, optimized, parse, random

from sardonyx.passes.fold_batchnorm import FOLD_BATCHNORM
from sardonyx.passes.pipeline import optimize

CONV = """(float[N,4,6,6] x) => (float[N,6,6,6] y) {
    c = Conv<pads=[1,1,1,1]>(x, w)
    y = BatchNormalization<epsilon=0.01>(c, s, b, m, v)
}"""


def folded_in(model, *, reference=True):
    result = optimized(model, reference=reference)
    assert "BatchNormalization" not in operators(result)
    return result


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_conv(group, bias):
    text = CONV.replace("pads", f"group={group}, pads").replace("w)", "w, d)" if bias else "w)")
    channels = 8
    text = text.replace("float[N,6,6,6] y", "float[N,8,6,6] y")
    weights = {"w": random(channels, 4 // group, 3, 3)} | ({"d": random(channels, seed=9)} if bias else {})
    result = folded_in(parse(text, **weights, **norm(channels)))
    assert operators(result) == ["Conv"]
    names = ["w", "d" if bias else "y_bias"]
    assert list(result.graph.initializers) == names
    assert [value.name for value in result.graph.node(0).inputs] == ["x", *names]


def test_folded_weights_are_rounded_once():
    parameters, w = norm(6), random(6, 4, 3, 3)
    result = optimize(parse(CONV, w=w, **parameters))
    s, b, m, v = (parameters[key].astype(np.float64) for key in "sbmv")
    factor = s / np.sqrt(v + float(np.float32(0.01)))
    weight, bias = (value.const_value.numpy() for value in result.graph.initializers.values())
    np.testing.assert_array_equal(weight, (w * factor[:, None, None, None]).astype(np.float32))
    np.testing.assert_array_equal(bias, (b - m * factor).astype(np.float32))


@pytest.mark.parametrize("group", [1, 2])
def test_conv_transpose(group):
    text = f"""(float[1,4,5,5] x) => (float[1,6,11,11] y) {{
        c = ConvTranspose<group={group}, strides=[2,2]>(x, w, d)
        y = BatchNormalization(c, s, b, m, v)
    }}"""
    weights = {"w": random(4, 6 // group, 3, 3), "d": random(6)}
    # onnx.reference fails on ConvTranspose in groups.
    assert operators(folded_in(parse(text, **weights, **norm(6)), reference=group == 1)) == ["ConvTranspose"]


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("c", [None, (), (1,), (5,), (1, 5)])
def test_gemm(transposed, c):
    bias = {} if c is None else {"c": random(*c, seed=4) if c else np.float32(0.7)}
    text = f"""(float[3,7] x) => (float[3,5] y) {{
        g = Gemm<alpha=0.5, beta=0.25, transB={transposed}>(x, w{", c" if bias else ""})
        y = BatchNormalization(g, s, b, m, v)
    }}"""
    weight = random(5, 7) if transposed else random(7, 5)
    assert operators(folded_in(parse(text, w=weight, **bias, **norm(5)))) == ["Gemm"]


@pytest.mark.parametrize("shape", [(5, 1), (5, 5)])
def test_gemm_with_a_matrix_for_bias_stays(shape):
    text = """(float[5,7] x) => (float[5,5] y) {
        g = Gemm(x, w, c)
        y = BatchNormalization(g, s, b, m, v)
    }"""
    assert operators(optimized(parse(text, w=random(7, 5), c=random(*shape), **norm(5)))) == [
        "Gemm",
        "BatchNormalization",
    ]


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank):
    dims = ",".join(["6"] * rank)
    out = ",".join(["4"] * rank)
    text = f"""(float[1,2,{dims}] x) => (float[1,3,{out}] y) {{
        c = Conv(x, w)
        y = BatchNormalization(c, s, b, m, v)
    }}"""
    assert operators(folded_in(parse(text, w=random(3, 2, *[3] * rank), **norm(3)))) == ["Conv"]


def test_each_norm_goes_into_its_own_convolution():
    text = """(float[1,4,6,6] x) => (float[1,8,6,6] y) {
        d = Conv<group=4, pads=[1,1,1,1]>(x, wd)
        dn = BatchNormalization(d, s, b, m, v)
        p = Conv(dn, wp)
        y = BatchNormalization(p, s2, b2, m2, v2)
    }"""
    second = {f"{key}2": array for key, array in norm(8, seed=5).items()}
    model = parse(text, wd=random(4, 1, 3, 3), wp=random(8, 4, 1, 1), **norm(4), **second)
    assert operators(folded_in(model)) == ["Conv", "Conv"]


def test_consecutive_norms_fold_into_one():
    text = """(float[1,4,6,6] x) => (float[1,6,6,6] y) {
        c = Conv<pads=[1,1,1,1]>(x, w)
        n = BatchNormalization(c, s, b, m, v)
        y = BatchNormalization(n, s, b, m, v)
    }"""
    assert operators(folded_in(parse(text, w=random(6, 4, 3, 3), **norm(6)))) == ["Conv"]


def test_shared_bias_is_not_overwritten():
    text = """(float[1,4,6,6] x) => (float[1,4,6,6] y, float[1,4,6,6] z) {
        c = Conv(x, w, d)
        y = BatchNormalization(c, s, b, m, v)
        z = Conv(x, w2, d)
    }"""
    result = folded_in(parse(text, w=random(4, 4, 1, 1), w2=random(4, 4, 1, 1, seed=3), d=random(4), **norm(4)))
    assert {"d", "y_bias"} <= set(result.graph.initializers)


@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "float16"), (np.float64, "double")])
def test_other_types(dtype, name):
    parameters = {key: array.astype(dtype) for key, array in norm(6).items()}
    model = parse(CONV.replace("float", name), w=random(6, 4, 3, 3, dtype=dtype), **parameters)
    result = optimize(model)
    assert operators(result) == ["Conv"]
    assert all(value.dtype == ir.DataType.from_numpy(np.dtype(dtype)) for value in result.graph.initializers.values())


def test_bfloat16_is_folded_by_the_same_rule():
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16)
    parameters = {key: array.astype(kind) for key, array in norm(6).items()}
    w = random(6, 4, 3, 3).astype(kind)
    model = parse(CONV.replace("float", "bfloat16"), w=np.zeros(1, np.float32), **norm(6))
    for name, array in {"w": w, **parameters}.items():
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
        model.graph.initializers[name].dtype = ir.DataType.BFLOAT16
    result = optimize(model)
    factor = parameters["s"].astype(float) / np.sqrt(parameters["v"].astype(float) + float(np.float32(0.01)))
    want = (w.astype(float) * factor[:, None, None, None]).astype(kind)
    np.testing.assert_array_equal(result.graph.initializers["w"].const_value.numpy(), want)


def test_opset_8():
    # onnx.reference fails on BatchNormalization before version 9.
    model = parse(CONV, opset=8, ir_version=4, w=random(6, 4, 3, 3), **norm(6))
    assert operators(folded_in(model, reference=False)) == ["Conv"]


def test_opset_8_per_element_stays():
    text = CONV.replace("epsilon=0.01", "spatial=0")
    model = parse(text, opset=8, ir_version=4, w=random(6, 4, 3, 3), **norm(6))
    assert operators(optimize(model)) == ["Conv", "BatchNormalization"]


def test_initializers_listed_as_inputs_are_constant_before_ir_version_4():
    text = CONV.replace("x) =>", "x, float[6,4,3,3] w, float[6] s, float[6] b, float[6] m, float[6] v) =>")
    result = folded_in(parse(text, opset=8, ir_version=3, w=random(6, 4, 3, 3), **norm(6)), reference=False)
    assert result.ir_version == 4
    assert [value.name for value in result.graph.inputs] == ["x"]


def miss(text, reason, **weights):
    model = parse(text, **weights)
    result = optimized(model)
    assert "BatchNormalization" in operators(result)
    _, applied, missed = only(FOLD_BATCHNORM, model)
    assert not applied
    assert [event.what for event in missed if reason in event.what], missed


W = {"w": random(6, 4, 3, 3)}


def test_misses_when_the_convolution_is_used_elsewhere():
    text = CONV.replace("y) {", "y, float[N,6,6,6] r) {").replace("}", "r = Relu(c) }")
    miss(text, "used elsewhere", **W, **norm(6))


def test_misses_when_the_convolution_is_an_output():
    miss(CONV.replace("y) {", "y, float[N,6,6,6] c) {"), "used elsewhere", **W, **norm(6))


def test_misses_weights_that_can_be_overridden():
    miss(CONV.replace("x) =>", "x, float[6,4,3,3] w) =>"), "not constant", **W, **norm(6))


def test_misses_weights_that_are_computed():
    text = CONV.replace("x) =>", "x, float[6,4,3,3] u) =>").replace("{\n", "{\n w = Tanh(u)\n")
    miss(text, "not constant", **norm(6))


def test_misses_shared_weights():
    text = CONV.replace("y) {", "y, float[N,6,4,4] z) {").replace("}", "z = Conv(x, w) }")
    miss(text, "shared", **W, **norm(6))


def test_misses_parameters_that_are_inputs():
    model = norm(6)
    del model["m"]
    miss(CONV.replace("x) =>", "x, float[6] m) =>"), "not four constant vectors", **W, **model)


def test_misses_after_another_operator():
    text = CONV.replace("y = Batch", "r = Relu(c)\n y = Batch").replace("(c, s", "(r, s")
    miss(text, "is Relu", **W, **norm(6))


def test_misses_when_nothing_is_before():
    text = "(float[1,6,4,4] x) => (float[1,6,4,4] y) { y = BatchNormalization(x, s, b, m, v) }"
    miss(text, "an input or a constant", **norm(6))


@pytest.mark.parametrize("variance", [-1.0, -0.01])
def test_misses_a_variance_without_a_root(variance):
    parameters = norm(6) | {"v": np.full(6, variance, np.float32)}
    model = parse(CONV, **W, **parameters)
    assert operators(optimize(model)) == ["Conv", "BatchNormalization"]


def test_misses_what_overflows_float16():
    parameters = {key: array.astype(np.float16) for key, array in (norm(6) | {"s": np.full(6, 6e4)}).items()}
    model = parse(CONV.replace("float", "float16"), w=np.full((6, 4, 3, 3), 100, np.float16), **parameters)
    assert operators(optimize(model)) == ["Conv", "BatchNormalization"]


def test_misses_training_mode():
    text = CONV.replace("epsilon=0.01", "training_mode=1").replace("y = ", "y, rm, rv = ")
    model = parse(text, **W, **norm(6))
    assert "BatchNormalization" in operators(optimize(model))
    assert "training mode" in only(FOLD_BATCHNORM, model)[2][0].what


def test_misses_across_a_subgraph():
    text = """(bool cond, float[1,4,6,6] x) => (float[1,6,6,6] y) {
        c = Conv<pads=[1,1,1,1]>(x, w)
        y = If (cond) <
            then_branch = t () => (float[1,6,6,6] p) { p = BatchNormalization(c, s, b, m, v) },
            else_branch = e () => (float[1,6,6,6] q) { q = Relu(x2)
                x2 = Identity(zero) }
        >
    }"""
    text = text.replace("q = Relu(x2)\n                x2 = Identity(zero) }", "q = Relu(zero) }")
    model = parse(text, zero=np.zeros((1, 6, 6, 6), np.float32), **W, **norm(6))
    assert operators(optimized(model)) == ["Conv", "If"]
    assert "another graph" in only(FOLD_BATCHNORM, model)[2][0].what


def test_folds_inside_a_subgraph():
    text = """(bool cond, float[1,4,6,6] x) => (float[1,6,6,6] y) {
        y = If (cond) <
            then_branch = t () => (float[1,6,6,6] p) {
                c = Conv<pads=[1,1,1,1]>(x, w)
                p = BatchNormalization(c, s, b, m, v)
            },
            else_branch = e () => (float[1,6,6,6] q) { q = Relu(zero) }
        >
    }"""
    model = parse(text, zero=np.zeros((1, 6, 6, 6), np.float32), **W, **norm(6))
    result = optimized(model)
    assert operators(result) == ["If"]
    (then, _) = [attribute.as_graph() for attribute in result.graph.node(0).attributes.values()]
    assert operators(ir.Model(then, ir_version=8)) == ["Conv"]
    assert not result.graph.initializers


def test_reads_only_what_it_folds():
    read = []

    def lazy(array, name):
        def make():
            read.append(name)
            return ir.Tensor(array, name=name)

        return ir.LazyTensor(make, ir.DataType.FLOAT, ir.Shape(array.shape), name=name)

    text = CONV.replace("float[N,6,6,6] y", "float[N,6,4,4] z").replace("}", "z = Conv(y, w2) }")
    arrays = {**W, **norm(6), "w2": random(6, 6, 3, 3)}
    model = parse(text, **arrays)
    for name, array in arrays.items():
        model.graph.initializers[name].const_value = lazy(array, name)
    assert operators(optimize(model)) == ["Conv", "Conv"]
    assert sorted(read) == sorted(["w", "s", "b", "m", "v"])
