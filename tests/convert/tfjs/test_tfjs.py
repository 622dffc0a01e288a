"""TensorFlow.js models become ONNX that computes what TensorFlow recorded with their weights."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import sardonyx
from sardonyx.convert.api import convert
from sardonyx.convert.base import Options, Source
from sardonyx.convert.formats import find
from sardonyx.convert.tfjs import read
from sardonyx.convert.tfjs.manifest import weights
from sardonyx.errors import ConversionError, ModelFileError, SardonyxError
from sardonyx.model.opset import convert_opset

DATA = Path(__file__).parent.parent / "data" / "tfjs"
NAMES = sorted(path.name for path in DATA.iterdir() if path.is_dir())


@cache
def converted(name):
    return read(Source(DATA / name), Options())


def recorded(name, side):
    with np.load(DATA / "recorded.npz") as stored:
        return [
            stored[f"{name}/{side}/{i}"] for i in range(len([k for k in stored if k.startswith(f"{name}/{side}/")]))
        ]


def feeds(name):
    inputs = [value.name for value in converted(name).model.graph.inputs]
    return dict(zip(inputs, recorded(name, "in"), strict=True))


def assert_close(actual, expected):
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", NAMES)
def test_computes_what_tensorflow_computed(name):
    proto = ir.to_proto(converted(name).model)
    onnx.checker.check_model(proto, full_check=True)
    session = sardonyx.InferenceSession(proto.SerializeToString())
    assert {place.provider for place in session.explain()} == {"cpu"}
    assert_close(session.run(None, feeds(name)), recorded(name, "out"))


@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_and_the_evaluation_agree(name):
    made = read(Source(DATA / name), Options())
    names = [value.name for value in made.model.graph.outputs]
    values = made.oracles[-1]().run(feeds(name))
    assert_close([np.float32(values[key]) for key in names], recorded(name, "out"))
    convert_opset(made.model, 22)
    session = onnxruntime.InferenceSession(
        ir.to_proto(made.model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert_close(session.run(None, feeds(name)), recorded(name, "out"))


def test_names_and_metadata_are_kept():
    made = converted("graph")
    assert [value.name for value in made.model.graph.inputs] == ["image"]
    assert [value.name for value in made.model.graph.outputs] == ["Identity_1", "Identity"]
    assert json.loads(made.metadata["tfjs_user_metadata"]) == {"labels": ["a", "b", "c", "d", "e"]}
    assert made.format == "TensorFlow.js 4.22.0 graph model"
    made = converted("layers")
    assert [value.name for value in made.model.graph.outputs] == ["kinds", "place"]
    assert made.format.startswith("TensorFlow.js layers model")


def test_is_recognised_by_content(tmp_path):
    assert find(Source(DATA / "graph")).name == "tfjs"
    copy = shutil.copytree(DATA / "layers", tmp_path / "copy")
    (copy / "model.json").rename(copy / "network.txt")
    assert find(Source(copy / "network.txt")).name == "tfjs"
    (tmp_path / "other.json").write_text('{"unrelated": {}}')
    with pytest.raises(ConversionError):
        find(Source(tmp_path / "other.json"))


@pytest.mark.parametrize("name", ["graph", "layers_uint8"])
def test_the_door_verifies(name):
    report = convert(DATA / name / "model.json").report
    assert report.verdict == "verified"


# Weights


def manifest(folder, data, *entries, paths=("w.bin",)):
    (folder / "w.bin").write_bytes(data)
    return weights([{"paths": list(paths), "weights": list(entries)}], folder, "made")


def entry(kind, *shape, name="w", **quantization):
    return {
        "name": name,
        "shape": list(shape),
        "dtype": kind,
        **({"quantization": quantization} if quantization else {}),
    }


def test_every_type_of_weight(tmp_path):
    parts = [
        (entry("float32", 2, name="a"), np.float32([1.5, -2])), (entry("int32", name="b"), np.int32(7)),
        (entry("bool", 3, name="c"), np.array([True, False, True])),
        (entry("complex64", 1, name="d"), np.complex64([1 + 2j])),
    ]  # fmt: skip
    data = b"".join(array.tobytes() for _, array in parts) + b"\x02\0\0\0hi\0\0\0\0"
    found = manifest(tmp_path, data, *(item for item, _ in parts), entry("string", 2, name="e"))
    for (item, array), value in zip(parts, found.values(), strict=False):
        np.testing.assert_array_equal(value, array)
        assert value.dtype == array.dtype, item
    assert found["e"].tolist() == [b"hi", b""]


def test_quantised_weights(tmp_path):
    bits = np.uint8([0, 10, 255])
    found = manifest(tmp_path, bits.tobytes(), entry("float32", 3, dtype="uint8", scale=0.1, min=-3.3))["w"]
    np.testing.assert_array_equal(found, np.float32([-3.3, 10 * 0.1 - 3.3, 255 * 0.1 - 3.3]))
    bits = np.uint16([0, 65535])
    found = manifest(tmp_path, bits.tobytes(), entry("int32", 2, dtype="uint16", scale=0.5, min=-7.0))["w"]
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [-7, 32761])  # 32760.5 is rounded up, as by Math.round
    half = np.float16([1.5, -0.1])
    found = manifest(tmp_path, half.tobytes(), entry("float32", 2, dtype="float16"))["w"]
    np.testing.assert_array_equal(found, half.astype(np.float32))


@pytest.mark.parametrize("path", ["/etc/passwd", "../w.bin", "a/../../w.bin", 7, "missing.bin", "nul\0.bin"])
def test_shards_lie_in_the_folder(tmp_path, path):
    (tmp_path / "model").mkdir()
    (tmp_path / "w.bin").write_bytes(b"1234")
    with pytest.raises(ModelFileError, match="shard"):
        manifest(tmp_path / "model", b"1234", entry("float32", 1), paths=(path,))


def test_shards_do_not_lead_out_by_links(tmp_path):
    (tmp_path / "secret").write_bytes(b"1234")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFileError, match="outside"):
        manifest(tmp_path / "model", b"", entry("float32", 1), paths=("link.bin",))


def test_no_shard_is_read_twice(tmp_path):
    with pytest.raises(ModelFileError, match="twice"):
        manifest(tmp_path, b"1234", entry("float32", 2), paths=("w.bin", "./w.bin"))


def test_shards_are_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="no file"):
        manifest(tmp_path, b"", entry("float32", 1), paths=("pipe",))


@pytest.mark.parametrize(
    ("data", "item", "told"),
    [
        (b"123", entry("float32", 1), "ends in the middle"),
        (b"12345678", entry("float32", 1), "more than the manifest"),
        (b"", entry("float32", 2**30, 2**30), "ends in the middle"), (b"", entry("float32", -1), "shape"),
        (b"", entry("float32", 1.5), "shape"), (b"1234", entry("quaternion", 1), "type"),
        (b"1", entry("float32", 1, dtype="uint8", scale=1.0), "min"),
        (b"1", entry("float32", 1, dtype="int4", scale=1.0), "type"),
        (b"", {"name": "w"}, "damaged"), (b"", entry("string", 2**31 - 1), "less than"), (b"", 5, "damaged"),
    ],
)  # fmt: skip
def test_damaged_manifests_are_refused(tmp_path, data, item, told):
    with pytest.raises(SardonyxError, match=told):
        manifest(tmp_path, data, item)


def test_weights_alone_need_their_network(tmp_path):
    model = json.loads((DATA / "layers" / "model.json").read_text())
    copy = shutil.copytree(DATA / "layers", tmp_path / "copy")
    path = copy / "weights_manifest.json"
    path.write_text(json.dumps(model["weightsManifest"]))
    with pytest.raises(ConversionError, match="weights alone"):
        read(Source(path), Options())
    made = read(Source(path), Options(structure=DATA / "layers" / "model.json"))
    session = sardonyx.InferenceSession(ir.to_proto(made.model).SerializeToString())
    assert_close(session.run(None, feeds("layers")), recorded("layers", "out"))


@pytest.mark.parametrize("name", ["graph", "layers", "layers_uint16"])
def test_a_weight_that_is_missing_is_told(tmp_path, name):
    copy = shutil.copytree(DATA / name, tmp_path / "copy")
    model = json.loads((copy / "model.json").read_text())
    group = model["weightsManifest"][0]
    # A weight goes out of its last shard, with its bytes.
    data = b"".join((copy / path).read_bytes() for path in group["paths"])
    last = group["weights"].pop()
    size = {"uint16": 2, "float32": 4, "int32": 4}[last.get("quantization", last)["dtype"]] * int(
        np.prod(last["shape"])
    )
    (copy / "all.bin").write_bytes(data[:-size])
    group["paths"] = ["all.bin"]
    (copy / "model.json").write_text(json.dumps(model))
    with pytest.raises(SardonyxError):
        read(Source(copy), Options())


def test_weights_of_no_layer_are_refused(tmp_path):
    copy = shutil.copytree(DATA / "layers", tmp_path / "copy")
    text = (copy / "model.json").read_text()
    (copy / "model.json").write_text(
        text.replace('"name": "depth/depthwise_kernel"', '"name": "deep/depthwise_kernel"')
    )
    with pytest.raises(ModelFileError, match="belong to no layer"):
        read(Source(copy), Options())


def test_errors_name_the_file_and_not_what_was_made_of_it(tmp_path):
    copy = shutil.copytree(DATA / "layers", tmp_path / "copy")
    text = (copy / "model.json").read_text()
    (copy / "model.json").write_text(text.replace('"class_name": "DepthwiseConv2D"', '"class_name": "Surprise"'))
    with pytest.raises(ConversionError, match="Surprise") as caught:
        read(Source(copy), Options())
    assert caught.value.where == str(copy / "model.json")


@pytest.mark.parametrize("name", ["graph", "layers"])
def test_damaged_files_end_in_an_error_or_a_model(tmp_path, name):
    copy = shutil.copytree(DATA / name, tmp_path / "copy")
    data, rng, refused = (copy / "model.json").read_bytes(), random.Random(name), 0
    for _ in range(50):
        changed = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.1 else data)
        for _ in range(rng.choice((1, 2, 5))):
            at = rng.randrange(len(changed))
            changed[at : at + rng.choice((1, 1, 6))] = rng.choice(
                (b"0", b"9", b"[]", b"{}", b'"', b"null", b"-1", b"x")
            )
        (copy / "model.json").write_bytes(bytes(changed))
        start = time.monotonic()
        try:
            read(Source(copy), Options())
        except SardonyxError:
            refused += 1
        assert time.monotonic() - start < 5
    assert refused > 10


FACES = {
    "tiny_face_detector": ("conv0/filters", (3, 3, 3, 16), 19),
    "face_landmark_68": ("dense0/conv0/filters", (3, 3, 3, 32), 49),
    "face_expression": ("dense0/conv0/filters", (3, 3, 3, 32), 49),
    "age_gender": ("entry_flow/conv_in/filters", (3, 3, 3, 32), 51),
    "ssd_mobilenetv1": ("MobilenetV1/Conv2d_0_pointwise/weights", (3, 3, 3, 32), 151),
    "face_recognition": ("conv32_down/conv/filters", (7, 7, 3, 32), 117),
}
"""By network: a weight and its shape, and how many there are."""


@pytest.mark.network
def test_real_manifests(tmp_path):
    """@vladmandic/face-api: weights of networks that lie in its code, quantised to uint8."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    subprocess.run(
        ["npm", "pack", "--silent", "@vladmandic/face-api@1.7.15"],
        cwd=tmp_path,
        check=True,
        timeout=300,
        capture_output=True,
    )
    shutil.unpack_archive(next(tmp_path.glob("*.tgz")), tmp_path, filter="data")
    for name, (first, shape, count) in FACES.items():
        path = tmp_path / "package" / "model" / f"{name}_model-weights_manifest.json"
        entries = json.loads(path.read_text())
        found = weights(entries, path.parent, str(path))
        assert len(found) == count
        assert found[first].shape == shape
        assert all(np.isfinite(array).all() for array in found.values())
        how = next(item["quantization"] for item in entries[0]["weights"] if item["name"] == first)
        stored = np.round((found[first].astype(np.float64) - how["min"]) / how["scale"])
        assert stored.min() >= 0
        assert stored.max() <= 255
        np.testing.assert_allclose(stored * how["scale"] + how["min"], found[first], rtol=0, atol=1e-6)
        assert find(Source(path)).name == "tfjs"
        with pytest.raises(ConversionError, match="weights alone"):
            read(Source(path), Options())
