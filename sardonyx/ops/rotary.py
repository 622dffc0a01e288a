"""RotaryEmbedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sardonyx.compiler.kernels.rotary import Rotate
from sardonyx.compiler.lower import arguments
from sardonyx.compiler.program import View
from sardonyx.ops.attention import heads_first, in_rows, optional_input
from sardonyx.ops.table import FLOATS, lowers

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.compiler.lower import Lowering


@lowers("RotaryEmbedding", dtypes=FLOATS)
def rotary_embedding(ctx: Lowering, node: ir.Node) -> None:
    """Pairs of the first elements of each head turned by the angles of their position; the others as they are."""
    get = node.attributes.get_int
    x = in_rows(ctx, heads_first(ctx.view(node.inputs[0]), get("num_heads", 0)))
    batch, heads, rows, size = x.dims
    turned = get("rotary_embedding_dim", 0) or size
    half = turned // 2
    if turned % 2 or not 0 <= turned <= size:
        raise ValueError(f"{turned} elements to turn of {size}")
    cos, sin = (in_rows(ctx, ctx.view(value)) for value in node.inputs[1:3])
    if any(angles.dims[-1] != half for angles in (cos, sin)):
        raise ValueError(f"angles {list(cos.dims)} and {list(sin.dims)} for {half} pairs")
    result = ctx.result(node.outputs[0], ctx.dims(node.inputs[0]), x.dtype)
    if result.size == 0:
        return
    given, index = optional_input(node, 3), None
    if given is not None:
        positions = ctx.view(given).broadcast((batch, rows))
        index = positions.dtype
        cos, sin = (_table(angles) for angles in (cos, sin))
        if cos.dims != sin.dims or cos.dims[0] == 0:
            raise ValueError(f"angles {list(cos.dims)} and {list(sin.dims)}")
        number = cos.dims[0]
        status = ctx.check(node, "a position is out of range", f"{-number} to {number - 1}")
        more = arguments(positions=positions, status=status, size=number)
        more |= arguments(positions_batch=positions.strides[0], positions_row=positions.strides[1])
        steps = [(0, angles.strides[0]) for angles in (cos, sin)]
    else:
        cos, sin = (angles.broadcast((batch, rows, half)) for angles in (cos, sin))
        more, steps = {}, [(angles.strides[0], angles.strides[1]) for angles in (cos, sin)]
    y = heads_first(result, heads)
    for name, view in (("x", x), ("y", y)):
        more |= {f"{name}_{over}": step for over, step in zip(("batch", "head", "row"), view.strides, strict=False)}
    for name, (outer, row) in zip(("cos", "sin"), steps, strict=True):
        more |= {f"{name}_batch": outer, f"{name}_row": row}
    ctx.step(
        Rotate(bool(get("interleaved", 0)), index, x.dtype),
        arguments(x=x, cos=cos, sin=sin, y=y, rows=rows, heads=heads, half=half, rest=size - 2 * half) | more,
        domain=batch * rows,
        label=node.name or node.op_type,
        writes=("y",) if index is None else ("y", "status"),
        cost=heads * size,
    )


def _table(angles: View) -> View:
    if len(angles.dims) != 2:
        raise ValueError(f"angles {list(angles.dims)} to choose from by position")
    return angles
