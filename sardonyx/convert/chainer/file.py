"""Arrays of an `.npz` without pickles and without trusting the sizes that it claims."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from sardonyx.convert.base import Array, Source
from sardonyx.errors import ModelFileError

MAX_BYTES = 1 << 33
_LAST = {"W", "b", "gamma", "beta", "avg_mean", "avg_var", "N"}


def recognises(source: Source) -> bool:
    """Whether the names in the zip archive are those of a chain's parameters: `conv1/W.npy`."""
    if not source.head.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(source.file()) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False
    ends = {name.removesuffix(".npy").rpartition("/")[2] for name in names if name.endswith(".npy")}
    return bool(ends & {"W", "gamma"}) and all(name.endswith(".npy") for name in names)


def arrays(path: Path) -> dict[str, Array]:
    """The arrays by name. Raises ModelFileError for damage, pickled objects and sizes beyond the file's."""
    found: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > min(MAX_BYTES, 1100 * path.stat().st_size):
                raise ModelFileError("its arrays are larger than zip can make them of this file", where=str(path))
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    data = archive.read(info)
                    array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
                    found[info.filename.removesuffix(".npy").lstrip("/")] = array
    except (
        OSError, ValueError, EOFError, RuntimeError, NotImplementedError, MemoryError, TypeError, SyntaxError,
        OverflowError, RecursionError, UnicodeError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise ModelFileError(
            "the arrays cannot be read", where=str(path), got=str(error)[:200], fix="fetch or save the file again"
        ) from error
    return found
