"""What compiling made, on disk: object code and packed weights, addressed by content, for all processes to share.

An entry's name is a hash of everything that shaped it (the caller's key); its file is a header with a checksum and
the payload. Writers make a temporary file and rename it, so readers see whole entries or none. Files are not synced:
what a crash of the system leaves half written, or a disk spoils, fails its checksum when it is read, is removed and
made anew.

Entries are run as code, so the folder must be one that only this user (or root) can write to; it is made so, and one
that is not is left alone with a warning. Whoever can write there can as well replace this package. The whole is
bounded by the knob `cache_limit`: entries not used for longest go first. Removing a file that is mapped does no harm.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from sardonyx import config
from sardonyx.compiler.dtypes import DType

Array = np.ndarray[Any, Any]

_MAGIC = b"SRDX1\n"
_DIGEST = 16
_FACTS = struct.Struct("<16sQ24Q")
"""Of an array: its type's name, its rank, its dims."""
_ALIGNMENT = 64
"""Bytes; of an array's elements in its file, and so in memory."""
_FOLDERS = ("objects", "weights", "choices")
_TOUCH_AFTER = 3600
"""Seconds after which a use of an entry is noted on it."""
_FORGOTTEN = 3600
"""Seconds after which a temporary file is taken for one that a process left when it died."""
_PART_KEPT = 0.9
"""Of the limit, what is kept when it is passed, so that not every new entry passes it again."""
_PART_GROWN = 16
"""A process looks at the whole cache whenever it has added this part of the limit, and before it adds anything."""


@lru_cache(maxsize=8)
def source_digest(*packages: str) -> str:
    """A hash of this package's sources in these folders: changes whenever what they make might."""
    digest, root = xxhash.xxh3_128(), Path(__file__).parent.parent
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def cache_folder(kind: str) -> Path | None:
    """The folder of one kind of entry (`objects`, `weights`); None, with a warning, where others can write."""
    root = config.CACHE.get()
    folder = root / kind
    if all(_is_private(path) for path in (root, folder)):
        return folder
    warnings.warn(
        f"not using the cache {root}: others can write to it or to {kind} in it, and what is in it is run as code; "
        f"take that from them (chmod go-w), or set {config.CACHE.variable} to a folder of your own",
        stacklevel=2,
    )
    return None


def _is_private(folder: Path) -> bool:
    """Whether nobody but this user and root can put files there; so it is when it does not exist yet."""
    try:
        facts = folder.stat()
    except OSError:
        return True
    return facts.st_uid in (0, os.geteuid()) and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@dataclass(frozen=True)
class _Entries:
    """Files by key below a folder; None holds nothing. Failing to write (a full or read-only disk) is no error."""

    folder: Path | None

    def _path(self, key: str) -> Path:
        name = xxhash.xxh3_128_hexdigest(key.encode())
        assert self.folder is not None
        return self.folder / name[:2] / name[2:]

    def _open(self, key: str) -> int | None:
        """A descriptor of the entry's file, its use noted."""
        from sardonyx.model.external import open_regular

        if self.folder is None:
            return None
        try:
            descriptor = open_regular(self._path(key))
        except OSError:
            return None
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_mtime < time.time() - _TOUCH_AFTER:
                os.utime(descriptor)
        return descriptor

    def _remove(self, key: str) -> None:
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _write(self, key: str, pieces: Sequence[Any]) -> bool:
        """Keep buffers of bytes as the entry's file, behind the magic word and their checksum; whether that worked."""
        if self.folder is None:
            return False
        size = sum(len(piece) for piece in pieces)
        if size > config.CACHE_LIMIT.get():
            return False
        digest = xxhash.xxh3_128()
        for piece in pieces:
            digest.update(piece)
        path = self._path(key)
        temporary: str | None = None
        try:
            _make_folders(self.folder, path.parent)
            _GROWTH.add(self.folder.parent, size)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            with os.fdopen(handle, "wb", buffering=0) as file:
                for piece in (_MAGIC + digest.digest(), *pieces):
                    _write_all(file.fileno(), piece)
            Path(temporary).replace(path)
        except OSError:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()
            return False
        return True


