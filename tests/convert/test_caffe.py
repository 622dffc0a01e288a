"""Caffe networks become ONNX that computes what OpenCV recorded and what Caffe's definitions say."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import onnx_ir as ir
import pytest
from caffe_cases import DATA, NETWORKS, Net, caffemodel, layers, seeded, write
from network_checks import agrees, close, computed, refusal, survives

from sardonyx.convert import caffe
from sardonyx.convert.base import Options, Source
from sardonyx.convert.caffe.opencv import oracle
from sardonyx.errors import ConversionError, ModelFileError

LAYERS = layers()
RECORDED = np.load(DATA / "recorded.npz")


def read(path, **options):
    source = Source(path)
    assert caffe.recognises(source)
    return caffe.read(source, Options(**options))


def recorded(name):
    return {key.partition("/")[2]: RECORDED[key] for key in RECORDED.files if key.startswith(f"{name}/")}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer(tmp_path, name):
    net = LAYERS[name]
    outputs = agrees(read(write(tmp_path, net)), net.values())
    close(outputs, recorded(name), 1e-6)


def test_most_layers_are_recorded():
    assert len({key.partition("/")[0] for key in RECORDED.files}) > 60


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_what_opencv_recorded(tmp_path, name):
    net = NETWORKS[name]()
    converted = read(write(tmp_path, net))
    outputs = computed(converted.model, net.values())
    assert recorded(name)
    close(outputs, recorded(name))
    close(outputs, {key: converted.oracles[1]().run(net.values())[key] for key in outputs})
    shape = converted.model.graph.inputs[0].shape
    assert [str(shape[0]), *list(shape)[1:]] == ["batch", *net.shapes["data"][1:]]


def test_other_batches_than_the_files(tmp_path):
    for name in ("squeezenet", "ssd"):
        net = NETWORKS[name]()
        converted = read(write(tmp_path, net))
        x = seeded(name).normal(0, 1, (3, *net.shapes["data"][1:])).astype(np.float32)
        agrees(converted, {"data": x})


def test_names_are_those_of_caffe(tmp_path):
    model = read(write(tmp_path, NETWORKS["alexnet"]())).model
    nodes = {node.name: node.op_type for node in model.graph}
    assert nodes["conv1"] == "Conv"
    assert nodes["conv1_relu"] == "Relu"
    assert nodes["fc7"] == "Gemm"
    assert [value.name for value in model.graph.inputs] == ["data"]
    assert [value.name for value in model.graph.outputs] == ["prob"]
    assert "conv1/weight" in model.graph.initializers
    converted = read(write(tmp_path, NETWORKS["alexnet"]()))
    assert converted.layers["conv1_relu"] == "conv1_relu"
    made = {value.name for node in converted.model.graph for value in node.outputs}
    assert set(converted.layers) <= made
    values = converted.oracles[1]().run(NETWORKS["alexnet"]().values())
    assert set(converted.layers.values()) <= set(values)


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("old", [False, True])
def test_weights_of_every_version(tmp_path, version, old):
    net = NETWORKS["squeezenet"]()
    outputs = computed(read(write(tmp_path, net, version=version, old=old)).model, net.values())
    close(outputs, recorded("squeezenet"))


def test_half_precision_weights(tmp_path):
    """NVIDIA's field 12: the same as weights rounded to float16."""
    net = NETWORKS["squeezenet"]()
    outputs = agrees(read(write(tmp_path, net, half=True)), net.values())
    assert np.abs(outputs["prob"] - recorded("squeezenet")["prob"]).max() > 0
    close(outputs, recorded("squeezenet"), 1e-2)


