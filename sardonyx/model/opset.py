"""A model in another version of ai.onnx, newer or older.

Each node is brought from version to version of its operator. Where a version has another form, `adapters_up` or
`adapters_down` writes the node in it; where a version has no such operator, the standard's definition stands for it.
All other changes of an operator are checked against the schemas: attributes that only one version has must say what is
the rule in the other, and types must be allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from sardonyx.errors import InvalidModelError, UnsupportedOperatorError
from sardonyx.model.adapters_down import DOWN
from sardonyx.model.adapters_up import UP
from sardonyx.model.foreign.body import Body, Results
from sardonyx.model.foreign.expand import is_known
from sardonyx.model.foreign.writer import Writer
from sardonyx.model.schema import newest_version, versions_with
from sardonyx.model.types import type_string

if TYPE_CHECKING:
    import onnx

_SHOWN = 5
"""Obstacles in the message of an error."""

_NEGATIVE_AXES = 11
"""The version since which axes may be counted from the back."""

_IGNORED = frozenset({"consumed_inputs"})
"""Attributes of the first versions that only told a runtime where it may write."""


@dataclass(frozen=True)
class Obstacle:
    """A node that another version cannot say, and why."""

    node: str
    op: str
    reason: str


def raise_opset(model: ir.Model, version: int) -> ir.Model:
    """Bring the model's nodes of ai.onnx to that version, in place, if it imports an older one; returns the model.

    Weights are not touched; types and shapes are inferred. The opsets of other domains stay, and so do operators of
    theirs and foreign ones.

    Raises:
        InvalidModelError: there is no such version, or a node cannot be brought there.
    """
    from sardonyx.model.shapes import infer_shapes

    old = model.graph.opset_imports.get("", 1)
    if old >= version:
        return model
    obstacles = convert_opset(infer_shapes(model), version)
    if obstacles:
        shown = "; ".join(f"{one.op} {one.node!r}: {one.reason}" for one in obstacles[:_SHOWN])
        more = f"; and {len(obstacles) - _SHOWN} more" if len(obstacles) > _SHOWN else ""
        raise InvalidModelError(
            f"it cannot be converted from opset {old} to {version}: {shown}{more}",
            where=f"graph {model.graph.name or ''!r}",
            fix="keep the model's opset",
        )
    return model


def convert_opset(model: ir.Model, version: int) -> list[Obstacle]:
    """Bring the model to that version of ai.onnx, in place, newer or older; what cannot be brought, in the model's
    order. If there is anything, the model is of no more use.

    Model-local functions must have been inlined; types and shapes, which some nodes need, inferred.

    Raises:
        InvalidModelError: there is no such version.
    """
    import onnx

    newest = newest_version("") or 1
    if not 1 <= version <= newest:
        where = f"graph {model.graph.name or ''!r}"
        raise InvalidModelError(f"opset {version} does not exist", where=where, expected=f"1 to {newest}")
    old = model.graph.opset_imports.get("", 1)
    conversion = _Conversion(model, old, version)
    for graph in list(model.graphs()):
        for node in list(graph):
            conversion.node(node)
    model.graph.opset_imports[""] = version
    needed = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", version)], ignore_unknown=True)
    model.ir_version = max(model.ir_version, needed)
    return conversion.obstacles


class _Conversion:
    """From one version to another, a node at a time."""

    def __init__(self, model: ir.Model, old: int, new: int) -> None:
        self._model, self._old, self._new = model, old, new
        self._writer = Writer(model)
        self.obstacles: list[Obstacle] = []

    def node(self, node: ir.Node) -> None:
        """Bring it, or note why not."""
        if node.domain not in ("", "ai.onnx") or node.op_identifier() in self._model.functions:
            return
        name, op = node.name or next((value.name for value in node.outputs if value.name), None) or "", node.op_type
        start = node.version or self._old
        if _schema(op, start) is None and is_known("", op):
            return
        try:
            self._bring(node, start)
        except UnsupportedOperatorError as error:
            reason = error.what.partition(" is not supported: ")[2] or error.what
            self.obstacles.append(Obstacle(name, op, reason))
        except InvalidModelError as error:
            self.obstacles.append(Obstacle(name, op, error.what))

    def _bring(self, node: ir.Node, start: int) -> None:
        """From a version to the wanted one, by the first step that changes it, then what that made."""
        if node.domain not in ("", "ai.onnx"):
            return
        target, op = self._new, node.op_type
        if _schema(op, start) is None:
            raise UnsupportedOperatorError(f"there is no operator {op!r} in opset {start}")
        versions = versions_with("", op)
        up = target > start
        for since in (v for v in (versions if up else versions[::-1]) if min(start, target) < v <= max(start, target)):
            step = since if up else since - 1
            before, after = _schema(op, since - 1 if up else since), _schema(op, step)
            assert before is not None
            adapter = (UP if up else DOWN).get((op, since))
            if adapter is None and (after is None or after.deprecated):
                adapter, step = self._definition(node, start if up else since)
            if adapter is not None:
                # Inference must know the version that new nodes are written in.
                self._writer.opsets = {**self._model.graph.opset_imports, "": step}
                for made in self._writer.replace(node, adapter):
                    self._bring(made, step)
                return
            assert after is not None
            _carry(node, before, after)
        schema, first = _schema(op, target), _schema(op, start)
        if schema is not None and first is not None and schema.since_version != first.since_version:
            _require(node, schema)
        if target < _NEGATIVE_AXES <= start:
            _count_from_front(node)
        node.version = None

    def _definition(self, node: ir.Node, version: int) -> tuple[Any, int]:
        """The operator's definition in the standard, as one for `Writer`, and the version it is written in."""
        found = _function(node, version)
        if found is None:
            what = f"opset {self._new} has no operator {node.op_type!r}"
            raise UnsupportedOperatorError(f"{what}, and the standard does not define it by others")
        body, written = found
        return (lambda b: _written(b, body, _schema(node.op_type, version))), written


def _schema(op: str, version: int) -> onnx.defs.OpSchema | None:
    import onnx

    try:
        return onnx.defs.get_schema(op, version, "")
    except onnx.defs.SchemaError:
        return None


def _defaults(schema: onnx.defs.OpSchema) -> dict[str, Any]:
    import onnx

    return {
        name: onnx.helper.get_attribute_value(entry.default_value) if entry.default_value.name else None
        for name, entry in schema.attributes.items()
    }


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _carry(node: ir.Node, before: onnx.defs.OpSchema, after: onnx.defs.OpSchema) -> None:
    """Keep the node as it is from one version to the next, in place, saying what only one of them has as the rule."""
    old, new = _defaults(before), _defaults(after)
    for name in [name for name in node.attributes if name not in new]:
        neutral = _plain(old.get(name)) if old.get(name) is not None else _NEUTRAL.get(name)
        value = _plain(node.attributes[name].value)
        ones = name == "dilations" and all(one == 1 for one in value)
        if name not in _IGNORED and not ones and value != neutral:
            raise UnsupportedOperatorError(f"version {after.since_version} of it has no {name!r}, here {value!r}")
        del node.attributes[name]
    for name, default in old.items():
        differs = name in new and default is not None and new[name] != default
        if differs and name not in node.attributes:
            node.attributes[name] = ir.convenience.convert_attribute(name, _plain(default))


_NEUTRAL: Mapping[str, Any] = {"start": 0, "seed": None}
"""What attributes without a default say by not being there."""


def _count_from_front(node: ir.Node) -> None:
    """Say axes by their number from the front, in place."""
    for name in ("axis", "axes"):
        attribute = node.attributes.get(name)
        if attribute is None:
            continue
        axes = [attribute.as_int()] if name == "axis" else list(attribute.as_ints())
        if min(axes, default=0) >= 0:
            continue
        shape = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
        if shape is None:
            raise UnsupportedOperatorError(f"{name} {axes} counts from the back of an unknown number of dims")
        rank = len(shape) + {"Unsqueeze": len(axes), "OneHot": 1}.get(node.op_type, 0)
        axes = [axis + rank if axis < 0 else axis for axis in axes]
        node.attributes[name] = ir.AttrInt64(name, axes[0]) if name == "axis" else ir.AttrInt64s(name, axes)


def _require(node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    """That a version allows the node's number and types of inputs and results.

    Raises:
        UnsupportedOperatorError: it does not.
    """
    version = schema.since_version
    inputs, outputs = list(node.inputs), list(node.outputs)
    while inputs and inputs[-1] is None:
        inputs.pop()
    while outputs and not outputs[-1].name:
        outputs.pop()
    if not schema.min_input <= len(inputs) <= schema.max_input:
        raise UnsupportedOperatorError(f"version {version} of it does not take {len(inputs)} inputs")
    if len(outputs) > schema.max_output:
        raise UnsupportedOperatorError(f"version {version} of it does not make {len(outputs)} results")
    for name, entry in schema.attributes.items():
        if entry.required and name not in node.attributes:
            raise UnsupportedOperatorError(f"version {version} of it must be told {name!r}")
    for values, formal in ((inputs, schema.inputs), (outputs, schema.outputs)):
        for index, value in enumerate(values):
            kind = type_string(value.type) if value is not None else ""
            allowed = formal[min(index, len(formal) - 1)].types
            if kind and allowed and kind not in allowed:
                raise UnsupportedOperatorError(f"version {version} of it takes no {kind}")


def _function(node: ir.Node, version: int) -> tuple[onnx.FunctionProto, int] | None:
    """The standard's definition of an operator, no newer than a version, and its own version."""
    import onnx
    from onnx_ir import serde

    schema = _schema(node.op_type, version)
    assert schema is not None
    dependent = schema.has_context_dependent_function
    versions = schema.context_dependent_function_opset_versions if dependent else schema.function_opset_versions
    for number in sorted((v for v in versions if v <= version), reverse=True):
        if dependent:
            given = [None if v is None else v.type for v in node.inputs]
            if any(kind is None and value is not None for kind, value in zip(given, node.inputs, strict=True)):
                return None
            types = [b"" if v is None else serde.serialize_value(v).type.SerializeToString() for v in node.inputs]
            written = serde.serialize_node(node).SerializeToString()
            try:
                data = schema.get_context_dependent_function_with_opset_version(number, written, types)
            except (onnx.checker.ValidationError, RuntimeError) as error:
                raise UnsupportedOperatorError(f"the standard's definition of it fails: {error}") from error
        else:
            data = schema.get_function_with_opset_version(number)
        if data:
            return onnx.FunctionProto.FromString(data), number
    return None


def _written(b: Body, function: onnx.FunctionProto, schema: onnx.defs.OpSchema | None) -> Results:
    """A definition's nodes, for one node."""
    import onnx
    from onnx_ir import serde

    assert schema is not None
    own = {name: serde.serialize_attribute(attribute) for name, attribute in b.node.attributes.items()}
    rules = {name: entry.default_value for name, entry in schema.attributes.items() if entry.default_value.name}
    values: dict[str, ir.Value | None] = {"": None}
    values.update({name: b.optional(index) for index, name in enumerate(function.input)})
    for node in function.node:
        attributes = {}
        for written in node.attribute:
            source = own.get(written.ref_attr_name, rules.get(written.ref_attr_name)) if written.ref_attr_name else None
            if written.ref_attr_name and source is None:
                continue
            attribute = onnx.AttributeProto()
            attribute.CopyFrom(written if source is None else source)
            attribute.name = written.name
            if attribute.type in (attribute.GRAPH, attribute.GRAPHS):
                b.refuse("its definition has bodies")
            attributes[written.name] = serde.deserialize_attribute(attribute)
        missing = [name for name in node.input if name not in values]
        if missing:
            b.refuse(f"its definition reads {missing[0]!r}, which nothing makes")
        given = [values[name] for name in node.input]
        made = b.many(node.op_type, len(node.output), *given, domain=node.domain, **attributes)
        values.update(zip(node.output, made, strict=True))
    return [values.get(name) for name in list(function.output)[: len(b.node.outputs)]]
