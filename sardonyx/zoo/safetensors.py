"""Reads safetensors, Hugging Face's format of weights: a length, a JSON header, then the tensors' bytes.

Files are not trusted: every field of the header is checked against the file before anything is made of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from sardonyx.errors import ModelFileError

Array = np.ndarray[Any, Any]

HEADER_LIMIT = 100_000_000  # bytes, as the format has it
_MOST_AXES = 32
_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}


def read(path: Path) -> dict[str, Array]:
    """The tensors by name, read-only views of the mapped file.

    Raises ModelFileError for a file that cannot be read, is no safetensors file, or whose header does not fit it.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, HEADER_LIMIT):
                raise _bad(path, "the header is longer than the file")
            text = file.read(length)
            data = np.memmap(file, np.uint8, "r", offset=0)[8 + length :]
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=error.strerror) from error
    except ValueError as error:
        raise _bad(path, str(error)) from error
    entries = _header(path, text)
    _check_places(path, entries, data.size)
    return {name: _tensor(path, name, entry, data) for name, entry in entries.items()}


def _bad(path: Path, what: str, name: str | None = None) -> ModelFileError:
    where = str(path) if name is None else f"{path}, tensor {name!r}"
    return ModelFileError(f"not a valid safetensors file: {what}", where=where)


def _header(path: Path, text: bytes) -> dict[str, Mapping[str, Any]]:
    """What the header says of each tensor, `data_offsets` being two integers in order."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise _bad(path, "a key of the header stands twice")
        return found

    try:
        header = json.loads(text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _bad(path, "the header is not JSON") from error
    if not isinstance(header, dict):
        raise _bad(path, "the header is no object")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if not isinstance(entry, dict) or not _counts(entry.get("data_offsets"), 2):
            raise _bad(path, "its place is not told", name)
    return header


def _counts(value: object, number: int | None = None) -> bool:
    """Whether it is a list, of `number` entries if that is given, of integers from 0 on."""
    if not isinstance(value, list) or len(value) != (len(value) if number is None else number):
        return False
    return all(type(entry) is int and entry >= 0 for entry in value)


def _check_places(path: Path, entries: Mapping[str, Mapping[str, Any]], size: int) -> None:
    """Raise ModelFileError unless the tensors lie one behind the other and fill the file."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if start != end or not start <= stop <= size:
            raise _bad(path, f"its bytes {start:,} to {stop:,} do not follow on {end:,} within {size:,}", name)
        end = stop
    if end != size:
        raise _bad(path, f"it has {size:,} bytes of tensors, the header tells of {end:,}")


def _tensor(path: Path, name: str, entry: Mapping[str, Any], data: Array) -> Array:
    start, stop = entry["data_offsets"]
    shape, kind = entry.get("shape"), entry.get("dtype")
    dtype = _DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        raise _bad(path, f"its type {kind!r} is not known", name)
    if shape is None or not _counts(shape) or len(shape) > _MOST_AXES:
        raise _bad(path, "its shape is no list of at most 32 sizes", name)
    if math.prod(shape) * dtype.itemsize != stop - start:
        raise _bad(path, f"its shape {shape} takes another number of bytes than {stop - start:,}", name)
    try:
        found: Array = np.asarray(data[start:stop]).view(dtype).reshape(shape)
    except (ValueError, OverflowError) as error:  # sizes past what NumPy counts, next to one of 0
        raise _bad(path, str(error), name) from error
    return found
