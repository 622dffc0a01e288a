"""Weights of TensorFlow.js: a manifest in JSON, and the shards that it names.

Format: tfjs-core/src/io/types.ts (`WeightsManifestConfig`) and io_utils.ts (`decodeWeights`). A group's shards are one
stretch of bytes, in which its weights lie one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sardonyx.convert.reading.cursor import Cursor
from sardonyx.errors import ConversionError, ModelFileError

Array = np.ndarray[Any, Any]

_STORED: Mapping[str, Any] = {
    "float32": np.float32, "int32": np.int32, "bool": np.bool_, "complex64": np.complex64, "float16": np.float16,
    "uint8": np.uint8, "uint16": np.uint16, "int64": np.int64, "float64": np.float64,
}  # fmt: skip
_QUANTISED = ("uint8", "uint16", "float16")


def read_json(path: Path) -> Any:
    """The JSON in a file. Raises ModelFileError when there is none."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError("the file is not JSON", where=str(path), got=str(error)[:200]) from error


def weights(manifest: Any, folder: Path, where: str) -> dict[str, Array]:
    """All weights by name, quantised ones as the numbers they stand for (float32, or rounded to int32).

    Raises ModelFileError when the manifest is none, a shard is missing, lies outside `folder`, or has not the bytes
    that the manifest says; ConversionError for types that are not known.
    """
    found: dict[str, Array] = {}
    seen: set[Path] = set()
    for group in _list(manifest, where):
        paths, entries = (_list(_of(group, key, where), where) for key in ("paths", "weights"))
        data = b"".join(_shard(path, folder, seen, where) for path in paths)
        cursor = Cursor(data, where)
        for entry in entries:
            name = _of(entry, "name", where)
            if not isinstance(name, str) or name in found:
                raise ModelFileError("the manifest names a weight twice, or not", where=where, got=str(name)[:100])
            found[name] = _weight(entry, cursor, f"{where}: {name}")
        if cursor.left:
            raise ModelFileError(
                "the shards hold more than the manifest says", where=where, got=f"{cursor.left:,} bytes more"
            )
    return found


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ModelFileError("the manifest of weights is damaged", where=where, expected="a list", got=str(value)[:80])
    return value


def _of(value: Any, key: str, where: str) -> Any:
    if not isinstance(value, dict) or key not in value:
        raise ModelFileError("the manifest of weights is damaged", where=where, expected=f"an object with {key!r}")
    return value[key]


def _shard(path: Any, folder: Path, seen: set[Path], where: str) -> bytes:
    """A file that the manifest names, which must lie in its folder or below. None is named twice: no more is read
    than there is."""
    pure = PurePosixPath(path) if isinstance(path, str) else PurePosixPath("..")
    if "\0" in str(path):
        raise ModelFileError("the name of a shard of weights is damaged", where=where, got=repr(path)[:100])
    target = (folder / pure).resolve()
    if pure.is_absolute() or ".." in pure.parts or not target.is_relative_to(folder.resolve()):
        raise ModelFileError("a shard of weights lies outside the model's folder", where=where, got=str(path)[:100])
    if target in seen:
        raise ModelFileError("the manifest names a shard of weights twice", where=where, got=str(path)[:100])
    seen.add(target)
    try:
        if target.exists() and not target.is_file():
            raise OSError("it is no file")
        return target.read_bytes()
    except (OSError, ValueError) as error:
        raise ModelFileError(
            "a shard of weights cannot be read", where=where, got=f"{path}: {error}"[:200], fix="fetch it as well"
        ) from error


def _weight(entry: Mapping[str, Any], cursor: Cursor, where: str) -> Array:
    shape, dtype = _shape(_of(entry, "shape", where), where), _of(entry, "dtype", where)
    if dtype == "string":
        return _strings(shape, cursor, where)
    how = entry.get("quantization")
    if dtype not in _STORED or (how is not None and _of(how, "dtype", where) not in _QUANTISED):
        raise ConversionError("weights of this type are not supported", where=where, got=f"{dtype}, {how}"[:100])
    if how is None:
        return cursor.array(_STORED[dtype], shape)
    stored = cursor.array(_STORED[how["dtype"]], shape)
    if how["dtype"] == "float16":
        return stored.astype(np.float32)
    scale, low = (how.get(key) for key in ("scale", "min"))
    if dtype not in ("float32", "int32") or not all(_is_number(value) for value in (scale, low)):
        raise ModelFileError("the quantisation of a weight lacks its scale or its min", where=where, got=str(how)[:100])
    # As JavaScript does: in float64, then rounded to the weight's own type.
    values: Array = stored.astype(np.float64) * scale + low
    return np.floor(values + 0.5).astype(np.int32) if dtype == "int32" else values.astype(np.float32)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shape(value: Any, where: str) -> tuple[int, ...]:
    dims = _list(value, where)
    if len(dims) > 16 or not all(type(dim) is int and 0 <= dim < 1 << 31 for dim in dims):
        raise ModelFileError("a weight's shape is damaged", where=where, got=str(dims)[:100])
    return tuple(dims)


def _strings(shape: Sequence[int], cursor: Cursor, where: str) -> Array:
    """Each after its length."""
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if count * 4 > cursor.left:
        raise ModelFileError("the shards hold less than the manifest says", where=where)
    return np.array(list(_texts(count, cursor)), object).reshape(shape)


def _texts(count: int, cursor: Cursor) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(cursor.take(cursor.one("I")))
