"""The reader of safetensors: what a file by the format's description holds, and every way in which one can lie."""

from __future__ import annotations

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.errors import ModelFileError
from sardonyx.zoo.safetensors import read


def packed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype, shape, start, stop):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_tensors_of_every_kind(tmp_path):
    arrays = {
        "f32": ("F32", np.arange(6, dtype=np.float32).reshape(2, 3)),
        "bf16": ("BF16", np.array([1.5, -2], ml_dtypes.bfloat16)),
        "i64": ("I64", np.array([2**40, -1])),
        "bool": ("BOOL", np.array([True, False, True])),
        "scalar": ("F64", np.array(0.25)),
        "empty": ("F16", np.zeros((0, 4), np.float16)),
        "f8": ("F8_E4M3", np.array([1, 448], ml_dtypes.float8_e4m3fn)),
    }
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (kind, array) in arrays.items():
        header[name] = entry(kind, list(array.shape), len(data), len(data) + array.nbytes)
        data += array.tobytes()
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed(header, data))
    found = read(path)
    assert list(found) == list(arrays)
    for name, (_, array) in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable


GOOD = entry("F32", [2], 0, 8)
BAD = {
    "nothing": b"",
    "short": b"\x02\0\0",
    "header past the end": struct.pack("<Q", 2**63) + b"{}",
    "header one past the end": struct.pack("<Q", 3) + b"{}",
    "no json": packed(b"{", b""),
    "not utf-8": packed(b'{"\xff": 1}', b""),
    "deep json": packed(b"[" * 200_000, b""),
    "a list": packed([1]),
    "no place": packed({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "half a place": packed({"a": GOOD | {"data_offsets": [0]}}, bytes(8)),
    "a place of floats": packed({"a": GOOD | {"data_offsets": [0.0, 8.0]}}, bytes(8)),
    "a place of booleans": packed({"a": entry("U8", [1], False, True)}, bytes(1)),
    "a negative place": packed({"a": entry("F32", [2], -8, 0)}, bytes(8)),
    "a place past the end": packed({"a": entry("F32", [3], 0, 12)}, bytes(8)),
    "a huge place": packed({"a": entry("F32", [2**62], 0, 2**64)}, bytes(8)),
    "a place the wrong way round": packed({"a": entry("F32", [2], 8, 0)}, bytes(8)),
    "an overlap": packed({"a": GOOD, "b": entry("F32", [2], 4, 12)}, bytes(12)),
    "a hole": packed({"a": GOOD, "b": entry("F32", [2], 12, 20)}, bytes(20)),
    "bytes left over": packed({"a": GOOD}, bytes(9)),
    "another size": packed({"a": GOOD | {"shape": [3]}}, bytes(8)),
    "an unknown type": packed({"a": GOOD | {"dtype": "F31"}}, bytes(8)),
    "a type that is a list": packed({"a": GOOD | {"dtype": ["F32"]}}, bytes(8)),
    "no shape": packed({"a": GOOD | {"shape": None}}, bytes(8)),
    "a negative shape": packed({"a": GOOD | {"shape": [-1, -2]}}, bytes(8)),
    "a shape of strings": packed({"a": GOOD | {"shape": ["2"]}}, bytes(8)),
    "too many axes": packed({"a": entry("U8", [1] * 33, 0, 1)}, bytes(1)),
    "past what can be counted": packed({"a": entry("U8", [0, 2**70], 0, 0)}),
    "nothing of too much": packed({"a": entry("F64", [0, 2**62, 2**62], 0, 0)}),
    "a key twice": packed(b'{"a": %s, "a": %s}' % ((json.dumps(GOOD).encode(),) * 2), bytes(8)),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_files_that_lie(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="not a valid safetensors file: "):
        read(path)


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ModelFileError, match="cannot be read"):
            read(path)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 200), byte=st.integers(0, 255), cut=st.integers(0, 210))
def test_damage_is_a_typed_error_or_other_values(tmp_path_factory, place, byte, cut):
    content = bytearray(packed({"a": GOOD, "b": entry("I16", [2, 2], 8, 16)}, bytes(16)))
    if place < len(content):
        content[place] = byte
    path = tmp_path_factory.mktemp("damaged") / "x"
    path.write_bytes(content[:cut])
    try:
        found = read(path)
    except ModelFileError:
        return
    assert sum(array.nbytes for array in found.values()) <= 16
