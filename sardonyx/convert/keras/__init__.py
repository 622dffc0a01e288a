"""Keras 2 and 3: HDF5 files, `.keras` archives and folders, and models in memory. Keras itself is not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options, Source

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_OFFSETS = (0, 512, 1024, 2048)  # HDF5 allows a user block before its signature.


def recognises(source: Source) -> bool:
    """HDF5 files, archives with Keras's configuration, and Keras's models."""
    if source.path is None:
        return bool(source.frameworks & {"keras", "tf_keras"})
    if any(source.head.startswith(_HDF5, offset) for offset in _HDF5_OFFSETS):
        return True
    if not source.path.is_dir() and not source.head.startswith(b"PK"):
        return False
    from sardonyx.convert.keras.archive import is_archive

    return is_archive(source.path)


def read(source: Source, options: Options) -> Converted:
    """The model as ONNX; see `reader.read`."""
    from sardonyx.convert.keras.reader import read

    return read(source, options)


def operators() -> list[str]:
    """The layers, and Keras's and TensorFlow's operations as layers (`ops.Add`, `tf.math.add`), that are converted."""
    from sardonyx.convert.keras.reader import LAYERS

    return sorted([*LAYERS, "Functional", "InputLayer", "Sequential", "TimeDistributed"])
