"""Maps, labels and categories: the operators of ai.onnx.ml that have strings or dictionaries in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx.ops.features import labels_of
from sardonyx.providers.host_ops.table import ML, Array, Run, host, ints, strings, texts

if TYPE_CHECKING:
    import onnx_ir as ir


_FEW_ROWS = 8
"""Of more, copies of one dictionary are filled label by label: a quarter of the time of dict(zip(...)) for each."""


@host("ZipMap", domain=ML)
def zip_map(node: ir.Node) -> Run:
    """A dictionary by label for each row of scores."""
    labels = ints(node, "classlabels_int64s") or strings(node, "classlabels_strings") or []

    empty = dict.fromkeys(labels, 0.0)

    def run(x: Array) -> list[dict[Any, float]]:
        if x.ndim == 2 and x.shape[1] == len(labels) and x.shape[0] < _FEW_ROWS:
            return [dict(zip(labels, row, strict=False)) for row in x.tolist()]
        columns = x.T.tolist() if x.ndim > 1 else [[score] for score in x.tolist()]
        if len(columns) != len(labels):
            raise ValueError(f"{len(columns)} scores for {len(labels)} labels")
        rows = [empty.copy() for _ in range(x.shape[0] if x.ndim > 1 else 1)]
        for label, column in zip(labels, columns, strict=True):
            for row, score in zip(rows, column, strict=True):
                row[label] = score
        return rows

    return run


@host("CastMap", domain=ML)
def cast_map(node: ir.Node) -> Run:
    """A map from integers as a row: its values by ascending key or, of SPARSE form, each at its key and 0 elsewhere."""
    kind = node.attributes.get_string("cast_to", "TO_FLOAT")
    sparse = node.attributes.get_string("map_form", "DENSE") == "SPARSE"
    length = node.attributes.get_int("max_map", 1)
    if kind not in _CASTS:
        raise ValueError(f"cast_to {kind!r}")
    dtype, convert, nothing = _CASTS[kind]

    def run(x: dict[int, Any]) -> Array:
        items = sorted(x.items())
        made = np.full((1, length if sparse else len(items)), nothing, dtype)
        for place, (key, value) in enumerate(items):
            if sparse and not 0 <= key < length:
                raise ValueError(f"the key {key} of {length} places")
            made[0, key if sparse else place] = convert(value)
        return made

    return run


# Floats as text, and what stands where a sparse map has nothing, are as onnxruntime writes them.
_CASTS: dict[str, tuple[Any, Callable[[Any], Any], Any]] = {
    "TO_FLOAT": (np.float32, float, 0.0),
    "TO_INT64": (np.int64, lambda value: int(float(value)), 0),
    "TO_STRING": (object, lambda value: value if isinstance(value, str) else f"{value:f}", "0.f"),
}


@host("DictVectorizer", domain=ML)
def dict_vectorizer(node: ir.Node) -> Run:
    """A map as a row with a place for each word of a vocabulary: its value there, or 0."""
    words = strings(node, "string_vocabulary") or ints(node, "int64_vocabulary") or []

    kind = node.outputs[0].dtype
    result = kind.numpy() if kind is not None and kind.name != "STRING" else None

    def run(x: dict[Any, Any]) -> Array:
        first = next(iter(x.values()), 0.0)
        if isinstance(first, str):
            return texts((x.get(word, "") for word in words), (1, len(words)))
        given = first.dtype if isinstance(first, np.generic | np.ndarray) else _PLAIN[type(first)]
        return np.array([[x.get(word, 0) for word in words]], result or given)

    return run


_PLAIN: dict[type, Any] = {float: np.float32, int: np.int64, bool: np.int64}
"""Types of Python's numbers where neither the model nor the map says one."""


@host("CategoryMapper", domain=ML)
def category_mapper(node: ir.Node) -> Run:
    """A number for each string, or a string for each number."""
    numbers, words = ints(node, "cats_int64s") or [], strings(node, "cats_strings") or []
    number_of, string_of = dict(zip(words, numbers, strict=True)), dict(zip(numbers, words, strict=True))
    no_number = node.attributes.get_int("default_int64", -1)
    no_string = node.attributes.get_string("default_string", "_Unused")

    def run(x: Array) -> Array:
        items = x.ravel().tolist()
        if x.dtype.kind == "O":
            return np.array([number_of.get(item, no_number) for item in items], np.int64).reshape(x.shape)
        return texts((string_of.get(item, no_string) for item in items), x.shape)

    return run


@host("LabelEncoder", domain=ML)
def label_encoder(node: ir.Node) -> Run:
    """A value for each key, the first of equal ones; NaN is one."""
    result = _result(node)
    if "classes_strings" in node.attributes:  # version 1
        words: list[Any] = strings(node, "classes_strings") or []
        table = dict(enumerate(words)) if result.kind == "O" else {word: place for place, word in enumerate(words)}
        default: Any = node.attributes.get_int("default_int64", -1)
        if result.kind == "O":
            default = node.attributes.get_string("default_string", "_Unused")
    else:
        labels = labels_of(node, result)
        pairs = list(zip(labels.keys.tolist(), labels.values.tolist(), strict=True))
        table, default = dict(reversed(pairs)), labels.default
    nan = next((table.pop(key) for key in list(table) if key != key), default)  # noqa: PLR0124 - that is NaN
    return lambda x: _mapped(x, table, default, nan, result)


def _mapped(x: Array, table: dict[Any, Any], default: Any, nan: Any, result: np.dtype[Any]) -> Array:
    """Equal elements are looked up once where that is quicker."""
    if x.size > 64 and x.dtype.kind != "O":
        unique, places = np.unique(x, return_inverse=True)
        return _mapped(unique, table, default, nan, result)[places].reshape(x.shape)
    found = [table.get(item, default) if item == item else nan for item in x.ravel().tolist()]  # noqa: PLR0124
    return texts(found, x.shape) if result.kind == "O" else np.array(found, result).reshape(x.shape)


def _result(node: ir.Node) -> np.dtype[Any]:
    """The type of a node's output: as inferred, or of strings if nothing says otherwise."""
    dtype = node.outputs[0].dtype
    if dtype is None or dtype.name == "STRING":
        return np.dtype(object)
    return dtype.numpy()


@host("OneHotEncoder", domain=ML)
def one_hot_encoder(node: ir.Node) -> Run:
    """A new last axis: 1 at the element's category, the last of equal ones. Floats are truncated."""
    words: list[Any] = strings(node, "cats_strings") or ints(node, "cats_int64s") or []
    place_of = {word: place for place, word in enumerate(words)}
    lenient = bool(node.attributes.get_int("zeros", 1))

    def run(x: Array) -> Array:
        with np.errstate(all="ignore"):
            items = (x.astype(np.int64) if x.dtype.kind == "f" else x).ravel().tolist()
        places = np.array([place_of.get(item, -1) for item in items], np.int64)
        known = places >= 0
        if not (lenient or known.all()):
            raise ValueError(f"{items[int(np.argmin(known))]!r} is none of the categories")
        made = np.zeros((places.size, len(words)), np.float32)
        made[np.flatnonzero(known), places[known]] = 1.0
        return made.reshape(*x.shape, len(words))

    return run


@host("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(node: ir.Node) -> Run:
    """Chosen elements of the last axis; of a vector as a matrix with one row."""

    def run(x: Array, chosen: Array) -> Array:
        taken = np.take(x, chosen.reshape(-1), axis=-1)
        return taken if x.ndim > 1 else taken.reshape(1, -1)

    return run
