"""Inputs made up from what a model declares, for a first run and for timing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sardonyx.errors import InvalidInputError
from sardonyx.providers.base import Array

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

    `assumed` are the open dimensions that got the size 1 because nobody gave one.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    assumed: tuple[str, ...] = ()


def specs(declared: Sequence[Declared], dims: Mapping[str, int] | None = None) -> list[Spec]:
    """The inputs, their open dimensions bound by `dims`: by symbol, or as `input[axis]` where there is none.

    Raises InvalidInputError for an input that is no dense tensor and for a dimension no input leaves open.
    """
    dims = dims or {}
    known = {name for value in declared for name in _open(value) if name}
    for name in dims:
        if name not in known:
            raise InvalidInputError(
                f"no input has an open dimension {name!r}",
                expected=", ".join(sorted(known)) or "none: all are fixed",
            )
    return [_spec(value, dims) for value in declared]


def _open(declared: Declared) -> list[str]:
    """The name of every dimension, empty for those with a size."""
    sizes = enumerate(declared.shape)
    return ["" if isinstance(size, int) else size or f"{declared.name}[{axis}]" for axis, size in sizes]


def _spec(declared: Declared, dims: Mapping[str, int]) -> Spec:
    names = _open(declared)
    shape = [
        size if isinstance(size, int) else dims.get(name, 1) for size, name in zip(declared.shape, names, strict=True)
    ]
    assumed = tuple(name for name in names if name and name not in dims)
    return Spec(declared.name, numpy_dtype(declared), tuple(shape), assumed)


def random_array(wanted: Spec, random: np.random.Generator) -> Array:
    """Values that most models take: floats are normal, bytes 0 to 255, other integers 0 or 1, strings a word.

    Integers are often indices, masks or lengths, and 0 and 1 are fit for all of these.
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
    if kind == "b":
        return random.integers(0, 2, shape).astype(np.bool_)
    if wanted.dtype == np.uint8:
        return random.integers(0, 256, shape, dtype=np.uint8)
    if kind in "iu":
        return random.integers(0, 2, shape).astype(wanted.dtype)
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
