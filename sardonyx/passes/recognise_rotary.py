"""RotaryEmbedding (opset 23) out of halves that change places.

x * cos + rotated(x) * sin, where rotated(x) is [-x2, x1] for the halves of the last axis, and cos and sin repeat the
angles for both halves. The operator takes the angles' cosines and sines once, [batch, length, size / 2].
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.idioms import Built, Idiom, recognise
from sardonyx.passes.pattern import Match, Pattern, either, number, op, value
from sardonyx.passes.query import new_constant, opset, small_constant
from sardonyx.passes.recognise_normalization import FLOATS
from sardonyx.passes.symbolic import Dim, dims_of

_X = value("x")


def _last(node: ir.Node) -> str | None:
    axis, shape = node.attributes.get_int("axis", 0), node.outputs[0].shape
    return None if axis == -1 or (shape is not None and axis == len(shape) - 1) else "it is not along the last axis"


def _half(name: str) -> Pattern:
    """A Slice of x; which is for `_is_half` to tell."""
    return op("Slice", _X, more=True, name=name)


_HALVES = op("Concat", op("Neg", _half("second")), _half("first"), check=_last, name="rotated")


def _angles(function: str) -> Pattern:
    """The cosines or sines of angles that stand there twice, for all heads."""
    doubled = op("Concat", value("angles"), value("angles"), check=_last, kept=True)
    wave = op(function, doubled, kept=True)
    scaled = either(op("Mul", wave, number(name=function), kept=True), wave)
    return op("Unsqueeze", scaled, more=True, name=f"{function} of heads", kept=True)


_ROTARY = op("Add", op("Mul", _X, _angles("Cos")), op("Mul", _HALVES, _angles("Sin")))


def _rotary(match: Match, version: int) -> Built | str:
    x, angles = match["x"], match["angles"]
    dims, turns = dims_of(x), dims_of(angles)
    if dims is None or len(dims) != 4 or x.dtype not in FLOATS:
        return f"{x.name!r} is {x.dtype} of {'unknown rank' if dims is None else f'rank {len(dims)}'}"
    size = dims[-1].number
    if size is None or size % 2 or not size:
        return f"the size of a head is {dims[-1]}"
    for name, start in (("first", 0), ("second", size // 2)):
        if not _takes(match.node(name), start, size // 2, size):
            return f"{match[name].name!r} is not the {name} half"
    if turns is None or turns != (dims[0], dims[2], Dim(size // 2)):
        told = "unknown dims" if turns is None else f"[{', '.join(map(str, turns))}]"
        return f"the angles {angles.name!r} have {told} for [{', '.join(map(str, dims))}]"
    for function in ("Cos", "Sin"):
        if dims_of(match[f"{function} of heads"]) != (dims[0], Dim(1), dims[2], dims[3]):
            return f"{match[f'{function} of heads'].name!r} is not the same for all heads"
    nodes, waves, constants = [], [], []
    for function in ("Cos", "Sin"):
        nodes.append(ir.node(function, [angles]))
        if function in match.numbers:
            assert x.dtype is not None
            factor = np.full((), match.numbers[function], x.dtype.numpy())
            constants.append(new_constant(f"{angles.name}_scale", factor))
            nodes.append(ir.node("Mul", [nodes[-1].outputs[0], constants[-1]]))
        waves.append(nodes[-1].outputs[0])
        for node in nodes[-2:]:
            node.outputs[0].type, node.outputs[0].shape = angles.type, angles.shape
    return Built([*nodes, ir.node("RotaryEmbedding", [x, *waves])], constants)


def _takes(node: ir.Node, start: int, count: int, size: int) -> bool:
    """Whether a Slice takes `count` of the `size` elements of the last of four axes."""
    given = [small_constant(value, 1) for value in node.inputs[1:5]]
    if len(given) < 3 or any(array is None or array.size != 1 for array in given):
        return False
    numbers = [int(array.reshape(())) for array in given if array is not None]
    taken = range(size)[numbers[0] : numbers[1] : numbers[3] if len(numbers) > 3 else 1]
    return numbers[2] in (-1, 3) and taken == range(start, start + count)


IDIOMS = (Idiom("RotaryEmbedding", 23, "Neg", _ROTARY, _rotary),)


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    if opset(model) < 7:
        return iter(())
    return recognise(model, IDIOMS)


RECOGNISE_ROTARY = Pass(
    name="recognise-rotary",
    gain="Positions turn queries and keys in one pass instead of seven.",
    placed="After shapes are simplified, which tell that angles belong to the batch; before attention.",
    exact=False,
    rewrites=_rewrites,
)
