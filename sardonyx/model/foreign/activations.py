"""Activations and normalisations."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sardonyx.model.foreign.body import Body, Results, defines


@defines("Gelu")
def gelu(b: Body) -> Results:
    """x * Phi(x)."""
    return b("Gelu", b.input(0))


@defines("BiasGelu")
def bias_gelu(b: Body) -> Results:
    """Gelu of a sum."""
    return b("Gelu", b("Add", b.input(0), b.input(1)))


@defines("FastGelu")
def fast_gelu(b: Body) -> Results:
    """Gelu by tanh, of a sum if there is a bias."""
    return b("Gelu", b.sum(b.input(0), b.optional(1)), approximate="tanh")


@defines("QuickGelu")
def quick_gelu(b: Body) -> Results:
    """x * sigmoid(alpha * x)."""
    return b("Swish", b.input(0), alpha=b.float("alpha", 1.702))


def activated(b: Body, y: ir.Value, name: str, alpha: float | None, beta: float | None) -> ir.Value:
    """An activation behind a fused operator, by its ONNX name; parameters not given are None."""
    if name in ("", "Relu", "Tanh", "Sigmoid", "Softplus", "Softsign"):
        return b(name, y) if name else y
    if name in ("LeakyRelu", "Elu", "ThresholdedRelu"):
        return b(name, y, alpha=alpha)
    if name == "HardSigmoid":
        return b(name, y, alpha=alpha, beta=beta)
    if name == "Clip":
        low, high = (None if bound is None else b.scalar(bound, y) for bound in (alpha, beta))
        return b("Clip", y, low, high)
    if name == "HardSwish":
        return b("HardSwish", y)
    return b.refuse(f"activation {name!r}")


@defines("LayerNormalization")
@defines("LayerNormalization", domain="")
def layer_normalization(b: Body) -> Results:
    """As in the standard, whose it became."""
    given = b.input(0), b.input(1), b.optional(2)
    count = max(index + 1 for index in range(3) if index == 0 or b.wanted(index))
    return b.many("LayerNormalization", count, *given, **b.kept("axis", "epsilon", "stash_type"))


@defines("SimplifiedLayerNormalization")
@defines("SimplifiedLayerNormalization", domain="")
def simplified(b: Body) -> Results:
    """RMSNormalization, which does not give the inverse of the root."""
    x, axis, epsilon = b.input(0), b.int("axis", -1), b.float("epsilon", 1e-5)
    y = b("RMSNormalization", x, b.input(1), axis=axis, epsilon=epsilon)
    return (y, _inverse_root(b, x, axis, epsilon)) if b.wanted(1) else y


def _inverse_root(b: Body, x: ir.Value, axis: int, epsilon: float) -> ir.Value:
    rank = b.rank(x)
    axes = list(range(axis % rank, rank))
    mean = b("ReduceMean", b("Mul", x, x), axes, keepdims=1)
    return b("Reciprocal", b("Sqrt", b("Add", mean, b.scalar(epsilon, x))))


@defines("SkipLayerNormalization")
def skip_layer_normalization(b: Body) -> Results:
    """LayerNormalization of a sum, which is the last result."""
    x = b.sum(b.input(0), b.input(1), b.optional(4))
    count = max(index + 1 for index in range(3) if index == 0 or b.wanted(index))
    given = x, b.input(2), b.optional(3)
    found = b.many("LayerNormalization", count, *given, axis=-1, epsilon=b.float("epsilon", 1e-12))
    return [*found, *[None] * (3 - count), x]


@defines("SkipSimplifiedLayerNormalization")
def skip_simplified(b: Body) -> Results:
    """RMSNormalization of a sum, which is the last result."""
    x, epsilon = b.sum(b.input(0), b.input(1), b.optional(3)), b.float("epsilon", 1e-12)
    y = b("RMSNormalization", x, b.input(2), axis=-1, epsilon=epsilon)
    return y, None, (_inverse_root(b, x, -1, epsilon) if b.wanted(2) else None), x


@defines("EmbedLayerNormalization")
def embed_layer_normalization(b: Body) -> Results:
    """LayerNormalization of the sum of rows of tables; and how many tokens the mask leaves."""
    tables = b.input(2), b.input(3), b.optional(4)
    return embedded(b, tables, b.input(5), b.input(6), b.optional(7), b.optional(8))


def embedded(
    b: Body,
    tables: tuple[ir.Value, ir.Value, ir.Value | None],
    gamma: ir.Value,
    beta: ir.Value,
    mask: ir.Value | None,
    places: ir.Value | None,
) -> Results:
    """The results of EmbedLayerNormalization of words, positions and segments."""
    words, positions, segments = tables
    tokens, kinds = b.input(0), b.optional(1)
    total = b("Gather", words, tokens)
    if places is None:
        here = b.cut(positions, [0], b.size(tokens, 1), 0)
    else:
        here = b("Gather", positions, places)
    total = b("Add", total, here)
    if segments is not None and kinds is not None:
        total = b("Add", total, b("Gather", segments, kinds))
    y = b("LayerNormalization", total, gamma, beta, axis=-1, epsilon=b.float("epsilon", 1e-12))
    counts = None
    if b.wanted(1):
        if mask is None:
            counts = b("Expand", np.zeros(1, np.int32), b.size(tokens, 0))
        else:
            counts = b("ReduceSum", mask, [1], keepdims=0)
    return y, counts, total
