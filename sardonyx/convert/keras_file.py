"""Reads the HDF5 files that Keras 2 writes with `model.save`: the configuration and the weights.

The layout is Keras's own (`keras/engine/saving.py`): the root's attribute `model_config` is JSON; the group
`model_weights` holds a group for each layer, whose attribute `weight_names` lists paths of datasets under it.
Files are taken as hostile: only what lies in the file itself is read, and no more than the file can hold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.errors import ConversionError, MissingExtraError, ModelFileError, SardonyxError

Array = np.ndarray[Any, Any]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

# Keras stores weights plainly. Where someone compressed them, this much smaller they may be at the most.
_MAX_RATIO = 256


class WeightError(Exception):
    """A layer's weights cannot be read; the message says why."""


@dataclass(frozen=True)
class StoredWeight:
    """A weight as the file declares it; `name` is Keras's, such as `conv2d_1/kernel:0`."""

    name: str
    shape: tuple[int, ...]
    _dataset: Any

    def read(self) -> Array:
        """The elements, float32 or what the file holds. Raises WeightError."""
        with _reading(self.name):
            return np.asarray(self._dataset[()])


class KerasFile:
    """An open Keras file. `config` is the model's configuration as Keras wrote it; `version` is Keras's."""

    def __init__(self, root: Any, where: str) -> None:
        self._size = Path(where).stat().st_size
        self._stored = 0
        self.where = where
        try:
            self._weights = _child(root, "model_weights", "group") if "model_weights" in root else None
            self.version = self._text(root, "keras_version") or ""
            self.backend = self._text(root, "backend") or ""
            text = self._text(root, "model_config")
        except WeightError as error:
            raise ModelFileError(f"the file is damaged: {error}", where=where) from error
        if text is None:
            raise ConversionError(
                "this HDF5 file holds no Keras model (no attribute 'model_config'), perhaps weights alone",
                where=where,
                expected="a file written by model.save()",
                fix="rebuild the model in Keras, load the weights and save it with model.save('model.h5')",
            )
        self.config = _json(text, where)

    def weights(self, layer: str) -> list[StoredWeight]:
        """The weights of a layer of the outermost model, in the file's order. Raises WeightError."""
        if self._weights is None:
            return []
        with _reading(layer):
            group = _child(self._weights, layer, "group", missing_ok=True)
            if group is None:
                return []
            return [self._weight(group, name) for name in self._names(group)]

    def groups(self) -> list[str]:
        """Every place where weights may be, for `weights`: a superset of the layers. Raises WeightError."""
        names: list[str] = []
        if self._weights is not None:
            with _reading("model_weights"):
                self._weights.visit(names.append)
        return names

    def _weight(self, group: Any, name: str) -> StoredWeight:
        dataset = _child(group, name, "dataset")
        stored = dataset.id.get_storage_size()
        if dataset.is_virtual or dataset.external:
            raise WeightError(f"{name!r} lies in another file, which is not followed")
        if dataset.dtype.kind not in "fiu":
            raise WeightError(f"{name!r} holds {dataset.dtype}, not numbers")
        if dataset.shape is None:
            raise WeightError(f"{name!r} has no shape")
        # Several names may stand for one dataset, which Keras never does and would fill the memory.
        self._stored += stored
        if dataset.nbytes > stored * (_MAX_RATIO if dataset.chunks else 1) or self._stored > self._size:
            raise WeightError(f"{name!r} declares shape {dataset.shape}, more than the file can hold")
        return StoredWeight(name, tuple(dataset.shape), dataset)

    def _names(self, group: Any) -> Iterator[str]:
        """`weight_names`, which Keras splits into `weight_names0`, `weight_names1`, ... when it is long."""
        parts = ["weight_names"]
        if "weight_names" not in group.attrs:
            parts = []
            while f"weight_names{len(parts)}" in group.attrs:
                parts.append(f"weight_names{len(parts)}")
        for part in parts:
            for name in np.asarray(self._attribute(group, part)).ravel():
                yield _decode(name)

    def _text(self, group: Any, name: str) -> str | None:
        if name not in group.attrs:
            return None
        return _decode(self._attribute(group, name))

    def _attribute(self, group: Any, name: str) -> Any:
        declared = group.attrs.get_id(name)
        if math.prod(declared.shape) * declared.dtype.itemsize > self._size:
            raise WeightError(f"the attribute {name!r} is larger than the file")
        return group.attrs[name]


@contextmanager
def open_keras(path: Path) -> Iterator[KerasFile]:
    """Open a Keras file. Raises ModelFileError (not HDF5, damaged) and ConversionError (no Keras model).

    Damage can make the HDF5 library crash or loop for ever: see `sardonyx.convert.keras_probe` for what to do
    before a file that may be damaged is opened.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError.of("h5py", "keras", "reading Keras files") from error
    where = str(path)
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelFileError(
            "the HDF5 file cannot be opened: damaged or truncated", where=where, got=_first_line(error),
            fix="fetch or save the file again",
        ) from error  # fmt: skip
    with file:
        try:
            keras = KerasFile(file, where)
        except SardonyxError:
            raise
        except _HDF5_ERRORS as error:
            raise ModelFileError(
                "the HDF5 file is damaged",
                where=where,
                got=_first_line(error),
                fix="fetch or save the file again",
            ) from error
        yield keras


# What h5py raises on damaged files, depending on where the damage is.
_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except _HDF5_ERRORS as error:
        raise WeightError(f"{what!r} cannot be read, the file is damaged: {_first_line(error)}") from error


def _child(group: Any, path: str, kind: str, *, missing_ok: bool = False) -> Any:
    """The group or dataset at `path`, over links that stay in the file; None when missing, if allowed."""
    import h5py

    for part in _parts(path):
        if not isinstance(group, h5py.Group) or part not in group:
            if missing_ok:
                return None
            raise WeightError(f"{path!r} is missing")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise WeightError(f"{path!r} is a link to elsewhere, which is not followed")
        group = group[part]
    if not isinstance(group, h5py.Group if kind == "group" else h5py.Dataset):
        raise WeightError(f"{path!r} is no {kind}")
    return group


def _parts(path: str) -> Sequence[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _decode(text: Any) -> str:
    if isinstance(text, bytes):
        return text.decode("utf-8", errors="strict")
    if isinstance(text, str):
        return str(text)
    raise WeightError(f"expected text, got {type(text).__name__}")


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConversionError(
            "the model's configuration is not JSON that can be read", where=where, got=_first_line(error)
        ) from error
    if not isinstance(config, dict):
        raise ConversionError("the model's configuration is no JSON object", where=where, got=type(config).__name__)
    return config


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
