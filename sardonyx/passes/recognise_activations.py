"""Gelu, Swish, HardSwish, Mish and Softplus out of their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import onnx_ir as ir

from sardonyx.passes.base import Miss, Pass, Rewrite
from sardonyx.passes.idioms import Built, Idiom, recognise
from sardonyx.passes.pattern import Match, Pattern, either, number, op, scaled, square, value
from sardonyx.passes.query import opset, small_constant

X = value("x")


def _half_of_product(left: Pattern, right: Pattern) -> Pattern:
    """0.5 * left * right, in whatever order it is multiplied."""
    return either(
        scaled(op("Mul", left, right), 0.5),
        op("Mul", scaled(left, 0.5), right),
        op("Mul", left, scaled(right, 0.5)),
    )


# x * (1 + erf(x / sqrt(2))) / 2. The complement of the error function is 1 - erf.
_ERF = op("Erf", scaled(X, math.sqrt(0.5)))
_ERF_OF_MINUS = either(op("Erf", scaled(X, -math.sqrt(0.5))), op("Erf", scaled(op("Neg", X), math.sqrt(0.5))))
_CDF = either(op("Add", _ERF, number(1.0)), op("Sub", number(1.0), _ERF_OF_MINUS))
_GELU = _half_of_product(X, _CDF)

# The same with tanh(sqrt(2 / pi) * (x + 0.044715 x^3)) for erf.
_CUBIC, _ROOT = 0.044715, math.sqrt(2 / math.pi)
_SQUARE = square(X)
_CUBE = either(op("Pow", X, number(3.0)), op("Mul", X, _SQUARE))
_TERM = either(
    scaled(_CUBE, _CUBIC),
    op("Mul", scaled(X, _CUBIC), _SQUARE),
    op("Mul", X, scaled(_SQUARE, _CUBIC)),
)
_INNER = either(
    scaled(op("Add", X, _TERM), _ROOT),
    op("Mul", scaled(X, _ROOT), op("Add", scaled(_SQUARE, _CUBIC), number(1.0))),
    scaled(op("Mul", X, op("Add", scaled(_SQUARE, _CUBIC), number(1.0))), _ROOT),
)
_GELU_TANH = _half_of_product(X, op("Add", op("Tanh", _INNER), number(1.0)))

_SWISH = either(op("Mul", X, op("Sigmoid", X)), op("Mul", X, op("Sigmoid", scaled(X, by="alpha", divided="inverse"))))
_LOGISTIC = op("Add", op("Exp", op("Neg", X)), number(1.0))
_SWISH_EXP = op("Div", X, _LOGISTIC)

_MISH = op("Mul", X, op("Tanh", op("Softplus", X)))
_SOFTPLUS = op("Log", op("Add", op("Exp", X), number(1.0)))


def _hard(node: ir.Node) -> str | None:
    alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    fits = math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5
    return None if fits else f"alpha {alpha:g} and beta {beta:g} are not 1/6 and 1/2"


def _clips_to_six(node: ir.Node) -> str | None:
    low: float | None = node.attributes.get_float("min", None)
    high: float | None = node.attributes.get_float("max", None)
    bounds = [array for bound in node.inputs[1:3] if (array := small_constant(bound, 1)) is not None]
    if len(bounds) == 2:
        low, high = (float(bound.reshape(())) for bound in bounds)
    return None if (low, high) == (0.0, 6.0) else f"it clips to {low} and {high}, not 0 and 6"


_HARD_SIGMOID = op("HardSigmoid", X, check=_hard)
_SHIFTED = op("Clip", op("Add", X, number(3.0)), more=True, check=_clips_to_six)
_HARD_SWISH_CLIP = either(
    scaled(op("Mul", X, _SHIFTED), 1 / 6),
    op("Mul", X, scaled(_SHIFTED, 1 / 6)),
    op("Mul", scaled(X, 1 / 6), _SHIFTED),
)


def _gelu(match: Match, version: int) -> Built:
    return Built([ir.node("Gelu", [match["x"]])])


def _gelu_tanh(match: Match, version: int) -> Built:
    return Built([ir.node("Gelu", [match["x"]], {"approximate": "tanh"})])


def _swish(match: Match, version: int) -> Built | str:
    alpha = match.numbers.get("alpha", 1.0)
    if "inverse" in match:
        if match.numbers["inverse"] == 0:
            return "it divides by zero"
        alpha = 1 / match.numbers["inverse"]
    return Built([ir.node("Swish", [match["x"]], {"alpha": alpha})])


def _plain(op_type: str) -> Callable[[Match, int], Built]:
    """A node of an operator without attributes."""
    return lambda match, version: Built([ir.node(op_type, [match["x"]])])


IDIOMS = (
    Idiom("Gelu", 20, "Erf", _GELU, _gelu),
    Idiom("Gelu", 20, "Tanh", _GELU_TANH, _gelu_tanh),
    Idiom("Swish", 24, "Sigmoid", _SWISH, _swish),
    Idiom("Swish", 24, "Exp", _SWISH_EXP, _swish),
    Idiom("HardSwish", 14, "HardSigmoid", op("Mul", X, _HARD_SIGMOID), _plain("HardSwish")),
    Idiom("HardSwish", 14, "Clip", _HARD_SWISH_CLIP, _plain("HardSwish")),
    Idiom("Mish", 18, "Softplus", _MISH, _plain("Mish")),
    Idiom("Softplus", 1, "Log", _SOFTPLUS, _plain("Softplus")),
)


def _rewrites(model: ir.Model) -> Iterator[Rewrite | Miss]:
    if opset(model) < 7:  # operators broadcast by attributes
        return iter(())
    return recognise(model, IDIOMS)


RECOGNISE_ACTIVATIONS = Pass(
    name="recognise-activations",
    gain="Runtimes have one fast kernel for each of them, and none for the formula.",
    placed="After constants are folded, which its numbers are.",
    exact=False,
    rewrites=_rewrites,
)
