"""Tensor data in files beside the model, confined to the model's folder."""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from sardonyx.errors import ModelFileError

_FIX = "put the data file into the model's folder, under the name the model gives"


def map_file(descriptor: int, where: str) -> memoryview:
    """A read-only view of a whole regular file; its pages are read when they are touched.

    The file must not shrink while the view lives: the system has no other answer to that than a bus error.

    Raises:
        ModelFileError: not a regular file.
    """
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "a special file"
        raise ModelFileError("cannot be mapped", where=where, expected="a regular file", got=kind)
    if facts.st_size == 0:  # the system refuses to map nothing
        return memoryview(b"")
    return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))


def release_pages(view: memoryview) -> None:
    """Take the pages of a mapping out of this process's resident memory; they come back when touched."""
    if isinstance(view.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        view.obj.madvise(mmap.MADV_DONTNEED)


def release_array(array: np.ndarray[Any, Any]) -> None:
    """The same for the pages a contiguous array lies in, if it is a view of a read-only mapping."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    mapping = owner.obj if isinstance(owner, memoryview) else owner
    if not isinstance(mapping, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    if not memoryview(mapping).readonly:  # what was written there would be lost
        return
    start = _address(array) - _address(np.frombuffer(mapping, np.uint8))
    first = start // mmap.PAGESIZE * mmap.PAGESIZE
    mapping.madvise(mmap.MADV_DONTNEED, first, start + array.nbytes - first)


def _address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def open_regular(path: str | os.PathLike[str], *, flags: int = 0, dir_fd: int | None = None) -> int:
    """A descriptor for reading; does not wait on a pipe. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags, dir_fd=dir_fd)


@dataclass
class ExternalData:
    """The data files of one model, each mapped once.

    `folder` is the model's folder, or None for a model that came as bytes. `where` names the model in errors. `_files`
    may hold files from the start, by the location that tensors give: these are not looked for.
    """

    folder: Path | None
    where: str
    _files: dict[str, memoryview] = field(default_factory=dict)

    def view(self, tensor: str, entries: list[tuple[str, str]], nbytes: int) -> memoryview:
        """The `nbytes` bytes of `tensor` that `entries` (TensorProto.external_data) point at.

        Raises:
            ModelFileError: names the tensor; a location outside the folder, not a regular file, or bytes
                outside the bounds of the file.
        """
        values = dict(entries)
        location = values.get("location", "")
        if self.folder is None and location not in self._files:
            self._fail(
                tensor,
                f"its data is in the file {location!r}, which a model given as bytes has no folder for",
                fix="load the model from its path",
            )
        offset = self._number(tensor, "offset", values.get("offset", "0"))
        length = self._number(tensor, "length", values.get("length", str(nbytes)))
        if length != nbytes:
            self._fail(tensor, "the length of its external data does not fit its type", f"{nbytes}", f"{length}")
        if location not in self._files:
            assert self.folder is not None
            self._files[location] = self._open(tensor, location, self.folder)
        data = self._files[location]
        if offset > len(data) or length > len(data) - offset:
            self._fail(
                tensor,
                f"its external data lies outside the file {location!r}",
                f"bytes {offset} to {offset + length}",
                f"a file of {len(data)} bytes",
                fix="the data file is truncated or belongs to another model: fetch it again",
            )
        return data[offset : offset + length]

    def _open(self, tensor: str, location: str, folder: Path) -> memoryview:
        name = PurePosixPath(location)
        if not location or "\0" in location or "\\" in location or name.is_absolute() or ".." in name.parts:
            self._fail(tensor, "bad location of external data", "a path below the model's folder", repr(location))
        try:
            root = Path(os.path.realpath(folder, strict=True))
            target = Path(os.path.realpath(root / name, strict=True))
            if not target.is_relative_to(root):
                self._fail(
                    tensor,
                    f"the external data {location!r} is a link out of the model's folder",
                    fix="copy the data file itself into the model's folder",
                )
            descriptor = _open_beneath(root, target.relative_to(root).parts)
        except OSError as error:
            self._fail(tensor, f"cannot open its external data {location!r}: {error.strerror or error}", fix=_FIX)
        try:
            return map_file(descriptor, f"{self.where}: tensor {tensor!r}: external data {location!r}")
        except OSError as error:
            self._fail(tensor, f"cannot map its external data {location!r}: {error.strerror or error}")
        finally:
            os.close(descriptor)

    def _number(self, tensor: str, key: str, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            self._fail(tensor, f"bad {key} of external data", "a number of bytes", repr(text[:40]))
        return int(text)

    def _fail(
        self,
        tensor: str,
        what: str,
        expected: str | None = None,
        got: str | None = None,
        *,
        fix: str | None = None,
    ) -> NoReturn:
        what = f"tensor {tensor!r}: {what}"
        raise ModelFileError(what, where=self.where, expected=expected, got=got, fix=fix)


def _open_beneath(root: Path, parts: tuple[str, ...]) -> int:
    """Open `root/parts...` following no link, so that nothing swapped in after the check can lead outside."""
    descriptor = open_regular(root, flags=os.O_DIRECTORY)
    for index, part in enumerate(parts):
        flags = os.O_NOFOLLOW | (os.O_DIRECTORY if index < len(parts) - 1 else 0)
        try:
            inner = open_regular(part, flags=flags, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor
