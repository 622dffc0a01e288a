"""Functions of keras2onnx and onnxmltools under their names, arguments and results (`onnx.ModelProto`).

Each conversion is compared with its source as `sardonyx.convert` does: one that differs raises ParityError, one that
could not be compared warns. What these packages let users register (custom converters) is refused.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sardonyx.convert.base import Options
from sardonyx.errors import ConversionError

Types = Sequence[tuple[str, Any]]
"""Names and types of inputs; types have a `shape`, as those of onnxconverter_common."""


def convert_keras(
    model: Any,
    name: str | None = None,
    doc_string: str = "",
    target_opset: int | None = None,
    initial_types: Types | None = None,
    channel_first_inputs: Sequence[str] | None = None,
    debug_mode: bool = False,
    custom_op_conversions: Any = None,
) -> Any:
    """A Keras model, or a file of one, as `onnx.ModelProto`; as keras2onnx's function."""
    return _convert(
        "keras", model, name, doc_string, target_opset, debug_mode,
        options=Options(shapes=_shapes(initial_types)), custom=custom_op_conversions, nchw=channel_first_inputs or (),
    )  # fmt: skip


def convert_tensorflow(
    frozen_graph_def: Any,
    name: str | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    doc_string: str = "",
    target_opset: int | None = None,
    channel_first_inputs: Sequence[str] | None = None,
    debug_mode: bool = False,
    custom_op_conversions: Any = None,
) -> Any:
    """A GraphDef, or a file or folder of TensorFlow's, as `onnx.ModelProto`; as keras2onnx's function."""
    with _as_file(frozen_graph_def, "graph.pb") as source:
        return _convert(
            "tensorflow", source, name, doc_string, target_opset, debug_mode,
            options=Options(inputs=tuple(input_names or ()), outputs=tuple(output_names or ())),
            custom=custom_op_conversions, nchw=channel_first_inputs or (),
        )  # fmt: skip


def convert_coreml(
    model: Any,
    name: str | None = None,
    initial_types: Types | None = None,
    doc_string: str = "",
    target_opset: int | None = None,
    targeted_onnx: str | None = None,
    custom_conversion_functions: Any = None,
    custom_shape_calculators: Any = None,
) -> Any:
    """A CoreML model (a file, coremltools' MLModel or its spec) as `onnx.ModelProto`; as onnxmltools' function."""
    spec = model.get_spec() if hasattr(model, "get_spec") else model
    with _as_file(spec, "model.mlmodel") as source:
        return _convert(
            "coreml", source, name, doc_string, target_opset, options=Options(shapes=_shapes(initial_types)),
            custom=custom_conversion_functions or custom_shape_calculators, targeted=targeted_onnx,
        )  # fmt: skip


def convert_sklearn(
    model: Any,
    name: str | None = None,
    initial_types: Types | None = None,
    doc_string: str = "",
    target_opset: Any = None,
    targeted_onnx: str | None = None,
    custom_conversion_functions: Any = None,
    custom_shape_calculators: Any = None,
) -> Any:
    """A scikit-learn estimator as `onnx.ModelProto`; as onnxmltools' function, but probabilities are a matrix."""
    inputs = tuple(key for key, _ in initial_types or ())
    return _convert(
        "sklearn", model, name, doc_string, target_opset, targeted=targeted_onnx,
        options=Options(inputs=inputs if len(inputs) == 1 else (), example=_rows(initial_types)),
        custom=custom_conversion_functions or custom_shape_calculators,
    )  # fmt: skip


def _convert(
    kind: str,
    model: Any,
    name: str | None,
    doc_string: str,
    target_opset: Any,
    debug_mode: bool = False,
    *,
    options: Options,
    custom: Any = None,
    nchw: Sequence[str] = (),
    targeted: str | None = None,
) -> Any:
    from sardonyx.convert.api import convert

    if custom:
        raise ConversionError(
            "converters that users register are not supported", where=kind,
            fix="write those parts with operators of ONNX in the source",
        )  # fmt: skip
    if targeted is not None:
        warnings.warn("targeted_onnx means nothing any more: use target_opset", DeprecationWarning, stacklevel=3)
    opset = target_opset.get("") if isinstance(target_opset, Mapping) else target_opset
    tell = print if debug_mode else lambda _: None
    done = convert(model, options=options, kind=kind, opset=opset, inputs_as_nchw=tuple(nchw) or False, tell=tell)
    if done.report is not None and done.report.verdict == "unverified":
        warnings.warn(f"the conversion is unverified: {'; '.join(done.report.notes)}", stacklevel=3)
    proto = done.proto()
    proto.graph.name = name or proto.graph.name
    proto.doc_string = doc_string
    return proto


@contextlib.contextmanager
def _as_file(model: Any, name: str) -> Iterator[Any]:
    """The path as it is, or that of a file with the protobuf message."""
    if not hasattr(model, "SerializeToString"):
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as folder:
        path = Path(folder) / name
        path.write_bytes(model.SerializeToString())
        yield path


def _shapes(types: Types | None) -> dict[str, tuple[int | str | None, ...]]:
    """Dims by input; what is not a size is open. The first stays the batch."""
    return {
        name: ("batch", *(dim if isinstance(dim, int) and dim > 0 else None for dim in list(kind.shape)[1:]))
        for name, kind in types or ()
    }


def _rows(types: Types | None) -> tuple[Any, ...]:
    """Rows of these types for scikit-learn: a matrix for one input, a data frame for columns."""
    if not types:
        return ()
    made = {name: _column(kind) for name, kind in types}
    if len(made) == 1:
        return (next(iter(made.values())),)
    if any(column.shape[1] != 1 for column in made.values()):
        raise ConversionError("several inputs must be columns", expected="a width of 1 each", fix="give one matrix")
    import pandas as pd

    return (pd.DataFrame({name: column[:, 0] for name, column in made.items()}),)


def _column(kind: Any) -> Any:
    word, width = type(kind).__name__, list(kind.shape)[-1]
    if not isinstance(width, int):
        raise ConversionError("the number of columns must be given", got=f"{word}({list(kind.shape)})")
    random = np.random.default_rng(0)
    if word.startswith("Float"):
        return random.normal(size=(64, width)).astype(np.float32)
    if word.startswith("Double"):
        return random.normal(size=(64, width))
    if word.startswith("Int"):
        return random.integers(0, 4, (64, width))
    if word.startswith("Boolean"):
        return random.integers(0, 2, (64, width)).astype(bool)
    if word.startswith("String"):
        return random.choice(["a", "b", "c"], (64, width)).astype(object)
    raise ConversionError(f"inputs of type {word} are not supported")
