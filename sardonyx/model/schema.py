"""What ONNX's operator schemas ask of a node, as plain data that is quick to look up."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Operator:
    """One operator as of one opset version.

    `inputs` are the required leading ones by name, up to the last; None for an optional one among them.
    `attributes` gives the type of each by name.
    """

    deprecated: bool
    inputs: tuple[str | None, ...]
    min_inputs: int
    max_inputs: int
    min_outputs: int
    max_outputs: int
    attributes: dict[str, ir.AttributeType]
    required_attributes: tuple[str, ...]


@functools.lru_cache(maxsize=4096)
def operator(domain: str, name: str, version: int) -> Operator | None:
    """The operator in force at an opset version; None if that has no such operator."""
    import onnx

    try:
        schema = onnx.defs.get_schema(name, version, domain)
    except onnx.defs.SchemaError:
        return None
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    return Operator(
        deprecated=schema.deprecated,
        inputs=tuple(entry.name if entry.option == single else None for entry in schema.inputs),
        min_inputs=schema.min_input,
        max_inputs=schema.max_input,
        min_outputs=schema.min_output,
        max_outputs=schema.max_output,
        attributes={key: ir.AttributeType(entry.type.value) for key, entry in schema.attributes.items()},
        required_attributes=tuple(key for key, entry in schema.attributes.items() if entry.required),
    )


@functools.cache
def newest_version(domain: str) -> int | None:
    """The newest opset version of a domain; None for one the onnx package does not define."""
    import onnx

    if domain == "":
        return int(onnx.defs.onnx_opset_version())
    if domain == "ai.onnx.ml":
        return int(onnx.defs.onnx_ml_opset_version())
    # Looking through all schemas takes 20 ms, which models of the two domains above need not wait for.
    return max((s.since_version for s in onnx.defs.get_all_schemas() if s.domain == domain), default=None)


def versions_with(domain: str, name: str) -> tuple[int, ...]:
    """The opset versions that brought or changed an operator."""
    return _history().get((domain, name), ())


@functools.cache
def _history() -> dict[tuple[str, str], tuple[int, ...]]:
    import onnx

    found: dict[tuple[str, str], tuple[int, ...]] = {}
    for schema in sorted(onnx.defs.get_all_schemas_with_history(), key=lambda entry: entry.since_version):
        key = schema.domain, schema.name
        found[key] = (*found.get(key, ()), schema.since_version)
    return found