def _make_folders(folder: Path, leaf: Path) -> None:
    """Make the cache's folders for this user alone; those above it as the system has it."""
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    for path in (folder.parent, folder, leaf):
        path.mkdir(mode=0o700, exist_ok=True)


def _write_all(descriptor: int, piece: Any) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]


class ObjectCache(_Entries):
    """Byte strings by key."""

    def get(self, key: str) -> bytes | None:
        """The payload of `key`, or None when it is absent or damaged."""
        descriptor = self._open(key)
        if descriptor is None:
            return None
        try:
            with os.fdopen(descriptor, "rb") as file:
                raw = file.read()
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST
        if raw.startswith(_MAGIC) and raw[len(_MAGIC) : start] == xxhash.xxh3_128_digest(memoryview(raw)[start:]):
            return raw[start:]
        self._remove(key)
        return None

    def put(self, key: str, payload: bytes) -> bool:
        """Keep `payload` under `key`; whether that worked."""
        return self._write(key, [payload])


class ArrayCache(_Entries):
    """Arrays of the compiler's types by key; what is read is the mapped file, read-only."""

    def get(self, key: str) -> Array | None:
        """The array of `key`, its elements at a multiple of 64 bytes; None when it is absent or damaged.

        The whole checksum is compared: it costs a tenth of a millisecond a MiB, and less than packing by far.
        """
        from sardonyx.errors import ModelFileError
        from sardonyx.model.external import map_file

        descriptor = self._open(key)
        if descriptor is None:
            return None
        try:
            array = _array_in(map_file(descriptor, key))
        except (OSError, ModelFileError):
            array = None
        finally:
            os.close(descriptor)
        if array is None:
            self._remove(key)
        return array

    def put(self, key: str, array: Array) -> bool:
        """Keep `array` under `key`; whether that worked."""
        dtype = DType.of(array.dtype)
        if dtype is None or array.ndim > 24:
            raise ValueError(f"{array.dtype}[{array.ndim} dims] cannot be kept")
        dims = (*array.shape, *(0,) * (24 - array.ndim))
        facts = _FACTS.pack(dtype.value.encode(), array.ndim, *dims)
        pad = b"\0" * (-(len(_MAGIC) + _DIGEST + len(facts)) % _ALIGNMENT)
        return self._write(key, [facts + pad, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data])


def _array_in(raw: memoryview) -> Array | None:
    """The array in an entry's bytes, or None when they are damaged."""
    start = len(_MAGIC) + _DIGEST
    elements = -(-(start + _FACTS.size) // _ALIGNMENT) * _ALIGNMENT
    if len(raw) < elements or raw[: len(_MAGIC)] != _MAGIC:
        return None
    if raw[len(_MAGIC) : start] != xxhash.xxh3_128_digest(raw[start:]):
        return None
    name, rank, *dims = _FACTS.unpack_from(raw, start)
    dtype = DType(name.rstrip(b"\0").decode()).numpy
    return np.frombuffer(raw, dtype, prod(dims[:rank]), elements).reshape(dims[:rank])


@dataclass
class _Growth:
    """What this process has added since it last saw to the limit; None before the first time."""

    bytes: int | None = None

    def add(self, root: Path, size: int) -> None:
        limit = config.CACHE_LIMIT.get()
        self.bytes = size + (self.bytes or 0) if self.bytes is not None else None
        if self.bytes is None or self.bytes > limit // _PART_GROWN:
            trim(root, limit - size)
            self.bytes = size


_GROWTH = _Growth()


def trim(root: Path, limit: int) -> None:
    """Remove what was not used for longest when the entries below `root` take more than `limit` bytes, and leftovers
    of processes that died.
    """
    found = sorted(_files(root))
    total = sum(size for _, size, _ in found)
    if total <= limit:
        return
    for _, size, path in found:
        if total <= limit * _PART_KEPT:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size


def _files(root: Path) -> Iterator[tuple[float, int, Path]]:
    """When each entry was last used, its bytes and its file; forgotten temporary files are removed on the way."""
    for kind in _FOLDERS:
        for folder, _, names in os.walk(root / kind):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    facts = path.lstat()
                    if name.startswith(".new-") and facts.st_mtime < time.time() - _FORGOTTEN:
                        path.unlink()
                    else:
                        yield facts.st_mtime, facts.st_blocks * 512, path
