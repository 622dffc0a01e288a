from __future__ import annotations

from pass_cases import only, operators, optimized, parse, random

from sardonyx.passes.dead_code import DEAD_CODE


def test_chains_and_initializers_go():
    text = "(float[2] x) => (float[2] y) { a = Add(x, c)\n b = Neg(a)\n d = Exp(b)\n y = Relu(x) }"
    result = optimized(parse(text, c=random(2), unused=random(3)))
    assert operators(result) == ["Relu"]
    assert not result.graph.initializers


def test_inputs_stay():
    result = optimized(parse("(float[2] x, float[2] z, float[2] d) => (float[2] y) { y = Relu(x) }", d=random(2)))
    assert [value.name for value in result.graph.inputs] == ["x", "z", "d"]
    assert list(result.graph.initializers) == ["d"]


def test_a_node_with_one_used_output_stays():
    text = "(float[4] x) => (float[2] y) { a, b = Split<axis=0>(x)\n y = Relu(b) }"
    assert operators(optimized(parse(text, opset=13))) == ["Split", "Relu"]


IF = """(bool cond, float[2] x) => (float[2] y) {
    o = Neg(x)
    u = Abs(x)
    z = If (cond) <
        then_branch = t () => (float[2] p) { k = Exp(u)\n p = Relu(o) },
        else_branch = e () => (float[2] q) { q = Relu(u) }
    >
    y = LAST
}"""


def test_what_only_a_subgraph_reads_stays():
    result = optimized(parse(IF.replace("LAST", "Relu(z)")))
    assert operators(result) == ["Neg", "Abs", "If", "Relu"]
    (node,) = (node for node in result.graph if node.op_type == "If")
    assert [inner.op_type for inner in node.attributes["then_branch"].as_graph()] == ["Relu"]


def test_what_only_a_dead_subgraph_reads_goes():
    model = parse(IF.replace("LAST", "Relu(x)"))
    result, applied, _ = only(DEAD_CODE, model)
    assert operators(result) == ["Relu"]
    assert {event.op_type for event in applied} == {"Exp", "If", "Neg", "Abs"}


def test_initializers_of_subgraphs():
    text = """(bool cond, float[2] x) => (float[2] y) {
        y = If (cond) <
            then_branch = t () => (float[2] p) <float[1] w = {1}, float[1] u = {2}> { p = Add(x, w) },
            else_branch = e () => (float[2] q) { q = Relu(x) }
        >
    }"""
    result = optimized(parse(text))
    assert list(result.graph.node(0).attributes["then_branch"].as_graph().initializers) == ["w"]
