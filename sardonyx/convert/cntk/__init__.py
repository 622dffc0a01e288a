"""CNTK 2: saved functions (.model, .dnn, .cntk), which are one nested dictionary in protobuf, without CNTK."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sardonyx.convert.base import Converted, Options, Source

_KEYS = (b"version", b"type", b"uid", b"root", b"inputs", b"primitive_functions", b"name", b"state")
"""What a saved function's dictionary holds. Its entries come in no order."""
_FIRST = bytes([0x08])
_ENTRY = 0x12


def recognises(source: Source) -> bool:
    """A dictionary with its version, of whose entries the first is one of a function's."""
    head = source.head
    if source.path is None or not head.startswith(_FIRST) or len(head) < 8 or head[1] > 9 or head[2] != _ENTRY:
        return False
    at = 3
    while at < len(head) and head[at] & 0x80:  # the entry's length
        at += 1
    return any(head[at + 1 : at + 3 + len(key)] == bytes([0x0A, len(key)]) + key for key in _KEYS)


def read(source: Source, options: Options) -> Converted:
    """The function as it is used for inference; inputs and outputs by their names in CNTK, or else their uids.

    Values have CNTK's axes as NumPy sees them: [batch, ...], and [batch, sequence, ...] where there are sequences,
    all of one length in a batch. Raises ModelFileError when the file is damaged, ConversionError when operators cannot
    be converted (all are listed).
    """
    from sardonyx.convert.cntk.reader import read as read_cntk

    return read_cntk(source, options)


def operators() -> list[str]:
    """The operators that can be converted."""
    from sardonyx.convert.cntk.reader import supported

    return supported()
