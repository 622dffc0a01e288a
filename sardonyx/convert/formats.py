"""The formats that can be converted: how each is recognised and what reads it. One row a format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from sardonyx.convert.base import Source
from sardonyx.errors import ConversionError

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options


@dataclass(frozen=True)
class Format:
    """A kind of source.

    `home` is the module with its functions `recognises(source: Source) -> bool`, which must be cheap, must not import
    the framework and goes by content, and `read(source: Source, options: Options) -> Converted`. `sources` says in
    words what it takes. Where the module has `operators() -> list[str]`, `--list-ops NAME` prints them.
    """

    name: str
    sources: str
    home: str

    def recognises(self, source: Source) -> bool:
        """Whether `source` is of this kind."""
        found: bool = import_module(self.home).recognises(source)
        return found

    def read(self, source: Source, options: Options) -> Converted:
        """The source as ONNX."""
        result: Converted = import_module(self.home).read(source, options)
        return result

    def operators(self) -> list[str] | None:
        """The operators or layers of this format that can be converted; None where that cannot be listed."""
        tell: Callable[[], list[str]] | None = getattr(import_module(self.home), "operators", None)
        return tell() if tell is not None else None


FORMATS: tuple[Format, ...] = (
    Format(
        "tensorflow",
        "TensorFlow: frozen graphs (.pb, .pbtxt), checkpoints with .meta, SavedModels, live modules",
        "sardonyx.convert.tensorflow",
    ),
    Format("caffe", "Caffe v1: .prototxt with .caffemodel", "sardonyx.convert.caffe"),
    Format("darknet", "Darknet: .cfg with .weights", "sardonyx.convert.darknet"),
    Format("keras", "Keras 2 and 3: .h5, .hdf5, .keras, live models", "sardonyx.convert.keras"),
    Format(
        "torch", "PyTorch: live modules with example arguments, .pt2, TorchScript", "sardonyx.convert.exporters.pytorch"
    ),
    Format("tfjs", "TensorFlow.js: model.json of layers and graph models", "sardonyx.convert.tfjs"),
    Format("tflite", "TensorFlow Lite (LiteRT): .tflite", "sardonyx.convert.tflite"),
    Format("xgboost", "XGBoost: JSON, UBJSON, live models", "sardonyx.convert.xgboost"),
    Format("lightgbm", "LightGBM: text, live models", "sardonyx.convert.lightgbm"),
    Format("libsvm", "LibSVM: text, live models", "sardonyx.convert.libsvm"),
    Format("catboost", "CatBoost: .cbm and live models, with CatBoost installed", "sardonyx.convert.catboost"),
    Format("sklearn", "scikit-learn: live estimators and pipelines", "sardonyx.convert.exporters.sklearn"),
    Format("coreml", "CoreML: .mlmodel, .mlpackage", "sardonyx.convert.coreml"),
    Format("cntk", "CNTK 2: .model, .dnn, .cntk", "sardonyx.convert.cntk"),
    Format("chainer", "Chainer: live chains, .npz with its structure", "sardonyx.convert.chainer"),
    Format("mxnet", "MXNet: symbol.json with .params, Gluon exports", "sardonyx.convert.mxnet"),
    Format("paddle", "Paddle: inference models, live layers", "sardonyx.convert.exporters.paddle"),
    Format("spark", "Spark ML: saved and live models, with their columns", "sardonyx.convert.exporters.spark"),
    Format("h2o", "H2O: MOJO archives of gradient boosting", "sardonyx.convert.exporters.h2o"),
    Format("jax", "JAX: functions and Flax and Equinox modules, with arguments", "sardonyx.convert.exporters.jax"),
)
"""In the order they are asked; the first that recognises a source reads it."""


def find(source: Source, name: str | None = None) -> Format:
    """The format of `source`, or the one called `name`.

    Raises ConversionError where none is, ModelFileError when the file cannot be read.
    """
    if name is not None:
        for entry in FORMATS:
            if entry.name == name:
                return entry
        raise ConversionError(
            "there is no such format", where=name, expected=", ".join(entry.name for entry in FORMATS)
        )
    if source.path is not None and not source.path.is_dir() and not source.head:
        raise ConversionError("the file is empty", where=source.where, fix="fetch or save the file again")
    for entry in FORMATS:
        if entry.recognises(source):
            return entry
    raise ConversionError(
        "no importer knows this kind of source",
        where=source.where,
        expected=f"one of: {'; '.join(entry.sources for entry in FORMATS)}",
        got=_kind(source),
        fix="export the model to ONNX with its own framework",
    )


def _kind(source: Source) -> str:
    if source.path is None:
        return f"an object of {', '.join(sorted(source.frameworks - {'builtins'})) or 'no framework'}"
    if source.path.is_dir():
        return "a folder"
    return f"a file that starts with {source.head[:8]!r}"
