"""Arrays for people to read, and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sardonyx.providers.base import Array

SMALL = 64  # elements shown whole
JSON_LIMIT = 1000  # elements written to JSON


def described(array: Array) -> str:
    """Its values if few, else its statistics and first values."""
    if array.size <= SMALL or array.dtype.kind in "OSU":
        return np.array2string(array, precision=5, suppress_small=True, threshold=SMALL, max_line_width=110)
    wide = _wide(array)
    if wide is None:
        return np.array2string(array.ravel()[:6], precision=5) + " ..."
    finite = wide[np.isfinite(wide)]
    facts = [f"{array.size:,} values"]
    if finite.size:
        facts += [f"{name} {value:.5g}" for name, value in _statistics(finite).items()]
    if finite.size < wide.size:
        facts.append(f"{np.isnan(wide).sum():,} NaN, {np.isinf(wide).sum():,} infinite")
    first = np.array2string(wide.ravel()[:6], precision=5, suppress_small=True).rstrip("]")
    return "; ".join(facts) + f"\n{first} ...]"


def top(array: Array, classes: Sequence[str] = (), count: int = 5) -> list[tuple[str, float]]:
    """The likeliest classes, when `array` looks like one vector of probabilities; else empty."""
    if array.dtype.kind not in "fV" or array.ndim == 0 or array.size != array.shape[-1] or array.size < 2:
        return []
    values = array.astype(np.float64).ravel()
    if not np.isfinite(values).all() or values.min() < 0 or abs(values.sum() - 1) > 1e-3:
        return []
    order = np.argsort(-values, kind="stable")[:count]
    names = classes if len(classes) == values.size else [f"class {i}" for i in range(values.size)]
    return [(names[i], float(values[i])) for i in order]


def as_json(name: str, array: Array) -> dict[str, Any]:
    """Name, dtype and shape; the values if at most a thousand, else statistics."""
    facts: dict[str, Any] = {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
    wide = _wide(array)
    if array.size <= JSON_LIMIT:
        facts["values"] = (array.astype(str) if wide is None else array if array.dtype.kind in "biu" else wide).tolist()
    elif wide is not None and np.isfinite(wide).any():
        facts |= _statistics(wide[np.isfinite(wide)])
    return facts


def _wide(array: Array) -> Array | None:
    if array.dtype.kind in "OSUc":
        return None
    return array.astype(np.float64)


def _statistics(finite: Array) -> dict[str, float]:
    facts = {"min": finite.min(), "max": finite.max(), "mean": finite.mean(), "std": finite.std()}
    return {name: float(value) for name, value in facts.items()}
