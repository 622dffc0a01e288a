"""Memory that callers give for results."""

from __future__ import annotations

from typing import Any

import numpy as np

from sardonyx.errors import InvalidInputError

Array = np.ndarray[Any, Any]


def fitting(array: Array, dims: tuple[int, ...], dtype: Any, where: str) -> Array:
    """An array to write a result to. InvalidInputError when the result does not fit in."""
    if array.shape != dims or array.dtype != dtype or not array.flags.carray:
        how = "writeable, in C order" if array.flags.carray else "read-only, not aligned or not in C order"
        raise InvalidInputError(
            "an array for an output does not fit",
            where=where,
            expected=f"{np.dtype(dtype)} {list(dims)}, writeable, in C order",
            got=f"{array.dtype} {list(array.shape)}, {how}",
            fix="leave it out to get a new one",
        )
    return array
