"""Loading: every type and storage form, in place where it can be, and nothing else than a typed error."""

from __future__ import annotations

import mmap
import os
import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import BITS, DTYPES, branches, holder, mlp, model_of, raw, value_info
from onnx import TensorProto, helper, numpy_helper

from sardonyx.errors import InvalidModelError, ModelFileError, SardonyxError
from sardonyx.model import file, wire


def only(model, name="t"):
    return model.graph.initializers[name].const_value


def backing(array):
    """What the memory of an array belongs to."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


@pytest.mark.parametrize("count", [6, 2500])
@pytest.mark.parametrize("kind", DTYPES)
def test_raw_data_of_every_type_is_read_as_onnx_reads_it(kind, count, tmp_path):
    data = np.random.default_rng(1).integers(0, 256, 16 * count, np.uint8)
    bits = BITS.get(kind, np.dtype(DTYPES[kind]).itemsize * 8)
    data = (data & 1 if kind == "BOOL" else data)[: -(-count * bits // 8)]
    data[-1] &= 0xFF >> (-count * bits) % 8  # padding
    proto = raw("t", [count // 2, 2], kind, data.tobytes())
    expected = numpy_helper.to_array(proto)
    path = tmp_path / "m.onnx"
    path.write_bytes(holder(proto).SerializeToString())
    tensor = only(file.load(path))
    assert tensor.dtype == ir.DataType[kind]
    got = tensor.numpy()
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.tobytes() == expected.tobytes()
    assert tensor.tobytes() == proto.raw_data
    stored = tensor.raw
    if count * bits // 8 >= 1024:
        assert isinstance(backing(stored), mmap.mmap)
    assert not stored.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        stored.flags.writeable = True


@pytest.mark.parametrize("count", [4, 1200])
@pytest.mark.parametrize("kind", [*DTYPES, "STRING"])
def test_typed_fields_are_read_as_onnx_reads_them(kind, count):
    number = getattr(TensorProto, kind)
    values = [b"ab", b"\xff", b"", b"c"] * (count // 4) if kind == "STRING" else np.arange(count) % 2
    proto = helper.make_tensor("t", number, [2, count // 2], values)
    assert not proto.raw_data
    tensor = only(file.load(holder(proto).SerializeToString()))
    expected = numpy_helper.to_array(proto) if kind != "STRING" else np.array(values).reshape(2, -1)
    assert tensor.numpy().dtype == expected.dtype
    np.testing.assert_array_equal(tensor.numpy(), expected)


@pytest.mark.parametrize(("kind", "dtype"), [("FLOAT", np.float32), ("DOUBLE", np.float64)])
def test_packed_float_data_is_a_view_of_the_bytes(kind, dtype):
    proto = helper.make_tensor("t", getattr(TensorProto, kind), [500], np.arange(500.0))
    assert len(getattr(proto, kind.lower() + "_data")) == 500
    data = holder(proto).SerializeToString()
    array = only(file.load(data)).numpy()
    assert backing(array) is data
    np.testing.assert_array_equal(array, np.arange(500, dtype=dtype))


def test_float_data_in_several_chunks_is_joined():
    one = helper.make_tensor("t", TensorProto.FLOAT, [1000], np.arange(500.0).tolist() * 2)
    half = TensorProto(float_data=np.arange(500.0)).SerializeToString()
    rest = TensorProto(name="t", dims=[1000], data_type=1).SerializeToString()
    data = _with_initializer(rest + half + half)
    np.testing.assert_array_equal(only(file.load(data)).numpy(), numpy_helper.to_array(one))


def test_tensors_in_subgraphs_attributes_and_functions_are_views():
    weight = np.arange(600, dtype=np.float32)
    model = branches(weight)
    body = [helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(weight, "f"))]
    function = helper.make_function("own", "F", [], ["k"], body, [helper.make_opsetid("", 21)])
    model.functions.append(function)
    data = model.SerializeToString()
    loaded = file.load(data)
    node = loaded.graph[0]
    then, other = (node.attributes[name].as_graph() for name in ("then_branch", "else_branch"))
    held = [
        (then.initializers["inner"].const_value, weight),
        (other[0].attributes["value"].as_tensor(), weight * 2),
        (loaded.functions["own", "F", ""][0].attributes["value"].as_tensor(), weight),
    ]
    for tensor, expected in held:
        assert backing(tensor.numpy()) is data
        np.testing.assert_array_equal(tensor.numpy(), expected)


def test_a_loaded_model_says_what_onnx_says(tmp_path):
    model = mlp()
    model.producer_name, model.doc_string, model.domain, model.model_version = "maker", "doc", "org.test", 7
    helper.set_model_props(model, {"key": "value"})
    model.graph.quantization_annotation.add(tensor_name="h").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="b"
    )
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    assert _texts(ir.to_proto(file.load(path))) == _texts(ir.to_proto(ir.load(path)))


def _texts(model):
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return str(model)


def test_sequence_map_types_are_kept():
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    zipmap = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[1, 2])
    output = helper.make_value_info("y", kind)
    model = model_of([zipmap], [value_info("x", [None, 2])], [output], extra=[("ai.onnx.ml", 3)])
    loaded = file.load(model.SerializeToString())
    assert repr(loaded.graph.outputs[0].type) == "Sequence(Map(INT64, Tensor(FLOAT)))"


def test_sparse_initializers_become_dense():
    values = numpy_helper.from_array(np.array([1.5, 2.5], np.float32), "s")
    by_axis = numpy_helper.from_array(np.array([[0, 1], [2, 0]], np.int64), "i")
    flat = numpy_helper.from_array(np.array([1, 4], np.int64), "i")
    for indices in (by_axis, flat):
        model = holder()
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3, 2]))
        expected = np.array([[0, 1.5], [0, 0], [2.5, 0]], np.float32)
        np.testing.assert_array_equal(only(file.load(model.SerializeToString()), "s").numpy(), expected)


@pytest.mark.parametrize(
    ("indices", "dims"),
    [([[0, 2]], [3, 2]), ([[-1, 0]], [3, 2]), ([6], [3, 2]), ([[0, 0]], [1 << 20, 1 << 20])],
)
def test_bad_sparse_initializers_are_errors(indices, dims):
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    index = numpy_helper.from_array(np.array(indices, np.int64), "i")
    model = holder()
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, dims))
    with pytest.raises(ModelFileError, match="sparse"):
        file.load(model.SerializeToString())


def _with_initializer(body):
    graph = onnx.GraphProto(name="g").SerializeToString() + b"\x2a" + wire.varint(len(body)) + body
    return b"\x08\x0a\x3a" + wire.varint(len(graph)) + graph


BAD_TENSORS = {
    "too few bytes": ({"dims": [3], "data_type": 1, "raw_data": b"1234"}, "expected 12 bytes, got 4"),
    "too many bytes": (
        {"dims": [300], "data_type": 1, "raw_data": bytes(1204)},
        "expected 1200 bytes, got 1204",
    ),
    "no bytes": ({"dims": [3], "data_type": 1}, "expected 12 bytes, got 0"),
    "negative dimension": ({"dims": [-1], "data_type": 1, "raw_data": b"1234"}, "bad dimensions"),
    "overflow": ({"dims": [1 << 40, 1 << 40], "data_type": 1, "raw_data": b"1234"}, "overflow"),
    "overflow hidden by zero": ({"dims": [0, 1 << 40, 1 << 40], "data_type": 1}, "overflow"),
    "rank": ({"dims": [1] * 65, "data_type": 1, "raw_data": b"1234"}, "bad dimensions"),
    "no type": ({"dims": [1], "raw_data": b"1234"}, "unknown element type"),
    "unknown type": ({"dims": [1], "data_type": 99, "raw_data": b"1234"}, "unknown element type"),
    "wrong field": ({"dims": [2], "data_type": 7, "float_data": [1, 2]}, "cannot be in float_data"),
    "wrong big field": (
        {"dims": [150], "data_type": 7, "float_data": [1.0] * 300},
        "cannot be in float_data",
    ),
    "two fields": (
        {"dims": [1], "data_type": 1, "float_data": [1], "raw_data": b"1234"},
        "more than one field",
    ),
    "raw strings": ({"dims": [1], "data_type": 8, "raw_data": b"abcd"}, "string_data"),
    "too few strings": ({"dims": [2], "data_type": 8, "string_data": [b"a"]}, "expected 2 strings, got 1"),
    "numbers as strings": ({"dims": [1], "data_type": 1, "string_data": [b"a"]}, "string_data"),
    "segment": (
        {"dims": [1], "data_type": 1, "raw_data": b"1234", "segment": TensorProto.Segment(end=1)},
        "segment",
    ),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensors_are_errors_that_name_them(case):
    fields, message = BAD_TENSORS[case]
    with pytest.raises(ModelFileError, match=message) as caught:
        file.load(holder(TensorProto(name="weight", **fields)).SerializeToString())
    assert "'weight'" in str(caught.value)


def test_two_raw_data_in_one_tensor_are_an_error():
    tensor = raw("t", [300], "FLOAT", bytes(1200)).SerializeToString()
    with pytest.raises(ModelFileError, match=r"byte \d+: a tensor has more than one raw_data"):
        file.load(_with_initializer(tensor + TensorProto(raw_data=bytes(1200)).SerializeToString()))


NOT_ONNX = {
    "empty": (b"", "an empty file"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(100), "a JPEG picture"),
    "zip": (b"PK\x03\x04" + bytes(100), "zip archive"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite"),
    "pickle": (b"\x80\x04\x95" + bytes(100), "pickle"),
    "text": (b"hello, this is a model\n" * 10, "a text file"),
    "html": (b"<!DOCTYPE html><html></html>", "HTML"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
    "textproto": (b'ir_version: 8\ngraph { name: "g" }\n', "protobuf's text format"),
    "onnx text": (
        b'<ir_version: 8, opset_import: ["" : 18]>\ng (float[N] x) => (float[N] y) {}',
        "text syntax",
    ),
    "json": (b'{"graph": {}}', "JSON"),
    "no graph": (onnx.ModelProto(ir_version=10).SerializeToString(), "no graph in it"),
    "a tensor": (TensorProto(name="t", dims=[1]).SerializeToString(), "byte 5"),
}


@pytest.mark.parametrize("case", NOT_ONNX)
def test_what_is_not_onnx_is_named(case, tmp_path):
    data, message = NOT_ONNX[case]
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=message) as caught:
        file.load(path)
    assert caught.value.where == str(path)
    assert caught.value.fix


def test_what_is_no_file_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("none.onnx", "cannot be opened"),
        (".", "folder"),
        ("pipe", "special"),
        ("\0", "null"),
    ):
        with pytest.raises(ModelFileError, match=message):
            file.load(tmp_path / name)


def test_a_name_that_is_defined_twice_is_an_error():
    nodes = [helper.make_node("Relu", ["x"], ["y"], "a"), helper.make_node("Neg", ["x"], ["y"], "b")]
    model = model_of(nodes, [value_info("x", [1])], [value_info("y", [1])])
    with pytest.raises(InvalidModelError, match=r"'y' is defined twice.*node 'b'"):
        file.load(model.SerializeToString())
    with pytest.raises(InvalidModelError, match="two initializers 't'"):
        file.load(holder(*[raw("t", [1], "FLOAT", b"1234")] * 2).SerializeToString())


def test_every_truncation_is_an_error_that_names_the_byte():
    data = branches(np.ones(400, np.float32)).SerializeToString()
    for end in [*range(1, 120), *range(120, len(data), 37)]:
        with pytest.raises(SardonyxError):
            file.load(data[:end])
    with pytest.raises(ModelFileError, match=r"byte \d+: a field is longer than what is left"):
        file.load(data[:-300])


HOSTILE = {
    "endless varint": (b"\x08" + b"\xff" * 20, "longer than 10 bytes"),
    "cut varint": (b"\x08\xff", "cut off"),
    "length past the end": (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "longer than what is left"),
    "group": (b"\x08\x0a\x3b", "wrong wire type"),
    "unknown group": (b"\x08\x0a\xf3\x01", "wire type 3"),
    "reserved wire type": (b"\x08\x0a\xf7\x01", "wire type 7"),
    "field zero": (b"\x08\x0a\x00\x00", "field number 0"),
    "graph as a number": (b"\x08\x0a\x38\x01", "wrong wire type"),
    "cut fixed": (b"\x08\x0a\xf5\x01\x00", "cut off"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bytes_are_errors_that_name_the_byte(case):
    data, message = HOSTILE[case]
    with pytest.raises(ModelFileError, match=rf"byte \d+: .*{message}"):
        file.load(data)


@pytest.mark.parametrize("padding", [0, 2000])
def test_deep_nesting_is_an_error(padding):
    body = raw("t", [padding // 4], "FLOAT", bytes(padding)).SerializeToString()
    body = b"\x2a" + wire.varint(len(body)) + body  # GraphProto.initializer
    for _ in range(2000):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            body = tag + wire.varint(len(body)) + body
    with pytest.raises(ModelFileError, match="nested deeper than 100"):
        file.load(b"\x08\x0a\x3a" + wire.varint(len(body)) + body)


def wordy():
    """A model with a word of its own in every kind of text field."""
    tensor = TensorProto(name="<tensor>", dims=[1], data_type=1, raw_data=b"1234", doc_string="<its doc>")
    tensor.metadata_props.add(key="<tensor key>", value="<tensor value>")
    dims = value_info("x", ["<symbol>"])
    dims.type.tensor_type.shape.dim[0].denotation = "<dim denotation>"
    dims.type.denotation = "<type denotation>"
    relu = helper.make_node("<operator>", ["x"], ["<value>"], "<node>", domain="<domain>", doc_string="<node doc>")
    relu.attribute.add(name="<attribute>", ref_attr_name="<reference>", type=1)
    body = [helper.make_node("F", ["<function input>"], ["b"])]
    function = helper.make_function(
        "<function domain>",
        "<function>",
        ["<function input>"],
        ["b"],
        body,
        [helper.make_opsetid("<opset>", 1)],
    )
    model = model_of([relu], [dims], [value_info("<value>", [1])], [tensor], functions=[function])
    model.producer_name, model.doc_string, model.graph.name = "<producer>", "<doc>", "<graph>"
    helper.set_model_props(model, {"<key>": "<text>"})
    return model.SerializeToString()


WORDS = re.findall(rb"<[^<>]+>", wordy())


@pytest.mark.parametrize("word", [word.decode() for word in dict.fromkeys(WORDS)])
def test_text_that_is_not_utf8_is_an_error_that_names_the_byte(word):
    data = wordy()
    file.load(data)
    position = data.index(word.encode()) + 1
    with pytest.raises(ModelFileError, match=rf"byte {position}: .*not UTF-8"):
        file.load(data[:position] + b"\xff" + data[position + 1 :])


SEEDS = [mlp(8).SerializeToString(), branches(np.ones(300, np.float32)).SerializeToString()]


@settings(max_examples=300, deadline=2000)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_models_load_or_raise_typed_errors(seed, edits):
    data = bytearray(seed)
    for position, byte in edits:
        data[position % len(data)] = byte
    try:
        model = file.load(bytes(data))
    except SardonyxError:
        return
    for value in model.graph.initializers.values():
        assert len(value.const_value.tobytes()) == value.const_value.nbytes


@settings(max_examples=100, deadline=2000)
@given(st.binary(max_size=400))
def test_random_bytes_raise_typed_errors(data):
    with pytest.raises(SardonyxError):
        file.load(data)
