"""Sharing a graph out among providers: fewest segments, convex, shared weights, reasons."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest

from sardonyx.errors import UnsupportedOperatorError
from sardonyx.model import file
from sardonyx.model.shapes import infer_shapes
from sardonyx.plan import Plan
from sardonyx.providers.base import Availability, Claim, CompileOptions
from sardonyx.providers.partition import BORDER_ELEMENTS, partition
from sardonyx.providers.reference import ReferenceProvider


class Only(ReferenceProvider):
    """A provider that claims the operators it is made with and computes them as the reference does."""

    def __init__(self, name, *operators):
        self._name, self._operators = name, operators

    @property
    def name(self):
        return self._name

    @property
    def aliases(self):
        return ()

    def availability(self):
        return Availability(True)

    def claims(self, model):
        return {
            node: Claim(node.op_type in self._operators, "" if node.op_type in self._operators else "not my operator")
            for node in model.graph
        }


REFERENCE = ReferenceProvider()


def load(body: str) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{body}')
    return infer_shapes(file.load(proto.SerializeToString()))


def shape_of(parts) -> list[tuple[str, list[str]]]:
    return [(segment.provider.name, [node.op_type for node in segment.model.graph]) for segment in parts.segments]


def run(model, parts, inputs):
    compiled = [(part.model, part.provider.compile(part.model, CompileOptions())) for part in parts.segments]
    return Plan(model, compiled).run(inputs)


def assert_as_onnxruntime(model: ir.Model, parts, feed):
    source = ir.to_proto(model).SerializeToString()
    expected = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, feed)
    got = run(model, parts, [feed[value.name] for value in model.graph.inputs])
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def big(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2, size=(64, 64)).astype(np.float32)


def test_whole_model_passes_through_untouched():
    model = load("g (float[64, 64] x) => (float[64, 64] y) { a = Exp(x)  y = Neg(a) }")
    parts = partition(model, [REFERENCE, Only("mine", "Exp")])
    assert parts.whole
    (segment,) = parts.segments
    assert segment.model is model
    assert {placement.provider for placement in parts.placements} == {"reference"}


def test_two_branches_make_two_segments():
    # In the graph's order the providers alternate six times; dependencies ask for one change only.
    model = load(
        """g (float[64, 64] x) => (float[64, 64] y, float[64, 64] z)
        { a = Exp(x)  p = Neg(a)  b = Log(a)  q = Abs(b)
          c = Sqrt(a)  y = Add(p, q)  r = Neg(c)  z = Mul(r, q) }"""
    )
    parts = partition(model, [Only("mine", "Exp", "Log", "Sqrt"), REFERENCE])
    assert shape_of(parts) == [
        ("mine", ["Exp", "Log", "Sqrt"]),
        ("reference", ["Neg", "Abs", "Add", "Neg", "Mul"]),
    ]
    assert_as_onnxruntime(model, parts, {"x": big()})


def test_a_diamond_stays_convex():
    # Merging both mine-nodes would make a cycle through the reference's node between them.
    model = load("g (float[64, 64] x) => (float[64, 64] y) { a = Exp(x)  b = Neg(a)  y = Mul(a, b) }")
    parts = partition(model, [Only("mine", "Exp", "Mul"), REFERENCE])
    assert shape_of(parts) == [("mine", ["Exp"]), ("reference", ["Neg"]), ("mine", ["Mul"])]
    assert [value.name for value in parts.segments[2].model.graph.inputs] == ["a", "b"]
    assert_as_onnxruntime(model, parts, {"x": big()})


def test_best_beginning_is_found():
    model = load(
        """g (float[64, 64] x) => (float[64, 64] y, float[64, 64] z)
        { a = Exp(x)  n = Neg(x)  b = Exp(n)  y = Mul(a, b)  z = Abs(n) }"""
    )
    parts = partition(model, [Only("mine", "Exp", "Mul"), REFERENCE])
    assert shape_of(parts) == [("reference", ["Neg", "Abs"]), ("mine", ["Exp", "Exp", "Mul"])]
    assert_as_onnxruntime(model, parts, {"x": big()})


def test_three_providers():
    model = load(
        """g (float[64, 64] x) => (float[64, 64] y)
        { a = Exp(x)  b = Neg(a)  c = Abs(b)  d = Exp(x)  e = Neg(d)  f = Abs(e)  y = Add(c, f) }"""
    )
    parts = partition(model, [Only("one", "Exp"), Only("two", "Neg"), REFERENCE])
    assert shape_of(parts) == [
        ("one", ["Exp", "Exp"]),
        ("two", ["Neg", "Neg"]),
        ("reference", ["Abs", "Abs", "Add"]),
    ]
    assert_as_onnxruntime(model, parts, {"x": big()})


def test_first_in_the_users_order_wins():
    model = load("g (float[64, 64] x) => (float[64, 64] y) { y = Exp(x) }")
    for order in ([Only("a", "Exp"), Only("b", "Exp")], [Only("b", "Exp"), Only("a", "Exp")]):
        assert partition(model, order).placements[0].provider == order[0].name


def test_weights_are_shared_and_overridable_ones_are_inputs():
    model = load(
        """g (float[64, 64] x, float[64, 64] v) => (float[64, 64] y)
        { a = Add(x, v)  b = Neg(a)  y = Mul(b, v) }"""
    )
    weight = ir.tensor(big(1), name="w")
    value = ir.Value(name="w", type=ir.TensorType(weight.dtype), shape=weight.shape, const_value=weight)
    model.graph.register_initializer(value)
    add, _, mul = model.graph
    add.replace_input_with(1, value)
    mul.replace_input_with(1, value)
    override = model.graph.inputs[1]
    override.const_value = ir.tensor(big(2), name="v")
    model.graph.register_initializer(override)
    neg = list(model.graph)[1]
    extra = ir.node("Pow", [neg.outputs[0], override])
    extra.outputs[0].name = "p"
    model.graph.insert_after(neg, extra)
    mul.replace_input_with(0, extra.outputs[0])
    parts = partition(model, [Only("mine", "Neg"), REFERENCE])
    assert [name for name, _ in shape_of(parts)] == ["reference", "mine", "reference"]
    first, _, last = (segment.model.graph for segment in parts.segments)
    for graph in (first, last):
        assert list(graph.initializers) == ["w"]
        assert graph.initializers["w"].const_value is weight
    assert [value.name for value in last.inputs] == [neg.outputs[0].name, "v"]


def test_outputs_that_no_node_makes():
    model = load(
        """g (float[2] x) => (float[2] y, float[2] x2, float[2] w) <float[2] w = {1, 2}>
        { a = Exp(x)  y = Neg(a)  x2 = Identity(x) }"""
    )
    model.graph.outputs[1] = model.graph.inputs[0]
    parts = partition(model, [Only("mine", "Neg"), REFERENCE])
    x = np.zeros(2, np.float32)
    y, same, weight = run(model, parts, [x])
    assert (y.tolist(), same.tolist(), weight.tolist()) == ([-1, -1], [0, 0], [1, 2])
    same += 1
    weight += 1
    assert [value.tolist() for value in run(model, parts, [x])] == [[-1, -1], [0, 0], [1, 2]]


def test_a_model_without_nodes():
    model = load("g (float[2] x) => (float[2] y) { y = Identity(x) }")
    model.graph.remove(model.graph[0], safe=False)
    model.graph.outputs[0] = model.graph.inputs[0]
    parts = partition(model, [REFERENCE])
    assert parts.segments == ()
    assert run(model, parts, [np.ones(2, np.float32)])[0].tolist() == [1, 1]


def test_captured_values_cross_borders():
    model = load(
        """g (float[64, 64] x, bool choice) => (float[64, 64] y) {
            a = Exp(x)
            b = Neg(a)
            y = If(choice) <then_branch = t () => (float[64, 64] u) { u = Add(a, b) },
                            else_branch = e () => (float[64, 64] v) { v = Sub(a, b) }>
        }"""
    )
    parts = partition(model, [Only("mine", "Exp"), REFERENCE])
    assert shape_of(parts) == [("mine", ["Exp"]), ("reference", ["Neg", "If"])]
    assert [value.name for value in parts.segments[1].model.graph.inputs] == ["a", "choice"]
    for choice in (True, False):
        assert_as_onnxruntime(model, parts, {"x": big(), "choice": np.array(choice)})


def test_tiny_islands_are_absorbed():
    # mine does the heavy work; the shape arithmetic in between is its too, but the reference surrounds it.
    model = load(
        """g (float[64, 64] x, int64[2] s) => (float[A, B] y) <int64[2] two = {2, 2}>
        { h = Div(s, two)  n = Neg(h)  m = Mul(n, two)  k = Abs(m)  y = Reshape(x, k) }"""
    )
    mine = Only("mine", "Mul")
    parts = partition(model, [mine, REFERENCE])
    assert parts.whole
    placement = parts.placements[2]
    assert (placement.op, placement.provider) == ("Mul", "reference")
    assert "absorbed: mine could run it" in placement.reason
    assert "6 elements" in placement.reason


@pytest.mark.parametrize("size", [BORDER_ELEMENTS // 2, BORDER_ELEMENTS // 2 + 1])
def test_islands_worth_their_borders_stay(size):
    model = load(f"g (float[{size}] x) => (float[{size}] y) {{ a = Neg(x)  b = Exp(a)  y = Abs(b) }}")
    parts = partition(model, [Only("mine", "Exp"), REFERENCE])
    assert parts.whole == (2 * size <= BORDER_ELEMENTS)


def test_unknown_sizes_are_never_absorbed():
    model = load("g (float[N] x) => (float[N] y) { a = Neg(x)  b = Exp(a)  y = Abs(b) }")
    assert len(partition(model, [Only("mine", "Exp"), REFERENCE]).segments) == 3


def test_an_island_the_neighbour_cannot_run_stays():
    model = load("g (float[2] x) => (float[2] y) { a = Neg(x)  b = Exp(a)  y = Neg(b) }")
    parts = partition(model, [Only("mine", "Neg"), Only("other", "Exp")])
    assert len(parts.segments) == 3


class KnowsShapes(Only):
    """Claims a Reshape only next to the Shape that feeds it, as a compiler does that must know the sizes."""

    def claims(self, model):
        claims = super().claims(model)
        for node in model.graph:
            if node.op_type == "Reshape" and node.inputs[1].producer() is None:
                claims[node] = Claim(False, "sizes are not known")
        return claims


def test_claims_that_a_cut_makes_void():
    model = load(
        """g (float[64, 64] x, float[64, 64] z) => (float[64, 64] y)
        { a = Exp(z)  s = Shape(a)  b = Neg(a)  y = Reshape(b, s) }"""
    )
    parts = partition(model, [KnowsShapes("mine", "Exp", "Shape", "Reshape"), REFERENCE])
    assert shape_of(parts) == [("mine", ["Exp", "Shape"]), ("reference", ["Neg", "Reshape"])]
    assert parts.placements[-1].reason == "mine: sizes are not known, once the graph is cut"
    assert_as_onnxruntime(model, parts, {"x": big(), "z": big(1)})


def test_reasons_say_who_declined():
    model = load("g (float[64, 64] x) => (float[64, 64] y) { a = Exp(x)  y = Neg(a) }")
    exp, neg = partition(model, [Only("mine", "Exp"), REFERENCE]).placements
    assert (exp.node, exp.provider, exp.reason) == ("a", "mine", "first choice")
    assert (neg.node, neg.provider, neg.reason) == ("y", "reference", "mine: not my operator")


def test_nobody_claims_a_node():
    model = load("g (float[2] x) => (float[2] y) { a = Exp(x)  b = Neg(a)  y = Abs(b) }")
    with pytest.raises(UnsupportedOperatorError) as caught:
        partition(model, [Only("mine", "Exp"), Only("other", "Sqrt")])
    for word in ("node 'b'", "Neg", "'ai.onnx'", "opset 21", "mine: not my operator", "mine or other", "Abs"):
        assert word in str(caught.value)


def test_many_nodes_are_shared_out_in_linear_time():
    import time

    body = ["a0 = Exp(x)"]
    for i in range(4000):
        body.append(f"a{i + 1} = {('Exp', 'Neg')[i % 2]}(a{i})")
    model = load(f"g (float[4] x) => (float[4] a4000) {{ {' '.join(body)} }}")
    start = time.perf_counter()
    partition(model, [Only("mine", "Exp"), Only("other", "Neg")])
    assert time.perf_counter() - start < 5


def test_a_value_that_shapes_a_program_comes_from_an_earlier_segment():
    class Shaping(Only):
        def claims(self, model):
            made = {value for node in model.graph for value in node.outputs}
            return {
                node: Claim(True, after=tuple(v for v in node.inputs[1:] if node.op_type == "Reshape" and v in made))
                for node in model.graph
            }

    model = load(
        """g (float[6] x, int64[2] k) => (float[a, b] y) {
            s = Neg(k)
            z = Neg(x)
            y = Reshape(z, s)
        }"""
    )
    parts = partition(model, [Shaping("shaping"), REFERENCE])
    assert shape_of(parts) == [("shaping", ["Neg", "Neg"]), ("shaping", ["Reshape"])]
    assert not parts.whole
    (y,) = run(model, parts, [np.arange(6, dtype=np.float32), np.array([-2, -3])])
    np.testing.assert_array_equal(y, -np.arange(6, dtype=np.float32).reshape(2, 3))
