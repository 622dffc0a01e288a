"""Load and save models; weights stay in the mapped file until someone touches them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import onnx_ir as ir

from sardonyx.errors import InvalidModelError, ModelFileError
from sardonyx.garbage import no_garbage_collection
from sardonyx.model import wire
from sardonyx.model.external import ExternalData, map_file, open_regular, release_pages
from sardonyx.model.read import ModelReader
from sardonyx.model.sniff import what_is
from sardonyx.model.supplied import Supplied
from sardonyx.model.tensors import TensorReader, payload, payload_size
from sardonyx.model.types import NotTextError
from sardonyx.model.write import ModelWriter

SIZE_LIMIT = (1 << 31) - 1  # bytes; protobuf parsers refuse larger messages

_BIG = 1024  # bytes from which a payload is viewed in place, or goes to the external file
_ALIGNMENT = 4096  # of tensors in the external file: a page, so that each can be mapped by itself


def load(source: str | os.PathLike[str] | bytes, supplied: Supplied | None = None) -> ir.Model:
    """The model in an ONNX file, or in the bytes of one.

    Tensors of 1 KiB and more are read-only views of the memory-mapped file (of the bytes), whether they are
    in `raw_data`, `float_data` or `double_data`, or in external files beneath the model's folder. A view need
    not be aligned to its element size. Files may be larger than 2 GiB. They must not be truncated or written
    to in place while the model lives; replacing them, as `save` does, is safe.

    `supplied` is external data and tensors that are given beside the model. Sparse tensors become dense; training
    information is not kept. The model is not checked: see `check`.

    Raises:
        ModelFileError: missing, damaged, or not ONNX; or a tensor whose data is not what its type asks for.
        InvalidModelError: the model defines a name twice.
        InvalidInputError: a supplied tensor does not fit the model.
    """
    supplied = supplied or Supplied()
    if isinstance(source, bytes):
        return _load(memoryview(source), "<bytes>", supplied.folder, supplied)
    path = Path(source)
    try:
        descriptor = open_regular(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelFileError(f"cannot be opened: {reason}", where=str(path)) from error
    try:
        data = map_file(descriptor, str(path))
    finally:
        os.close(descriptor)
    model = _load(data, str(path), supplied.folder or path.parent, supplied)
    release_pages(data)
    return model


def _load(data: memoryview, where: str, folder: Path | None, supplied: Supplied) -> ir.Model:
    try:
        found = wire.scan(data, where, threshold=_BIG)
        cut, skeleton = _cut(data, found)
        proto = _parse(skeleton, data, where)
    except ModelFileError as error:
        raise what_is(data, where) or error from error
    files = supplied.place(proto.graph, where)
    reader = ModelReader(where, TensorReader(where, ExternalData(folder, where, files), cut))
    try:
        with no_garbage_collection():
            return reader.model(proto)
    except NotTextError:
        wire.scan(data, where, threshold=0, everything=True)  # names the byte
        raise ModelFileError("a name is not UTF-8 text", where=where) from None


def _cut(data: memoryview, found: wire.Scan) -> tuple[dict[bytes, tuple[int, memoryview]], bytes]:
    """Take the payloads out of a model; a random word stands for each in what is left."""
    payloads = [entry for entry in found.payloads if entry.end - entry.start >= _BIG]
    words = _words(len(payloads))
    kept = wire.Scan(found.frames, payloads)
    pieces = wire.splice(data, kept, [len(word) for word in words])
    skeleton = b"".join(words[piece] if isinstance(piece, int) else piece for piece in pieces)
    cut = {word: (entry.field, data[entry.start : entry.end]) for word, entry in zip(words, payloads, strict=True)}
    return cut, skeleton


def _words(count: int) -> list[bytes]:
    """Placeholders that no file can hold by chance or by intent."""
    secret = os.urandom(16)
    return [secret + index.to_bytes(8, "little") for index in range(count)]


def _parse(skeleton: bytes, data: memoryview, where: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    if len(skeleton) > SIZE_LIMIT:
        raise ModelFileError(
            "the model without its large tensors is too large for protobuf",
            where=where,
            expected=f"at most {SIZE_LIMIT} bytes",
            got=f"{len(skeleton)}",
        )
    try:
        proto = onnx.ModelProto.FromString(skeleton)
    except DecodeError as error:
        wire.scan(data, where, threshold=0, everything=True)  # names the byte
        raise ModelFileError(f"protobuf cannot read it: {error}", where=where) from None
    if not proto.HasField("graph"):
        raise ModelFileError(
            "no graph in it",
            where=where,
            expected="an ONNX model",
            got=f"{len(data)} bytes of something else",
            fix="give the .onnx file; `sardonyx convert` makes one from other frameworks' files",
        )
    return proto


def save(
    model: ir.Model,
    path: str | os.PathLike[str],
    *,
    external_data: bool | None = None,
    size_limit: int = SIZE_LIMIT,
) -> None:
    """Write a model as an ONNX file, tensor by tensor, without building it in memory.

    `external_data`: put tensors of 1 KiB and more into one file `<name>.data` beside it, each on a page
    boundary; None does so when the file would exceed `size_limit` bytes. Files are written under a temporary
    name and renamed: a failure leaves what was there before, and the file the model is mapped from can be
    overwritten.

    Raises:
        ModelFileError: it cannot be written there, or exceeds `size_limit` with `external_data=False`.
        InvalidModelError: the model holds something ONNX cannot.
    """
    target = Path(path)
    plan = _plan(model, target, external=bool(external_data))
    if plan.size > size_limit and external_data is None:
        plan = _plan(model, target, external=True)
    if plan.size > size_limit:
        raise ModelFileError(
            "the model is too large for one protobuf file",
            where=str(target),
            expected=f"at most {size_limit} bytes",
            got=f"{plan.size}",
            fix="save with external_data=True" if external_data is False else None,
        )
    if target.is_dir():
        raise ModelFileError("cannot be written", where=str(target), expected="a file name", got="a folder")
    try:
        with ExitStack() as renames:  # the data file takes its place first, when both are written
            file = renames.enter_context(_replacing(target))
            if plan.external:
                data = renames.enter_context(_replacing(target.with_name(f"{target.name}.data")))
                for held in plan.external:
                    data.seek(held.offset)
                    _write_payload(data, held, str(target))
            for piece in plan.pieces:
                if isinstance(piece, int):
                    _write_payload(file, plan.inline[piece], str(target))
                else:
                    file.write(piece)
            file.flush()
    except OSError as error:
        raise ModelFileError(f"cannot be written: {error.strerror or error}", where=str(target)) from error


@dataclass(frozen=True)
class _Held:
    """A tensor whose elements are to be written, at `offset` of the external file if it goes there."""

    name: str
    tensor: ir.TensorProtocol
    size: int
    offset: int = 0


@dataclass
class _Plan:
    """What goes where: `pieces` of the model file, with indices into `inline`, and tensors outside of it."""

    inline: list[_Held] = field(default_factory=list)
    external: list[_Held] = field(default_factory=list)
    pieces: list[wire.Buffer | int] = field(default_factory=list)
    size: int = 0


def _plan(model: ir.Model, target: Path, *, external: bool) -> _Plan:
    plan = _Plan()
    secret = os.urandom(16)
    end = 0

    def fill(proto: Any, tensor: ir.TensorProtocol) -> None:
        nonlocal end
        size = payload_size(tensor)
        if external and size >= _BIG:
            offset = -(-end // _ALIGNMENT) * _ALIGNMENT
            end = offset + size
            proto.data_location = proto.EXTERNAL
            for key, value in (("location", f"{target.name}.data"), ("offset", offset), ("length", size)):
                proto.external_data.add(key=key, value=str(value))
            plan.external.append(_Held(proto.name, tensor, size, offset))
        else:
            proto.raw_data = secret + len(plan.inline).to_bytes(8, "little")
            plan.inline.append(_Held(proto.name, tensor, size))

    skeleton = ModelWriter(str(target), fill).model(model).SerializeToString()
    found = wire.scan(skeleton, str(target), threshold=len(secret))
    found.payloads = [entry for entry in found.payloads if skeleton.startswith(secret, entry.start)]
    order = [int.from_bytes(skeleton[entry.start + 16 : entry.end], "little") for entry in found.payloads]
    plan.inline = [plan.inline[index] for index in order]  # in the order of the file
    sizes = [held.size for held in plan.inline]
    plan.pieces = list(wire.splice(memoryview(skeleton), found, sizes))
    plan.size = sum(sizes[piece] if isinstance(piece, int) else len(piece) for piece in plan.pieces)
    return plan


def _write_payload(file: IO[bytes], held: _Held, where: str) -> None:
    elements = payload(held.tensor)
    if len(elements) != held.size:
        raise InvalidModelError(
            f"tensor {held.name!r} holds more or fewer elements than its shape says",
            where=where,
            expected=f"{held.size} bytes",
            got=f"{len(elements)}",
        )
    file.write(elements.data)


@contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `target` when all went well, and is gone when not."""
    temporary = target.with_name(f".{target.name}.{os.urandom(8).hex()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
