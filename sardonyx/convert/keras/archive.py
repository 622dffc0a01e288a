"""Reads `.keras` archives (`saving/saving_lib.py`): a zip, or the folder it stands for, of JSON and an HDF5 file."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sardonyx.convert.keras.file import KerasFile, open_weights, read_json
from sardonyx.convert.keras.probe import probe
from sardonyx.errors import ConversionError, ModelFileError

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

MAX_RATIO = 32
"""Keras does not compress. Where someone did, a member may be this many times the size of the archive."""

_FLOOR = 1 << 24
_CHUNK = 1 << 20

_ERRORS = (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@contextmanager
def open_archive(path: Path) -> Iterator[KerasFile]:
    """Open a `.keras` file or folder. Raises ModelFileError (damaged) and ConversionError (no model in it)."""
    where = str(path)
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as scratch:
        texts = {name: _text(path, name) for name in (CONFIG, METADATA)}
        config, metadata = (read_json(text, f"{where}:{name}") for name, text in texts.items())
        weights = _file(path, WEIGHTS, Path(scratch))
        version = metadata.get("keras_version")
        inside = f"{where}:{WEIGHTS}"
        probe(weights, inside)
        with open_weights(weights, inside) as opened:
            yield KerasFile(config, version if isinstance(version, str) else "", "", opened, where, numbered=True)


def is_archive(path: Path) -> bool:
    """Whether a zip or a folder has what Keras puts into one."""
    if path.is_dir():
        return all((path / name).is_file() for name in (CONFIG, METADATA))
    try:
        with zipfile.ZipFile(path) as archive:
            return {CONFIG, METADATA} <= set(archive.namelist())
    except _ERRORS:
        return False


def _text(path: Path, name: str) -> str:
    with tempfile.TemporaryDirectory(prefix="sardonyx-") as scratch:
        try:
            return _file(path, name, Path(scratch)).read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ModelFileError("the file is damaged: it is no text", where=f"{path}:{name}") from error


def _file(path: Path, name: str, scratch: Path) -> Path:
    """A file of the archive where it can be read: in the folder, or unpacked."""
    if path.is_dir():
        inside = path / name
        if not inside.is_file() or not inside.resolve().is_relative_to(path.resolve()):
            raise _missing(path, name, [entry.name for entry in path.iterdir()])
        return inside
    target = scratch / name
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                raise _missing(path, name, archive.namelist())
            with archive.open(name) as packed, target.open("wb") as unpacked:
                _copy(packed, unpacked, max(path.stat().st_size * MAX_RATIO, _FLOOR), f"{path}:{name}")
    except _ERRORS as error:
        raise ModelFileError(
            "the archive is damaged", where=f"{path}:{name}", got=str(error)[:200], fix="fetch or save the file again"
        ) from error
    return target


def _copy(packed: IO[bytes], unpacked: IO[bytes], limit: int, where: str) -> None:
    left = limit
    while chunk := packed.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise ModelFileError(
                "the archive unpacks to far more than a model would", where=where, expected=f"at most {limit:,} bytes"
            )
        unpacked.write(chunk)


def _missing(path: Path, name: str, names: list[str]) -> ConversionError:
    kinds = [found for found in names if found.startswith("model.weights")]
    got = f"weights as {', '.join(kinds[:4])}" if name == WEIGHTS and kinds else None
    return ConversionError(
        f"the archive has no {name}",
        where=str(path),
        got=got,
        fix="save the model again with model.save('model.keras')",
    )
