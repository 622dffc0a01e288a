"""Remove nodes that return their input unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.query import ONNX, constant, known_shape, opset, replaceable, small_constant, used, walk


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    version = opset(model)
    for node in walk(model):
        rule = _RULES.get(node.op_type) if node.domain == ONNX else None
        if rule is None or not node.outputs:
            continue
        merged = _merged_transposes(node) or _merged_casts(node) or _undone(node)
        if merged is not None:
            yield merged
            continue
        source, output = _source(node), node.outputs[0]
        if source is None or any(used(value) for value in node.outputs[1:]):
            continue
        what = rule(node, version)
        if what is None:
            continue
        if replaceable(output, source):
            yield Rewrite(node, what, replace={output: source}, remove=[node])
        else:
            yield Miss(node, f"{what}, but an input, a constant or another output cannot be the output")


def _source(node: ir.Node) -> ir.Value | None:
    """What a node returns if it changes nothing: of two factors the one that is not constant."""
    if node.op_type == "Mul" and len(node.inputs) == 2 and constant(node.inputs[0]) is not None:
        return node.inputs[1]
    return node.inputs[0] if node.inputs else None


def _identity(node: ir.Node, version: int) -> str | None:
    return "returns its input"


def _dropout(node: ir.Node, version: int) -> str | None:
    """Dropout-1 and -6 have `is_test`, Dropout-7 and -10 only ever run inference, later ones are told."""
    if version < 7:
        return "does nothing in inference" if node.attributes.get_int("is_test", 0) else None
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    if mode is None:
        return "does nothing in inference"
    training = small_constant(mode)
    return "does nothing in inference" if training is not None and not training.any() else None


def _cast(node: ir.Node, version: int) -> str | None:
    source = node.inputs[0]
    same = source is not None and source.dtype is not None and source.dtype == node.attributes.get_int("to", 0)
    return "casts to the type it has" if same else None


def _cast_like(node: ir.Node, version: int) -> str | None:
    types = [value.dtype if value is not None else None for value in node.inputs]
    same = len(types) == 2 and types[0] is not None and types[0] == types[1]
    return "casts to the type it has" if same else None


def _merged_casts(node: ir.Node) -> Rewrite | None:
    """Cast(Cast(x)) as one Cast, where the type between them holds every value of the first."""
    first = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    if node.op_type != "Cast" or first is None or (first.op_type, first.domain) != ("Cast", ONNX):
        return None
    source, between = first.inputs[0], first.attributes.get_int("to", 0)
    if source is None or source.dtype is None or between not in _WIDER.get(source.dtype, ()):
        return None
    to = node.attributes.get_int("to", 0)
    merged = ir.node("Cast", [source], {"to": to}, name=node.name)
    what = f"goes on from {source.dtype} after {first.name or 'another Cast'}"
    return Rewrite(node, what, {node.outputs[0]: merged.outputs[0]}, insert=[merged], remove=[node])


_F16, _BF16, _F32, _F64 = ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE
_I32, _I64, _BOOL = ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL
_WIDER = {
    _F16: {_F32, _F64},
    _BF16: {_F32, _F64},
    _F32: {_F64},
    _I32: {_I64, _F64},
    _BOOL: {_I32, _I64, _F16, _BF16, _F32, _F64},
}
"""Types that hold every value of a type, and turn back into it and on into others as it would itself."""


def _neutral(number: float) -> Callable[[ir.Node, int], str | None]:
    """An operand that changes nothing: a constant of one element that does not raise the rank of the other."""

    def rule(node: ir.Node, version: int) -> str | None:
        source = _source(node)
        if version < 7 or len(node.inputs) != 2 or source is None:
            return None
        other = node.inputs[1] if source is node.inputs[0] else node.inputs[0]
        array = small_constant(other, 1)
        if array is None or array.size != 1 or array.dtype.kind not in "fiuV" or float(array.reshape(())) != number:
            return None
        rank = 0 if source.shape is None else len(source.shape)
        return f"by {number:g} changes nothing" if array.ndim <= rank else None

    return rule


def _undone(node: ir.Node) -> Rewrite | None:
    """Squeeze after Unsqueeze of the same axes, which were not there."""
    before = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    if node.op_type != "Squeeze" or before is None or (before.op_type, before.domain) != ("Unsqueeze", ONNX):
        return None
    source, axes = before.inputs[0], _axes(node)
    if source is None or axes is None or axes != _axes(before) or not replaceable(node.outputs[0], source):
        return None
    return Rewrite(node, "undoes the Unsqueeze before it", {node.outputs[0]: source}, remove=[node])


def _axes(node: ir.Node) -> list[int] | None:
    """The axes, an attribute before opset 13; None when they are open."""
    given = node.attributes.get_ints("axes", None)
    array = small_constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = list(given) if given is not None else None if array is None else [int(axis) for axis in array.flat]
    return sorted(axes) if axes is not None and (min(axes, default=0) >= 0 or len(axes) == 1) else None


def _transpose(node: ir.Node, version: int) -> str | None:
    perm = node.attributes.get_ints("perm", None)
    return "keeps the order of axes" if perm is not None and list(perm) == list(range(len(perm))) else None


def _merged_transposes(node: ir.Node) -> Rewrite | None:
    """Transpose(Transpose(x)) as one Transpose, which the rule above removes when nothing is left of it."""
    first = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    if node.op_type != "Transpose" or first is None or (first.op_type, first.domain) != ("Transpose", ONNX):
        return None
    inner, outer = first.attributes.get_ints("perm", None), node.attributes.get_ints("perm", None)
    if inner is None or outer is None or sorted(inner) != sorted(outer):
        return None
    perm = [inner[axis] for axis in outer]
    merged = ir.node("Transpose", first.inputs, {"perm": perm}, name=node.name)
    return Rewrite(
        node,
        f"reorders axes after {first.name or 'another Transpose'}",
        replace={node.outputs[0]: merged.outputs[0]},
        insert=[merged],
        remove=[node],
    )


def _reshape(node: ir.Node, version: int) -> str | None:
    """A target that names each dimension, or copies it, or leaves out one, of the shape that is there."""
    shape = known_shape(node.inputs[0])
    target = small_constant(node.inputs[1]) if len(node.inputs) == 2 else None
    if shape is None or target is None or target.shape != (len(shape),):
        return None
    copied = 0 if not node.attributes.get_int("allowzero", 0) else None
    open_dims = 0
    for have, want in zip(shape, target.tolist(), strict=True):
        if want == -1:
            open_dims += 1
        elif want not in (have, copied):
            return None
    return "reshapes to the shape it has" if open_dims <= 1 else None


def _single_input(node: ir.Node, version: int) -> str | None:
    return "has a single input" if len(node.inputs) == 1 else None


def _pad(node: ir.Node, version: int) -> str | None:
    if version < 11:
        pads = node.attributes.get_ints("pads" if version > 1 else "paddings", None)
        return "pads by nothing" if pads is not None and not any(pads) else None
    widths = small_constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return "pads by nothing" if widths is not None and not np.any(widths) else None


_RULES: dict[str, Callable[[ir.Node, int], str | None]] = {
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Concat": _single_input,
    "Sum": _single_input,
    "Max": _single_input,
    "Min": _single_input,
    "Mean": _single_input,
    "Pad": _pad,
    "Mul": _neutral(1.0),
    "Div": _neutral(1.0),
    "Sub": _neutral(0.0),
    "Squeeze": lambda node, version: None,
}

ELIMINATE_IDENTITY = Pass(
    name="eliminate-identity",
    gain="Copies that change nothing cost memory traffic and hide patterns from the passes after this one.",
    placed="After constants are folded, so that shapes and modes are known; before patterns are matched.",
    exact=True,
    rewrites=_rewrites,
)
