"""The table of host operators, and what each row is: a function that makes a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]
Run = Callable[..., Any]
"""(inputs, None for one not given) -> the output, or a tuple of them."""
Make = Callable[["ir.Node"], Run]
"""Reads a node's attributes, once; ValueError when they make no sense."""
ML = "ai.onnx.ml"


@dataclass(frozen=True)
class HostOperator:
    """One operator: `make` gives the function of a node, `takes` the reason why one is not for the host."""

    make: Make
    takes: Callable[[ir.Node], str | None] | None = None


HOST: dict[tuple[str, str], HostOperator] = {}
"""By domain and name; `ai.onnx` is the empty domain."""


def host(*names: str, domain: str = "", takes: Callable[[ir.Node], str | None] | None = None) -> Callable[[Make], Make]:
    """Register what makes the functions of operators."""

    def register(make: Make) -> Make:
        for name in names:
            if (domain, name) in HOST:
                raise ValueError(f"operator {name} is registered twice")
            HOST[domain, name] = HostOperator(make, takes)
        return make

    return register


def ranked(array: Any) -> Array:
    """An array of any rank; Python's and NumPy's scalars become ones of rank 0."""
    return array if isinstance(array, np.ndarray) else np.asarray(array)


def texts(items: Iterable[Any], dims: tuple[int, ...]) -> Array:
    """An array of strings: objects."""
    array = np.empty(dims, object)
    array.reshape(-1)[:] = list(items)
    return array


def ints(node: ir.Node, name: str) -> list[int] | None:
    """An attribute of integers."""
    found = node.attributes.get_ints(name, None)
    return None if found is None else [int(number) for number in found]


def floats(node: ir.Node, name: str) -> list[float] | None:
    """An attribute of floats."""
    found = node.attributes.get_floats(name, None)
    return None if found is None else list(found)


def strings(node: ir.Node, name: str) -> list[str] | None:
    """An attribute of strings."""
    found = node.attributes.get_strings(name, None)
    return None if found is None else list(found)
