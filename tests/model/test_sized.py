"""Shapes that a graph computes, once its inputs have sizes, against those that running it gives."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from sardonyx.model.sized import sized_shapes

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g (float[{dims}] x) => (float[a, b] y)'
CONSTANTS = "<int64 zero = {0}, int64 one = {1}, int64[1] row = {1}, int64[1] first = {0}, int64[1] none = {-1}>"
BODIES = {
    "slice": "s = Shape (x) n = Gather (s, one) e = Unsqueeze (n, first) y = Slice (x, row, e, first)",
    "range": "s = Shape (x) n = Gather (s, zero) r = Range (zero, n, one) c = Unsqueeze (r, row) y = Cast <to = 1> (c)",
    "expand": """s = Shape <start = 1> (x) t = Concat <axis = 0> (s, none)
        o = ConstantOfShape <value = int64[1] {1}> (row) p = Concat <axis = 0> (o, o) m = Mul (p, none) q = Equal (t, m)
        w = Where (q, p, t) f = Cast <to = 1> (one) y = Expand (f, w)""",
    "size": "s = Size (x) t = Unsqueeze (s, first) u = Concat <axis = 0> (row, t) y = Reshape (x, u)",
    "split": """s = Shape (x) p, q = Split <axis = 0> (s) t = Concat <axis = 0> (q, p) y = Reshape (x, t)""",
}


def made(body, dims):
    return onnx.parser.parse_model(f"{HEAD.format(dims=dims)} {CONSTANTS} {{ {body} }}")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_shapes_that_inference_leaves_open(body):
    model = made(body, "4, 7")
    inferred = onnx.shape_inference.infer_shapes(model)
    names = [name for node in model.graph.node for name in node.output]
    shapes = sized_shapes(inferred)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    results = ReferenceEvaluator(model).run(None, {"x": np.zeros((4, 7), np.float32)})
    assert {name: shapes[name] for name in names} == {
        name: np.shape(result) for name, result in zip(names, results, strict=True)
    }


HOSTILE = {
    "endless": BODIES["range"],
    "huge": "s = Shape (x) y = ConstantOfShape (s)",
    "by zero": "s = Shape (x) d = Div (s, first) t = Range (zero, one, zero) y = Reshape (x, d)",
    "outside": "s = Shape (x) n = Gather (s, s) y = Reshape (x, n)",
    "backwards": "s = Shape (x) n = Neg (s) y = ConstantOfShape (n)",
    "unknown operator": "s = Shape (x) y = Nonsense (s)",
    "no input": "s = Shape (missing) y = Reshape (x, s)",
    "too few": "s = Shape () y = Reshape (x, s)",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_graphs_that_cannot_be_computed_take_neither_time_nor_memory(body):
    model = made(body, f"{2**40}, {2**62}")
    assert sized_shapes(model)["x"] == (2**40, 2**62)
