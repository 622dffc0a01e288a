"""`convert`: a model file of any framework to ONNX. What a file is, its content says, not its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sardonyx.errors import ConversionError, ModelFileError

if TYPE_CHECKING:
    import onnx_ir as ir

SUPPORTED = ("Keras 2 HDF5 files (.h5, .hdf5)",)
"""What `convert` reads, in words."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_OFFSETS = (0, 512, 1024, 2048)  # HDF5 allows a user block before its signature.


def convert(source: str | os.PathLike[str], *, inputs_as_nchw: bool = False) -> ir.Model:
    """The model in the file `source` as ONNX.

    With `inputs_as_nchw` pictures are taken as [N, C, H, W] where the framework takes [N, H, W, C].

    Raises ModelFileError when the file cannot be read or is damaged, ConversionError when its kind is not
    supported or it holds what cannot be converted (the error lists all of it), and MissingExtraError when
    reading its kind needs a package that is not installed.
    """
    path = Path(source)
    try:
        with path.open("rb") as file:
            head = file.read(_HDF5_OFFSETS[-1] + len(_HDF5))
    except OSError as error:
        raise ModelFileError("the file cannot be read", where=str(path), got=error.strerror) from error
    if any(head.startswith(_HDF5, offset) for offset in _HDF5_OFFSETS):
        from sardonyx.convert.keras import convert_keras

        return convert_keras(path, inputs_as_nchw=inputs_as_nchw)
    raise ConversionError(
        "no importer knows this kind of file",
        where=str(path),
        expected=f"one of: {', '.join(SUPPORTED)}",
        got=_kind(head),
        fix="export the model to ONNX with its own framework",
    )


def _kind(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head.startswith(b"PK\x03\x04"):
        return "a zip archive (Keras 3 .keras files and PyTorch files are such)"
    return f"a file that starts with {head[:8]!r}"
