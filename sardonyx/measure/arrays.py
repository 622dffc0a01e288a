"""Arrays out of NumPy's files. They are not trusted: nothing is unpickled, memory is bounded by what is declared."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from sardonyx.errors import InvalidInputError
from sardonyx.providers.base import Array

UNPACKED_LIMIT = 2**32
"""Bytes of one array in a compressed file."""


def load_array(file: Path) -> Array:
    """The array in an `.npy` file, mapped. Raises InvalidInputError when it is none."""
    try:
        # Mapping checks the declared size against the file's before any memory is taken.
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError, SyntaxError, OverflowError) as error:
        raise InvalidInputError("not a NumPy array file", where=str(file), got=str(error)) from error


def load_arrays(file: Path) -> dict[str, Array]:
    """The arrays in an `.npz` file by name. Raises InvalidInputError when it is none, or one is too big."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.file_size > UNPACKED_LIMIT:
                    raise InvalidInputError(
                        "an array is too big",
                        where=f"{file}, {member.filename!r}",
                        expected=f"at most {UNPACKED_LIMIT:,} bytes",
                        got=f"{member.file_size:,} bytes",
                    )
                _check_member(archive, member)
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name]) for name in stored.files}
    except (
        ValueError,
        OSError,
        EOFError,
        SyntaxError,
        OverflowError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError("not an archive of NumPy arrays", where=str(file), got=str(error)) from error
    if not arrays:
        raise InvalidInputError("the archive holds no arrays", where=str(file))
    return arrays


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raises ValueError unless the header of an array agrees with the size of the archive's member."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        declared = stream.tell() + math.prod(shape) * dtype.itemsize
    if declared != member.file_size and not dtype.hasobject:
        raise ValueError(f"{member.filename!r} declares {declared:,} bytes and has {member.file_size:,}")
