"""Diagnostics: one test a code, and silence on what is valid."""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from model_cases import branches, holder, mlp, model_of, value_info
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from sardonyx.errors import InvalidModelError
from sardonyx.model import file
from sardonyx.model.check import check, require_valid

X, Y = value_info("x", [2]), value_info("y", [2])
node = helper.make_node


def found(proto, severity="error"):
    return [entry for entry in check(file.load(proto.SerializeToString())) if entry.severity == severity]


def single(*nodes, **options):
    return model_of(nodes, [X], [Y], **options)


def graph(nodes, output, inputs=()):
    return helper.make_graph(nodes, "body", list(inputs), [value_info(output, None)])


RELU = node("Relu", ["x"], ["y"], "r")
C = numpy_helper.from_array(np.array(True), "c")

INVALID = {
    "undefined input": (single(node("Add", ["x", "z"], ["y"], "a")), "undefined-name", "node 'a' (Add)", "z"),
    "undefined output": (single(node("Relu", ["x"], ["z"])), "undefined-name", "graph", "'y'"),
    "unnamed node": (single(node("Add", ["x", "z"], ["y"])), "undefined-name", "node #0 (Add)", "'z'"),
    "order": (
        single(node("Relu", ["h"], ["y"], "late"), node("Neg", ["x"], ["h"])),
        "used-before-definition", "node 'late' (Relu)", "'h'",
    ),
    "cycle": (
        single(node("Add", ["x", "b"], ["a"], "one"), node("Neg", ["a"], ["b"], "two"), RELU),
        "cycle", "graph", "->",
    ),
    "cycle through a subgraph": (
        single(
            node("If", ["c"], ["a"], "if", then_branch=graph([node("Neg", ["y"], ["t"])], "t"),
                 else_branch=graph([node("Neg", ["x"], ["e"])], "e")),
            node("Relu", ["a"], ["y"], "r"), initializers=[C],
        ),
        "cycle", "graph", "if",
    ),
    "undefined in a subgraph": (
        single(
            node("If", ["c"], ["y"], "if", then_branch=graph([node("Neg", ["none"], ["t"], "n")], "t"),
                 else_branch=graph([node("Neg", ["x"], ["e"])], "e")),
            initializers=[C],
        ),
        "undefined-name", "node 'if' (If), then_branch: node 'n' (Neg)", "'none'",
    ),
    "another branch's value": (
        single(
            node("If", ["c"], ["y"], "if", then_branch=graph([node("Neg", ["e"], ["t"], "n")], "t"),
                 else_branch=graph([node("Neg", ["x"], ["e"])], "e")),
            initializers=[C],
        ),
        "undefined-name", "node 'if' (If), then_branch: node 'n' (Neg)", "'e'",
    ),
    "no outputs": (model_of([RELU], [X], []), "no-outputs", "graph", ""),
    "untyped input": (
        model_of([RELU], [onnx.ValueInfoProto(name="x")], [Y]), "missing-type", "graph", "'x'"
    ),
    "unknown operator": (
        single(node("Rleu", ["x"], ["y"], "r")), "unknown-operator", "node 'r' (Rleu)",
        "no operator 'Rleu' in opset 21 of ai.onnx",
    ),
    "operator of a later opset": (
        single(node("Gelu", ["x"], ["y"]), opset=19), "unknown-operator", "node #0 (Gelu)", "opset 19"
    ),
    "unknown ml operator": (
        single(node("Tree", ["x"], ["y"], domain="ai.onnx.ml"), extra=[("ai.onnx.ml", 3)]),
        "unknown-operator", "node #0 (Tree)", "ai.onnx.ml",
    ),
    "deprecated operator": (
        single(node("Upsample", ["x", "x"], ["y"])), "deprecated-operator", "node #0 (Upsample)", "opset 21"
    ),
    "domain not imported": (
        single(node("Odd", ["x"], ["y"], domain="org.test")), "missing-opset-import", "node #0 (Odd)", "org"
    ),
    "bad opset": (single(RELU, opset=0), "bad-opset-version", "model", "opset 0"),
    "missing input": (single(node("Conv", ["x"], ["y"])), "missing-input", "node #0 (Conv)", "'W'"),
    "empty input": (single(node("Add", ["x", ""], ["y"])), "missing-input", "node #0 (Add)", "'B'"),
    "too many inputs": (single(node("Relu", ["x", "x"], ["y"])), "too-many-inputs", "node #0 (Relu)", "1"),
    "too many outputs": (
        single(node("Relu", ["x"], ["y", "z"])), "too-many-outputs", "node #0 (Relu)", "2 outputs"
    ),
    "missing attribute": (
        single(node("Concat", ["x"], ["y"])), "missing-attribute", "node #0 (Concat)", "'axis'"
    ),
    "unknown attribute": (
        single(node("Relu", ["x"], ["y"], alpha=1.0)), "unknown-attribute", "node #0 (Relu)", "'alpha'"
    ),
    "wrong attribute": (
        single(node("Concat", ["x"], ["y"], axis=1.0)), "wrong-attribute-type", "node #0 (Concat)",
        "'axis' is of type FLOAT; expected INT",
    ),
    "six dots": (  # which onnx's inference would never come back from
        single(node("Einsum", ["x"], ["y"], equation="......")), "wrong-equation", "node #0 (Einsum)", "not an equation"
    ),
    "an index that is no letter": (
        single(node("Einsum", ["x"], ["y"], equation="i1->i")), "wrong-equation", "node #0 (Einsum)", "'i1->i'"
    ),
    "recursion": (
        single(
            node("F", ["x"], ["y"], domain="own"), extra=[("own", 1)],
            functions=[
                helper.make_function("own", one, ["a"], ["b"], [node(other, ["a"], ["b"], domain="own")],
                                     [helper.make_opsetid("own", 1)])
                for one, other in (("F", "G"), ("G", "F"))
            ],
        ),
        "recursive-function", "model", "own::F",
    ),
    "in a function": (
        single(
            node("F", ["x"], ["y"], domain="own"), extra=[("own", 1)],
            functions=[helper.make_function("own", "F", ["a"], ["b"], [node("Rleu", ["a"], ["b"])],
                                            [helper.make_opsetid("", 21)])],
        ),
        "unknown-operator", "function 'own::F', node #0 (Rleu)", "Rleu",
    ),
    "too many for a function": (
        single(
            node("F", ["x", "x"], ["y"], domain="own"), extra=[("own", 1)],
            functions=[helper.make_function("own", "F", ["a"], ["b"], [node("Relu", ["a"], ["b"])],
                                            [helper.make_opsetid("", 21)])],
        ),
        "too-many-inputs", "node #0 (F)", "takes 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID)
def test_what_is_invalid_is_found_once_and_placed(case):
    proto, code, where, text = INVALID[case]
    errors = found(proto)
    assert [(entry.code, entry.where) for entry in errors] == [(code, where)]
    assert text in errors[0].message
    assert str(errors[0]).startswith(f"error[{code}] {where}: ")


def test_what_is_made_in_memory_is_checked_for_names_and_values():
    model = file.load(mlp().SerializeToString())
    model.graph.initializers["w"].const_value = None
    model.graph[1].outputs[0].name = "h"
    assert {entry.code for entry in check(model)} == {"missing-value", "duplicate-name"}


@pytest.mark.parametrize(
    ("declared", "valid"),
    [
        (value_info("w", [2, 3]), True),
        (value_info("w", ["A", None]), True),
        (value_info("w", None), True),
        (value_info("w", [2, 4]), False),
        (value_info("w", [6]), False),
        (value_info("w", [2, 3], 11), False),
    ],
)
@pytest.mark.parametrize("role", ["input", "value_info"])
def test_an_initializer_is_what_is_declared_of_it(declared, valid, role):
    proto = single(RELU, initializers=[numpy_helper.from_array(np.ones((2, 3), np.float32), "w")])
    getattr(proto.graph, role).append(declared)
    assert [entry.code for entry in found(proto)] == ([] if valid else ["initializer-mismatch"])


@pytest.mark.parametrize(
    ("proto", "severity", "code"),
    [
        (single(RELU, opset=10_000), "warning", "newer-opset"),
        (single(node("Odd", ["x"], ["y"], domain="o"), extra=[("o", 1)]), "note", "foreign-operator"),
    ],
)
def test_what_is_only_odd_is_no_error(proto, severity, code):
    assert [entry.code for entry in found(proto, severity)] == [code]
    require_valid(file.load(proto.SerializeToString()), "model")


def test_a_name_that_hides_another_is_a_warning():
    then = graph([node("Neg", ["x"], ["h"])], "h")
    other = graph([node("Relu", ["x"], ["e"])], "e")
    inner = node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    proto = single(node("Neg", ["x"], ["h"]), inner, initializers=[C])
    assert not found(proto)
    assert [entry.code for entry in found(proto, "warning")] == ["shadowed-name"]


def test_model_local_functions_may_have_any_name():
    body = [node("Relu", ["a"], ["b"])]
    function = helper.make_function("own", "Rleu", ["a"], ["b"], body, [helper.make_opsetid("", 21)])
    assert (
        check(file.load(single(node("Rleu", ["x"], ["y"], domain="own"), functions=[function]).SerializeToString()))
        == []
    )


def test_the_long_name_of_the_default_domain_is_the_same():
    proto = single(node("Relu", ["x"], ["y"], domain="ai.onnx"))
    proto.opset_import[0].domain = "ai.onnx"
    assert found(proto) == []


def test_valid_models_are_silent():
    for proto in (mlp(), holder(), branches(np.ones(3, np.float32))):
        assert check(file.load(proto.SerializeToString())) == []


@pytest.mark.slow  # onnx computes all expected outputs first
@pytest.mark.filterwarnings("ignore")
def test_onnx_own_node_tests_are_valid():
    cases = collect_testcases(None)
    assert len(cases) > 1500
    for case in cases:
        errors = found(case.model)
        assert not errors, (case.name, [str(entry) for entry in errors])


def test_require_valid_names_the_first_errors_and_counts_the_rest():
    proto = single(*(node("Add", ["x", f"z{index}"], [f"h{index}"], f"n{index}") for index in range(8)), RELU)
    with pytest.raises(InvalidModelError, match=r"undefined-name: node 'n0' \(Add\): .*and 3 more") as caught:
        require_valid(file.load(proto.SerializeToString()), "my.onnx")
    assert caught.value.where == "my.onnx"
    assert caught.value.fix
    assert "'n5'" not in str(caught.value)


def test_a_model_of_500_nodes_is_checked_quickly():
    nodes = [node("Conv", [f"h{i}", "w"], [f"h{i + 1}"], f"n{i}", pads=[1, 1, 1, 1]) for i in range(500)]
    weight = numpy_helper.from_array(np.ones((3, 3, 3, 3), np.float32), "w")
    model = file.load(
        model_of(nodes, [value_info("h0", [1, 3, 8, 8])], [value_info("h500", None)], [weight]).SerializeToString()
    )
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert check(model) == []
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02


def test_values_from_nowhere_are_undefined():
    model = file.load(mlp().SerializeToString())
    model.graph[0].replace_input_with(0, ir.Value(name="ghost"))
    assert [entry.code for entry in check(model)] == ["undefined-name"]
