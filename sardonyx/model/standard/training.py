"""The optimisers of ai.onnx.preview.training."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from sardonyx.model.foreign.body import Body, Results
from sardonyx.model.standard.table import defines

_DOMAIN = "ai.onnx.preview.training"


def _tensors(b: Body, count: int, step: Callable[[list[ir.Value]], list[ir.Value]]) -> Results:
    """`step` for each optimised tensor: the inputs after the rate and the count of updates are `count` lists of them,
    one after the other; the results are lists too.
    """
    given = [b.input(index) for index in range(2, len(b.node.inputs))]
    if len(given) % count:
        b.refuse(f"{len(given)} inputs that are not {count} for each tensor")
    each = len(given) // count
    made = [step([given[part * each + index] for part in range(count)]) for index in range(each)]
    return [results[part] for part in range(count - 1) for results in made]


def _regularised(b: Body, x: ir.Value, gradient: ir.Value) -> ir.Value:
    """With the gradient of the L2 norm."""
    return b("Add", b("Mul", x, b.scalar(b.float("norm_coefficient", 0.0), x)), gradient)


def _mixed(b: Body, old: ir.Value, new: ir.Value, share: float) -> ir.Value:
    return b("Add", b("Mul", old, b.scalar(share, old)), b("Mul", new, b.scalar(1 - share, new)))


@defines("Adagrad", domain=_DOMAIN)
def adagrad(b: Body) -> Results:
    """Steps over the root of all squared gradients so far; the rate decays with the count."""
    rate, count = b.input(0), b.input(1)
    decay = b("Mul", b.cast(count, b.dtype(rate)), b.scalar(b.float("decay_factor", 0.0), rate))
    rate = b("Div", rate, b("Add", decay, b.scalar(1, rate)))

    def step(given: list[ir.Value]) -> list[ir.Value]:
        x, gradient, squares = given
        gradient = _regularised(b, x, gradient)
        squares = b("Add", squares, b("Mul", gradient, gradient))
        length = b("Add", b("Sqrt", squares), b.scalar(b.float("epsilon", 0.0), squares))
        return [b("Sub", x, b("Div", b("Mul", b.cast(rate, b.dtype(x)), gradient), length)), squares]

    return _tensors(b, 3, step)


@defines("Adam", domain=_DOMAIN)
def adam(b: Body) -> Results:
    """Steps along the mean gradient over the root of the mean square; both are made up for at the start."""
    rate, count = b.input(0), b.input(1)
    alpha, beta = b.float("alpha", 0.9), b.float("beta", 0.999)
    one, turns = b.scalar(1, rate), b.cast(count, b.dtype(rate))
    root = b("Sqrt", b("Sub", one, b("Pow", b.scalar(beta, rate), turns)))
    early = b("Div", b("Mul", rate, root), b("Sub", one, b("Pow", b.scalar(alpha, rate), turns)))
    rate = b("Where", b("Greater", count, b.scalar(0, count)), early, rate)

    def step(given: list[ir.Value]) -> list[ir.Value]:
        x, gradient, mean, squares = given
        gradient = _regularised(b, x, gradient)
        mean = _mixed(b, mean, gradient, alpha)
        squares = _mixed(b, squares, b("Mul", gradient, gradient), beta)
        length = b("Add", b("Sqrt", squares), b.scalar(b.float("epsilon", 0.0), squares))
        moved = b("Sub", x, b("Div", b("Mul", b.cast(rate, b.dtype(x)), mean), length))
        after = b.float("norm_coefficient_post", 0.0)
        return [b("Mul", moved, b.scalar(1 - after, moved)) if after else moved, mean, squares]

    return _tensors(b, 4, step)


@defines("Momentum", domain=_DOMAIN)
def momentum(b: Body) -> Results:
    """Steps along the sum of gradients, older ones ever less, or as Nesterov has it."""
    rate, count = b.input(0), b.input(1)
    alpha, beta = b.float("alpha", 0.0), b.float("beta", 0.0)
    share = b("Where", b("Greater", count, b.scalar(0, count)), b.scalar(beta, rate), b.scalar(1, rate))
    nesterov = b.string("mode", "standard") == "nesterov"

    def step(given: list[ir.Value]) -> list[ir.Value]:
        x, gradient, speed = given
        gradient = _regularised(b, x, gradient)
        slowed = b("Mul", speed, b.scalar(alpha, speed))
        speed = b("Add", slowed, b("Mul", b.cast(share, b.dtype(x)), gradient))
        along = b("Add", gradient, b("Mul", speed, b.scalar(alpha, speed))) if nesterov else speed
        return [b("Sub", x, b("Mul", b.cast(rate, b.dtype(x)), along)), speed]

    return _tensors(b, 3, step)
