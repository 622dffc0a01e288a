"""Reads HDF5 files that Keras writes: models (`model.save("model.h5")`) and the weights inside a `.keras` archive.

The layout of models is Keras's own (`keras/engine/saving.py`, in Keras 3 `legacy/saving/legacy_h5_format.py`): the
root's attribute `model_config` is JSON; the group `model_weights` holds a group for each layer, whose attribute
`weight_names` lists paths of datasets under it. An archive's weights are numbered datasets in a group `vars` for each
layer, at the path of attributes that leads to it (`saving/saving_lib.py`).
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


class Weights:
    """The weights in an open HDF5 file, under a group."""

    def __init__(self, root: Any, group: str, path: Path) -> None:
        self._size = path.stat().st_size
        self._stored = 0
        self._group = root if not group else _child(root, group, "group") if group in root else None

    def named(self, layer: str) -> list[StoredWeight]:
        """The weights that the attribute of a layer's group lists, in its order. Raises WeightError."""
        if self._group is None:
            return []
        with _reading(layer):
            group = _child(self._group, layer, "group", missing_ok=True)
            if group is None:
                return []
            return [self._weight(group, name) for name in self._names(group)]

    def numbered(self, place: str) -> list[StoredWeight]:
        """The weights in the group `vars` at a path of attributes, private ones or not. Raises WeightError."""
        with _reading(place):
            group: Any = self._group
            for part in (*_parts(place), "vars"):
                named = _child(group, part, "group", missing_ok=True)
                group = named if named is not None else _child(group, f"_{part}", "group", missing_ok=True)
                if group is None:
                    return []
            found = [self._weight(group, str(i)) for i in range(len(group)) if str(i) in group]
            if len(found) != len(group):
                raise WeightError(f"{place!r} holds variables that are not numbered from 0")
            return found

    def groups(self) -> list[str]:
        """Every place where weights may be, for `weights`: a superset of the layers. Raises WeightError."""
        names: list[str] = []
        if self._group is not None:
            with _reading("the weights"):
                self._group.visit(names.append)
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

    def _attribute(self, group: Any, name: str) -> Any:
        return _attribute(group, name, self._size)


class KerasFile:
    """An open Keras model. `config` is its configuration as Keras wrote it, `version` and `backend` are Keras's.

    `numbered`: whether weights go by their layer's place and number (archives) or by layer and name (HDF5).
    """

    def __init__(
        self, config: dict[str, Any], version: str, backend: str, weights: Weights, where: str, *, numbered: bool
    ) -> None:
        self.config, self.version, self.backend, self.weights = config, version, backend, weights
        self.where, self.numbered = where, numbered


def _model(root: Any, path: Path, where: str) -> KerasFile:
    size = path.stat().st_size
    try:
        weights = Weights(root, "model_weights", path)
        version, backend = _text(root, "keras_version", size) or "", _text(root, "backend", size) or ""
        text = _text(root, "model_config", size)
    except WeightError as error:
        raise ModelFileError(f"the file is damaged: {error}", where=where) from error
    if text is None:
        raise ConversionError(
            "this HDF5 file holds no Keras model (no attribute 'model_config'), perhaps weights alone",
            where=where,
            expected="a file written by model.save()",
            fix="rebuild the model in Keras, load the weights and save it with model.save('model.keras')",
        )
    return KerasFile(read_json(text, where), version, backend, weights, where, numbered=False)


def _text(group: Any, name: str, size: int) -> str | None:
    return _decode(_attribute(group, name, size)) if name in group.attrs else None


def _attribute(group: Any, name: str, size: int) -> Any:
    declared = group.attrs.get_id(name)
    if math.prod(declared.shape) * declared.dtype.itemsize > size:
        raise WeightError(f"the attribute {name!r} is larger than the file")
    return group.attrs[name]


@contextmanager
def open_model(path: Path) -> Iterator[KerasFile]:
    """Open a model in HDF5. Raises ModelFileError (not HDF5, damaged) and ConversionError (no Keras model).

    Damage can make the HDF5 library crash or loop for ever: see `sardonyx.convert.keras.probe` for what to do
    before a file that may be damaged is opened.
    """
    with _open(path, str(path)) as root:
        with _damage(str(path)):
            keras = _model(root, path, str(path))
        yield keras


@contextmanager
def open_weights(path: Path, where: str) -> Iterator[Weights]:
    """Open the HDF5 file of an archive (unpacked to `path`, called `where` in messages)."""
    with _open(path, where) as root:
        yield Weights(root, "", path)


@contextmanager
def _open(path: Path, where: str) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError.of("h5py", "keras", "reading Keras files") from error
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelFileError(
            "the HDF5 file cannot be opened: damaged or truncated", where=where, got=_first_line(error),
            fix="fetch or save the file again",
        ) from error  # fmt: skip
    with file:
        yield file


@contextmanager
def _damage(where: str) -> Iterator[None]:
    try:
        yield
    except SardonyxError:
        raise
    except _HDF5_ERRORS as error:
        raise ModelFileError(
            "the HDF5 file is damaged", where=where, got=_first_line(error), fix="fetch or save the file again"
        ) from error


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
        name = part.encode()
        if not isinstance(group, h5py.Group) or not group.id.links.exists(name):
            if missing_ok:
                return None
            raise WeightError(f"{path!r} is missing")
        if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
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


def read_json(text: str, where: str) -> dict[str, Any]:
    """The object that the text is. Raises ConversionError."""
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
