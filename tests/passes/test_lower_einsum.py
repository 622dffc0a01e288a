from __future__ import annotations

import numpy as np
import pytest
from pass_cases import check, only, operators, optimized, parse, random

from sardonyx.model.shapes import infer_shapes
from sardonyx.passes.lower_einsum import LOWER_EINSUM
from sardonyx.passes.pipeline import optimize

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 6}


def einsum(equation, *, constant=False):
    left, right, result = equation.replace("->", ",").split(",")
    dims = [",".join(str(SIZES[letter]) for letter in word) for word in (left, right, result)]
    second = "" if constant else f", float[{dims[1]}] w"
    text = f'(float[{dims[0]}] x{second}) => (float[{dims[2]}] y) {{ y = Einsum<equation="{equation}">(x, w) }}'
    weights = {"w": random(*(SIZES[letter] for letter in right))} if constant else {}
    return parse(text, **weights)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    ("equation", "products"),
    [
        ("ab,bc->ac", ["MatMul"]),
        ("ab,cb->ac", ["MatMul"]),
        ("ab,bc->ca", ["MatMul"]),
        ("abc,cd->abd", ["MatMul"]),
        # what Keras's MultiHeadAttention computes: projections to heads, scores, mean, projection back
        ("abc,cde->abde", ["MatMul", "Reshape"]),
        ("aecd,abcd->acbe", ["MatMul"]),
        ("acbe,aecd->abcd", ["MatMul", "Transpose"]),
        ("abcd,cde->abe", ["Reshape", "MatMul"]),
    ],
)
def test_products(equation, products, constant):
    result = optimized(einsum(equation, constant=constant), tolerance=2e-6)
    assert set(products) <= set(operators(result)) <= {*products, "Transpose", "Reshape"}


@pytest.mark.parametrize("equation", ["abc,abd->cd", "ab,cd->abcd", "abc,abd->abcd", "aab,bc->ac", "ab,ac->b"])
def test_what_is_no_product_stays(equation):
    if equation == "aab,bc->ac":
        model = parse(f'(float[2,2,3] x, float[3,4] w) => (float[2,4] y) {{ y = Einsum<equation="{equation}">(x, w) }}')
    else:
        model = einsum(equation)
    result, applied, missed = only(LOWER_EINSUM, model)
    if equation == "abc,abd->cd":  # both sums are over known sizes
        assert "MatMul" in operators(result)
    else:
        assert operators(result) == ["Einsum"] and not applied and missed


def test_attention_as_keras_writes_it():
    text = """(float[B,S,8] x) => (float[B,S,8] y) {
        qw = Einsum<equation="abc,cde->abde">(x, wq) q = Add(qw, bq)
        kw = Einsum<equation="abc,cde->abde">(x, wk) k = Add(kw, bk)
        vw = Einsum<equation="abc,cde->abde">(x, wv) v = Add(vw, bv)
        h = Mul(q, scale)
        s = Einsum<equation="aecd,abcd->acbe">(k, h)
        w = Softmax<axis=-1>(s)
        o = Einsum<equation="acbe,aecd->abcd">(w, v)
        p = Einsum<equation="abcd,cde->abe">(o, wo) y = Add(p, bo)
    }"""
    weights = {f"w{name}": random(8, 2, 4, seed=seed) for seed, name in enumerate("qkv")}
    weights |= {f"b{name}": random(2, 4, seed=9 + seed) for seed, name in enumerate("qkv")}
    weights |= {"wo": random(2, 4, 8), "bo": random(8), "scale": np.float32(0.5)}
    model = infer_shapes(parse(text, opset=23, ir_version=11, **weights))
    result = optimize(model)
    assert operators(result).count("Attention") == 1
    assert not {"Einsum", "Softmax"} & set(operators(result))
    check(model, result, tolerance=2e-6)
