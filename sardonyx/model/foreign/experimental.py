"""Operators of ai.onnx that were experimental in its first versions and never became part of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sardonyx.model.foreign.body import Body, Results, defines


def _affine(b: Body, x: ir.Value, alpha: float, beta: float) -> ir.Value:
    return b("Add", b("Mul", x, b.scalar(alpha, x)), b.scalar(beta, x))


@defines("Affine", domain="")
def affine(b: Body) -> Results:
    """alpha * x + beta."""
    return _affine(b, b.input(0), b.float("alpha", 1.0), b.float("beta", 0.0))


@defines("Scale", domain="")
def scale(b: Body) -> Results:
    """x times a number."""
    x = b.input(0)
    return b("Mul", x, b.scalar(b.float("scale", 1.0), x))


@defines("ScaledTanh", domain="")
def scaled_tanh(b: Body) -> Results:
    """alpha * tanh(beta * x)."""
    x = b.input(0)
    inner = b("Tanh", b("Mul", x, b.scalar(b.float("beta", 1.0), x)))
    return b("Mul", inner, b.scalar(b.float("alpha", 1.0), x))


@defines("ParametricSoftplus", domain="")
def parametric_softplus(b: Body) -> Results:
    """alpha * log(1 + exp(beta * x))."""
    x = b.input(0)
    inner = b("Softplus", b("Mul", x, b.scalar(b.float("beta", 1.0), x)))
    return b("Mul", inner, b.scalar(b.float("alpha", 1.0), x))


@defines("ThresholdedRelu", domain="")
def thresholded_relu(b: Body) -> Results:
    """x where it is above alpha; as in the standard, whose it became."""
    return b("ThresholdedRelu", b.input(0), alpha=b.float("alpha", 1.0))


@defines("ImageScaler", domain="")
def image_scaler(b: Body) -> Results:
    """scale * x + the bias of each channel of [N, C, H, W]."""
    x, bias = b.input(0), b.node.attributes.get_floats("bias", ())
    y = b("Mul", x, b.scalar(b.float("scale", 1.0), x))
    if not bias:
        return y
    channels = b.constant(np.array(bias, b.dtype(x).numpy()).reshape(-1, 1, 1))
    return b("Add", y, channels)


@defines("Crop", domain="")
def crop(b: Body) -> Results:
    """The image without its borders (left, top, right, bottom), or from its corner on the size given as `scale`."""
    x, border, size = b.input(0), b.ints("border"), b.ints("scale")
    if border is None or len(border) != 4:
        b.refuse("border is not four numbers")
    left, top, right, bottom = border
    if size is not None:
        if len(size) != 2:
            b.refuse("scale is not a height and a width")
        ends = b.constant([top + size[0], left + size[1]])
    else:
        ends = b("Sub", b("Shape", x, start=2, end=4), [bottom, right])
    return b("Slice", x, [top, left], ends, [2, 3])


@defines("GivenTensorFill", domain="")
def given_tensor_fill(b: Body) -> Results:
    """The values, in a shape that is an attribute, or the input's (its elements with `input_as_shape`)."""
    values = np.array(b.node.attributes.get_floats("values", ()), np.float32)
    shape, more = b.ints("shape"), b.ints("extra_shape") or []
    source = b.optional(0)
    if source is None:
        return b("Reshape", values, [*(shape or []), *more])
    dims = b.cast(source, ir.DataType.INT64) if b.int("input_as_shape", 0) else b("Shape", source)
    return b("Reshape", values, b("Concat", dims, np.array(more, np.int64), axis=0) if more else dims)


@defines("DynamicSlice", domain="")
def dynamic_slice(b: Body) -> Results:
    """Slice by inputs, before the standard had it."""
    return b("Slice", b.input(0), b.input(1), b.input(2), b.optional(3))


@defines("ATen", domain="")
@defines("ATen", domain="org.pytorch.aten")
def aten(b: Body) -> Results:
    """A call of PyTorch's own library, which a model cannot bring along."""
    b.refuse(f"it calls PyTorch's {b.string('operator', '?')!r}; export the model without ATen fallback")
