from __future__ import annotations

import numpy as np
import pytest
from pass_cases import parse

from sardonyx.passes.pattern import Match, Nearest, either, number, op, scaled, square, value

X = value("x")
TEXT = """(float[2] x, float[2] z) => (float[2] y) {
    a = Mul(x, half) b = Mul(three, a) c = Mul(x, x) d = Add(b, c) e = Add(d, z) y = Exp(e)
}"""


def graph():
    return parse(TEXT, half=np.float32(0.5), three=np.array([3], np.float32)).graph


def matches(pattern, name="e"):
    (made,) = (out for node in graph() for out in node.outputs if out.name == name)
    nearest = Nearest()
    return list(pattern.match(made, Match(), nearest)), nearest.why


def test_operators_that_commute_match_in_both_orders():
    found, _ = matches(op("Add", value("z"), op("Add", square(X), op("Mul", value("a"), number(3.0)))))
    assert [(one["x"].name, one["z"].name) for one in found] == [("x", "z")]
    assert [node.outputs[0].name for node in found[0].nodes] == ["e", "d", "c", "b"]


def test_a_name_is_one_value():
    assert matches(op("Mul", X, X), "c")[0]
    found, why = matches(op("Mul", X, X), "a")
    assert not found and why == "'half' is not 'x', which the pattern has in both places"
    shared = op("Mul", value("x"), number(0.5), name="shared")
    found, why = matches(op("Mul", number(3.0), shared, name="shared"), "b")
    assert not found and "computed before" in why


def test_numbers_are_kept_and_compared():
    (found,), _ = matches(op("Mul", number(name="n"), op("Mul", X, number(name="m"))), "b")
    assert found.numbers == {"n": 3.0, "m": 0.5}
    assert "0.5 is not 2" in matches(op("Mul", X, number(2.0)), "a")[1]
    assert "'x' is not a constant number" in matches(op("Mul", number(), number()), "c")[1]
    assert matches(scaled(X, 0.5), "a")[0] and not matches(scaled(X, 0.25), "a")[0]
    assert matches(op("Mul", X, number(0.5 + 1e-9)), "a")[0] and not matches(op("Mul", X, number(0.5001)), "a")[0]


def test_alternatives_make_nodes_optional():
    half = either(op("Mul", X, number(0.5)), X)
    assert len(matches(op("Mul", number(3.0), half), "b")[0]) == 2
    assert either(op("Exp", X), op("Log", X)).roots() == {"Exp", "Log"}
    assert op("Add", half, op("Exp", X)).operators() == {"Add", "Mul", "Exp"}


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (op("Sub", X, X), "'e' (Add) is not Sub"),
        (op("Add", op("Sub", X, X), value("z")), "'d' (Add) is not Sub"),
        (op("Add", op("Add", op("Exp", X), X), value("z")), "'b' (Mul) is not Exp"),
        (op("Add", value("z"), value("d"), value("more")), "'e' (Add) has 2 inputs"),
        (op("Add", op("Add", X, X, check=lambda node: "of its checks"), value("z")), "'d' (Add): of its checks"),
    ],
)
def test_the_nearest_miss_is_told(pattern, why):
    found, told = matches(pattern)
    assert not found and told == why
