"""Protobuf by a schema's text, and bounded binary reading."""

from __future__ import annotations

import random
import struct
from contextlib import suppress

import numpy as np
import onnx
import pytest

from sardonyx.convert.reading.cursor import Cursor
from sardonyx.convert.reading.protobuf import Schema, numbers, which
from sardonyx.errors import ModelFileError

ONNX = Schema(
    "test_onnx",
    """
    message ModelProto { int64 ir_version = 1; string producer_name = 2; GraphProto graph = 7; }
    message GraphProto {
      repeated NodeProto node = 1;   // in order
      string name = 2;
      repeated TensorProto initializer = 5;
    }
    message NodeProto { repeated string input = 1; string op_type = 4; repeated Attribute attribute = 5; }
    message Attribute {
      string name = 1;
      float f = 2;
      int64 i = 3;
      repeated int64 ints = 8 [packed = true];
      Kind type = 20;
      enum Kind { UNDEFINED = 0; FLOAT = 1; INT = 2; INTS = 7; }
    }
    message TensorProto { repeated int64 dims = 1; repeated bytes floats = 4; map<string, Inner> parts = 90;
      message Inner { double x = 1; } }
    """,
)


def model():
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 5], group=2)
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2, 3], np.arange(6.0))
    graph = onnx.helper.make_graph([node], "made", [], [], [weight])
    return onnx.helper.make_model(graph, producer_name="someone")


def test_what_protobuf_itself_wrote_is_read():
    found = ONNX.parse(model().SerializeToString(), "ModelProto", "here")
    assert (found.producer_name, found.graph.name) == ("someone", "made")
    (node,) = found.graph.node
    assert (node.op_type, list(node.input)) == ("Conv", ["x", "w"])
    attributes = {one.name: one for one in node.attribute}
    assert list(attributes["kernel_shape"].ints) == [3, 5]
    assert attributes["group"].type == 2
    assert which(attributes["group"], "f", "i") == "i"
    assert which(attributes["kernel_shape"], "f", "i") is None
    (weight,) = found.graph.initializer
    np.testing.assert_array_equal(numbers(weight.floats, np.float32), np.arange(6.0))


def test_packed_numbers_in_several_pieces():
    assert numbers([b"\0\0\x80?", b"\0\0\0@"], np.float32).tolist() == [1, 2]
    assert numbers([], np.float32).size == 0
    with pytest.raises(ValueError, match="buffer"):
        numbers([b"abc"], np.float32)


def test_maps_nested_messages_and_text():
    made = ONNX.new("TensorProto")
    made.parts["a"].x = 2.5
    assert ONNX.parse(made.SerializeToString(), "TensorProto", "here").parts["a"].x == 2.5
    found = ONNX.parse_text("name: 'k' type: INTS ints: 1 ints: 2 unheard { of: 3 }", "Attribute", "here")
    assert (found.type, list(found.ints)) == (7, [1, 2])
    with pytest.raises(ModelFileError, match=r"net\.txt"):
        ONNX.parse_text("name { ", "Attribute", "net.txt")


def test_damage_is_told():
    data = model().SerializeToString()
    for cut in range(1, len(data), 7):
        try:
            ONNX.parse(data[:cut], "ModelProto", "cut")
        except ModelFileError as error:
            assert "cut" in str(error)
    generator = random.Random(0)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[generator.randrange(len(data))] = generator.randrange(256)
        with suppress(ModelFileError):
            ONNX.parse(bytes(damaged), "ModelProto", "damaged")
    deep = b""
    for _ in range(5000):
        deep = b"\x3a" + _varint(len(deep)) + deep
    with pytest.raises(ModelFileError):
        Schema("test_deep", "message M { M m = 7; }").parse(deep, "M", "deep")


def _varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


@pytest.mark.parametrize("text", ["message A { B b = 1; }", "table A { }", "message A { int32 a 1; }"])
def test_a_schema_with_a_mistake_is_refused(text):
    with pytest.raises(ValueError, match=r"expected|no type"):
        Schema("test_wrong", text)


def test_a_cursor_reads_in_order_and_stops_at_the_end():
    data = struct.pack("<IhB", 7, -2, 5) + np.arange(3, dtype="<f4").tobytes() + "né".encode()
    cursor = Cursor(data, "file.bin")
    assert cursor.unpack("Ih") == (7, -2)
    assert cursor.one("B") == 5
    assert cursor.array(np.float32, [3]).tolist() == [0, 1, 2]
    assert cursor.left == 3
    assert cursor.text(3) == "né"
    for action in (
        lambda: cursor.take(1),
        lambda: cursor.take(-1),
        lambda: cursor.array(np.float32, [1 << 40, 1 << 40]),
        lambda: cursor.array(np.float32, [-1]),
        lambda: Cursor(b"\xff\xfe", "f").text(2),
    ):
        with pytest.raises(ModelFileError):
            action()
    assert cursor.position == len(data)
