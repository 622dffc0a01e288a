"""How far the outputs of two runs lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sardonyx.errors import InvalidInputError
from sardonyx.providers.base import Array


@dataclass(frozen=True)
class Difference:
    """Distance of outputs from a reference.

    `max_abs` is the largest absolute difference of two elements; `rel_l2` is ||output - reference|| /
    ||reference|| in the Euclidean norm over all elements (the plain norm of the difference where the
    reference is all zero). Both are infinite where one side is NaN or infinite and the other not equal to it.
    """

    max_abs: float
    rel_l2: float


def difference(outputs: Sequence[Array], reference: Sequence[Array]) -> Difference:
    """The largest `max_abs` and `rel_l2` over pairs of outputs, computed in float64.

    Booleans, integers and strings count too: strings differ by 1 or 0. Raises InvalidInputError where the
    number of outputs or a shape differs.
    """
    if len(outputs) != len(reference):
        raise InvalidInputError("the numbers of outputs differ", expected=str(len(reference)), got=str(len(outputs)))
    pairs = [_pair(i, a, b) for i, (a, b) in enumerate(zip(outputs, reference, strict=True))]
    return Difference(max((p.max_abs for p in pairs), default=0.0), max((p.rel_l2 for p in pairs), default=0.0))


def _pair(index: int, output: Array, reference: Array) -> Difference:
    output, reference = np.asarray(output), np.asarray(reference)
    if output.shape != reference.shape:
        raise InvalidInputError(
            "the shapes differ",
            where=f"output {index}",
            expected=str(list(reference.shape)),
            got=str(list(output.shape)),
        )
    if output.dtype.kind in "OSU":
        unequal = (output.astype(str) != reference.astype(str)).astype(np.float64)
        return Difference(float(unequal.max(initial=0)), float(unequal.mean()) if unequal.size else 0.0)
    wide = np.complex128 if output.dtype.kind == "c" else np.float64
    a, b = output.astype(wide), reference.astype(wide)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.where(same, 0, np.abs(a - b))
        norm = float(np.linalg.norm(np.where(same & ~np.isfinite(b), 0, b).ravel()))
        length = float(np.linalg.norm(gap.ravel()))
    largest = float(gap.max(initial=0))
    relative = length / norm if norm else length
    return Difference(_or_infinity(largest), _or_infinity(relative))


def _or_infinity(value: float) -> float:
    return math.inf if math.isnan(value) else value
