"""Calls of model-local functions as the nodes of their bodies."""

from __future__ import annotations

import onnx_ir as ir


def inline_functions(model: ir.Model) -> None:
    """Put the bodies of all model-local functions in place of their calls, in place.

    Before all passes: no other looks into functions, and shapes are inferred only of what is not in one.
    """
    if model.functions:
        from onnx_ir.passes.common import InlinePass  # slow to import

        InlinePass()(model)
