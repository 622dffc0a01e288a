"""A Gemm between two Reshapes, of rows that stand in several axes, as MatMul and Add on those axes.

Frameworks flatten batch and length for a linear layer and restore them behind it, from the shape there was.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.query import ONNX, only_use, opset, walk
from sardonyx.passes.symbolic import Contents, dims_of, reshaped


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    if opset(model) < 7:  # operators broadcast by attributes
        return
    contents = Contents()
    for node in walk(model):
        if node.domain == ONNX and node.op_type == "Gemm":
            yield _lifted(node, contents)


def _lifted(gemm: ir.Node, contents: Contents) -> Rewrite | Miss:
    before = gemm.inputs[0].producer() if gemm.inputs[0] is not None else None
    after = next((user for user, _ in gemm.outputs[0].uses()), None)
    if not only_use(gemm.outputs[0]) or not _reshapes(before, gemm) or not _reshapes(after, gemm):
        return Miss(gemm, "it is not between two Reshapes")
    assert before is not None and after is not None
    x, weight, bias = before.inputs[0], gemm.inputs[1], gemm.inputs[2] if len(gemm.inputs) > 2 else None
    flags = [gemm.attributes.get_int(name, 0) for name in ("transA", "transB")]
    factors = [gemm.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    if any(flags) or factors != [1.0, 1.0]:
        return Miss(gemm, "it transposes or scales")
    dims, sizes, target = dims_of(x), dims_of(weight), contents.of(after.inputs[1])
    if x is None or weight is None or not dims or sizes is None or target is None:
        return Miss(gemm, "the dims before or behind it are unknown")
    outside = dims_of(bias)
    if bias is not None and (outside is None or len(outside) > 1):
        return Miss(gemm, f"{bias.name!r} is no vector")
    rows = dims_of(gemm.outputs[0])
    result = reshaped(rows, target, allowzero=bool(after.attributes.get_int("allowzero", 0))) if rows else None
    if dims[-1] != sizes[0] or result != (*dims[:-1], sizes[1]):
        return Miss(gemm, "what is behind it does not restore what was before")
    nodes = [ir.node("MatMul", [x, weight], name=gemm.name)]
    if bias is not None:
        nodes.append(ir.node("Add", [nodes[0].outputs[0], bias]))
        nodes[0].outputs[0].type, nodes[0].outputs[0].shape = after.outputs[0].type, after.outputs[0].shape
    replaced = {after.outputs[0]: nodes[-1].outputs[0]}
    return Rewrite(
        after, f"restores what {gemm.name or 'the Gemm'} need not flatten", replaced, nodes, remove=[after, gemm]
    )


def _reshapes(node: ir.Node | None, gemm: ir.Node) -> bool:
    return (
        node is not None
        and (node.op_type, node.domain) == ("Reshape", ONNX)
        and len(node.inputs) == 2
        and node.graph is gemm.graph
    )


UNFLATTEN_GEMM = Pass(
    name="unflatten-gemm",
    gain="Shapes need not be read and restored around every linear layer, and what follows keeps its dims.",
    placed="After shapes are simplified, before scales are folded into what it makes.",
    exact=False,
    rewrites=_rewrites,
)
