"""Gradient: the graph that computes a value, gone through backwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sardonyx.model.foreign.body import OPSET, Body, Results
from sardonyx.model.foreign.writer import Writer
from sardonyx.model.standard.table import defines

_DOMAIN = "ai.onnx.preview.training"


@dataclass(frozen=True)
class _Call:
    """A node of the graph as it is written again: its inputs and its first result."""

    node: ir.Node
    inputs: Sequence[ir.Value | None]
    result: ir.Value

    def given(self, index: int) -> ir.Value:
        value = self.inputs[index]
        assert value is not None
        return value


Backward = Callable[[Body, _Call, ir.Value], Sequence["ir.Value | None"]]
"""The gradients by the inputs, from that by the result."""
_BACKWARD: dict[str, Backward] = {}


def expand_gradients(model: ir.Model) -> None:
    """Replace Gradient nodes, which name values of the graph around them that passes would not keep, in place. Types
    must have been inferred.

    Raises:
        UnsupportedOperatorError: the gradient of an operator between is not known.
    """
    nodes = [node for node in model.graph if (node.domain, node.op_type) == (_DOMAIN, "Gradient")]
    if not nodes:
        return
    newest = max(OPSET, model.graph.opset_imports.setdefault("", OPSET))
    writer = Writer(model)
    writer.opsets = {**model.graph.opset_imports, "": newest}
    for node in nodes:
        for made in writer.replace(node, gradient):
            made.version = newest if made.version is None else made.version


@defines("Gradient", domain=_DOMAIN)
def gradient(b: Body) -> Results:
    """Of the sum of the value named y by those named xs, at the values that are the node's inputs."""
    graph = b.node.graph
    assert graph is not None
    sources = list(b.node.attributes.get_strings("xs", ()))
    fixed = list(b.node.attributes.get_strings("zs", ()))
    values = {value.name: value for node in graph for value in node.outputs}
    values |= {value.name: value for value in (*graph.inputs, *graph.initializers.values())}
    y = values.get(b.string("y", ""))
    if y is None or len(b.node.inputs) != len(sources) + len(fixed):
        b.refuse("y is no value of the graph, or inputs do not fit xs and zs")
    given = {values.get(name): value for name, value in zip((*sources, *fixed), b.node.inputs, strict=True)}
    calls, made = _forwards(b, y, {old: new for old, new in given.items() if old is not None and new is not None})
    one = b.scalar(1, y)
    gradients: dict[ir.Value, ir.Value] = {made[y]: b("Expand", one, b("Shape", made[y]))}
    needed = _depending(calls, {value for value in b.node.inputs[: len(sources)] if value is not None})
    for call in reversed(calls):
        found = gradients.get(call.result)
        if found is None or call.result not in needed:
            continue
        rule = _BACKWARD.get(call.node.op_type) if not call.node.domain else None
        if rule is None:
            b.refuse(f"the gradient of {call.node.op_type} is not known")
        for value, part in zip(call.inputs, rule(b, call, found), strict=False):
            if value is not None and part is not None and value in needed:
                gradients[value] = b("Add", gradients[value], part) if value in gradients else part
    results = []
    for value in b.node.inputs[: len(sources)]:
        assert value is not None
        part = gradients.get(value)
        results.append(part if part is not None else b("Expand", b.scalar(0, value), b("Shape", value)))
    return results


def _forwards(b: Body, y: ir.Value, given: dict[ir.Value, ir.Value]) -> tuple[list[_Call], dict[ir.Value, ir.Value]]:
    """The nodes from the given values to y once more, with others in the places of those."""
    made, calls, graph = dict(given), list[_Call](), b.node.graph
    assert graph is not None
    order: list[ir.Node] = []
    seen: set[ir.Node] = set()
    stack: list[tuple[ir.Node, bool]] = []
    first = y.producer()
    if first is not None and y not in made:
        stack.append((first, False))
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            before = [value.producer() for value in node.inputs if value is not None and value not in made]
            stack += [(one, False) for one in before if one is not None]
    for node in order:
        inputs = [None if value is None else made.get(value, value) for value in node.inputs]
        attributes = {name: entry.value for name, entry in node.attributes.items()}
        results = b.many(node.op_type, len(node.outputs), *inputs, domain=node.domain, **attributes)
        for old, new in zip(node.outputs, results, strict=True):
            new.type, new.shape, made[old] = old.type, old.shape, new
        again = results[0].producer()
        assert again is not None
        again.version = node.version or graph.opset_imports.get(node.domain)
        calls.append(_Call(node, inputs, results[0]))
    made.setdefault(y, y)
    return calls, made


def _depending(calls: Sequence[_Call], sources: set[ir.Value]) -> set[ir.Value]:
    """The values that follow from the sources, and those."""
    found = set(sources)
    for call in calls:
        if any(value in found for value in call.inputs if value is not None):
            found.add(call.result)
    return found


