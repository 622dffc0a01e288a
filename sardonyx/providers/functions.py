"""Operators defined by others, by the standard or here: replaced by those where a provider only runs those."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from sardonyx.providers.base import Provider

_DEEPEST = 8
"""Functions within functions: more than the standard has."""


def expand_foreign(model: ir.Model, provider: Provider) -> None:
    """Put the definitions of foreign operators in their place, in place, of all but those that `provider` runs itself.

    Raises:
        UnsupportedOperatorError: a form of an operator that has no definition.
        InvalidModelError: the model cannot be brought to the opset of the definitions.
    """
    from sardonyx.model.foreign import expand, foreign_nodes, infer_foreign

    if not foreign_nodes(model):
        expand(model)  # which looks into the bodies of searches
        return
    infer_foreign(model)
    claims = provider.claims(model)
    expand(model, keep=lambda node: node in claims and claims[node].accepted)


def expand_functions(model: ir.Model, provider: Provider) -> ir.Model:
    """The model with each operator that `provider` declines replaced by the definition of it, where the provider runs
    all of that; the model itself when there is none. Shapes must be inferred.
    """
    refused: set[int] = set()
    while True:
        claims = provider.claims(model)
        wanted = {
            index
            for index, node in enumerate(model.graph)
            if index not in refused and not (node in claims and claims[node].accepted) and _is_defined(node, model)
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
        inner = [node for node in declined if _is_defined(node, made)]
        poor |= {owner[node] for node in declined if node not in inner}
        if poor or not inner:
            break
        for node in inner:
            index = owner.pop(node)
            if not _replace(made, node, index, owner):
                poor.add(index)
    return made, poor


def _is_defined(node: ir.Node, model: ir.Model) -> bool:
    from sardonyx.model.standard import definition_of

    return definition_of(node) is not None or _is_function(node, model)


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
    """Put a definition in the node's place, its nodes belonging to `index`; whether there is one that fits."""
    return _written(model, node, index, owner) or (_is_function(node, model) and _inlined(model, node, index, owner))


def _written(model: ir.Model, node: ir.Node, index: int, owner: dict[ir.Node, int]) -> bool:
    """The definition that `model.standard` has."""
    from sardonyx.errors import InvalidModelError, UnsupportedOperatorError
    from sardonyx.model.foreign.body import OPSET
    from sardonyx.model.foreign.writer import Writer
    from sardonyx.model.standard import definition_of

    definition = definition_of(node)
    if definition is None:
        return False
    newest = max(OPSET, model.graph.opset_imports.setdefault("", OPSET))
    writer = Writer(model)
    writer.opsets = {**model.graph.opset_imports, "": newest}
    try:
        made = writer.replace(node, definition)
    except (InvalidModelError, UnsupportedOperatorError):
        return False
    for one in made:
        one.version = newest
    owner.update(dict.fromkeys(made, index))
    return True


def _inlined(model: ir.Model, node: ir.Node, index: int, owner: dict[ir.Node, int]) -> bool:
    """The standard's own definition."""
    from onnx_ir import serde
    from onnx_ir.passes.common import InlinePass

    body = _definition(node, model)
    graphs = [name for name, entry in node.attributes.items() if entry.type.name in ("GRAPH", "GRAPHS")]
    if body is None or any(_refers(part, name) for part in body.node for name in graphs):
        return False  # the inliner knows no functions of graphs
    for name in graphs:  # whose nodes are in the definition, which was made for them
        node.attributes.pop(name)
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
            standard = model.graph.opset_imports.setdefault("", onnx.defs.onnx_opset_version())
            inner = standard if node.domain else version  # definitions in other domains do not say what they import
            if all(_means_the_same(part, inner, standard) for part in body.node):
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
