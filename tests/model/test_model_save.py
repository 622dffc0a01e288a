"""Saving: bit-exact round trips, external data, and files that are whole or not there."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import BITS, DTYPES, branches, holder, mlp, model_of, raw, value_info
from onnx import TensorProto, helper, numpy_helper

from sardonyx.errors import InvalidModelError, ModelFileError
from sardonyx.model import file


def initializers(model):
    return {name: value.const_value for name, value in model.graph.initializers.items()}


def same_bits(one, other):
    assert list(one) == list(other)
    for name, tensor in one.items():
        assert (tensor.dtype, list(tensor.shape)) == (other[name].dtype, list(other[name].shape))
        assert tensor.tobytes() == other[name].tobytes()


kinds = st.sampled_from([kind for kind in DTYPES if not kind.startswith("FLOAT6")])


@st.composite
def tensors(draw):
    kind, dims = draw(kinds), draw(st.lists(st.integers(0, 40), max_size=3))
    count = int(np.prod(dims))
    bits = BITS.get(kind, np.dtype(DTYPES[kind]).itemsize * 8)
    seed = draw(st.integers(0, 2**32 - 1))
    data = np.random.default_rng(seed).integers(0, 2 if kind == "BOOL" else 256, -(-count * bits // 8), np.uint8)
    return dims, kind, data.tobytes()


@settings(max_examples=60, deadline=None)
@given(st.lists(tensors(), max_size=5), st.booleans())
def test_tensors_of_any_type_and_shape_round_trip(tmp_path_factory, drawn, external):
    path = tmp_path_factory.mktemp("save") / "m.onnx"
    model = file.load(holder(*(raw(f"t{i}", *one) for i, one in enumerate(drawn))).SerializeToString())
    file.save(model, path, external_data=external)
    same_bits(initializers(file.load(path)), initializers(model))
    for tensor, (_, _, data) in zip(onnx.load(path).graph.initializer, drawn, strict=True):
        assert tensor.raw_data == data


def test_a_model_of_every_kind_of_thing_round_trips(tmp_path):
    weight = np.arange(600, dtype=np.float32)
    model = branches(weight)
    helper.set_model_props(model, {"a": "1", "b": "2"})
    model.producer_name, model.model_version, model.doc_string = "maker", 3, "doc"
    attributes = {
        "f": 1.5, "i": -3, "s": "text", "fs": [1.0, 2.0], "is": [1, 2], "ss": ["a", "b"],
        "t": numpy_helper.from_array(weight, "t"),
        "tp": helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 3]),
    }  # fmt: skip
    node = helper.make_node("Odd", ["x", "", "c"], ["", "o"], "odd", domain="org.test", **attributes)
    tensors = two_tensors("ts", weight)
    node.attribute.append(tensors)
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid("org.test", 2))
    body = [helper.make_node("Gemm", ["a", "b"], ["k"])]
    body[0].attribute.add(name="alpha", ref_attr_name="scale", type=onnx.AttributeProto.FLOAT)
    model.functions.append(
        helper.make_function("own", "F", ["a", "b"], ["k"], body, [helper.make_opsetid("", 21)], ["scale"])
    )
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"\xff"]))
    path = tmp_path / "m.onnx"
    file.save(file.load(model.SerializeToString()), path)
    saved = onnx.load(path)
    assert str(ir.to_proto(ir.from_proto(saved))) == str(ir.to_proto(ir.from_proto(model)))


def two_tensors(name, weight):
    held = [numpy_helper.from_array(weight * scale, "t") for scale in (1, 2)]
    return onnx.AttributeProto(name=name, type=onnx.AttributeProto.TENSORS, tensors=held)


def test_map_and_optional_types_round_trip(tmp_path):
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N"])
    kinds = [
        helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.STRING, tensor)),
        helper.make_optional_type_proto(helper.make_sequence_type_proto(tensor)),
        helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2, None]),
    ]
    outputs = [helper.make_value_info(f"y{i}", kind) for i, kind in enumerate(kinds)]
    node = helper.make_node("Odd", ["x"], ["y0", "y1", "y2"], domain="org.test")
    model = model_of([node], [value_info("x", [])], outputs, extra=[("org.test", 1)])
    file.save(file.load(model.SerializeToString()), tmp_path / "m.onnx")
    assert list(onnx.load(tmp_path / "m.onnx").graph.output) == outputs


@pytest.mark.parametrize("external", [False, True])
def test_onnxruntime_runs_what_was_saved(tmp_path, external):
    x = np.random.default_rng(3).standard_normal((4, 32), np.float32)
    weight = np.linspace(-1, 1, 600, dtype=np.float32)
    for name, made, feeds in (
        ("mlp", mlp(), {"x": x}),
        ("if", branches(weight), {"x": weight, "c": np.array(False)}),
    ):
        path = tmp_path / f"{name}.onnx"
        file.save(file.load(made.SerializeToString()), path, external_data=external)
        onnx.checker.check_model(path, full_check=True)
        got, expected = (
            ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)
            for model in (str(path), made.SerializeToString())
        )
        np.testing.assert_array_equal(got[0], expected[0])
        assert (tmp_path / f"{name}.onnx.data").exists() == external


def test_external_tensors_start_on_pages_and_the_file_says_where(tmp_path):
    made = holder(*(raw(f"t{i}", [500 + i], "FLOAT", os.urandom(4 * (500 + i))) for i in range(3)))
    file.save(file.load(made.SerializeToString()), tmp_path / "m.onnx", external_data=True)
    saved = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    entries = [{entry.key: entry.value for entry in tensor.external_data} for tensor in saved.graph.initializer]
    assert [entry["offset"] for entry in entries] == ["0", "4096", "8192"]
    assert {entry["location"] for entry in entries} == {"m.onnx.data"}


def test_external_data_is_chosen_by_size(tmp_path):
    model = file.load(mlp().SerializeToString())
    file.save(model, tmp_path / "a.onnx", size_limit=4000)
    assert (tmp_path / "a.onnx.data").stat().st_size == 4096
    file.save(model, tmp_path / "b.onnx", size_limit=5000)
    assert not (tmp_path / "b.onnx.data").exists()
    for external in (False, True):
        with pytest.raises(ModelFileError, match="too large"):
            file.save(model, tmp_path / "c.onnx", external_data=external, size_limit=100)
    same_bits(initializers(file.load(tmp_path / "a.onnx")), initializers(model))


def test_the_size_limit_counts_every_byte(tmp_path):
    model = file.load(mlp().SerializeToString())
    file.save(model, tmp_path / "m.onnx")
    size = (tmp_path / "m.onnx").stat().st_size
    file.save(model, tmp_path / "m.onnx", external_data=False, size_limit=size)
    with pytest.raises(ModelFileError, match=f"got {size}"):
        file.save(model, tmp_path / "m.onnx", external_data=False, size_limit=size - 1)


@pytest.mark.parametrize("external", [False, True])
def test_saving_over_the_mapped_file_is_safe(tmp_path, external):
    path = tmp_path / "m.onnx"
    file.save(file.load(mlp(64).SerializeToString()), path, external_data=external)
    expected = file.load(mlp(64).SerializeToString())
    for way in (external, not external, external):
        model = file.load(path)
        file.save(model, path, external_data=way)
        same_bits(initializers(model), initializers(expected))  # the old mapping still holds the old file
    same_bits(initializers(file.load(path)), initializers(expected))


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "m.onnx"
    model = file.load(mlp().SerializeToString())
    file.save(model, path, external_data=True)
    before = {name: (tmp_path / name).read_bytes() for name in ("m.onnx", "m.onnx.data")}

    class Broken(ir.Tensor):
        def tobytes(self):
            return b"too short"

    for name, value in model.graph.initializers.items():  # "w" goes to the external file, "b" does not
        good = value.const_value
        value.const_value = Broken(_Opaque(), ir.DataType.FLOAT, shape=ir.Shape(good.shape))
        for external in (False, True):
            with pytest.raises(InvalidModelError, match=repr(name)):
                file.save(model, path, external_data=external)
        value.const_value = None
        with pytest.raises(InvalidModelError, match=repr(name)):
            file.save(model, path)
        value.const_value = good
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


class _Opaque:
    """An array-like of which only the tensor's own methods know the bytes."""

    def __array__(self, dtype=None):
        return np.zeros(1, np.float32)


