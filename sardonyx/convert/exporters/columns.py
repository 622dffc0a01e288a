"""Columns of tables, for exporters that must be told what a model takes: their names, types and widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.convert.base import Array, Options, Source, Values
from sardonyx.errors import ConversionError


@dataclass(frozen=True)
class Column:
    """A column: `kind` is "float", "int" or "text"; `width` numbers in each row (a vector where more than one)."""

    name: str
    kind: str
    width: int = 1
    examples: Sequence[Any] | Array = ()

    def facts(self) -> list[Any]:
        """What JSON takes."""
        return [self.name, self.kind, self.width]


def columns(source: Source, options: Options) -> list[Column]:
    """By the data frame in `options.example`, or by `options.shapes` (numbers of these widths).

    Raises ConversionError where neither is given.
    """
    frame = options.example[0] if options.example else None
    if frame is not None and hasattr(frame, "columns"):
        return [_of_frame(str(name), frame[name].to_numpy()) for name in frame.columns]
    if options.shapes:
        return [Column(name, "float", _width(name, dims)) for name, dims in options.shapes.items()]
    raise ConversionError(
        "the model does not say which columns it takes", where=source.where,
        fix="give a data frame of some rows: example=(frame,), or widths: shapes={'features': (None, 4)}",
    )  # fmt: skip


def _of_frame(name: str, values: Array) -> Column:
    if values.dtype.kind in "iub":
        return Column(name, "int", 1, values)
    if values.dtype.kind == "f":
        return Column(name, "float", 1, values)
    if len(values) and isinstance(values[0], list | tuple | np.ndarray):
        rows = np.stack([np.asarray(value, np.float32) for value in values])
        return Column(name, "float", rows.shape[1], rows)
    return Column(name, "text", 1, values.astype(str))


def _width(name: str, dims: tuple[int | str | None, ...]) -> int:
    if len(dims) != 2 or not isinstance(dims[1], int):
        raise ConversionError("columns have two dims", where=f"input {name!r}", expected="(None, width)", got=str(dims))
    return dims[1]


def made(listed: Sequence[Column], batch: int, random: np.random.Generator) -> Values:
    """Inputs for these columns: of text some of the examples, else numbers like them."""
    found: dict[str, Array] = {}
    for column in listed:
        examples = np.asarray(column.examples)
        if column.kind == "float":
            spread = float(np.nanstd(examples)) or 1.0 if examples.size else 1.0
            middle = float(np.nanmean(examples)) if examples.size else 0.0
            found[column.name] = random.normal(middle, spread, (batch, column.width)).astype(np.float32)
        elif examples.size:
            picked = examples[random.integers(0, len(examples), batch)].reshape(batch, 1)
            found[column.name] = picked.astype(np.int64) if column.kind == "int" else picked.astype(object)
        else:
            found[column.name] = np.zeros((batch, 1), np.int64)
    return found
