"""Scan ONNX's protobuf wire format without touching tensor bytes, and splice payloads into it.

Follows https://protobuf.dev/programming-guides/encoding. Which messages may hold a tensor, and which wire
types a field may have, comes from ONNX's own descriptors, so this file names fields of `TensorProto` only.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sardonyx.errors import ModelFileError

if TYPE_CHECKING:
    Buffer = memoryview | bytes

# Fields of TensorProto that hold its elements. The fixed-width ones can be viewed in place.
FLOAT_DATA, INT32_DATA, STRING_DATA, INT64_DATA, RAW_DATA, DOUBLE_DATA, UINT64_DATA = 4, 5, 6, 7, 9, 10, 11
_VIEWABLE = frozenset({FLOAT_DATA, RAW_DATA, DOUBLE_DATA})
_DATA_FIELDS = _VIEWABLE | {INT32_DATA, STRING_DATA, INT64_DATA, UINT64_DATA}

_VARINT, _FIXED64, _LEN, _FIXED32 = 0, 1, 2, 5
_WIRE_NAMES = {0: "varint", 1: "64-bit", 2: "length-delimited", 3: "group", 4: "group", 5: "32-bit"}
_RAW_DATA_TAG = bytes([RAW_DATA << 3 | _LEN])
_MAX_DEPTH = 100  # protobuf's own limit on nested messages
_MAX_FIELD = (1 << 29) - 1
_VALUES = {
    _VARINT: [rb"[\x80-\xff]{0,9}[\x00-\x7f]"],
    _FIXED32: [b".{4}"],
    _FIXED64: [b".{8}"],
    _LEN: [rb"\x%02x.{%d}" % (length, length) for length in range(32)],
}
"""Patterns of values, if not too long."""


@dataclass(frozen=True, slots=True)
class Payload:
    """The one data field of a tensor: the whole field is `[field_start, end)`, its bytes `[start, end)`."""

    field: int
    field_start: int
    start: int
    end: int
    frame: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A scanned message: its length varint is `[length_start, start)`, its body `[start, end)`."""

    length_start: int
    start: int
    end: int
    parent: int


@dataclass(slots=True)
class Scan:
    """Payloads in file order and the messages around them, outer ones first; index -1 is the whole model."""

    frames: list[Frame] = field(default_factory=list)
    payloads: list[Payload] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    wires: frozenset[int]
    message: Any  # descriptor of the message it holds, or None
    holds_tensor: bool
    is_text: bool


def scan(buffer: Buffer, where: str, *, threshold: int, everything: bool = False) -> Scan:
    """Find the tensor payloads of a serialised ModelProto.

    Linear in the number of fields seen, without recursion. Messages shorter than `threshold` bytes and those
    that cannot hold a tensor are stepped over; `everything` looks into all of them and checks that text is
    UTF-8. A payload is listed when it is its tensor's only data field and can be viewed in place.

    Raises:
        ModelFileError: the bytes are not well-formed; names `where` and the byte offset.
    """
    import onnx

    tensor = _fields(onnx.TensorProto.DESCRIPTOR)
    found = Scan()
    fields, position, end, frame = _fields(onnx.ModelProto.DESCRIPTOR), 0, len(buffer), -1
    attribute, listed = _fields(onnx.AttributeProto.DESCRIPTOR), _listed(onnx.AttributeProto.DESCRIPTOR)
    outer: list[tuple[dict[int, _Field], int, int]] = []  # what to go on with after the message in hand
    data: list[Payload] = []  # data fields of the tensor in hand
    while True:
        if position == end:
            if fields is tensor:
                _keep(data, found, where)
                data = []
            if not outer:
                return found
            (fields, end, frame) = outer.pop()
            continue
        if fields is attribute and (run := listed.match(buffer, position, end)) is not None:
            position = run.end()
            continue
        field_start = position
        tag, position = _varint(buffer, position, end, where)
        number, wire = tag >> 3, tag & 7
        if not 0 < number <= _MAX_FIELD:
            raise _error(where, field_start, f"field number {number} does not exist in protobuf")
        known = fields.get(number)
        if known is not None and wire not in known.wires:
            kinds = " or ".join(sorted(_WIRE_NAMES[kind] for kind in known.wires))
            what = f"field {known.name} has the wrong wire type"
            raise _error(where, field_start, what, expected=kinds, got=_WIRE_NAMES.get(wire, str(wire)))
        length_start = position
        start, position = _skip(buffer, position, end, wire, where)
        if fields is tensor and number in _DATA_FIELDS and position > start:
            viewable = number if wire == _LEN and number in _VIEWABLE else 0
            data.append(Payload(viewable, field_start, start, position, frame))
        if known is None or wire != _LEN:
            continue
        if everything and known.is_text:
            _check_text(buffer, start, position, known, where)
        if known.message is not None and (everything or (known.holds_tensor and position - start >= threshold)):
            if len(outer) >= _MAX_DEPTH:
                raise _error(where, start, f"messages are nested deeper than {_MAX_DEPTH}")
            outer.append((fields, end, frame))
            found.frames.append(Frame(length_start, start, position, frame))
            frame, fields, position, end = len(found.frames) - 1, _fields(known.message), start, position


def _keep(data: list[Payload], found: Scan, where: str) -> None:
    """List the payload of a finished tensor if it stands alone; two raw_data would hide one of them."""
    if len(data) == 1 and data[0].field:
        found.payloads.append(data[0])
    elif sum(payload.field == RAW_DATA for payload in data) > 1:
        raise _error(where, data[-1].field_start, "a tensor has more than one raw_data")


