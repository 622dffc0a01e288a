"""CoreML models, `.mlmodel` files and `.mlpackage` folders, to ONNX: networks, ML Programs and classical models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options, Source


def recognises(source: Source) -> bool:
    """Whether `source` is a CoreML model: a package's folder, or a file that starts as one."""
    from sardonyx.convert.coreml import file

    return file.recognises(source)


def read(source: Source, options: Options) -> Converted:
    """The model as ONNX, by CoreML's names, with a float64 evaluation of the source as oracle.

    Raises ModelFileError when files are damaged or missing, ConversionError with a list of what cannot be converted.
    """
    from sardonyx.convert.coreml.reader import read as read_model

    return read_model(source, options)


def operators() -> list[str]:
    """Layers, operations and kinds of models that can be converted."""
    from sardonyx.convert.coreml.reader import operators as kinds

    return kinds()
