"""What is left to chance, by uniform random numbers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sardonyx.model.foreign.body import Body, Results
from sardonyx.model.standard.table import defines


@defines("Bernoulli")
def bernoulli(b: Body) -> Results:
    """1 with the given probabilities, else 0. (The definition in onnx gives 1 with those of 0.)"""
    x = b.input(0)
    seed = b.float("seed", 0.0) if "seed" in b.node.attributes else None
    chance = b("RandomUniformLike", x, dtype=int(ir.DataType.FLOAT), seed=seed)
    return b.cast(b("Less", chance, b.cast(x, ir.DataType.FLOAT)), ir.DataType(b.int("dtype", int(b.dtype(x)))))


@defines("Dropout")
def dropout(b: Body) -> Results:
    """In training: elements go with the probability `ratio`, what is left grows to the same sum on average."""
    x, given, training = b.input(0), b.optional(1), b.optional(2)
    if training is None:
        b.refuse("it is inference")
    ratio = b.cast(given, ir.DataType.FLOAT) if given is not None else b.constant(np.array(0.5, np.float32))
    one = b.constant(np.array(1, np.float32))
    seed = b.int("seed") if "seed" in b.node.attributes else None
    chance = b("RandomUniformLike", x, dtype=int(ir.DataType.FLOAT), seed=None if seed is None else float(seed))
    kept = b("Or", b("GreaterOrEqual", chance, ratio), b("Not", training))
    factor = b("Where", training, b("Div", one, b("Sub", one, ratio)), one)
    y = b("Where", kept, b("Mul", x, b.cast(factor, b.dtype(x))), b.scalar(0, x))
    return [y, kept]
