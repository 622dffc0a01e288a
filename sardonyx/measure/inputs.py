"""Inputs made up from what a model declares, for a first run and for timing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sardonyx.errors import InvalidInputError
from sardonyx.measure.ranges import ranges
from sardonyx.model.types import summands
from sardonyx.providers.base import Array

if TYPE_CHECKING:
    import onnx_ir as ir

LIMIT = 2**32  # bytes; a declared shape past this is a mistake or an attack


class Declared(Protocol):
    """An input as a session declares it (onnxruntime's NodeArg)."""

    @property
    def name(self) -> str:
        """The name to feed it under."""
        ...

    @property
    def type(self) -> str:
        """As in `tensor(float)`."""
        ...

    @property
    def shape(self) -> Sequence[int | str | None]:
        """Sizes, symbols, and None where nothing is known."""
        ...


@dataclass(frozen=True)
class Spec:
    """An input a model asks for: element type and the size of every dimension.

    `assumed` are the open dimensions that got the size 1 because nobody gave one. Integers that are made up are
    from `low` to below `high`.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    assumed: tuple[str, ...] = ()
    low: int = 0
    high: int = 2


def specs(
    declared: Sequence[Declared], dims: Mapping[str, int] | None = None, model: ir.Model | None = None
) -> list[Spec]:
    """The inputs, their open dimensions bound by `dims`: by symbol, or as `input[axis]` where there is none.

    A dimension named as a sum, such as `past + sequence`, is that sum. `model`, where it is given, tells what
    integers its inputs may hold (`ranges`).

    Raises InvalidInputError for an input that is no dense tensor and for a dimension no input leaves open.
    """
    dims = dims or {}
    names = {name for value in declared for name in _open(value) if name}
    known = names.union(*map(summands, names))
    for name in dims:
        if name not in known:
            raise InvalidInputError(
                f"no input has an open dimension {name!r}",
                expected=", ".join(sorted(known)) or "none: all are fixed",
            )
    known_ranges = ranges(model) if model is not None else {}
    return [_spec(value, dims, known_ranges.get(value.name)) for value in declared]


def _open(declared: Declared) -> list[str]:
    """The name of every dimension, empty for those with a size."""
    sizes = enumerate(declared.shape)
    return ["" if isinstance(size, int) else size or f"{declared.name}[{axis}]" for axis, size in sizes]


def _spec(declared: Declared, dims: Mapping[str, int], limits: tuple[int, int] | None) -> Spec:
    shape: list[int] = []
    assumed: list[str] = []
    for size, name in zip(declared.shape, _open(declared), strict=True):
        parts = [name] if name in dims else summands(name)
        assumed += [part for part in parts if part and not part.isdecimal() and part not in dims]
        numbers = (int(part) if part.isdecimal() else dims.get(part, 1) for part in parts)
        shape.append(size if isinstance(size, int) else sum(numbers))
    dtype = numpy_dtype(declared)
    low, high = limits or (0, 256 if dtype == np.uint8 else 2)
    return Spec(declared.name, dtype, tuple(shape), tuple(dict.fromkeys(assumed)), low, high)


def random_array(wanted: Spec, random: np.random.Generator) -> Array:
    """Values that most models take: floats are normal, strings a word, integers as `wanted` has them.

    Without more knowledge bytes are 0 to 255, other integers 0 or 1: fit for indices, masks and lengths.
    """
    kind, shape = wanted.dtype.kind, wanted.shape
    size = math.prod(shape) * wanted.dtype.itemsize
    if size > LIMIT:
        raise InvalidInputError(
            "the declared shape is too big to make up values for",
            where=f"input {wanted.name!r}",
            expected=f"at most {LIMIT:,} bytes",
            got=f"{list(shape)} {wanted.dtype}, {size:,} bytes",
            fix="give the input as a file, or smaller dimensions",
        )
    if kind in "biu":
        return random.integers(wanted.low, wanted.high, shape).astype(wanted.dtype)
    if kind == "O":
        return np.full(shape, "word", dtype=object)
    if kind == "c":
        return (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(wanted.dtype)
    return random.standard_normal(shape, dtype=np.float32).astype(wanted.dtype)  # ml_dtypes' have kind "V"


def random_inputs(wanted: Sequence[Spec], seed: int = 0) -> dict[str, Array]:
    """One array for every spec, the same for the same seed."""
    random = np.random.default_rng(seed)
    return {spec.name: random_array(spec, random) for spec in wanted}


def numpy_dtype(declared: Declared) -> np.dtype[Any]:
    """`tensor(float)` as float32, and so on; bfloat16 and the 8- and 4-bit types are ml_dtypes' own.

    Raises InvalidInputError for anything but a dense tensor, such as a sequence.
    """
    import onnx_ir as ir

    element = declared.type.removeprefix("tensor(").removesuffix(")").upper()
    if declared.type != f"tensor({element.lower()})" or element not in ir.DataType.__members__:
        raise InvalidInputError(
            "no values can be made up or read for this type",
            where=f"input {declared.name!r}",
            expected="a dense tensor",
            got=declared.type,
        )
    return np.dtype(ir.DataType[element].numpy())
