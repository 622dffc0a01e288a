"""TensorFlow Lite (LiteRT) models, `.tflite`, without TensorFlow."""

from __future__ import annotations

from sardonyx.convert.base import Converted, Options, Source


def recognises(source: Source) -> bool:
    """Whether it is a file with TFLite's identifier."""
    return source.head[4:8] == b"TFL3"


def read(source: Source, options: Options) -> Converted:
    """The model as ONNX: see `reader.read`."""
    from sardonyx.convert.tflite import reader

    return reader.read(source, options)


def operators() -> list[str]:
    """The operators that can be converted, by their names in the schema."""
    from sardonyx.convert.tflite.table import OPERATORS

    return sorted(OPERATORS)
