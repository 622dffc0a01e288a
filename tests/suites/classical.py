"""Cases of ai.onnx.ml's operators on numbers: one node each, of any of the types and forms it may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
TYPES = (np.float32, np.float64, np.int32, np.int64)
_RANDOM = np.random.default_rng(31)
_FLOAT, _INT64 = TensorProto.FLOAT, TensorProto.INT64


@dataclass(frozen=True)
class ClassicalCase:
    """A node of inputs `x`, `x1`, ... with its attributes and the types of its outputs.

    `peer` says that onnxruntime computes the same: it lacks some types, and cannot be told apart from chance where it
    writes less than it returns.
    """

    name: str
    op: str
    inputs: tuple[Array, ...]
    attributes: Mapping[str, Any]
    outputs: tuple[int, ...] = (_FLOAT,)
    version: int = 3
    peer: bool = True

    def model(self, *, batch: str | None = None) -> bytes:
        """The model; with `batch` the first dims have that name."""
        names = ["x", *(f"x{place}" for place in range(1, len(self.inputs)))]
        results = [f"y{place}" for place in range(len(self.outputs))]
        node = helper.make_node(self.op, names, results, "node", domain="ai.onnx.ml", **self.attributes)
        several = len(self.inputs) if self.op == "FeatureVectorizer" else 1
        dims = [[batch, *a.shape[1:]] if batch and n < several else a.shape for n, a in enumerate(self.inputs)]
        kinds = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in self.inputs]
        graph = helper.make_graph(
            [node],
            "case",
            [helper.make_tensor_value_info(*each) for each in zip(names, kinds, dims, strict=True)],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(results, self.outputs, strict=True)],
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", self.version)]
        made: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return bytes(made.SerializeToString())

    @property
    def feeds(self) -> dict[str, Array]:
        """The inputs by name."""
        return {"x" if place == 0 else f"x{place}": array for place, array in enumerate(self.inputs)}


def numbers(*dims: int, scale: float = 1.0) -> Array:
    """Seeded normal numbers."""
    return _RANDOM.standard_normal(dims) * scale


def _list(*dims: int, scale: float = 1.0) -> list[float]:
    return [float(number) for number in numbers(*dims, scale=scale).astype(np.float32).reshape(-1)]


def _kind(dtype: Any) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _linear() -> Iterator[ClassicalCase]:
    for rows, features, classes in ((1, 28, 2), (37, 19, 11), (5, 1, 3), (64, 130, 40), (0, 4, 3)):
        attributes = {
            "coefficients": _list(classes * features, scale=0.2),
            "intercepts": _list(classes),
            "classlabels_ints": [3 * place - 4 for place in range(classes)],
        }
        for dtype in TYPES:
            x = (numbers(rows, features) * 5).astype(dtype)
            transform = "SOFTMAX" if rows else "NONE"
            name = f"LinearClassifier-{rows}-{features}-{classes}-{np.dtype(dtype)}"
            yield ClassicalCase(
                name, "LinearClassifier", (x,), {**attributes, "post_transform": transform}, (_INT64, _FLOAT)
            )
    x = numbers(9, 4).astype(np.float32)
    for transform in TRANSFORMS:
        for classes, labels in ((1, 2), (2, 2), (5, 5)):
            weights = {"coefficients": _list(4 * classes, scale=0.2), "intercepts": [0.4] * classes}
            given = {**weights, "classlabels_ints": [7, 8, 1, 2, 3][:labels], "post_transform": transform}
            written = transform != "PROBIT" or classes > 1
            name = f"LinearClassifier-{transform}-{classes}-of-{labels}"
            yield ClassicalCase(name, "LinearClassifier", (x,), given, (_INT64, _FLOAT), peer=written)
        for targets in (1, 3):
            given = {"coefficients": _list(4 * targets, scale=0.2), "targets": targets, "post_transform": transform}
            given["intercepts"] = [0.4] * targets
            yield ClassicalCase(f"LinearRegressor-{transform}-{targets}", "LinearRegressor", (x,), given)
    vector = {"coefficients": [1.0, 2.0, 3.0, 4.0], "targets": 2}
    yield ClassicalCase("LinearRegressor-no-intercepts", "LinearRegressor", (x[:, :2].copy(),), vector)


def _machines() -> Iterator[ClassicalCase]:
    for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        for counts in ((3, 5, 7, 1, 7), (2, 3)):
            classes, vectors = len(counts), sum(counts)
            pairs = classes * (classes - 1) // 2
            attributes: dict[str, Any] = {
                "coefficients": _list((classes - 1) * vectors),
                "rho": _list(pairs),
                "support_vectors": _list(vectors * 6),
                "vectors_per_class": counts,
                "kernel_type": kernel,
                "kernel_params": [0.05, 0.1, 3.0],
                "classlabels_ints": [9 - place for place in range(classes)],
            }
            slopes = {"prob_a": [-abs(a) for a in _list(pairs)], "prob_b": _list(pairs)}
            for dtype in TYPES:
                x = (numbers(33, 6) * 2).astype(dtype)
                for coupled in (False, True):
                    name = f"SVMClassifier-{kernel}-{classes}-{np.dtype(dtype)}-{'p' if coupled else 'd'}"
                    given = {**attributes, **(slopes if coupled else {})}
                    yield ClassicalCase(name, "SVMClassifier", (x,), given, (_INT64, _FLOAT))
                    if dtype is np.float32 and kernel == "RBF":
                        for transform in TRANSFORMS[1:4]:
                            yield ClassicalCase(
                                f"{name}-{transform}",
                                "SVMClassifier",
                                (x,),
                                {**given, "post_transform": transform},
                                (_INT64, _FLOAT),
                            )
        regressor = {
            "coefficients": _list(17),
            "rho": [0.3],
            "support_vectors": _list(17 * 6),
            "n_supports": 17,
            "kernel_type": kernel,
            "kernel_params": [0.05, 0.1, 3.0],
        }
        x = numbers(12, 6).astype(np.float32)
        yield ClassicalCase(f"SVMRegressor-{kernel}", "SVMRegressor", (x,), regressor)
        yield ClassicalCase(f"SVMRegressor-{kernel}-one-class", "SVMRegressor", (x,), {**regressor, "one_class": 1})
    plain = {"coefficients": _list(6), "rho": [0.3], "kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0]}
    yield ClassicalCase("SVMRegressor-no-vectors", "SVMRegressor", (numbers(12, 6).astype(np.float32),), plain)
    for positive in (False, True):
        for classes in (2, 4):
            weights = [abs(w) if positive else w for w in _list(3 * classes, scale=0.5)]
            given = {**plain, "coefficients": weights, "classlabels_ints": [5, 6, 7, 8][:classes]}
            x = numbers(40, 3).astype(np.float32)
            name = f"SVMClassifier-no-vectors-{classes}-{positive}"
            yield ClassicalCase(name, "SVMClassifier", (x,), given, (_INT64, _FLOAT))


def _features() -> Iterator[ClassicalCase]:
    for dtype in TYPES:
        x, name = (numbers(21, 7) * 5).astype(dtype), str(np.dtype(dtype))
        scale = {"scale": _list(7), "offset": _list(7)}
        yield ClassicalCase(f"Scaler-{name}", "Scaler", (x,), scale)
        yield ClassicalCase(f"Scaler-one-{name}", "Scaler", (x,), {"scale": [2.5], "offset": [1.0]})
        yield ClassicalCase(f"Scaler-vector-{name}", "Scaler", (x[0],), scale)
        for norm in ("MAX", "L1", "L2"):
            rows = x.copy()
            rows[3] = 0
            yield ClassicalCase(f"Normalizer-{norm}-{name}", "Normalizer", (rows,), {"norm": norm})
        above = {"threshold": 1.5}
        kind, alone = _kind(dtype), dtype is np.float32
        yield ClassicalCase(f"Binarizer-{name}", "Binarizer", (x,), above, (kind,), peer=alone)
        categories = {"cats_int64s": [0, 3, -2, 5, 1 << 40]}
        yield ClassicalCase(f"OneHotEncoder-{name}", "OneHotEncoder", (x,), categories, peer=dtype is not np.int32)
        chosen = np.array([[6, 0, 3, 3]])
        yield ClassicalCase(f"ArrayFeatureExtractor-{name}", "ArrayFeatureExtractor", (x, chosen), {}, (_kind(dtype),))
        sizes = {"inputdimensions": [7, 2, 1]}
        others = (x, x[:, :2].copy(), x[:, 0].copy())
        yield ClassicalCase(f"FeatureVectorizer-{name}", "FeatureVectorizer", others[:2], {"inputdimensions": [7, 2]})
        yield ClassicalCase(f"FeatureVectorizer-column-{name}", "FeatureVectorizer", others, sizes, peer=False)
    holes = np.array([[1, np.nan, 2], [0, 1, np.nan], [-0.0, 5, 1]], np.float32)
    for replaced in (1.0, float("nan"), 0.0):
        for imputed in ([7.0, 8.0, 9.0], [7.0]):
            given = {"imputed_value_floats": imputed, "replaced_value_float": replaced}
            yield ClassicalCase(f"Imputer-{replaced}-{len(imputed)}", "Imputer", (holes,), given)
    whole = {"imputed_value_int64s": [7, 9], "replaced_value_int64": 1}
    yield ClassicalCase("Imputer-int64", "Imputer", (np.array([[1, 2], [3, 1]]),), whole, (_INT64,))
    yield ClassicalCase("OneHotEncoder-vector", "OneHotEncoder", (np.array([3, 9]),), {"cats_int64s": [9, 3]})


def _labels() -> Iterator[ClassicalCase]:
    whole = np.array([[3, 1, 5], [-7, 1 << 40, 3]])
    floats = np.array([[3, np.nan, 5], [-0.0, 1e30, 3]], np.float32)
    pairs: list[tuple[str, Array, dict[str, Any], int, int]] = [
        ("int-int", whole, {"keys_int64s": [1, 3, -7], "values_int64s": [10, 30, 70], "default_int64": 5}, _INT64, 2),
        ("int-float", whole, {"keys_int64s": [1, 1 << 40], "values_floats": [0.5, 1.5]}, _FLOAT, 2),
        ("float-int", floats, {"keys_floats": [0.0, 3.0, 3.0], "values_int64s": [8, 9, 4]}, _INT64, 2),
        ("float-float", floats, {"keys_floats": [0.0, float("nan")], "values_floats": [8.0, 9.0]}, _FLOAT, 4),
    ]
    for name, x, given, kind, version in pairs:
        yield ClassicalCase(f"LabelEncoder-{name}", "LabelEncoder", (x,), given, (kind,), version)
    for key in (np.int16, np.int32, np.float64):
        keys, values = (np.array(v, key) for v in ([5, 3, 1], [9, 8, 7]))
        tables = {
            "keys_tensor": onnx.numpy_helper.from_array(keys),
            "values_tensor": onnx.numpy_helper.from_array(values),
            "default_tensor": onnx.numpy_helper.from_array(np.array([42], key)),
        }
        peer = key is np.float64
        name = f"LabelEncoder-{np.dtype(key)}"
        yield ClassicalCase(name, "LabelEncoder", (keys[[0, 2, 1, 1]] - keys[1],), tables, (_kind(key),), 4, peer)
    many = np.arange(3000) * 7 % 5000
    table = {"keys_int64s": list(range(0, 5000, 2)), "values_int64s": list(range(0, 25000, 10))}
    yield ClassicalCase("LabelEncoder-many", "LabelEncoder", (many,), table, (_INT64,), 2)


CASES: tuple[ClassicalCase, ...] = (*_linear(), *_machines(), *_features(), *_labels())
