"""Damaged and hostile TensorFlow files end in errors of ours, in time; checksums and compression are as specified."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from network_checks import refusal, survives
from tensorflow_cases import DATA, differences, read, recorded, run

from sardonyx.convert.base import Options, Source
from sardonyx.convert.tensorflow import reader
from sardonyx.convert.tensorflow.bundle import Bundle, _slice_key, unsnap
from sardonyx.convert.tensorflow.checksum import crc32c, masked
from sardonyx.convert.tensorflow.graph import Endpoint, Graph, Node, from_json, from_message
from sardonyx.convert.tensorflow.schema import schema
from sardonyx.convert.tensorflow.tensors import D, array_of
from sardonyx.convert.tensorflow.writing import Port, convert_graph
from sardonyx.errors import ConversionError, ModelFileError, SardonyxError


@pytest.fixture
def copy(tmp_path):
    """A copy of a recorded model that may be broken."""

    def make(name):
        if (DATA / name).is_dir():
            return shutil.copytree(DATA / name, tmp_path / name)
        return shutil.copy(DATA / name, tmp_path / name)

    return make


def _load(path):
    """As the reader does once it knows the kind, so that damage at the start counts too."""
    outputs = ("probabilities",) if path.name == "checkpoint" else ()
    return lambda: reader.read(Source(path=path), Options(outputs=outputs))


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("conditions.pb", "", 120), ("module", "saved_model.pb", 60), ("checkpoint", ".meta", 40),
        ("checkpoint", ".index", 60), ("checkpoint", ".data-00000-of-00001", 30),
    ],
)  # fmt: skip
def test_damage_ends_in_an_error(copy, name, file, count):
    path = copy(name)
    target = path / file if file else path
    survives(target, target.read_bytes(), count, _load(path), seed=len(file))


def test_a_wrong_weight_is_noticed(copy):
    folder = copy("checkpoint")
    data = folder / ".data-00000-of-00001"
    changed = bytearray(data.read_bytes())
    for i in range(0, len(changed), 40):
        changed[i] ^= 1
    data.write_bytes(bytes(changed))
    assert "checksum" in refusal(_load(folder), ModelFileError)


def test_missing_parts_are_named(copy):
    folder = copy("checkpoint")
    (folder / ".data-00000-of-00001").unlink()
    assert ".data-00000-of-00001" in refusal(_load(folder), ModelFileError)
    (folder / ".meta").unlink()
    assert "no graph" in refusal(lambda: read(folder / ".index"), ConversionError)
    saved = copy("module")
    shutil.rmtree(saved / "variables")
    assert "no value" in refusal(lambda: read(saved, signature="main"), ConversionError)


def test_checksums():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
    assert crc32c(b"a") == 0xC1D04330
    data = np.random.default_rng(0).integers(0, 256, 100_001, np.uint8).tobytes()
    assert crc32c(data) == _slow(data)
    assert masked(b"") == 0xA282EAD8


def _slow(data):
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def test_snappy():
    assert unsnap(b"\x05\x10hello", "here") == b"hello"
    assert unsnap(b"\x0b\x04ab\x01\x02\x05\x04", "here") == b"ababababababa"[:11]
    assert unsnap(b"\x09\x00a\x1e\x01\x00", "here") == b"a" * 9
    assert unsnap(b"\x09\x00a\x1f\x01\x00\x00\x00", "here") == b"a" * 9
    assert unsnap(b"\x46\xf0\x45" + b"x" * 70, "here") == b"x" * 70
    for broken in (
        b"\x05\x10hell",
        b"\x05\x10helloo",
        b"\x09\x00a\x1e\x02\x00",
        b"\xff\xff\xff\xff\x0f\x00a",
        b"\x09\x00a",
    ):
        refusal(lambda broken=broken: unsnap(broken, "here"), ModelFileError)


def _snap(data):
    """Compressed without finding anything twice: literals of 60 bytes."""
    size, out = len(data), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    for i in range(0, len(data), 60):
        part = data[i : i + 60]
        out += bytes([len(part) - 1 << 2]) + part
    return bytes(out)


def test_an_index_of_compressed_blocks(copy):
    folder = copy("checkpoint")
    index = folder / ".index"
    data = index.read_bytes()
    footer, content = data[-48:], bytearray()
    position = 0

    def varint():
        nonlocal position
        value = shift = 0
        while True:
            byte = footer[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    meta, table = (varint(), varint()), (varint(), varint())

    def put(block):
        stored = _snap(block) + b"\x01"
        offset = len(content)
        content.extend(stored + masked(stored).to_bytes(4, "little"))
        return _varint(offset) + _varint(len(stored) - 1)

    blocks = [handle for _, handle in _entries(data[table[0] : table[0] + table[1]])]
    handles = []
    for handle in blocks:
        (offset, size), _ = _pair(handle)
        assert data[offset + size] == 0
        handles.append(put(data[offset : offset + size]))
    first = put(data[meta[0] : meta[0] + meta[1]])
    rows = b"".join(b"\x00\x01" + bytes([len(h)]) + b"\xff" + h for h in handles)
    last = put(rows + (0).to_bytes(4, "little") + (1).to_bytes(4, "little"))
    index.write_bytes(bytes(content) + (first + last).ljust(40, b"\0") + data[-8:])
    inputs, outputs = recorded("checkpoint")
    assert differences(run(read(folder, outputs=("probabilities",)).model, inputs), outputs, 1e-5) == []


def _varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _number(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def _pair(data):
    first, at = _number(data, 0)
    second, at = _number(data, at)
    return (first, second), at


def _entries(block):
    end, at, key = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little"), 0, b""
    while at < end:
        shared, at = _number(block, at)
        fresh, at = _number(block, at)
        length, at = _number(block, at)
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length


def test_parts_of_variables_have_the_keys_that_tensorflow_gives():
    bundle = Bundle(DATA / "checkpoint", "")
    keys = [key for key in bundle._entries if key.startswith(b"\0")]
    assert _slice_key(b"parts", [(0, 6), (3, 3)]) in keys
    assert bundle.read("parts").shape == (6, 8)
    np.testing.assert_array_equal(bundle.read("parts", "6 8 2,2:0,8"), bundle.read("parts")[2:4])
    assert _slice_key(b"a\0b\xff", [(70, 9000)]) == b"\0a\0\xffb\xff\0\0\x01\x01\x01" + b"\xc0\x46" + b"\xe0\x23\x28"
    refusal(lambda: bundle.read("parts", "6 8 nonsense"), ModelFileError)


def test_claims_of_size_take_no_memory():
    proto = schema().new("TensorProto")
    proto.dtype = 1
    for size in (1 << 20, 1 << 20, 1 << 20):
        proto.tensor_shape.dim.add().size = size
    proto.float_val.append(1.0)
    refusal(lambda: array_of(proto, "here"), ModelFileError)


def _nodes(*nodes):
    return Graph({node.name: node for node in nodes}, where="made")


def test_circles_and_gaps_are_found():
    y = [Port("y", Endpoint("a"))]
    circle = _nodes(Node("a", "Relu", (Endpoint("b"),)), Node("b", "Relu", (Endpoint("a"),)))
    assert "circle" in refusal(lambda: convert_graph(circle, [], y, Options()), ModelFileError)
    alone = _nodes(Node("a", "Relu", (Endpoint("a"),)))
    assert "circle" in refusal(lambda: convert_graph(alone, [], y, Options()), ModelFileError)
    gap = _nodes(Node("a", "Relu", (Endpoint("b"),)))
    assert "has not" in refusal(lambda: convert_graph(gap, [], y, Options()), ModelFileError)
    port = _nodes(
        Node("a", "Relu", (Endpoint("b", 5),)), Node("b", "Const", attributes={"value": np.ones(2, np.float32)})
    )
    assert "has not" in refusal(lambda: convert_graph(port, [], y, Options()), ModelFileError)


def _recursive(first, second):
    function = {"signature": {"name": "f", "inputArg": [{"name": "x"}], "outputArg": [{"name": "y"}]},
                "nodeDef": [
                    {"name": "one", "op": "PartitionedCall", "input": ["x"], "attr": {"f": {"func": {"name": first}}}},
                    {"name": "two", "op": "PartitionedCall", "input": ["one:output:0"],
                     "attr": {"f": {"func": {"name": second}}}}],
                "ret": {"y": "two:output:0"}}  # fmt: skip
    nodes = [
        {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}, "shape": {"shape": {}}}},
        {"name": "y", "op": "f", "input": ["x"]},
    ]
    return from_json({"node": nodes, "library": {"function": [function]}}, "made")


def test_functions_that_call_themselves_end():
    graph = _recursive("f", "f")
    ports = [Port("x", Endpoint("x"))], [Port("y", Endpoint("y"))]
    assert "too deep" in refusal(lambda: convert_graph(graph, *ports, Options()), ModelFileError)


def test_functions_that_multiply_end(monkeypatch):
    from sardonyx.convert.tensorflow import writing

    monkeypatch.setattr(writing, "MAX_NODES", 2000)
    functions = []
    for i in range(40):
        nodes = [
            {"name": f"n{j}", "op": f"f{i + 1}" if i < 39 else "Relu", "input": [f"n{j - 1}:output:0" if j else "x"]}
            for j in range(2)
        ]
        functions.append({
            "signature": {"name": f"f{i}", "inputArg": [{"name": "x"}], "outputArg": [{"name": "y"}]},
            "nodeDef": nodes, "ret": {"y": "n1:output:0"},
        })  # fmt: skip
    nodes = [
        {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}, "shape": {"shape": {}}}},
        {"name": "y", "op": "f0", "input": ["x"]},
    ]
    graph = from_json({"node": nodes, "library": {"function": functions}}, "made")
    ports = [Port("x", Endpoint("x"))], [Port("y", Endpoint("y"))]
    assert "too many" in refusal(lambda: convert_graph(graph, *ports, Options()), ModelFileError)


def test_deep_graphs_need_no_recursion():
    nodes = [Node("n0", "Placeholder", attributes={"dtype": D.FLOAT, "shape": (2,)})]
    nodes += [Node(f"n{i}", "Identity", (Endpoint(f"n{i - 1}"),)) for i in range(1, 20_000)]
    written = convert_graph(_nodes(*nodes), [Port("x", Endpoint("n0"))], [Port("y", Endpoint("n19999"))], Options())
    assert len(written.model.graph) == 1


def test_two_nodes_of_one_name_are_refused():
    message = schema().new("GraphDef")
    for _ in range(2):
        message.node.add(name="a", op="NoOp")
    assert "same name" in refusal(lambda: from_message(message, "here"), ModelFileError)


def test_nonsense_in_attributes_is_refused():
    x = Node("x", "Placeholder", attributes={"dtype": D.FLOAT, "shape": (None, 5, 5, 2)})
    k = Node("k", "Const", attributes={"value": np.ones((3, 3, 2, 2), np.float32)})
    for attributes in (
        {"strides": [1, 0], "padding": b"SAME"}, {"strides": [1, 1, 1, 1], "padding": b"ROUND"},
        {"strides": [1, 1, 1, 2], "padding": b"SAME"}, {"strides": [1, 0, 0, 1], "padding": b"SAME"},
    ):  # fmt: skip
        y = Node("y", "Conv2D", (Endpoint("x"), Endpoint("k")), attributes=attributes)
        with pytest.raises(SardonyxError):
            convert_graph(_nodes(x, k, y), [Port("x", Endpoint("x"))], [Port("y", Endpoint("y"))], Options())
