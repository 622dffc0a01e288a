"""Control flow that is decided when a program is made. What only a run decides is `providers/control.py`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.errors import ExecutionError
from sardonyx.ops.table import BOOL, lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering


@lowers("If", dtypes=BOOL, known=(0,), folds=False)
def branch(ctx: Lowering, node: ir.Node) -> None:
    """The body that the known condition chooses, in the node's place."""
    condition = ctx.known(node.inputs[0])
    assert condition is not None
    if condition.size != 1:
        where, got = node.name or "If", str(list(condition.shape))
        raise ExecutionError("the condition is not one value", where=where, got=got)
    taken = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
    ctx.inline(node.attributes[taken].as_graph(), node.outputs)