OLD = """
name: "old" input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 weight_decay: 0
         convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 0.01 } } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "pool" type: POOLING bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layers { name: "ip" type: INNER_PRODUCT bottom: "pool" top: "ip" inner_product_param { num_output: 5 } }
layers { name: "prob" type: SOFTMAX bottom: "ip" top: "prob" }
"""
OLDEST = """
name: "oldest" input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "pad" }
layers { layer { name: "conv" type: "conv" num_output: 4 kernelsize: 3 blobs_lr: 1. weight_decay: 0. }
  bottom: "pad" top: "conv" }
layers { layer { name: "relu" type: "relu" } bottom: "conv" top: "conv" }
layers { layer { name: "pool" type: "pool" pool: MAX kernelsize: 3 stride: 3 } bottom: "conv" top: "pool" }
layers { layer { name: "ip" type: "innerproduct" num_output: 5 } bottom: "pool" top: "ip" }
layers { layer { name: "prob" type: "softmax" } bottom: "ip" top: "prob" }
"""
WEIGHTS = {
    "conv": [seeded("w").normal(0, 0.3, (4, 3, 3, 3)), seeded("b").normal(0, 1, 4)],
    "ip": [seeded("v").normal(0, 0.2, (5, 36)), seeded("c").normal(0, 1, 5)],
}
DATA_INPUT = {"data": seeded("x").normal(0, 1, (2, 3, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize(("text", "version"), [(OLD, 1), (OLDEST, 0)])
def test_structures_of_earlier_versions(tmp_path, text, version):
    (tmp_path / "a.prototxt").write_text(text)
    (tmp_path / "a.caffemodel").write_bytes(caffemodel(WEIGHTS, version=version, old=True))
    converted = read(tmp_path / "a.caffemodel")
    outputs = agrees(converted, DATA_INPUT)
    assert outputs["prob"].shape == (2, 5)
    assert f"V{version}" in converted.format
    close(outputs, {"prob": _by_hand(DATA_INPUT["data"], padded=version == 0)}, 1e-6)


def _by_hand(x, *, padded):
    """The network in plain loops."""
    x = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]) if padded else x
    size = x.shape[2] - 2
    conv = np.zeros((2, 4, size, size))
    for i, j in np.ndindex(size, size):
        conv[:, :, i, j] = np.tensordot(x[:, :, i : i + 3, j : j + 3], WEIGHTS["conv"][0], ((1, 2, 3), (1, 2, 3)))
    conv = np.maximum(conv + WEIGHTS["conv"][1][:, None, None], 0)
    pool = np.zeros((2, 4, 3, 3))
    for i, j in np.ndindex(3, 3):
        step = 3 if padded else 2
        window = conv[:, :, i * step : i * step + 3, j * step : j * step + 3]
        pool[:, :, i, j] = window.max((2, 3)) if padded else window.mean((2, 3))
    scores = np.exp(pool.reshape(2, -1) @ WEIGHTS["ip"][0].T + WEIGHTS["ip"][1])
    return scores / scores.sum(1, keepdims=True)


TRAINED = """
layer { name: "train" type: "Data" top: "data" top: "label" include { phase: TRAIN } transform_param { crop_size: 4 } }
layer { name: "test" type: "Data" top: "data" top: "label" include { phase: TEST }
        transform_param { crop_size: 8 mean_value: 104 scale: 0.5 } data_param { batch_size: 50 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "noise" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 2 pool: AVE } }
layer { name: "extra" type: "Lambda" bottom: "conv" top: "extra" exclude { phase: TEST } }
layer { name: "special" type: "Nothing" bottom: "conv" top: "special" include { stage: "other" } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def test_networks_for_training_are_taken_as_for_testing(tmp_path):
    (tmp_path / "a.prototxt").write_text(TRAINED)
    (tmp_path / "a.caffemodel").write_bytes(caffemodel(WEIGHTS))
    converted = read(tmp_path / "a.prototxt")
    outputs = agrees(converted, DATA_INPUT)
    assert list(outputs) == ["loss"]
    np.testing.assert_allclose(outputs["loss"].sum(1), 1, rtol=1e-6)
    notes = " ".join(converted.notes)
    assert "'accuracy'" in notes
    assert "probabilities" in notes
    assert "mean_value 104" in notes
    assert "Nothing" in refusal(lambda: read(tmp_path / "a.prototxt", tag="other"), ConversionError)


def test_what_only_a_loss_takes_is_the_output(tmp_path):
    text = TRAINED.partition('layer { name: "accuracy"')[0]
    text += 'layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "label" top: "loss" }'
    (tmp_path / "a.prototxt").write_text(text)
    (tmp_path / "a.caffemodel").write_bytes(caffemodel(WEIGHTS))
    assert list(agrees(read(tmp_path / "a.prototxt"), DATA_INPUT)) == ["ip"]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("shape", [(2, 9), (2, 3, 4), (2, 3, 2, 2)])
def test_the_largest_of_equal_elements_is_the_last(tmp_path, shape, both):
    """ArgMaxLayer sorts pairs of value and index, downwards, and gives as many axes as it gets, or three."""
    net = Net({"data": shape})
    net.add("ArgMax", "out", "data", argmax_param=f"top_k: 4 out_max_val: {str(both).lower()}")
    x = seeded("ties").integers(0, 3, shape).astype(np.float32)
    found = agrees(read(write(tmp_path, net)), {"data": x})["out"]
    best = [sorted(((v, i) for i, v in enumerate(row)), reverse=True)[:4] for row in x.reshape(2, -1).tolist()]
    expected = [[[i for _, i in row], [v for v, _ in row]][: 1 + both] for row in best]
    np.testing.assert_array_equal(found, np.reshape(expected, (2, 1 + both, 4, *[1] * (len(shape) - 3))))


def test_padding_of_one_axis_cuts_windows_of_both(tmp_path):
    """PoolingLayer::Reshape asks for either padding, then drops windows of each axis that start beyond the input."""
    net = Net({"data": (1, 1, 7, 4)})
    net.pool("out", "data", "kernel_h: 1 kernel_w: 3 stride_h: 5 stride_w: 2 pad_h: 0 pad_w: 1")
    x = np.arange(28, dtype=np.float32).reshape(1, 1, 7, 4)
    found = agrees(read(write(tmp_path, net)), {"data": x})["out"]
    np.testing.assert_array_equal(found, [[[[1, 3, 3], [21, 23, 23]]]])


def test_more_blobs_than_a_layer_has_are_refused(tmp_path):
    """Caffe says so too (Net::CopyTrainedLayersFrom): the structure is that of another network."""
    net = Net({"data": (1, 3, 4, 4)})
    net.conv("conv", "data", 2, 1, rest="bias_term: false")
    assert "holds 2 blobs for it, expected 1" in refusal(lambda: read(write(tmp_path, net)), ConversionError)


def test_the_other_file_is_found_by_what_it_holds(tmp_path):
    for name in ("squeezenet", "alexnet"):
        write(tmp_path, NETWORKS[name](), name)
    (tmp_path / "squeezenet.prototxt").rename(tmp_path / "structure_of_s.prototxt")
    (tmp_path / "alexnet.prototxt").rename(tmp_path / "structure_of_a.txt")
    (tmp_path / "notes.txt").write_text("layer cake")
    converted = read(tmp_path / "squeezenet.caffemodel")
    close(computed(converted.model, NETWORKS["squeezenet"]().values()), recorded("squeezenet"))
    converted = read(tmp_path / "structure_of_a.txt")
    close(computed(converted.model, NETWORKS["alexnet"]().values()), recorded("alexnet"))
    (tmp_path / "copy.prototxt").write_text((tmp_path / "structure_of_s.prototxt").read_text())
    assert "several fit" in refusal(lambda: read(tmp_path / "squeezenet.caffemodel"), ConversionError)
    chosen = read(tmp_path / "squeezenet.caffemodel", structure=tmp_path / "copy.prototxt")
    assert chosen.model.graph.outputs[0].name == "prob"
    (tmp_path / "alone").mkdir()
    path = write(tmp_path / "alone", NETWORKS["squeezenet"]())
    path.with_suffix(".caffemodel").unlink()
    assert "the other is not there" in refusal(lambda: read(path), ConversionError)


def test_other_outputs_and_shapes(tmp_path):
    path = write(tmp_path, NETWORKS["squeezenet"]())
    converted = read(path, outputs=("pool1", "prob"), shapes={"data": (1, 3, 80, 96)}, batch="N")
    x = seeded("x").normal(0, 1, (1, 3, 80, 96)).astype(np.float32)
    assert list(agrees(converted, {"data": x})) == ["pool1", "prob"]
    assert converted.model.graph.inputs[0].shape[0] == 1
    assert str(read(path, batch="N").model.graph.inputs[0].shape[0]) == "N"
    assert "'nothing'" in refusal(lambda: read(path, outputs=("nothing",))) or "nothing" in refusal(
        lambda: read(path, outputs=("nothing",))
    )
    assert "only the batch" in refusal(lambda: read(path, shapes={"data": (None, 3, None, None)}))


REFUSED = [
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 rounding: true }", "convolution_param.rounding"),
    (
        "Convolution",
        "convolution_param { num_output: 4 kernel_size: 3 } ristretto_param { bits: 8 }",
        "ristretto_param",
    ),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 2 }", "has shape [4, 3, 3, 3]"),
    ("Convolution", "convolution_param { num_output: 4 }", "kernel_size"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 group: 2 }", "groups"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 30 }", "expected"),
    ("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }", "stochastic"),
    ("Pooling", "pooling_param { kernel_size: 2 pad: 2 }", "padding"),
    ("Pooling", "pooling_param { kernel_size: 1 stride: 5 }", "outside"),
    ("BatchNorm", "batch_norm_param { use_global_stats: false }", "of the batch"),
    ("ReLU", "relu_param { slopes: 3 }", "relu_param.slopes"),
    ("Python", "python_param { module: 'os' layer: 'system' }", "not supported"),
    ("Exp", "exp_param { base: 0 }", "base"),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 7 } }", "cannot be reshaped"),
    ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", "does not fit"),
    ("Slice", "slice_param { slice_point: 5 }", "cannot be cut"),
    ("Softmax", "softmax_param { axis: 7 }", "out of range"),
    ("LRN", "lrn_param { local_size: 4 }", "odd"),
    ("Power", "power_param { power: nan }", "power"),
    ("Interp", "interp_param { height: 99999999 width: 2 }", "output would be"),
    ("Tile", "tile_param { tiles: 2147483647 }", "output would have"),
]


@pytest.mark.parametrize(("kind", "options", "reason"), REFUSED)
def test_what_is_not_understood_is_refused(tmp_path, kind, options, reason):
    net = Net({"data": (2, 3, 7, 7)})
    net.text = f'layer {{ name: "odd" type: "{kind}" bottom: "data" top: "odd" {options} }}'
    net.blobs = {"odd": [np.ones((4, 3, 3, 3)), np.ones(4)]}
    text = refusal(lambda: read(write(tmp_path, net)), ConversionError)
    assert f"'odd' ({kind})" in text
    assert reason in text


def test_every_layer_that_cannot_be_converted_is_listed(tmp_path):
    net = Net({"data": (2, 3, 7, 7)})
    net.add("Im2col", "one", "data")
    net.add("Convolution", "two", "data", convolution_param="num_output: 2 kernel_size: 3")
    net.add("ReLU", "three", "two")
    net.add("ReLU", "four", "nowhere")
    text = refusal(lambda: read(write(tmp_path, net)), ConversionError)
    assert "3 layers" in text
    assert "'one' (Im2col)" in text
    assert "'two' (Convolution): the caffemodel holds 0 blobs" in text
    assert "'four' (ReLU): its input 'nowhere'" in text
    assert "'three'" not in text


def test_priors_without_clip_are_refused_where_it_matters(tmp_path):
    net = Net({"data": (1, 4, 3, 3), "image": (1, 3, 30, 30)})
    net.add("PriorBox", "out", ["data", "image"], prior_box_param="min_size: 20")
    assert "clip" in refusal(lambda: read(write(tmp_path, net)), ConversionError)


HOSTILE = {
    "boxes": 'layer { name: "p%d" type: "PriorBox" bottom: "data" bottom: "data" top: "p%d" '
    "prior_box_param { min_size: 4 clip: true } }",
    "growth": 'layer { name: "u%d" type: "Upsample" bottom: "data" top: "data" upsample_param { scale: 64 } }',
    "cycle": 'layer { name: "a%d" type: "ReLU" bottom: "x%d" top: "x%d" }',
    "negative": 'layer { name: "c%d" type: "Convolution" bottom: "data" top: "c%d" '
    "convolution_param { num_output: -5 kernel_size: 2147483647 pad: -3 } }",
    "tiles": 'layer { name: "t%d" type: "Tile" bottom: "data" top: "data" tile_param { tiles: 2000000000 } }',
    "long": 'layer { name: "c%d" type: "Concat" top: "c%d" ' + 'bottom: "data" ' * 30 + "}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_texts_that_ask_for_much_are_refused_in_time(tmp_path, kind):
    """Short texts that describe gigantic networks; time and memory are those of the text."""
    net = Net({"data": (1, 3, 600, 600)})
    line = HOSTILE[kind]
    net.text = "\n".join(line.replace("%d", str(i)) for i in range(1000))
    net.blobs = {"none": [np.ones(1)]}
    tracemalloc.start()
    start = time.monotonic()
    path = write(tmp_path, net)
    try:
        if kind == "long":
            assert len(read(path).model.graph) >= 1000
        else:
            refusal(lambda: read(path), ConversionError)
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("text", [
    "layer { name: 'a' ", "layer { name: }", "layer { type: 'x' } }", "layer { a: [1, 2 ", "layer " * 2 + "{",
    "layer { a { " * 50, "layer { name: 'a\n' }", "layer { name: 'a' } ?",
])  # fmt: skip
def test_damaged_text(tmp_path, text):
    path = write(tmp_path, NETWORKS["squeezenet"]())
    path.write_text(text)
    refusal(lambda: caffe.read(Source(path), Options()), ModelFileError)


def test_damaged_weights(tmp_path):
    path = write(tmp_path, NETWORKS["squeezenet"]())
    weights = path.with_suffix(".caffemodel")
    data = weights.read_bytes()
    weights.write_bytes(data[:-20])
    refusal(lambda: read(path), ModelFileError)
    lying = caffemodel({"conv1": [np.ones((2, 3))]})
    weights.write_bytes(lying.replace(b"\x0a\x02\x02\x03", b"\x0a\x02\x7f\x7f"))
    assert "as many as the shape" in refusal(lambda: read(path), ModelFileError)


def test_mutations(tmp_path):
    net = Net({"data": (1, 3, 16, 16)})
    net.pool("p", net.relu(net.norm(net.conv("c", "data", 4, 3))), "pool: AVE kernel_size: 3 stride: 2 pad: 1")
    net.dense("d", net.add("Reshape", "r", "p", reshape_param="shape { dim: 0 dim: -1 }"), 256, 3)
    path = write(tmp_path, net)
    weights = path.with_suffix(".caffemodel")
    text, data = path.read_bytes(), weights.read_bytes()
    survives(path, text, 250, lambda: caffe.read(Source(path), Options(structure=weights)))
    path.write_bytes(text)
    survives(weights, data[:300] + data[-3200:], 150, lambda: caffe.read(Source(weights), Options(structure=path)))


def test_what_is_not_caffe_is_not_recognised(tmp_path):
    model = ir.to_proto(read(write(tmp_path, NETWORKS["squeezenet"]())).model)
    for i, data in enumerate(
        (model.SerializeToString(), b"some text", b"\x89HDF\r\n\x1a\n", b"\x0a\x05hello" * 9, b"PK\x03\x04")
    ):
        (tmp_path / f"{i}").write_bytes(data)
        assert not caffe.recognises(Source(tmp_path / f"{i}"))
    assert not caffe.recognises(Source(tmp_path))
    assert not caffe.recognises(Source(object=net_object()))


def net_object():
    return Net({})


def test_opencv_is_asked_where_it_agrees(tmp_path):
    cv2 = pytest.importorskip("cv2")
    net = NETWORKS["squeezenet"]()
    converted = read(write(tmp_path, net))
    found = converted.oracles[0]()
    if int(cv2.__version__.split(".")[0]) >= 5:
        assert found is None
        return
    assert "OpenCV" in found.name
    close(found.run(net.values()), recorded("squeezenet"))


def test_opencv_is_not_asked_where_it_computes_something_else(tmp_path, monkeypatch):
    monkeypatch.setattr("sardonyx.convert.caffe.opencv.opencv", lambda *given: given)
    from sardonyx.convert.caffe.files import open_network

    for name, asked in (
        ("lrn", False),
        ("conv", True),
        ("conv_3d", False),
        ("inner_transposed", False),
        ("swish", False),
    ):
        network = open_network(Source(write(tmp_path, LAYERS[name])), Options())
        assert (oracle(network, {"out": "out"}, 9) is not None) == asked
