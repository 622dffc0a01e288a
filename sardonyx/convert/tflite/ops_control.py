"""Graphs inside operators, and variables that are set once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import onnx_ir as ir

from sardonyx.convert.graph import GraphBuilder
from sardonyx.convert.tflite.emit import TYPES, Op, UnsupportedError, Value, copied, quantization_of
from sardonyx.convert.tflite.file import Tensor

Rule = Callable[[Op], None]


def _stored(op: Op, value: Value, tensor: Tensor) -> ir.Value:
    """`value` with the elements that `tensor` is declared to have."""
    want = None if op.scope.dequantize else quantization_of(tensor)
    if want != value.quantization:
        raise UnsupportedError(f"{value.name!r} is quantised otherwise than {tensor.name!r}")
    return op.plain(value)


def _scalar(op: Op, value: Value) -> ir.Value:
    """A condition, which may be an array of one."""
    result = op.plain(value)
    return result if value.dims == () else op.node("Reshape", [result, op.const([])])


def _within(op: Op, index: int, inputs: list[Value], body: GraphBuilder) -> tuple[Op, list[Value]]:
    inner = replace(op, graph=body)
    return inner, op.scope.subgraph(index, inputs, body, body_name(op, index))


def body_name(op: Op, index: int) -> str:
    """The prefix of what is inside."""
    return f"{op.name}/{index}"


def _if(op: Op) -> None:
    given = [op.need(index) for index in range(1, len(op.i))]
    condition = _scalar(op, op.need(0))
    branches = []
    for key in ("then_subgraph_index", "else_subgraph_index"):
        body = op.graph.body(f"{op.name}/{key[:4]}")
        inner, results = _within(op, op.get(key), given, body)
        branches.append(body.graph([_stored(inner, *pair) for pair in zip(results, op.out, strict=True)]))
        op.scratch = inner.scratch
    outputs = op.nodes("If", [condition], len(op.out), then_branch=branches[0], else_branch=branches[1])
    for index, value in enumerate(outputs):
        op.give(value, index, quantization=op.want(index))


def _while(op: Op) -> None:
    """The condition is asked of the first values before the loop, and of the next ones at the end of its body."""
    states = [op.need(index) for index in range(len(op.i))]
    check, step = op.get("cond_subgraph_index"), op.get("body_subgraph_index")
    started = op.scope.subgraph(check, states, op.graph, f"{op.name}/first")
    condition = _scalar(op, started[0])
    body = op.graph.body(f"{op.name}/body")
    inner = replace(op, graph=body)
    body.input(f"{op.name}/iteration", ir.DataType.INT64, [])
    body.input(f"{op.name}/condition", ir.DataType.BOOL, [])
    inside = []
    for index, (state, tensor) in enumerate(zip(states, op.out, strict=True)):
        # A loop may change dims; those of its result are the ones that hold on every turn.
        value = Value(f"{op.name}/state_{index}", state.kind, tensor.dims, state.quantization)
        value.plain = body.input(value.name, TYPES[state.kind], list(tensor.dims or ()))
        if tensor.dims is None:
            value.plain.shape = None
        inside.append(value)
    results = op.scope.subgraph(step, inside, body, f"{op.name}/step")
    again = op.scope.subgraph(check, results, body, f"{op.name}/check")
    following = [_stored(inner, *pair) for pair in zip(results, op.out, strict=True)]
    graph = body.graph([_scalar(inner, again[0]), *following])
    op.scratch = inner.scratch
    outer = [_stored(op, *pair) for pair in zip(states, op.out, strict=True)]
    outputs = op.nodes("Loop", [None, condition, *outer], len(op.out), body=graph)
    for index, result in enumerate(outputs):
        op.give(result, index, quantization=states[index].quantization)


# Variables


def _call_once(op: Op) -> None:
    """A graph that is run before the first run: what it sets is computed in every run, with the same result."""
    op.scope.initialising += 1
    try:
        op.scope.subgraph(op.get("init_subgraph_index"), [], op.graph, "initial")
    finally:
        op.scope.initialising -= 1


def _var_handle(op: Op) -> None:
    op.alias(Value(op.name, "RESOURCE", (), extra=f"{op.get('container')}/{op.get('shared_name')}"))


def _assign(op: Op) -> None:
    if not op.scope.initialising:
        raise UnsupportedError("a run that changes variables for the next run is not supported")
    op.scope.variables[op.need(0).extra] = op.need(1)


def _read(op: Op) -> None:
    key = op.need(0).extra
    if key not in op.scope.variables:
        raise UnsupportedError("it reads a variable that nothing sets")
    op.alias(copied(op.scope.variables[key]))


CONTROL: Mapping[str, Rule] = {
    "IF": _if, "WHILE": _while, "CALL_ONCE": _call_once,
    "VAR_HANDLE": _var_handle, "ASSIGN_VARIABLE": _assign, "READ_VARIABLE": _read,
}  # fmt: skip
"""Rules by operator."""