def _skip(buffer: Buffer, position: int, end: int, wire: int, where: str) -> tuple[int, int]:
    """Where the value at `position` starts (after its length, if it has one) and where it ends."""
    if wire == _LEN:
        length, start = _varint(buffer, position, end, where)
        if length > end - start:
            what = "a field is longer than what is left of the file or message"
            raise _error(where, position, what, expected=f"{length} bytes", got=f"{end - start}")
        return start, start + length
    if wire == _VARINT:
        return position, _varint(buffer, position, end, where)[1]
    if wire not in (_FIXED64, _FIXED32):
        raise _error(where, position, f"wire type {wire} is not used by ONNX")
    after = position + (8 if wire == _FIXED64 else 4)
    if after > end:
        raise _error(where, position, "a fixed-width number is cut off")
    return position, after


def _varint(buffer: Buffer, position: int, end: int, where: str) -> tuple[int, int]:
    """The number at `position` and the position after it."""
    value = shift = 0
    for at in range(position, min(position + 10, end)):
        byte = buffer[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7
    raise _error(where, position, "a number is cut off or longer than 10 bytes")


def _check_text(buffer: Buffer, start: int, end: int, known: _Field, where: str) -> None:
    try:
        bytes(buffer[start:end]).decode()
    except UnicodeDecodeError as error:
        raise _error(where, start + error.start, f"field {known.name} is not UTF-8 text") from None


def _error(
    where: str, offset: int, what: str, *, expected: str | None = None, got: str | None = None
) -> ModelFileError:
    fix = "the file is damaged, or not an ONNX model: fetch or export it again"
    return ModelFileError(f"byte {offset}: {what}", where=where, expected=expected, got=got, fix=fix)


@functools.cache
def _fields(message: Any) -> dict[int, _Field]:
    """The fields of a message, by number, from its descriptor."""
    wires = {message.fields[0].TYPE_FLOAT: _FIXED32, message.fields[0].TYPE_DOUBLE: _FIXED64}
    found = {}
    for entry in message.fields:
        lengthy = entry.message_type is not None or entry.type in (entry.TYPE_STRING, entry.TYPE_BYTES)
        kinds = {_LEN} if lengthy else {wires.get(entry.type, _VARINT)}
        if _is_repeated(entry):  # numbers may come packed or one by one, whatever the schema says
            kinds.add(_LEN)
        found[entry.number] = _Field(
            f"{message.name}.{entry.name}",
            frozenset(kinds),
            entry.message_type,
            entry.message_type is not None and _holds_tensor(entry.message_type),
            entry.type == entry.TYPE_STRING,
        )
    return found


@functools.cache
def _listed(message: Any) -> re.Pattern[bytes]:
    """Entries of a message's lists of numbers and of short texts, one after the other.

    A tree ensemble has millions of them, so they are not looked at one by one.
    """
    kinds = []
    for entry in message.fields:
        if entry.message_type is not None or not _is_repeated(entry):
            continue
        wires = _fields(message)[entry.number].wires
        for wire in wires - {_LEN} or wires:
            tag = re.escape(varint(entry.number << 3 | wire))
            kinds += [tag + value for value in _VALUES[wire]]
    return re.compile(b"(?:" + b"|".join(kinds) + b")++", re.DOTALL)


def _is_repeated(entry: Any) -> bool:
    if hasattr(entry, "is_repeated"):
        return bool(entry.is_repeated)
    return bool(entry.label == entry.LABEL_REPEATED)  # protobuf before 6.30


@functools.cache
def _holds_tensor(message: Any) -> bool:
    """Whether a TensorProto can occur in `message`, at any depth."""
    seen, todo = set(), [message]
    while todo:
        kind = todo.pop()
        if kind.name == "TensorProto":
            return True
        if kind.full_name not in seen:
            seen.add(kind.full_name)
            todo.extend(entry.message_type for entry in kind.fields if entry.message_type is not None)
    return False


def varint(value: int) -> bytes:
    """A non-negative number in protobuf's base-128 encoding."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def splice(buffer: Buffer, found: Scan, sizes: Sequence[int]) -> Iterator[Buffer | int]:
    """The pieces of a model in which payload i is replaced by a `raw_data` of `sizes[i]` bytes.

    Yields slices of `buffer`, corrected lengths, and, in the place of each new payload, its index. Lengths of
    enclosing messages are made right from the inside out.
    """
    change = [0] * (len(found.frames) + 1)  # by frame; the last is the model itself
    edits: list[tuple[int, int, bytes, int | None]] = []
    for index, (payload, size) in enumerate(zip(found.payloads, sizes, strict=True)):
        header = _RAW_DATA_TAG + varint(size)
        change[payload.frame] += len(header) + size - (payload.end - payload.field_start)
        edits.append((payload.field_start, payload.end, header, index))
    for index in range(len(found.frames) - 1, -1, -1):
        frame = found.frames[index]
        if change[index]:
            length = varint(frame.end - frame.start + change[index])
            change[frame.parent] += change[index] + len(length) - (frame.start - frame.length_start)
            edits.append((frame.length_start, frame.start, length, None))
    position = 0
    for start, end, new, payload_index in sorted(edits, key=lambda edit: edit[0]):
        yield buffer[position:start]
        yield new
        if payload_index is not None:
            yield payload_index
        position = end
    yield buffer[position:]
