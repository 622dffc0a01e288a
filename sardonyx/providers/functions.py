"""Operators that the standard defines by others: replaced by those where a provider only runs those."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from sardonyx.providers.base import Provider

_DEEPEST = 8
"""Functions within functions: more than the standard has."""


def expand_functions(model: ir.Model, provider: Provider) -> ir.Model:
    """The model with each operator that `provider` declines replaced by the standard's definition of it, where the
    provider runs all of that; the model itself when there is none. Shapes must be inferred.
    """
    refused: set[int] = set()
    while True:
        claims = provider.claims(model)
        wanted = {
            index
            for index, node in enumerate(model.graph)
            if index not in refused and not (node in claims and claims[node].accepted) and _is_function(node, model)
        }
        if not wanted:
            return model
        expanded, poor = _expanded(model, wanted, provider)
        if not poor:
            return expanded
        refused |= poor


def _expanded(model: ir.Model, wanted: set[int], provider: Provider) -> tuple[ir.Model, set[int]]:
    """A copy with these nodes replaced, and those of them of whose definition the provider does not run all."""
    from sardonyx.model.shapes import infer_shapes

    made = model.clone()
    nodes = list(made.graph)
    owner: dict[ir.Node, int] = {}
    poor = {index for index in wanted if not _replace(made, nodes[index], index, owner)}
    for _ in range(_DEEPEST):
        infer_shapes(made)
        claims = provider.claims(made)
        declined = [node for node in owner if not (node in claims and claims[node].accepted)]
        inner = [node for node in declined if _is_function(node, made)]
        poor |= {owner[node] for node in declined if node not in inner}
        if poor or not inner:
            break
        for node in inner:
            index = owner.pop(node)
            if not _replace(made, node, index, owner):
                poor.add(index)
    return made, poor


def _is_function(node: ir.Node, model: ir.Model) -> bool:
    schema = _schema(node, model)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def _schema(node: ir.Node, model: ir.Model) -> onnx.defs.OpSchema | None:
    import onnx

    version = node.version if node.version is not None else model.graph.opset_imports.get(node.domain)
    if version is None:
        return None
    try:
        return onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return None


def _replace(model: ir.Model, node: ir.Node, index: int, owner: dict[ir.Node, int]) -> bool:
    """Put the definition in the node's place, its nodes belonging to `index`; whether there is one that fits."""
    from onnx_ir import serde
    from onnx_ir.passes.common import InlinePass

    body = _definition(node, model)
    if body is None or any(attribute.type.name in ("GRAPH", "GRAPHS") for attribute in node.attributes.values()):
        return False  # the inliner knows no functions of graphs
    before = set(model.graph)
    for name, default in _schema_defaults(node, model).items():
        if name not in node.attributes and any(_refers(part, name) for part in body.node):
            node.attributes[name] = serde.deserialize_attribute(default)
    body.domain, body.name, body.overload = node.domain, node.op_type, f"definition{index}"
    node.overload = body.overload
    del body.output[len(node.outputs) :]  # which a definition made for this node need not compute
    function = serde.deserialize_function(body)
    function.opset_imports.clear()
    function.opset_imports.update(model.graph.opset_imports)
    model.functions[function.identifier()] = function
    InlinePass(lambda candidate: candidate is function)(model)
    owner.update(dict.fromkeys(set(model.graph) - before, index))
    return True


def _refers(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.ref_attr_name == name for attribute in node.attribute) or any(
        _refers(inner, name) for attribute in node.attribute for inner in attribute.g.node
    )


def _schema_defaults(node: ir.Node, model: ir.Model) -> dict[str, onnx.AttributeProto]:
    schema = _schema(node, model)
    assert schema is not None
    return {name: entry.default_value for name, entry in schema.attributes.items() if entry.default_value.name}


def _definition(node: ir.Node, model: ir.Model) -> onnx.FunctionProto | None:
    """The newest definition that means the same in the model's opset; None when there is none."""
    import onnx
    from onnx_ir import serde

    schema, opset = _schema(node, model), model.graph.opset_imports.get(node.domain)
    assert schema is not None
    if opset is None:
        return None
    dependent = schema.has_context_dependent_function
    versions = schema.context_dependent_function_opset_versions if dependent else schema.function_opset_versions
    for version in sorted((v for v in versions if v <= opset), reverse=True):
        if dependent:
            types = [_type(value) for value in node.inputs]
            if any(kind is None for kind in types):
                return None
            data = schema.get_context_dependent_function_with_opset_version(
                version, serde.serialize_node(node).SerializeToString(), types
            )
        else:
            data = schema.get_function_with_opset_version(version)
        if data:
            body = onnx.FunctionProto.FromString(data)
            if all(_means_the_same(part, version, opset) for part in body.node):
                return body
    return None


def _type(value: ir.Value | None) -> bytes | None:
    """The serialised type of an input, empty for one not given; None when it is not known."""
    from onnx_ir import serde

    if value is None:
        return b""
    if value.type is None:
        return None
    data: bytes = serde.serialize_value(value).type.SerializeToString()
    return data


def _means_the_same(node: onnx.NodeProto, version: int, opset: int) -> bool:
    """Whether an operator of the definition's opset is one of the model's too: unchanged, or of the same form, as where
    a version only took more types.
    """
    import onnx

    if node.domain not in ("", "ai.onnx"):
        return False
    try:
        old, new = (onnx.defs.get_schema(node.op_type, number) for number in (version, opset))
    except onnx.defs.SchemaError:
        return False
    if old.since_version == new.since_version:
        return True
    kept = all(
        name in new.attributes and new.attributes[name].default_value == entry.default_value
        for name, entry in old.attributes.items()
    )
    return (
        kept and (old.min_input, old.max_output) == (new.min_input, new.max_output) and old.max_input <= new.max_input
    )
