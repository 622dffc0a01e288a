from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pass_cases import feeds, norm, operators, parse, random, run_reference

from sardonyx.errors import CompileError
from sardonyx.passes.base import Pass, Rewrite, run
from sardonyx.passes.pipeline import PASSES, optimize
from sardonyx.passes.verify import Debug, structure_problem

TEXT = """(float[1,3,6,6] x) => (float[1,4,4,4] y) {
    shape = Shape(x)
    unused = Neg(x)
    i = Identity(x)
    c = Conv(i, w)
    n = BatchNormalization(c, s, b, m, v)
    y = Dropout(n)
}"""


def example():
    return parse(TEXT, w=random(4, 3, 3, 3), **norm(4))


def evaluate(model):
    return run_reference(model, feeds(model))


def a_pass(rewrites):
    return Pass("test", "for a test", "anywhere", exact=True, rewrites=rewrites)


def test_every_pass_says_what_why_and_where():
    assert len({step.name for step in PASSES}) == len(PASSES)
    for step in PASSES:
        assert step.gain.endswith(".") and step.placed.endswith("."), step.name


def test_trace_tells_of_rewrites_and_of_misses():
    events = []
    optimize(example(), trace=events.append)
    applied = [(event.pass_name, event.op_type) for event in events if event.applied]
    assert applied == [
        ("fold-constants", "Shape"),
        ("eliminate-identity", "Identity"),
        ("eliminate-identity", "Dropout"),
        ("fold-batchnorm", "BatchNormalization"),
        ("dead-code", "Neg"),
        ("dead-code", ""),
    ]
    events.clear()
    optimize(parse(TEXT.replace("Conv(i, w)", "Sin(i)"), w=random(1), **norm(3)), trace=events.append)
    assert [event.what for event in events if event.op_type == "BatchNormalization"] == [
        "what comes before is Sin, not one of Conv, ConvTranspose, Gemm"
    ] * 2


def test_limit_stops_after_so_many_rewrites():
    complete = run(example().clone(), PASSES).events
    for limit in range(len(complete) + 2):
        result = run(example().clone(), PASSES, limit=limit)
        assert result.events == complete[:limit]
        assert structure_problem(result.model) is None
        for want, have in zip(evaluate(example()), evaluate(result.model), strict=True):
            np.testing.assert_allclose(want, have, rtol=1e-4, atol=1e-5)
    assert not run(example(), PASSES, limit=0).modified


def test_a_pass_can_be_called_alone():
    (step,) = (step for step in PASSES if step.name == "fold-batchnorm")
    result = step(example())
    assert result.modified
    assert operators(result.model) == ["Shape", "Neg", "Identity", "Conv", "Dropout"]


def test_debug_passes_a_correct_pipeline():
    assert operators(optimize(example(), debug=Debug(evaluate))) == ["Conv"]


def test_debug_names_the_pass_that_changed_a_result():
    def wrong(model):
        for node in list(model.graph):
            if node.op_type == "Dropout":
                anew = ir.node("Neg", [node.inputs[0]])
                yield Rewrite(node, "wrong", replace={node.outputs[0]: anew.outputs[0]}, insert=[anew], remove=[node])

    with pytest.raises(CompileError, match=r"pass test: output 'y' changed; expected a relative L2 difference"):
        run(example(), [a_pass(wrong)], debug=Debug(evaluate))


def test_debug_names_the_pass_that_changed_a_type():
    def wrong(model):
        for node in list(model.graph):
            if node.op_type == "Dropout":
                anew = ir.node("Cast", [node.inputs[0]], {"to": 11})
                yield Rewrite(node, "wrong", replace={node.outputs[0]: anew.outputs[0]}, insert=[anew], remove=[node])

    with pytest.raises(CompileError, match=r"expected float32\[1, 4, 4, 4\], got float64\[1, 4, 4, 4\]"):
        run(example(), [a_pass(wrong)], debug=Debug(evaluate))


def test_debug_names_the_pass_that_broke_the_graph():
    def wrong(model):
        first, last = model.graph[0], model.graph[len(model.graph) - 1]
        anew = ir.node("Add", [first.inputs[0], last.inputs[0]])
        anew.outputs[0].name = "early"
        yield Rewrite(first, "uses a value too early", insert=[anew])

    with pytest.raises(CompileError, match="uses 'n' before it is defined"):
        run(example(), [a_pass(wrong)], debug=Debug())


def test_structure_problems():
    def problem(change):
        model = example()
        change(model.graph)
        return structure_problem(model)

    def twice(graph):
        graph[1].outputs[0].name = "shape"

    def missing(graph):
        graph.outputs[0] = ir.Value(name="other")

    def foreign(graph):
        graph[4].replace_input_with(1, ir.Value(name="s"))

    assert problem(lambda graph: None) is None
    assert "defines 'shape' again" in problem(twice)
    assert "output 'other' is not defined" in problem(missing)
    assert "stale value of the name 's'" in problem(foreign)


def test_hostile_chains_take_bounded_rounds():
    seen = []

    def endless(model):
        seen.append(1)
        node = model.graph[0]
        anew = ir.node("Relu", [node.inputs[0]])
        yield Rewrite(node, "again", replace={node.outputs[0]: anew.outputs[0]}, insert=[anew], remove=[node])

    run(parse("(float[2] x) => (float[2] y) { y = Relu(x) }"), [a_pass(endless)])
    assert len(seen) == 8
