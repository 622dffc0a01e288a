"""Refusing results that are far too large before tables of their size are made."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from sardonyx import config
from sardonyx.compiler.dims import hint
from sardonyx.errors import ExecutionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from sardonyx.compiler.dtypes import DType


def check_result(node: ir.Node, dims: Sequence[int], dtype: DType) -> None:
    """Raise ExecutionError when the node's result alone is more than a run may need (`SARDONYX_MEMORY`)."""
    need, limit = hint(prod(dims)) * dtype.size, config.MEMORY.get()  # other dims are checked when they are bound
    if need > limit:
        raise ExecutionError(
            "the result needs too much memory",
            where=node.name or node.op_type,
            expected=f"at most {limit:,} bytes",
            got=f"{need:,} for {list(dims)}",
            fix=f"ask for a smaller one, or raise {config.MEMORY.variable}",
        )
