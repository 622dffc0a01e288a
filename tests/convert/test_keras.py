"""Keras models become ONNX that computes what real Keras recorded."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import h5py
import numpy as np
import onnx
import pytest
from keras_cases import (
    DATA,
    NAMES,
    assert_close,
    convert,
    image,
    layer,
    network,
    proto,
    recorded,
    run,
    write,
)

from sardonyx.convert import api
from sardonyx.convert.graph import released_versions


@pytest.fixture(scope="module")
def models():
    return {name: convert(DATA / f"{name}.h5") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_computes_what_keras_computed(models, name):
    inputs, outputs = recorded(name)
    assert_close(run(models[name], inputs), outputs)


@pytest.mark.parametrize("name", NAMES)
def test_node_names_are_unique_and_the_newest_opset_is_used(models, name):
    model = proto(models[name])
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert all(names)
    ir_version, opset = released_versions()
    assert (model.ir_version, model.opset_import[0].version) == (ir_version, opset)
    assert opset == max(version for _, _, version, *_ in onnx.helper.VERSION_TABLE)


def test_a_sound_file_passes_the_probe(probed):
    inputs, outputs = recorded("edges")
    assert_close(run(convert(DATA / "edges.h5"), inputs), outputs)


def test_names_are_those_of_keras(models):
    model = proto(models["sequential"])
    nodes = {node.name: node.op_type for node in model.graph.node}
    assert nodes["conv2d"] == "Conv"
    assert nodes["conv2d/relu"] == "Relu"
    assert nodes["batch_normalization"] == "BatchNormalization"
    assert nodes["dense"] == "Gemm"
    initializers = {tensor.name for tensor in model.graph.initializer}
    assert {"conv2d/kernel:0", "conv2d/bias:0", "batch_normalization/gamma:0", "dense/kernel:0"} <= initializers
    assert [value.name for value in model.graph.input] == ["conv2d_input"]
    assert [value.name for value in model.graph.output] == ["dense"]


def test_inputs_and_outputs_keep_layout_and_symbolic_batch(models):
    model = proto(models["conv2d"])
    dims = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 11, 14, 4]
    assert {value.name for value in model.graph.output} >= {"valid", "odd_same", "depthwise"}
    dims = [dim.dim_param or dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 9, 12, 3]


def test_fixed_batch_stays(models):
    shape = proto(models["edges"]).graph.input[0].type.tensor_type.shape
    assert shape.dim[0].dim_value == 2


def test_shared_output_names_are_numbered(models):
    names = [value.name for value in proto(models["nested"]).graph.output]
    assert names[:2] == ["shared", "shared_1"]
    # An output that is an input cannot have its name.
    assert [value.name for value in proto(models["edges"]).graph.output] == ["rest", "conv", "x_1", "flat"]


@pytest.mark.parametrize(
    ("name", "transposes"),
    [
        ("sequential", 2),  # the input, and before Flatten
        ("squeeze_excite", 1),  # the input alone: pooled and reshaped rows need none
        ("channels_first", 1),  # Flatten, which Keras does channels-last
        ("activations", 0),
    ],
)
def test_few_transposes(models, name, transposes):
    assert Counter(node.op_type for node in proto(models[name]).graph.node)["Transpose"] == transposes


def test_inputs_as_nchw():
    model = api.convert(DATA / "squeeze_excite.h5", inputs_as_nchw=True, verify=False).model
    inputs, outputs = recorded("squeeze_excite")
    moved = {name: np.ascontiguousarray(array.transpose(0, 3, 1, 2)) for name, array in inputs.items()}
    assert_close(run(model, moved), outputs)
    assert "Transpose" not in {node.op_type for node in proto(model).graph.node}
    assert [dim.dim_value for dim in proto(model).graph.input[0].type.tensor_type.shape.dim][1:] == [3, 12, 12]


def test_inputs_as_nchw_leaves_channels_first_models_alone():
    inputs, outputs = recorded("channels_first")
    model = api.convert(DATA / "channels_first.h5", inputs_as_nchw=True, verify=False).model
    assert_close(run(model, inputs), outputs)


def test_shared_weights_are_stored_once(models):
    names = [tensor.name for tensor in proto(models["nested"]).graph.initializer]
    assert sum(name.endswith("shared/kernel:0") for name in names) == 1
    assert sum("last/kernel" in name for name in names) == 1


def test_weights_of_nested_models_by_order_where_names_do_not_tell(tmp_path):
    """Old files: all weights of a model under its name, trainable first; names that say nothing of the layers."""
    source, path = DATA / "nested.h5", tmp_path / "nested.h5"
    shutil.copy(source, path)
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]["inner"]
        names = list(map(str, group.attrs["weight_names"]))
        assert len(names) == 10
        arrays = [group[name][()] for name in names]
        for name in names:
            del group[name]
        plain = [f"w/{i}/{name.rpartition('/')[2]}" for i, name in enumerate(names)]
        group.attrs["weight_names"] = [name.encode() for name in plain]
        for name, array in zip(plain, arrays, strict=True):
            group[name] = array
    inputs, outputs = recorded("nested")
    assert_close(run(convert(path), inputs), outputs)


def test_sequential_as_a_bare_list_of_layers(tmp_path):
    """As Keras wrote it before 2.2.3: no InputLayer, the shape at the first layer."""
    path = tmp_path / "sequential.h5"
    shutil.copy(DATA / "sequential.h5", path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layers = config["config"]["layers"]
        assert layers[0]["class_name"] == "InputLayer"
        layers[1]["config"]["batch_input_shape"] = layers[0]["config"]["batch_input_shape"]
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers[1:]})
        file.attrs["keras_version"] = "2.0.8"
    inputs, outputs = recorded("sequential")
    assert_close(run(convert(path), inputs), outputs)


def test_models_as_layers_counted_from_zero(tmp_path):
    """Whether the calls of a model used as a layer start at 0 or 1 depends on the version."""
    path = tmp_path / "nested.h5"
    shutil.copy(DATA / "nested.h5", path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        models = {item["name"] for item in config["config"]["layers"] if "layers" in item["config"]}
        assert models == {"inner", "block", "head"}
        refs = [ref for item in config["config"]["layers"] for node in item["inbound_nodes"] for ref in node]
        shifted = [ref for ref in refs + config["config"]["output_layers"] if ref[0] in models and ref[1] > 0]
        assert shifted
        for name in {ref[0] for ref in shifted}:
            same = [ref for ref in shifted if ref[0] == name]
            lowest = min(ref[1] for ref in same)
            for ref in same:
                ref[1] -= lowest
        file.attrs["model_config"] = json.dumps(config)
    inputs, outputs = recorded("nested")
    assert_close(run(convert(path), inputs), outputs)


def test_weight_names_split_over_attributes(tmp_path):
    """Keras splits long lists of names: weight_names0, weight_names1."""
    kernel, bias = np.eye(3, dtype=np.float32) * 2, np.ones(3, np.float32)
    path = write(
        tmp_path / "split.h5",
        network(image(3), layer("Dense", "d", ["x"], units=3, activation="linear")),
        {"d": {"d/kernel:0": kernel, "d/bias:0": bias}},
    )
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]["d"]
        del group.attrs["weight_names"]
        group.attrs["weight_names0"], group.attrs["weight_names1"] = [b"d/kernel:0"], [b"d/bias:0"]
    x = np.float32([[1, 2, 3]])
    assert_close(run(convert(path), {"x": x}), [x * 2 + 1])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_other_types_become_float32(tmp_path, dtype):
    kernel = (np.arange(6).reshape(3, 2) / 4).astype(dtype)
    config = network(image(3), layer("Dense", "d", ["x"], units=2, use_bias=False))
    path = write(tmp_path / "m.h5", config, {"d": {"d/kernel:0": kernel}})
    x = np.float32([[1, 2, 4]])
    assert_close(run(convert(path), {"x": x}), [(x @ kernel).astype(np.float32)])


def test_compressed_weights(tmp_path):
    kernel = np.ones((50, 2), np.float32)
    config = network(image(50), layer("Dense", "d", ["x"], units=2, use_bias=False))
    path = write(tmp_path / "m.h5", config, {"d": {}})
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]["d"]
        group.attrs["weight_names"] = [b"d/kernel:0"]
        group.create_dataset("d/kernel:0", data=kernel, compression="gzip")
    assert_close(run(convert(path), {"x": np.ones((1, 50), np.float32)}), [np.full((1, 2), 50, np.float32)])


@pytest.mark.network
def test_emotion_model_answers_as_keras_did():
    pytest.importorskip("PIL")
    from sardonyx.zoo import emotion
    from sardonyx.zoo.fetch import fetch

    model = convert(fetch("emotion"))
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 1)).astype(np.float32)
    with np.load(DATA / "emotion.npz") as answers:
        assert_close(run(model, {"input_1": noise}), [answers["noise"]])
        (probabilities,) = run(model, {"input_1": emotion.face()})
        # Versions of Pillow may differ in the last bit of a pixel.
        np.testing.assert_allclose(probabilities, answers["face"], atol=1e-3)
    assert emotion.CLASSES[int(probabilities.argmax())] == "happy"
    assert probabilities.max() >= 0.95
    operators = Counter(node.op_type for node in proto(model).graph.node)
    assert operators["Transpose"] == 1
    assert emotion.picture().shape == (140, 140, 3)