def test_bad_targets_are_errors(tmp_path):
    model = file.load(mlp().SerializeToString())
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelFileError, match="a folder"):
        file.save(model, tmp_path / "folder")
    with pytest.raises(ModelFileError, match="No such file"):
        file.save(model, tmp_path / "none" / "m.onnx")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_tensors_made_in_memory_are_saved_as_they_are(tmp_path):
    model = file.load(holder().SerializeToString())
    rng = np.random.default_rng(5)
    arrays = {
        "transposed": rng.standard_normal((30, 40)).astype(np.float32).T,
        "half": rng.standard_normal(300).astype(ml_dtypes.bfloat16),
        "nibbles": np.arange(7).astype(ml_dtypes.int4),
        "scalar": np.float64(2.5),
        "empty": np.zeros((0, 3), np.int64),
    }
    for name, array in arrays.items():
        tensor = ir.tensor(np.asarray(array), name=name)
        model.graph.register_initializer(ir.Value(name=name, const_value=tensor))
    file.save(model, tmp_path / "m.onnx")
    for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), arrays[tensor.name])


def test_saving_does_not_change_the_model(tmp_path):
    model = file.load(branches(np.ones(400, np.float32)).SerializeToString())
    before = str(ir.to_proto(model))
    file.save(model, tmp_path / "m.onnx", external_data=True)
    assert str(ir.to_proto(model)) == before


