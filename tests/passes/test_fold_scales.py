from __future__ import annotations

import numpy as np
import pytest
from pass_cases import only, operators, optimized, parse, random

from sardonyx.passes.fold_scales import FOLD_SCALES

LAYERS = {
    "c = Conv(x, w)": ("2,3,5,5", "2,4,4,4", (4, 3, 2, 2), 1),
    "c = Conv<group=2>(x, w)": ("2,4,5,5", "2,6,4,4", (6, 2, 2, 2), 1),
    "c = Conv(x, w, b)": ("2,3,5,5", "2,4,4,4", (4, 3, 2, 2), 1),
    "c = ConvTranspose<group=2>(x, w)": ("2,4,3,3", "2,6,4,4", (4, 3, 2, 2), 1),
    "c = Gemm(x, w)": ("2,3", "2,4", (3, 4), -1),
    "c = Gemm<transB=1, beta=0.5>(x, w, b)": ("2,3", "2,4", (4, 3), -1),
    "c = MatMul(x, w)": ("2,5,3", "2,5,4", (3, 4), -1),
}


def model_of(layer, op, constant, *, swapped=False):
    given, made, weights, place = LAYERS[layer]
    channels = int(made.split(",")[place])
    rank = len(made.split(","))
    shape = {"scalar": (), "one": (1,), "channels": (channels, *[1] * (-1 - place if place < 0 else rank - 2))}[
        constant
    ]
    values = {"w": random(*weights), "k": random(*shape, low=0.5, high=1.5)}
    if "b)" in layer:
        values["b"] = random(channels)
    operands = "k, c" if swapped else "c, k"
    return parse(
        f"(float[{given}] x) => (float[{made}] y) <float[{made}] c> {{ {layer} y = {op}({operands}) }}", **values
    )


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("constant", ["scalar", "one", "channels"])
@pytest.mark.parametrize("op", ["Mul", "Div", "Add", "Sub"])
def test_goes_into_the_layer(layer, op, constant):
    model = model_of(layer, op, constant)
    options = {"tolerance": 1e-6, "reference": "Transpose" not in layer}  # onnx.reference has no groups there
    left = operators(optimized(model, **options))
    assert len(left) == (2 if "MatMul" in layer and op in {"Add", "Sub"} else 1)
    if op in {"Mul", "Add"}:
        assert operators(optimized(model_of(layer, op, constant, swapped=True), **options)) == left


@pytest.mark.parametrize(
    "text",
    [
        "(float[2,3] x) => (float[2,4] y, float[2,4] z) <float[2,4] c> { c = MatMul(x, w) y = Mul(c, k) z = Neg(c) }",
        "(float[2,3] x) => (float[2,4] y) <float[2,4] c> { c = MatMul(x, w) y = Mul(c, rows) }",
        "(float[2,3] x) => (float[1,2,4] y) <float[2,4] c> { c = MatMul(x, w) y = Mul(c, high) }",
        "(float[2,3] x) => (float[2,4] y) <float[2,4] c> { c = MatMul(x, w) y = Div(k, c) }",
        "(float[2,3] x) => (float[2,4] y) <float[2,4] c> { c = MatMul(x, w) y = Div(c, none) }",
        "(float[2,3] x, float[4] k) => (float[2,4] y) <float[2,4] c> { c = MatMul(x, w) y = Mul(c, k) }",
        "(float[2,3] x, float[3,4] w) => (float[2,4] y) <float[2,4] c> { c = MatMul(x, w) y = Mul(c, k) }",
    ],
)
def test_near_misses_stay(text):
    values = {"w": random(3, 4), "k": random(4), "rows": random(2, 1), "high": random(1, 1, 4), "none": np.zeros(4)}
    used = {name: np.float32(array) for name, array in values.items() if f"{name})" in text or f"{name}," in text}
    used = {name: array for name, array in used.items() if f"] {name}" not in text.partition("=>")[0]}
    model = parse(text, **used)
    result, applied, _ = only(FOLD_SCALES, model)
    assert not applied and operators(result) == operators(model)
