from __future__ import annotations

import numpy as np
import pytest
from pass_cases import only, operators, optimized, parse, random

from sardonyx.passes.fold_pads import FOLD_PADS
from sardonyx.passes.pipeline import optimize

CONV = """(float[1,3,6,7] x) => (float[1,4,H,W] y) {
    p = Pad(x, pads)
    y = Conv(p, w)
}"""
W = {"w": random(4, 3, 3, 3)}
SPATIAL = np.array([0, 0, 1, 2, 0, 0, 3, 0])


def pads_of(model):
    return list(model.graph.node(0).attributes["pads"].as_ints())


def test_conv():
    result = optimized(parse(CONV, pads=SPATIAL, **W))
    assert operators(result) == ["Conv"]
    assert pads_of(result) == [1, 2, 3, 0]


def test_conv_with_pads_and_strides_of_its_own():
    text = CONV.replace("Conv(", "Conv<pads=[1,0,1,0], strides=[2,1], dilations=[1,2]>(")
    result = optimized(parse(text, pads=SPATIAL, **W))
    assert operators(result) == ["Conv"]
    assert pads_of(result) == [2, 2, 4, 0]


def test_auto_pad_valid_means_none():
    text = CONV.replace("Conv(", 'Conv<auto_pad="VALID">(')
    result = optimized(parse(text, pads=SPATIAL, **W))
    assert operators(result) == ["Conv"]
    assert pads_of(result) == [1, 2, 3, 0]


def test_zero_value_and_axes():
    text = CONV.replace("Pad(x, pads)", "Pad(x, pads, zero, axes)")
    weights = {"pads": np.array([2, 1, 0, 3]), "zero": np.float32(0), "axes": np.array([-1, 2])}
    result = optimized(parse(text, opset=18, **weights, **W))
    assert operators(result) == ["Conv"]
    assert pads_of(result) == [1, 2, 3, 0]


def test_attributes_before_opset_11():
    text = CONV.replace("Pad(x, pads)", "Pad<pads=[0,0,1,2,0,0,3,0]>(x)")
    result = optimized(parse(text, opset=9, ir_version=4, **W), reference=False)
    assert operators(result) == ["Conv"]
    assert pads_of(result) == [1, 2, 3, 0]


def test_each_reader_takes_its_own():
    text = CONV.replace("y) {", "y, float[1,4,H,W] z) {").replace("}", "z = Conv(p, w) }")
    result = optimized(parse(text, pads=SPATIAL, **W))
    assert operators(result) == ["Conv", "Conv"] or operators(result) == ["Conv", "Identity"]


@pytest.mark.parametrize(
    ("change", "weights", "reason"),
    [
        (("Pad(x, pads)", "Pad(x, pads, one)"), {"one": np.float32(1)}, "other than zero"),
        (("Pad(x", 'Pad<mode="reflect">(x'), {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, "constant"),
        (("Pad(x", 'Pad<mode="edge">(x'), {}, "constant"),
        (("Conv(", 'Conv<auto_pad="SAME_UPPER">('), {}, "pads by itself"),
        (("", ""), {"pads": np.array([0, 0, -1, 1, 0, 0, 1, 1])}, "crops"),
        (("", ""), {"pads": np.array([1, 0, 1, 1, 0, 0, 1, 1])}, "batch or channels"),
        (("float[1,4,H,W] y", "float[M,4,H,W] y"), {"pads": np.array([1, 0, 0, 0, 0, 0, 0, 0])}, "batch"),
    ],
)
def test_near_misses_stay(change, weights, reason):
    text = CONV.replace(*change) if change[0] else CONV
    text = text.replace("[1,4,H,W]", "[M,4,H,W]")
    model = parse(text, **({"pads": SPATIAL} | weights | W))
    assert operators(optimized(model, reference=reason != "crops")) == ["Pad", "Conv"]  # it does not crop
    assert reason in only(FOLD_PADS, model)[2][0].what


def test_widths_that_are_inputs_stay():
    model = parse(CONV.replace("x) =>", "x, int64[8] pads) =>"), **W)
    assert operators(optimize(model)) == ["Pad", "Conv"]


POOL = "(float[1,2,6,6] x) => (float[1,2,H,W] y) { p = Pad(x, pads)\n y = AveragePool<OPTIONS>(p) }"
ONE = np.array([0, 0, 1, 1, 0, 0, 1, 1])


@pytest.mark.parametrize(
    "options",
    [
        "kernel_shape=[3,3]",
        "kernel_shape=[3,3], count_include_pad=1",
        "kernel_shape=[3,3], count_include_pad=1, pads=[1,0,1,0], strides=[2,2]",
    ],
)
def test_average_pool_counts_the_zeros(options):
    result = optimized(parse(POOL.replace("OPTIONS", options), pads=ONE))
    assert operators(result) == ["AveragePool"]
    assert result.graph.node(0).attributes["count_include_pad"].as_int() == 1


@pytest.mark.parametrize(
    "options",
    [
        "kernel_shape=[3,3], pads=[1,1,1,1]",  # excludes its own padding from the mean
        "kernel_shape=[3,3], strides=[2,2], ceil_mode=1",
        "kernel_shape=[1,1]",
    ],
)
def test_average_pool_near_misses_stay(options):
    assert operators(optimized(parse(POOL.replace("OPTIONS", options), pads=ONE), reference=False)) == [
        "Pad",
        "AveragePool",
    ]


def test_max_pool_pads_with_minus_infinity_and_stays():
    text = POOL.replace("AveragePool<OPTIONS>", "MaxPool<kernel_shape=[3,3]>")
    assert operators(optimized(parse(text, pads=ONE))) == ["Pad", "MaxPool"]