# Large files


def vgg16(path):
    """A file with VGG-16's weights (528 MB, sparse on disk) and a marker in each weight's first element."""
    sizes = [
        (64, 3),
        (64, 64),
        (128, 64),
        (128, 128),
        (256, 128),
        *[(256, 256)] * 2,
        (512, 256),
        *[(512, 512)] * 5,
    ]
    shapes = [[m, c, 3, 3] for m, c in sizes] + [[25088, 4096], [4096, 4096], [4096, 1000]]
    write_model(path, [(f"w{i}", shape) for i, shape in enumerate(shapes)])
    return shapes


def write_model(path, weights):
    """A valid model whose large initializers are holes in the file, but for a number at the front of each."""
    heads, length = [], 0
    for name, dims in weights:
        nbytes = 4 * int(np.prod(dims))
        head = TensorProto(name=name, dims=dims, data_type=1).SerializeToString() + b"\x4a" + _varint(nbytes)
        head = b"\x2a" + _varint(len(head) + nbytes) + head
        heads.append((head, nbytes))
        length += len(head) + nbytes
    rest = holder().graph.SerializeToString()
    opset = holder()
    opset.ClearField("graph")
    with path.open("wb") as out:
        out.write(opset.SerializeToString() + b"\x3a" + _varint(len(rest) + length) + rest)
        for index, (head, nbytes) in enumerate(heads):
            out.write(head + struct.pack("<f", index))
            out.seek(nbytes - 4, os.SEEK_CUR)
        out.truncate()


def _varint(value):
    from google.protobuf.internal.encoder import _VarintBytes

    return _VarintBytes(value)


def resident_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.parametrize("width", [1 << 22, pytest.param(0, marks=pytest.mark.slow)])
def test_weights_take_no_memory_until_touched(tmp_path, width):
    path = tmp_path / "m.onnx"
    if width:
        write_model(path, [("w0", [width]), ("w1", [width])])  # 32 MiB
    else:
        vgg16(path)
    file.load(mlp().SerializeToString())
    before = resident_kib()
    model = file.load(path)
    assert resident_kib() - before < 3000
    for name, value in model.graph.initializers.items():
        assert value.const_value.numpy().flat[0] == int(name[1:])
    value.const_value.numpy().sum()
    assert resident_kib() - before >= value.const_value.nbytes // 1024


@pytest.mark.slow
def test_vgg16_loads_in_milliseconds(tmp_path):
    shapes = vgg16(tmp_path / "vgg.onnx")
    assert sum(4 * int(np.prod(shape)) for shape in shapes) == 553_376_512
    times = []
    for _ in range(5):
        start = time.perf_counter()
        file.load(tmp_path / "vgg.onnx")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05


def test_files_past_two_gib_load(tmp_path):
    path = tmp_path / "large.onnx"
    write_model(path, [(f"w{index}", [1 << 28]) for index in range(3)])  # 3 GiB of holes
    assert path.stat().st_size > 3 << 30
    model = file.load(path)
    assert [tensor.numpy()[0] for tensor in initializers(model).values()] == [0, 1, 2]
    assert file._plan(model, path, external=False).size > file.SIZE_LIMIT  # so `save` would go external
    with pytest.raises(ModelFileError, match="too large"):
        file.save(model, path, external_data=False)
    assert path.stat().st_size > 3 << 30


def test_external_data_past_two_gib_loads(tmp_path):
    model = holder(raw("t", [1 << 28], "FLOAT", b""))
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "data"), ("offset", str(5 << 30)), ("length", str(1 << 30))):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with (tmp_path / "data").open("wb") as data:
        data.seek((6 << 30) - 4)
        data.write(struct.pack("<f", 7))
    assert initializers(file.load(tmp_path / "m.onnx"))["t"].numpy()[-1] == 7
