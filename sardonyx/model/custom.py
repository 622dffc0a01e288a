"""Operators that the user brings: Python functions under a domain and a name of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.errors import InvalidInputError

if TYPE_CHECKING:
    import onnx_ir as ir

    from sardonyx.model.results import Result
    from sardonyx.model.types import Dims

_RESERVED = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")


@dataclass(frozen=True)
class TensorSpec:
    """What a shape rule is told of an input and says of an output: a NumPy type, and dims, numbers or names or None."""

    dtype: np.dtype[Any]
    dims: Dims | None


ShapeRule = Callable[..., "Sequence[tuple[Any, Dims | None]]"]


@dataclass(frozen=True)
class CustomOperator:
    """A registered function: `fn(*inputs, **attributes)` returns an array, or several in a tuple.

    `shape(*inputs, **attributes)`, of TensorSpecs (None where nothing is known), returns (type, dims) for each output.
    """

    domain: str
    name: str
    fn: Callable[..., Any]
    shape: ShapeRule | None = None

    def infer(self, node: ir.Node, inputs: Sequence[Result | None]) -> list[Result | None]:
        """As `results.Rule`. InvalidInputError when the rule fails or says what no tensor can be."""
        import onnx_ir as ir

        from sardonyx.model.results import Result

        if self.shape is None:
            return []
        given = [None if one is None else TensorSpec(_numpy(one.dtype), one.dims) for one in inputs]
        try:
            made = self.shape(*given, **attributes_of(node))
            return [Result(ir.DataType.from_numpy(np.dtype(dtype)), _dims(dims)) for dtype, dims in made]
        except Exception as error:  # whatever the user's code raises
            where = f"shape rule of {self.domain}::{self.name}"
            raise InvalidInputError(f"{type(error).__name__}: {error}", where=where, got=str(given)) from error


_REGISTERED: dict[tuple[str, str], CustomOperator] = {}
_LOCK = threading.Lock()


def register_op(domain: str, name: str, fn: Callable[..., Any], shape: ShapeRule | None = None) -> None:
    """Make a Python function the operator `name` of `domain`, for sessions made from now on.

    `fn(*inputs, **attributes)` is given NumPy arrays (None for an input not given) and the node's attributes, and
    returns an array or a tuple of them, one for each output. It may be called by several threads at once and must not
    change what it is given. Without `shape`, which `CustomOperator` explains, types and dims behind it are not known
    before the run, and what reads them runs as host steps.

    InvalidInputError for a domain of ONNX's own, for names that are not identifiers, for what cannot be called, and
    when the operator is registered already.
    """
    parts = [*domain.split("."), name] if isinstance(domain, str) and isinstance(name, str) else [""]
    where = f"operator {domain!r} {name!r}"
    if domain in _RESERVED or not all(part.replace("-", "_").isidentifier() for part in parts):
        expected = "a domain such as 'com.acme', not ONNX's own, and a name, both of letters, digits and underscores"
        raise InvalidInputError("not a name for an operator", where=where, expected=expected)
    if not callable(fn) or not (shape is None or callable(shape)):
        raise InvalidInputError("neither a function nor anything else to call", where=where)
    with _LOCK:
        if (domain, name) in _REGISTERED:
            fix = "unregister_op it first"
            raise InvalidInputError("an operator of this name is registered", where=where, fix=fix)
        _REGISTERED[domain, name] = CustomOperator(domain, name, fn, shape)


def unregister_op(domain: str, name: str) -> None:
    """Take an operator back; sessions made before keep it. InvalidInputError when there is none."""
    with _LOCK:
        if _REGISTERED.pop((domain, name), None) is None:
            raise InvalidInputError("no such operator is registered", where=f"operator {domain!r} {name!r}")


def registered(domain: str, name: str) -> CustomOperator | None:
    """The user's operator of this name."""
    return _REGISTERED.get((domain, name))


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """A node's attributes as Python values: strings as text, tensors as arrays, graphs as onnx_ir has them."""
    return {name: _python(attribute) for name, attribute in node.attributes.items()}


def _python(attribute: Any) -> Any:
    kind = attribute.type.name
    if kind == "TENSOR":
        return attribute.value.numpy()
    if kind == "TENSORS":
        return [tensor.numpy() for tensor in attribute.value]
    return list(attribute.value) if isinstance(attribute.value, tuple) else attribute.value


def _numpy(dtype: ir.DataType) -> np.dtype[Any]:
    return np.dtype(object) if dtype.name == "STRING" else dtype.numpy()


def _dims(dims: Dims | None) -> Dims | None:
    return None if dims is None else tuple(int(d) if isinstance(d, int | np.integer) else d for d in dims)
