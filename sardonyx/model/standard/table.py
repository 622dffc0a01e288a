"""The table of definitions."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from sardonyx.model.foreign.body import Definition

STANDARD: dict[tuple[str, str], Definition] = {}
"""By domain and name. A definition refuses the forms of its operator that it is not for."""


def defines(*names: str, domain: str = "") -> Callable[[Definition], Definition]:
    """Register the definition of operators."""

    def register(definition: Definition) -> Definition:
        for name in names:
            if (domain, name) in STANDARD:
                raise ValueError(f"operator {domain}.{name} is defined twice")
            STANDARD[domain, name] = definition
        return definition

    return register


def definition_of(node: ir.Node) -> Definition | None:
    """The definition of a node's operator, if there is one."""
    return STANDARD.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
