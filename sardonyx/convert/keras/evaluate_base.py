"""What the functions of `evaluate_*` get: a value with its mask, and a call of a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.convert.base import Array


@dataclass
class Value:
    """An array and Keras's mask, bool [batch, time], which layers may take off."""

    x: Array
    mask: Array | None = None


@dataclass(frozen=True)
class Call:
    """A layer's options and weights (float64), and what it is called with."""

    config: Mapping[str, Any]
    weights: Mapping[str, Array]
    version: tuple[int, int]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def get(self, key: str, default: Any = None) -> Any:
        """An option; what is null is the default."""
        value = self.config.get(key)
        return default if value is None else value

    @property
    def values(self) -> list[Value]:
        """The inputs, those in lists too."""
        flat: list[Value] = []
        for item in self.args:
            flat += [v for v in (item if isinstance(item, tuple) else (item,)) if isinstance(v, Value)]
        return flat

    @property
    def x(self) -> Array:
        """The first input, as float64 unless it is that layer's business."""
        return self.values[0].x

    @property
    def f(self) -> Array:
        """The first input as float64."""
        return self.x.astype(np.float64, copy=False)

    def mask(self) -> Array | None:
        """The mask for the first input: the call's, or its own."""
        given = self.kwargs.get("mask")
        if isinstance(given, Value):
            return given.x.astype(bool)
        return self.values[0].mask


Function = Callable[[Call], "Value | list[Value]"]
