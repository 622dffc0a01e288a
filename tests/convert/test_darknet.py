"""Darknet networks become ONNX that computes what OpenCV recorded and what Darknet's sources say."""

from __future__ import annotations

import numpy as np
import pytest
from darknet_cases import ANCHORS, DATA, NETWORKS, conv, layer, net, values, weights, write
from network_checks import agrees, close, computed, refusal, survives

from sardonyx.convert import darknet
from sardonyx.convert.base import Options, Source
from sardonyx.errors import ConversionError, ModelFileError

RECORDED = np.load(DATA / "recorded.npz")


def read(path, **options):
    source = Source(path)
    assert darknet.recognises(source)
    return darknet.read(source, Options(**options))


def recorded(name):
    return {key.partition("/")[2]: RECORDED[key] for key in RECORDED.files if key.startswith(f"{name}/")}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(tmp_path, name):
    text = NETWORKS[name]
    converted = read(write(tmp_path, text))
    outputs = agrees(converted, values(text))
    stored = recorded(name)
    for key, array in stored.items():
        if key.startswith("region"):  # OpenCV sets scores of boxes that overlap better ones to zero.
            array[..., 5:] = np.where(array[..., 5:] == 0, outputs[key][..., 5:], array[..., 5:])
            assert (array[..., 5:] == recorded(name)[key][..., 5:]).mean() > 0.3
    close(outputs, stored)
    assert set(converted.layers) <= {value.name for node in converted.model.graph for value in node.outputs}
    agrees(converted, values(text, 3))


def test_detectors_are_recorded():
    assert {key.partition("/")[0] for key in RECORDED.files} >= {
        "tiny_yolo2",
        "yolo2",
        "yolo3",
        "yolo4",
        "yolo4_scaled",
    }


def test_boxes_by_hand(tmp_path):
    """One cell of one anchor, from the numbers of the convolution before."""
    text = net(conv(8, 1, 1, "linear", 0), layer("yolo", mask="1", anchors="4,5, 8,6", classes=3, num=2))
    x = values(text, 1)
    path = write(tmp_path, text)
    raw = computed(read(path, outputs=("convolutional_0",)).model, x)["convolutional_0"][0, :, 5, 9]
    row = computed(read(path).model, x)["yolo_1"][0, 5 * 16 + 9]
    sigmoid = 1 / (1 + np.exp(-raw.astype(float)))
    box = [(sigmoid[0] + 9) / 16, (sigmoid[1] + 5) / 12, np.exp(raw[2]) * 8 / 16, np.exp(raw[3]) * 6 / 12]
    np.testing.assert_allclose(row, [*box, sigmoid[4], *(sigmoid[5:] * sigmoid[4])], rtol=1e-5)


def test_the_epsilon_is_added_after_the_root(tmp_path):
    """With a variance as small as it, that is another number."""
    text = net(conv(1, 1, 1, "linear"), width=1, height=1, channels=1)
    path = write(tmp_path, text)
    header = weights(text)[:20]
    path.with_suffix(".weights").write_bytes(header + np.array([0, 1, 0, 1e-12, 1], "<f4").tobytes())
    assert computed(read(path).model, {"data": np.ones((1, 1, 1, 1), np.float32)})["convolutional_0"] == pytest.approx(
        5e5
    )


@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0), (0, 2, 5), (1, 0, 0)])
def test_headers(tmp_path, version):
    text = NETWORKS["yolo3"]
    path = write(tmp_path, text, version=version)
    close(computed(read(path.with_suffix(".weights")).model, values(text)), recorded("yolo3"))


def test_transposed_matrices(tmp_path):
    text = net(layer("connected", output=4, activation="linear"), width=2, height=1)
    path = write(tmp_path, text)
    floats = np.arange(4 + 24, dtype="<f4")
    header = np.array([0, 1001, 0, 7], "<i4").tobytes()
    path.with_suffix(".weights").write_bytes(header + floats.tobytes())
    x = values(text)
    outputs = agrees(darknet.read(Source(path), Options(structure=path.with_suffix(".weights"))), x)
    close(outputs, {"connected_0": x["data"].reshape(2, 6) @ floats[4:].reshape(6, 4) + floats[:4]}, 1e-6)


def test_names_classes_and_shapes(tmp_path):
    path = write(tmp_path, NETWORKS["yolo4"])
    (tmp_path / "coco.names").write_text("cat\ndog\n big bird\n\n")
    (tmp_path / "other.names").write_text("cat\n")
    converted = read(path, batch="N", outputs=("convolutional_0", "yolo_8"))
    assert converted.metadata["classes"] == "cat\ndog\nbig bird"
    graph = converted.model.graph
    assert [value.name for value in graph.outputs] == ["convolutional_0", "yolo_8"]
    assert [str(dim) for dim in graph.inputs[0].shape] == ["N", "3", "12", "16"]
    assert "convolutional_0/weights" in graph.initializers
    made = converted.make_inputs(4, np.random.default_rng(0))["data"]
    assert made.shape == (4, 3, 12, 16)
    assert 0 <= made.min() < made.max() <= 1
    assert "no such outputs" in refusal(lambda: read(path, outputs=("prob",)), ConversionError)
    assert "set others in [net]" in refusal(lambda: read(path, shapes={"data": (1, 3, 32, 32)}), ConversionError)


