"""Small models in ONNX's own text, as bytes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser


def model(body: str, *, opset: int = 21, ir_version: int = 10, header: str = "") -> bytes:
    text = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "com.example" : 1]{header}>\n{body}'
    return onnx.parser.parse_model(text).SerializeToString()


SCALE = model("g (float[N, 3] x) => (float[N, 3] y) <float two = {2}> { y = Mul(x, two) }")

TWO_INPUTS = model(
    """g (float[N, 3] a, float[N, 3] b) => (float[N, 3] total, float[N, 3] product)
    { total = Add(a, b)  product = Mul(a, b) }"""
)

CONV = model(
    """conv (float[N, 1, 6, 6] image) => (float[N, 2] scores)
    <float[2, 1, 3, 3] w = {1, 0, -1, 2, 0, -2, 1, 0, -1, 1, 2, 1, 0, 0, 0, -1, -2, -1},
     int64[2] flat = {0, -1},
     float[2, 32] dense = {"""
    + ", ".join(str(round(float(v), 3)) for v in np.linspace(-1, 1, 64))
    + """}>
    {
        c = Conv <kernel_shape = [3, 3]> (image, w)
        r = Relu(c)
        f = Reshape(r, flat)
        scores = Gemm <transB = 1> (f, dense)
    }"""
)
