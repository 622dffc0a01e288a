"""`convert_xgboost`, `convert_lightgbm`, `convert_catboost` and `convert_libsvm`, called as onnxmltools' are.

They give `onnx.ModelProto`. Other than there, probabilities are always a tensor (never a list of dicts, `zipmap` is
ignored), `initial_types` may be left out, and models may also be paths. The result is not compared with the model:
`sardonyx.convert` does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sardonyx.convert.base import Options
from sardonyx.errors import ConversionError


def convert_xgboost(
    model: Any,
    name: str | None = None,
    initial_types: Sequence[tuple[str, Any]] | None = None,
    doc_string: str = "",
    target_opset: int | Mapping[str, int] | None = None,
    targeted_onnx: str | None = None,
    custom_conversion_functions: Any = None,
    custom_shape_calculators: Any = None,
    **ignored: Any,
) -> Any:
    """A Booster, scikit-learn wrapper, or JSON or UBJSON file. Raises as `sardonyx.convert` does."""
    _refuse(custom_conversion_functions, custom_shape_calculators)
    return _converted("xgboost", model, name, initial_types, doc_string, target_opset)


def convert_lightgbm(
    model: Any,
    name: str | None = None,
    initial_types: Sequence[tuple[str, Any]] | None = None,
    doc_string: str = "",
    target_opset: int | Mapping[str, int] | None = None,
    targeted_onnx: str | None = None,
    custom_conversion_functions: Any = None,
    custom_shape_calculators: Any = None,
    without_onnx_ml: bool = False,
    zipmap: bool = True,
    split: int | None = None,
) -> Any:
    """A Booster, scikit-learn wrapper, or text file. Raises as `sardonyx.convert` does."""
    _refuse(custom_conversion_functions, custom_shape_calculators, without_onnx_ml)
    return _converted("lightgbm", model, name, initial_types, doc_string, target_opset)


def convert_catboost(
    model: Any,
    name: str | None = None,
    initial_types: Sequence[tuple[str, Any]] | None = None,
    doc_string: str = "",
    target_opset: int | Mapping[str, int] | None = None,
) -> Any:
    """A CatBoost model or .cbm file. Raises as `sardonyx.convert` does."""
    return _converted("catboost", model, name, initial_types, doc_string, target_opset)


def convert_libsvm(
    model: Any,
    name: str | None = None,
    initial_types: Sequence[tuple[str, Any]] | None = None,
    doc_string: str = "",
    target_opset: int | Mapping[str, int] | None = None,
    targeted_onnx: str | None = None,
    custom_conversion_functions: Any = None,
    custom_shape_calculators: Any = None,
) -> Any:
    """An `svm_model` of libsvm's Python package, or a text file. Raises as `sardonyx.convert` does."""
    _refuse(custom_conversion_functions, custom_shape_calculators)
    return _converted("libsvm", model, name, initial_types, doc_string, target_opset)


def _refuse(*given: Any) -> None:
    if any(given):
        raise ConversionError(
            "converters of the user's own, and trees without ai.onnx.ml, are not supported",
            fix="leave custom_conversion_functions, custom_shape_calculators and without_onnx_ml out",
        )


def _converted(
    kind: str, model: Any, name: str | None, initial_types: Sequence[tuple[str, Any]] | None, doc_string: str,
    target_opset: int | Mapping[str, int] | None,
) -> Any:  # fmt: skip
    from sardonyx.convert.api import convert

    source = Path(model) if isinstance(model, str | os.PathLike) else model
    found = convert(source, options=_options(initial_types), kind=kind, opset=_opset(target_opset), verify=False)
    proto = found.proto()
    if name is not None:
        proto.graph.name = name
    proto.doc_string = doc_string
    return proto


def _options(initial_types: Sequence[tuple[str, Any]] | None) -> Options:
    """The input's name and columns: `[("input", FloatTensorType([None, 4]))]`."""
    if not initial_types:
        return Options()
    if len(initial_types) > 1 or type(initial_types[0][1]).__name__ != "FloatTensorType":
        raise ConversionError(
            "initial_types must be one input of FloatTensorType",
            got=", ".join(str(entry)[:60] for entry in initial_types),
        )
    name, kind = initial_types[0]
    shape = tuple(dim if isinstance(dim, int) and dim > 0 else None for dim in getattr(kind, "shape", ()) or ())
    batch = shape[0] if shape and shape[0] is not None else "batch"
    return Options(inputs=(name,), shapes={name: shape} if len(shape) == 2 else {}, batch=batch)


def _opset(target: int | Mapping[str, int] | None) -> int | None:
    if target is None or isinstance(target, int):
        return target
    ml = target.get("ai.onnx.ml", 5)
    if ml < 5:
        raise ConversionError("trees are written for ai.onnx.ml 5", expected="5 or more", got=str(ml))
    return target.get("", target.get("ai.onnx"))
