"""Is a model valid ONNX? Findings in a compiler's style: where, what, and how to mend it.

Follows the ONNX IR specification (names, order, opset imports) and the operators' schemas (inputs, outputs,
attributes). Types and shapes are not checked here: that is inference, see `shapes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from sardonyx.errors import InvalidModelError
from sardonyx.model.foreign import is_known
from sardonyx.model.order import dependencies, find_cycle
from sardonyx.model.schema import Operator, newest_version, operator, versions_with
from sardonyx.model.types import dims_of, type_string

Severity = Literal["error", "warning", "note"]

# What is no equation can make onnx's inference loop for ever (six dots in a row do).
_EQUATION = re.compile(r"TERM(,TERM)*(->TERM)?".replace("TERM", r"[A-Za-z]*(\.\.\.)?[A-Za-z]*"))

_SHOWN = 5  # findings in the message of an InvalidModelError


@dataclass(frozen=True)
class Diagnostic:
    """One finding. Only an "error" makes a model invalid; `code` is stable, for programs."""

    severity: Severity
    code: str
    where: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.severity}[{self.code}] {self.where}: {self.message}" + (f"; {self.fix}" if self.fix else "")


def check(model: ir.Model) -> list[Diagnostic]:
    """All findings, in the order of the graph; functions come after it."""
    checker = _Checker(model)
    checker.model()
    return checker.found


def require_valid(model: ir.Model, where: str) -> None:
    """Raise if the model is not valid; `where` names the model.

    Raises:
        InvalidModelError: with the first errors, and how many there are.
    """
    errors = [entry for entry in check(model) if entry.severity == "error"]
    if not errors:
        return
    shown = " | ".join(f"{entry.code}: {entry.where}: {entry.message}" for entry in errors[:_SHOWN])
    more = f" | and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    raise InvalidModelError(shown + more, where=where, fix=errors[0].fix or None)


@dataclass(frozen=True)
class _Use:
    """A node, by place, that uses a value."""

    where: str
    value: ir.Value


class _Checker:
    """Walks a model once. `visible` holds, by identity, the values a node at the current place may use."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self.found: list[Diagnostic] = []
        self.visible: set[int] = set()
        self.opsets: Mapping[str, int] = {}

    def model(self) -> None:
        model = self._model
        self.opsets = model.opset_imports
        self._opsets("model")
        if not model.graph.outputs:
            self._error("no-outputs", "graph", "it has no outputs")
        for value in model.graph.inputs:
            if value.type is None:
                fix = "give it an element type, and a shape if you can"
                self._error("missing-type", "graph", f"input {value.name!r} has no type", fix)
        self._undefined(self._body(model.graph, "", ()))
        for function in model.functions.values():
            where = f"function {_identifier(function.identifier())!r}"
            self.opsets = function.opset_imports
            self._opsets(where)
            self._undefined(self._body(function.graph, f"{where}, ", ()))
        self._recursion()

    def _opsets(self, where: str) -> None:
        if not self.opsets:
            self._error("missing-opset-import", where, "it imports no opset")
        for domain, version in self.opsets.items():
            name = domain or "ai.onnx"
            if version < 1:
                self._error("bad-opset-version", where, f"opset {version} of {name} does not exist")
            elif (newest := newest_version(domain)) is not None and version > newest:
                message = f"opset {version} of {name} is newer than {newest}, the newest known here"
                self._add("warning", "newer-opset", where, message, "update the onnx package")

    def _body(self, graph: ir.Graph, path: str, outer: tuple[set[str], ...]) -> list[_Use]:
        """A graph, subgraph or function body; `path` is where it is, "" for the main graph.

        Returns the uses of values that neither this graph nor what comes before it around it defines.
        """
        place = f"{path}graph" if path else "graph"
        defined: set[str] = set()
        for value in graph.inputs:
            self._define(value, place, defined, outer)
        for value in graph.initializers.values():
            if id(value) not in self.visible:
                self._define(value, place, defined, outer)
            self._initializer(value, place)
        late: list[_Use] = []
        for index, node in enumerate(graph):
            name = repr(node.name) if node.name else f"#{index}"
            where = f"{path}node {name} ({node.op_type})"
            inputs = (value for value in node.inputs if value is not None)
            late += [_Use(where, value) for value in inputs if id(value) not in self.visible]
            self._operator(node, where)
            for attribute, body in _bodies(node):
                late += self._body(body, f"{where}, {attribute}: ", (*outer, defined))
            for value in node.outputs:
                if value.name:
                    self._define(value, where, defined, outer)
        made = {id(value) for node in graph for value in node.outputs}
        for value in graph.outputs:
            if id(value) not in self.visible:
                self._error("undefined-name", place, f"output {value.name!r} is defined by nothing")
        self._order(graph, place, [use for use in late if id(use.value) in made])
        self.visible -= made
        self.visible.difference_update(map(id, (*graph.inputs, *graph.initializers.values())))
        return [use for use in late if id(use.value) not in made]

    def _initializer(self, value: ir.Value, where: str) -> None:
        """Its elements are there, and as many and of the type as is declared: compiled code relies on it."""
        tensor = value.const_value
        if tensor is None:
            self._error("missing-value", where, f"initializer {value.name!r} has no value")
            return
        dims, declared = tuple(tensor.shape.numpy()), dims_of(value.shape)
        fits = declared is None or len(declared) == len(dims)
        if declared is not None and fits:
            pairs = zip(declared, dims, strict=True)
            fits = all(not isinstance(size, int) or size == actual for size, actual in pairs)
        kind = type_string(value.type)
        actual_kind = f"tensor({tensor.dtype.name.lower()})"
        if not fits or kind not in ("", actual_kind):
            message = f"initializer {value.name!r} is declared {kind} {declared}, but is {actual_kind} {dims}"
            self._error("initializer-mismatch", where, message)

    def _define(self, value: ir.Value, where: str, defined: set[str], outer: tuple[set[str], ...]) -> None:
        name = value.name
        if not name:
            self._error("missing-name", where, "a value has no name")
        elif name in defined:
            self._error("duplicate-name", where, f"the name {name!r} is defined twice", "rename one of the two")
        elif any(name in names for names in outer):
            self._add("warning", "shadowed-name", where, f"{name!r} hides a value of the graph around it")
        defined.add(name or "")
        self.visible.add(id(value))

    def _undefined(self, uses: list[_Use]) -> None:
        fix = "make it a graph input or an initializer, or correct the name"
        for use in uses:
            self._error("undefined-name", use.where, f"its input {use.value.name!r} is not defined", fix)

    def _order(self, graph: ir.Graph, where: str, late: list[_Use]) -> None:
        """Report uses of values that `graph` defines, but later."""
        cycle = find_cycle(dependencies(graph)) if late else []
        if cycle:
            names = " -> ".join(node.name or node.op_type for node in [*cycle, cycle[0]])
            self._error("cycle", where, f"these nodes wait for each other: {names}")
            return
        for use in late:
            message = f"its input {use.value.name!r} is defined by a later node"
            fix = "sort the nodes: a node comes after those whose outputs it uses"
            self._error("used-before-definition", use.where, message, fix)

    def _operator(self, node: ir.Node, where: str) -> None:
        function = self._model.functions.get(node.op_identifier())
        if function is not None:
            if len(node.inputs) > len(function.inputs):
                message = f"{len(node.inputs)} inputs, but the function takes {len(function.inputs)}"
                self._error("too-many-inputs", where, message)
            return
        domain = node.domain or "ai.onnx"
        version = self.opsets.get(node.domain)
        if version is None:
            fix = f"add an opset import for {domain!r}"
            self._error("missing-opset-import", where, f"the domain {domain!r} is not imported", fix)
            return
        if is_known(node.domain, node.op_type) and operator(node.domain, node.op_type, max(version, 1)) is None:
            return  # what its form must be, its definition says
        if newest_version(node.domain) is None:
            message = f"{_identifier(node.op_identifier())!r} is not an operator of ONNX; it was not checked"
            self._add("note", "foreign-operator", where, message)
            return
        if version < 1:
            return  # which has been reported
        schema = operator(node.domain, node.op_type, version)
        if schema is None or schema.deprecated:
            self._unknown(node, version, where, deprecated=schema is not None)
            return
        self._inputs(node, schema, where)
        self._attributes(node, schema, where)

    def _unknown(self, node: ir.Node, version: int, where: str, *, deprecated: bool) -> None:
        domain = node.domain or "ai.onnx"
        known = versions_with(node.domain, node.op_type)
        if deprecated:
            message = f"{node.op_type!r} is deprecated in opset {version} of {domain}"
            fix = "convert the model to use its successor, or import an older opset"
            self._error("deprecated-operator", where, message, fix)
            return
        message = f"there is no operator {node.op_type!r} in opset {version} of {domain}"
        fix = "correct its name or domain, or add a model-local function of that name"
        if known:
            fix = f"it came with opset {known[0]}: import that or a later one"
        self._error("unknown-operator", where, message, fix)

    def _inputs(self, node: ir.Node, schema: Operator, where: str) -> None:
        given = len(node.inputs)
        for index, name in enumerate(schema.inputs):
            if name is not None and (index >= given or node.inputs[index] is None):
                self._error("missing-input", where, f"the required input {name!r} is missing")
        if len(schema.inputs) <= given < schema.min_inputs:
            self._error("missing-input", where, f"{given} inputs, but at least {schema.min_inputs} are required")
        if given > schema.max_inputs:
            self._error("too-many-inputs", where, f"{given} inputs, but at most {schema.max_inputs} are taken")
        outputs = len(node.outputs)
        if outputs > schema.max_outputs:
            message = f"{outputs} outputs, but at most {schema.max_outputs} are made"
            self._error("too-many-outputs", where, message)
        if outputs < schema.min_outputs:
            message = f"{outputs} outputs, but at least {schema.min_outputs} are made"
            self._error("missing-output", where, message)

    def _attributes(self, node: ir.Node, schema: Operator, where: str) -> None:
        for name in schema.required_attributes:
            if name not in node.attributes:
                self._error("missing-attribute", where, f"the required attribute {name!r} is missing")
        for name, attribute in node.attributes.items():
            expected = schema.attributes.get(name)
            if expected is None:
                self._error("unknown-attribute", where, f"{node.op_type} has no attribute {name!r}", "remove it")
            elif attribute.type != expected:
                message = f"attribute {name!r} is of type {attribute.type.name}; expected {expected.name}"
                self._error("wrong-attribute-type", where, message)
            elif (node.op_type, name) == ("Einsum", "equation") and not attribute.is_ref():
                equation = attribute.as_string()
                if not _EQUATION.fullmatch(equation.replace(" ", "")):
                    fix = "write terms of letters, with at most one ellipsis each, as in 'b...i,...ij->...j'"
                    self._error("wrong-equation", where, f"{equation[:80]!r} is not an equation of Einsum", fix)

    def _recursion(self) -> None:
        functions = self._model.functions
        calls = {
            key: {node.op_identifier() for node in function.all_nodes() if node.op_identifier() in functions}
            for key, function in functions.items()
        }
        cycle = find_cycle(calls)
        if cycle:
            names = " -> ".join(_identifier(key) for key in [*cycle, cycle[0]])
            self._error("recursive-function", "model", f"functions call each other in a circle: {names}")

    def _error(self, code: str, where: str, message: str, fix: str = "") -> None:
        self._add("error", code, where, message, fix)

    def _add(self, severity: Severity, code: str, where: str, message: str, fix: str = "") -> None:
        self.found.append(Diagnostic(severity, code, where, message, fix))


def _bodies(node: ir.Node) -> Iterable[tuple[str, ir.Graph]]:
    """Subgraphs of a node, by attribute name."""
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield name, attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from ((name, graph) for graph in attribute.as_graphs())


def _identifier(identifier: tuple[str, str, str]) -> str:
    domain, name, overload = identifier
    return f"{domain or 'ai.onnx'}::{name}" + (f":{overload}" if overload else "")