# ---- operators -------------------------------------------------------------------------------------------------------


def _backward(*names: str) -> Callable[[Backward], Backward]:
    def register(rule: Backward) -> Backward:
        _BACKWARD.update(dict.fromkeys(names, rule))
        return rule

    return register


def _summed(b: Body, gradient: ir.Value, like: ir.Value) -> ir.Value:
    """Over what was broadcast, so that it has the dims of `like`."""
    rank, ahead = b.rank(gradient), b.rank(gradient) - b.rank(like)
    over = [axis for axis in range(ahead, rank) if b.dim(like, axis - ahead) == 1 and b.dim(gradient, axis) != 1]
    if over:
        gradient = b("ReduceSum", gradient, over, keepdims=1)
    return b("ReduceSum", gradient, list(range(ahead)), keepdims=0) if ahead else gradient


@_backward("Identity", "Neg", "Add", "Sub", "Mul", "Div")
def _arithmetic(b: Body, call: _Call, gradient: ir.Value) -> Sequence[ir.Value | None]:
    op, x = call.node.op_type, call.given(0)
    if op in ("Identity", "Neg"):
        return [gradient if op == "Identity" else b("Neg", gradient)]
    y = call.given(1)
    first = {"Mul": lambda: b("Mul", gradient, y), "Div": lambda: b("Div", gradient, y)}.get(op, lambda: gradient)()
    second = {
        "Add": lambda: gradient,
        "Sub": lambda: b("Neg", gradient),
        "Mul": lambda: b("Mul", gradient, x),
        "Div": lambda: b("Neg", b("Div", b("Mul", gradient, call.result), y)),
    }[op]()
    return [_summed(b, first, x), _summed(b, second, y)]


@_backward("Exp", "Log", "Sqrt", "Tanh", "Sigmoid", "Relu", "Sin", "Cos", "Abs")
def _functions(b: Body, call: _Call, gradient: ir.Value) -> Sequence[ir.Value | None]:
    x, y = call.given(0), call.result
    one = b.scalar(1, x)
    slopes = {
        "Exp": lambda: y,
        "Log": lambda: b("Div", one, x),
        "Sqrt": lambda: b("Div", b.scalar(0.5, x), y),
        "Tanh": lambda: b("Sub", one, b("Mul", y, y)),
        "Sigmoid": lambda: b("Mul", y, b("Sub", one, y)),
        "Relu": lambda: b.cast(b("Greater", x, b.scalar(0, x)), b.dtype(x)),
        "Sin": lambda: b("Cos", x),
        "Cos": lambda: b("Neg", b("Sin", x)),
        "Abs": lambda: b("Sign", x),
    }
    return [b("Mul", gradient, slopes[call.node.op_type]())]


@_backward("MatMul")
def _product(b: Body, call: _Call, gradient: ir.Value) -> Sequence[ir.Value | None]:
    x, y = call.given(0), call.given(1)
    if b.rank(x) < 2 or b.rank(y) < 2:
        b.refuse("the gradient of a product with a vector")

    def turned(value: ir.Value) -> ir.Value:
        rank = b.rank(value)
        return b("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])

    first, second = b("MatMul", gradient, turned(y)), b("MatMul", turned(x), gradient)
    return [_summed(b, first, x), _summed(b, second, y)]


@_backward("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshaped(b: Body, call: _Call, gradient: ir.Value) -> Sequence[ir.Value | None]:
    return [b("Reshape", gradient, b("Shape", call.given(0)))]


@_backward("Transpose")
def _transposed(b: Body, call: _Call, gradient: ir.Value) -> Sequence[ir.Value | None]:
    order = call.node.attributes.get_ints("perm", None) or list(reversed(range(b.rank(call.given(0)))))
    return [b("Transpose", gradient, perm=[int(axis) for axis in np.argsort(order)])]


@_backward("ReduceSum", "ReduceMean")
def _reduced(b: Body, call: _Call, gradient: ir.Value) -> Sequence[ir.Value | None]:
    x = call.given(0)
    shape, rank = b("Shape", x), b.rank(x)
    named = call.node.attributes.get_ints("axes", None)
    if named is None and len(call.inputs) > 1 and call.inputs[1] is not None:
        known = b.known(call.inputs[1])
        named = b.refuse("axes that are not constant") if known is None else known.reshape(-1).tolist()
    axes = sorted(int(axis) % rank for axis in (named or range(rank))) if rank else []
    if not call.node.attributes.get_int("keepdims", 1) and axes:
        gradient = b("Unsqueeze", gradient, axes)
    if call.node.op_type == "ReduceMean":
        whole, part = b("Size", x), b("Size", call.result)
        gradient = b("Div", gradient, b.cast(b("Div", whole, part), b.dtype(x)))
    return [b("Expand", gradient, shape)]
