from __future__ import annotations

import numpy as np
import pytest
from pass_cases import only, operators, optimized, parse, random

from sardonyx.passes.merge_duplicates import MERGE_DUPLICATES
from sardonyx.passes.pipeline import optimize


def both(one, two, **weights):
    """Operators left of two expressions on x that are added up."""
    model = parse(f"(float[2,3] x) => (float[2,3] y) {{ a = {one}\n b = {two}\n y = Add(a, b) }}", **weights)
    return operators(optimized(model))


def test_equal_expressions_are_computed_once():
    assert both("Relu(x)", "Relu(x)") == ["Relu", "Add"]
    assert both("LeakyRelu<alpha=0.5>(x)", "LeakyRelu<alpha=0.5>(x)") == ["LeakyRelu", "Add"]


def test_chains():
    text = """(float[2] x) => (float[2] y) {
        a = Neg(x)\n b = Neg(x)\n c = Exp(a)\n d = Exp(b)\n y = Sub(c, d)
    }"""
    result = optimized(parse(text.replace("y = Sub(c, d)", "e = Sub(c, d)\n y = Add(e, c)")))
    assert operators(result) == ["Neg", "Exp", "Sub", "Add"]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Relu(x)", "Neg(x)"),
        ("LeakyRelu<alpha=0.5>(x)", "LeakyRelu<alpha=0.25>(x)"),
        ("LeakyRelu<alpha=0.0>(x)", "LeakyRelu<alpha=-0.0>(x)"),
        ("Sub(x, c)", "Sub(c, x)"),
    ],
)
def test_different_expressions_stay(one, two):
    weights = {"c": random(2, 3)} if "c)" in one else {}
    assert len(both(one, two, **weights)) == 3


def test_random_numbers_stay():
    text = "(float[2] x) => (float[2] y) { a = RandomNormalLike(x)\n b = RandomNormalLike(x)\n y = Sub(a, b) }"
    assert len(operators(optimize(parse(text)))) == 3


def test_unknown_domains_stay():
    text = "(float[2] x) => (float[2] y) { a = my.Noise(x)\n b = my.Noise(x)\n y = Sub(a, b) }"
    assert len(operators(optimize(parse(text)))) == 3


def test_outputs_keep_their_names():
    result = optimized(parse("(float[2] x) => (float[2] y, float[2] z) { y = Relu(x)\n a = Relu(x)\n z = Neg(a) }"))
    assert operators(result) == ["Relu", "Neg"]
    result = optimized(parse("(float[2] x) => (float[2] y, float[2] z) { a = Relu(x)\n y = Relu(x)\n z = Neg(a) }"))
    assert operators(result) == ["Relu", "Neg"]


def test_two_outputs_that_are_equal_stay_two():
    model = parse("(float[2] x) => (float[2] y, float[2] z) { y = Relu(x)\n z = Relu(x) }")
    assert operators(optimized(model)) == ["Relu", "Relu"]
    assert "cannot be taken over" in only(MERGE_DUPLICATES, model)[2][0].what


def test_tensor_attributes_are_compared():
    text = """(int64[1] n) => (float[M] y) {
        a = ConstantOfShape<value = float[1] {1}>(n)
        b = ConstantOfShape<value = float[1] {V}>(n)
        y = Add(a, b)
    }"""
    merged = optimize(parse(text.replace("V", "1")))
    assert operators(merged) == ["ConstantOfShape", "Add"]
    assert len(operators(optimize(parse(text.replace("V", "2"))))) == 3


def test_branches_do_not_share_with_each_other():
    text = """(bool cond, float[2] x) => (float[2] y) {
        y = If (cond) <
            then_branch = t () => (float[2] p) { a = Exp(x)\n p = Neg(a) },
            else_branch = e () => (float[2] q) { b = Exp(x)\n q = Abs(b) }
        >
    }"""
    result = optimized(parse(text, c=np.float32(1)))
    for attribute in result.graph.node(0).attributes.values():
        assert attribute.as_graph()[0].op_type == "Exp"
