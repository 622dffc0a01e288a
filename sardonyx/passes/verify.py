"""Verification in debug mode: is the graph still linked well, does it still compute the same?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from sardonyx.errors import CompileError
from sardonyx.passes.query import subgraphs

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Debug:
    """What to verify after each pass: the structure always, results when `evaluate` can compute them.

    `evaluate` runs a model on inputs of its own choosing, the same at every call, and returns its outputs;
    `tolerance` bounds the relative L2 difference of each output to that of the model before all passes.
    """

    evaluate: Callable[[ir.Model], Sequence[np.ndarray[Any, Any]]] | None = None
    tolerance: float = 1e-5


def verify(model: ir.Model, where: str, debug: Debug, reference: Sequence[Array] | None, fix: str) -> None:
    """Raise CompileError, at `where`, when the links are broken or results differ from `reference`."""
    problem = structure_problem(model)
    if problem:
        raise CompileError(f"broke the graph: {problem}", where=where, fix=fix)
    if reference is None or debug.evaluate is None:
        return
    for value, want, have in zip(model.graph.outputs, reference, debug.evaluate(model), strict=True):
        what, expected = f"output {value.name!r} changed", f"{want.dtype}{list(want.shape)}"
        got = f"{have.dtype}{list(have.shape)}"
        if expected != got:
            raise CompileError(what, where=where, expected=expected, got=got, fix=fix)
        found = difference(want, have)
        if not found <= debug.tolerance:
            expected = f"a relative L2 difference of at most {debug.tolerance:g}"
            raise CompileError(what, where=where, expected=expected, got=f"{found:.3g}", fix=fix)


def difference(want: Array, have: Array) -> float:
    """Relative L2 difference, 0 for equal arrays of any type; NaN counts as equal to NaN."""
    if np.array_equal(want, have) or want.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(want, have) else float("inf")
    left, right = want.astype(np.float64), have.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):  # inf - inf is told apart by `same`
        error = np.where(same, 0.0, left - right)
    size = float(np.linalg.norm(np.where(np.isfinite(left), left, 0.0)))
    return float(np.linalg.norm(error)) / max(size, 1e-30)


def structure_problem(model: ir.Model) -> str | None:
    """What is wrong with the links of a model: a value used before or without definition, a name given twice.

    Cheaper than, and no substitute for, the checks made when a model is loaded: only what a pass can break.
    """
    return _graph_problem(model.graph, set())


def _graph_problem(graph: ir.Graph, outer: set[str]) -> str | None:
    defined: dict[str, ir.Value] = {}
    initializers = [value for value in graph.initializers.values() if not value.is_graph_input()]
    for value in (*graph.inputs, *initializers):
        if not value.name or value.name in defined or value.name in outer:
            return f"the name {value.name!r} of an input or initializer is missing or taken"
        defined[value.name] = value
    for node in graph:
        problem = _node_problem(node, defined, outer)
        if problem:
            return problem
        defined |= {value.name: value for value in node.outputs if value.name}
    for output in graph.outputs:
        if output.name is None or defined.get(output.name) is not output:
            return f"output {output.name!r} is not defined"
    return None


def _node_problem(node: ir.Node, defined: dict[str, ir.Value], outer: set[str]) -> str | None:
    what = f"node {node.name!r} ({node.op_type})"
    for used in node.inputs:
        if used is not None and used.name not in defined and used.name not in outer:
            return f"{what} uses {used.name!r} before it is defined"
        if used is not None and used.name in defined and defined[used.name] is not used:
            return f"{what} uses a stale value of the name {used.name!r}"
    for inner in subgraphs(node):
        problem = _graph_problem(inner, outer | defined.keys())
        if problem:
            return problem
    for value in node.outputs:
        if value.name in defined or value.name in outer:
            return f"{what} defines {value.name!r} again"
    return None
