"""Sums over channels for the evaluations of sources, as matrix products: NumPy's einsum over as many axes is a hundred
times slower, which for a network of some size is minutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def over_channels(weights: Array, x: Array) -> Array:
    """[outputs, channels] by [batch, channels, ...] as [batch, outputs, ...]; with groups, [groups, outputs, channels]
    by [batch, groups, channels, ...] as [batch, groups, outputs, ...].
    """
    rank = weights.ndim
    flat = x.reshape(*x.shape[:rank], -1)
    return np.asarray(np.matmul(weights, flat)).reshape(*x.shape[: rank - 1], weights.shape[-2], *x.shape[rank:])


def over_last(weights: Array, x: Array) -> Array:
    """[groups, outputs, channels] by [..., groups, channels] as [..., groups, outputs]."""
    rows = x.reshape(-1, *x.shape[-2:]).transpose(1, 0, 2)
    result = np.asarray(np.matmul(rows, weights.transpose(0, 2, 1))).transpose(1, 0, 2)
    return result.reshape(*x.shape[:-1], weights.shape[1])