def test_the_other_file(tmp_path):
    path = write(tmp_path, NETWORKS["pools"] + conv(2, 1), "one")
    other = write(tmp_path, NETWORKS["yolo4"], "two")
    assert read(path).model.graph.outputs[0].name == "convolutional_4"
    path.rename(tmp_path / "first.cfg")
    assert "several fit" in refusal(lambda: read(tmp_path / "first.cfg"), ConversionError)
    chosen = read(tmp_path / "first.cfg", structure=tmp_path / "one.weights")
    assert chosen.model.graph.outputs[0].name == "convolutional_4"
    wrong = refusal(lambda: read(other, structure=tmp_path / "one.weights"), ConversionError)
    assert "more floats" in wrong
    other.with_suffix(".weights").write_bytes(weights(NETWORKS["yolo4"], extra=3))
    assert "do not fit" in refusal(lambda: read(other), ConversionError)


REFUSED = [
    (layer("lstm", output=3), "lstm_0: layers of this kind"),
    (conv(4, activation="fancy"), "'fancy'"),
    (conv(4, deform=1), "deform"),
    (conv(4, new_option=1), "new_option"),
    (conv(4, groups=2), "groups"),
    (conv(4, xnor=1), "xnor"),
    (layer("maxpool", size=2, stride=2, maxpool_depth=1), "maxpool_depth"),
    (layer("maxpool", size=2, stride=2, padding=8), "hold nothing"),
    (layer("route", layers="-1"), "no layer -1"),
    (layer("reorg", stride=2), "cannot be cut"),
    (layer("softmax", tree="x.tree"), "tree"),
    (layer("softmax", groups=5), "groups"),
    (layer("yolo", mask="0", anchors=ANCHORS, classes=3, num=6), "channels"),
    (layer("upsample", stride=1024) + layer("yolo", mask="0", anchors=ANCHORS, classes=3, num=6), "cells"),
    (layer("upsample", stride=2**20), "output would have"),
    (layer("yolo", mask="9", anchors=ANCHORS, classes=3, num=6), "mask"),
    (layer("region", anchors="1,x", classes=3, num=1), "anchors"),
    (layer("upsample", stride=-2), "stride"),
    (conv(10**9), "filters"),
    (conv("many"), "filters"),
    (layer("crop", crop_width=99, crop_height=99), "cuts"),
    (conv(4) + conv(4, stride=2) + layer("shortcut", from_=-2, activation="linear"), "shortcut_2"),
    (conv(4) + conv(4) + layer("shortcut", from_=-2, weights_type="per_channel", activation="linear"), "weights_type"),
]


@pytest.mark.parametrize(("layers", "reason"), REFUSED)
def test_what_is_not_understood_is_refused(tmp_path, layers, reason):
    path = tmp_path / "net.cfg"
    path.write_text(net(layers))
    (tmp_path / "net.weights").write_bytes(np.zeros(5000, "<f4").tobytes())
    assert reason in refusal(lambda: read(path), ConversionError)


def test_every_layer_that_cannot_be_converted_is_listed(tmp_path):
    path = write(tmp_path, NETWORKS["pools"])
    path.write_text(net(layer("maxpool", size=2, antialiasing=1), layer("gru", output=2), layer("crnn")))
    text = refusal(lambda: read(path), ConversionError)
    assert all(part in text for part in ("maxpool_0: antialiasing", "gru_1", "crnn_2", "3 layers"))


@pytest.mark.parametrize("text", ["[net]\nwidth=4", "[net]\nwidth\n[avgpool]", "[net]\n=3\n[avgpool]"])
def test_damaged_text(tmp_path, text):
    path = write(tmp_path, NETWORKS["pools"])
    path.write_text(text)
    refusal(lambda: read(path), ModelFileError)


def test_damaged_weights(tmp_path):
    path = write(tmp_path, NETWORKS["yolo4"])
    binary = path.with_suffix(".weights")
    data = binary.read_bytes()
    binary.write_bytes(data[:-2])
    refusal(lambda: read(path), ModelFileError)
    binary.write_bytes(data[:-8])
    assert "more floats" in refusal(lambda: read(path), ConversionError)
    binary.write_bytes(data[:17])
    refusal(lambda: read(path), ModelFileError)


def test_mutations(tmp_path):
    path = write(tmp_path, NETWORKS["yolo4"])
    binary = path.with_suffix(".weights")
    text, data = path.read_bytes(), binary.read_bytes()
    survives(path, text, 300, lambda: darknet.read(Source(path), Options(structure=binary)))
    path.write_bytes(text)
    survives(binary, data[:20], 40, lambda: darknet.read(Source(binary), Options(structure=path)))


def test_what_is_not_darknet_is_not_recognised(tmp_path):
    write(tmp_path, NETWORKS["pools"])
    for data in (b"[section]\nnet=1", b"\x08\x07\x12\x07pytorch" * 4, b"net", b"\x89HDF\r\n\x1a\n" + bytes(40)):
        (tmp_path / "x").write_bytes(data)
        assert not darknet.recognises(Source(tmp_path / "x"))
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "x").write_bytes(weights(NETWORKS["yolo4"]))
    assert not darknet.recognises(Source(tmp_path / "alone" / "x"))


def test_opencv_is_asked_where_it_agrees(tmp_path, monkeypatch):
    monkeypatch.setattr("sardonyx.convert.darknet.opencv.opencv", lambda *given: given)
    for name, asked in (("yolo3", True), ("yolo2", False), ("conv_parts", False), ("alexnet", False), ("pools", True)):
        assert (read(write(tmp_path, NETWORKS[name])).oracles[0]() is not None) == asked
    monkeypatch.undo()
    cv2 = pytest.importorskip("cv2")
    found = read(write(tmp_path, NETWORKS["yolo3"])).oracles[0]()
    if int(cv2.__version__.split(".")[0]) >= 5:
        assert found is None
        return
    close(found.run(values(NETWORKS["yolo3"])), recorded("yolo3"))
