"""LayerNormalization and RMSNormalization out of means, squares and roots.

LayerNormalization (opset 17): (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias over the last axes;
RMSNormalization (opset 23): x / sqrt(mean(x^2) + epsilon) * scale. Both compute in float32 whatever their type, so
float64 stays spelled out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.idioms import Built, Idiom, recognise
from sardonyx.passes.pattern import Match, Pattern, either, inverse_root, number, op, root, square, value
from sardonyx.passes.query import known_shape, new_constant, small_constant

FLOATS = frozenset([ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16])


def _keeps_dims(node: ir.Node) -> str | None:
    return None if node.attributes.get_int("keepdims", 1) else "it drops the axes"


def _mean(pattern: Pattern, name: str) -> Pattern:
    return op("ReduceMean", pattern, name=name, check=_keeps_dims, more=True)


X, SCALE, BIAS = value("x"), value("scale"), value("bias")
MEAN = _mean(X, "mean")
CENTRED = op("Sub", X, MEAN, name="centred")
AGAIN = op("Sub", X, MEAN)  # exporters without common subexpressions centre twice
VARIANCE = op("Add", _mean(either(square(CENTRED), square(AGAIN)), "spread"), number(name="epsilon"))
NORMALIZED = either(op("Div", CENTRED, root(VARIANCE)), op("Mul", CENTRED, inverse_root(VARIANCE)))
SCALED = either(op("Mul", NORMALIZED, SCALE), op("Mul", CENTRED, op("Mul", inverse_root(VARIANCE), SCALE)))

# Moments first, then one multiply-add, as frameworks do who normalise layers and batches alike.
FACTOR = op("Mul", inverse_root(VARIANCE), SCALE, name="factor")
PLAIN_FACTOR = either(FACTOR, op("Reciprocal", root(VARIANCE), name="factor"))
SHIFT = op("Sub", BIAS, op("Mul", MEAN, PLAIN_FACTOR))
AFFINE = either(
    op("Add", op("Mul", X, PLAIN_FACTOR), SHIFT),
    op("Sub", op("Mul", X, PLAIN_FACTOR), op("Mul", MEAN, PLAIN_FACTOR)),
)

LAYER_NORMALIZATION = either(op("Add", SCALED, BIAS), SCALED, op("Add", NORMALIZED, BIAS), NORMALIZED, AFFINE)

POWER = op("Add", _mean(square(X), "spread"), number(name="epsilon"))
DIVIDED = either(op("Div", X, root(POWER)), op("Mul", X, inverse_root(POWER)))
RMS_NORMALIZATION = either(op("Mul", DIVIDED, SCALE), DIVIDED, op("Mul", X, op("Mul", inverse_root(POWER), SCALE)))


def _layer_normalization(match: Match, version: int) -> Built | str:
    return _built("LayerNormalization", match, ("mean", "spread"))


def _rms_normalization(match: Match, version: int) -> Built | str:
    return _built("RMSNormalization", match, ("spread",))


def _built(op_type: str, match: Match, means: tuple[str, ...]) -> Built | str:
    x, shape = match["x"], known_shape(match["x"])
    if x.dtype not in FLOATS or not shape:
        return f"{x.name!r} is {x.dtype} of {'unknown rank' if shape is None else f'rank {len(shape)}'}"
    axes = [_axes(match.node(name), len(shape)) for name in means]
    first = axes[0]
    if first is None or any(one != first for one in axes) or first != list(range(first[0], len(shape))):
        return f"the means are over the axes {', '.join(map(str, axes))}, not all over the last"
    parameters = _parameters(match, shape[first[0] :])
    if isinstance(parameters, str):
        return parameters
    epsilon = match.numbers["epsilon"]
    if not epsilon >= 0:
        return f"epsilon is {epsilon}"
    attributes = {"axis": first[0] - len(shape), "epsilon": epsilon}
    constants = [value for value in parameters if value not in match.values.values()]
    return Built([ir.node(op_type, [x, *parameters], attributes)], constants)


def _parameters(match: Match, dims: tuple[int | None, ...]) -> list[ir.Value] | str:
    """Scale and, if there is one, bias; a scale of ones where there is none, since it is not optional."""
    x = match["x"]
    if None in dims:
        return f"the last dims of {x.name!r} are {list(dims)}: whether scale and bias broadcast is unknown"
    parameters: list[ir.Value] = []
    for name in ("scale", "bias"):
        if name in match:
            given = known_shape(match[name])
            if given != dims:
                return f"{match[name].name!r} has the dims {given}, not those of the last axes, {dims}"
            parameters.append(match[name])
        elif name == "scale":
            assert x.dtype is not None
            sizes = [size for size in dims if size is not None]
            parameters.append(new_constant(f"{x.name}_ones", np.ones(sizes, x.dtype.numpy())))
    return parameters


def _axes(node: ir.Node, rank: int) -> list[int] | None:
    """The axes of a mean in ascending order: an attribute before opset 18, then an input."""
    given = node.attributes.get_ints("axes", None)
    if given is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        array = small_constant(node.inputs[1])
        given = None if array is None else [int(axis) for axis in array.flat]
        if given is None:
            return None
    if not given:
        return None if node.attributes.get_int("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({axis % rank for axis in given if -rank <= axis < rank}) or None


IDIOMS = (
    Idiom("LayerNormalization", 17, "ReduceMean", LAYER_NORMALIZATION, _layer_normalization),
    Idiom("RMSNormalization", 23, "ReduceMean", RMS_NORMALIZATION, _rms_normalization),
)


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    return recognise(model, IDIOMS)


RECOGNISE_NORMALIZATION = Pass(
    name="recognise-normalization",
    gain="One pass over a row instead of nine, each of which reads and writes the whole activation.",
    placed="After copies are gone and equal means are one; before attention, whose inputs it makes.",
    exact=False,
    rewrites=_rewrites,
)
