"""The networks are those of the papers: their published sizes, and activations in a normal range."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir
import onnxruntime
import pytest
import test_transformers

import sardonyx
from sardonyx.errors import SardonyxError
from sardonyx.model.info import describe
from sardonyx.zoo.architectures import build, names, ssd

PUBLISHED = {  # multiply-adds / 1e9 at the default image size, parameters / 1e6
    "resnet18": (1.81, 11.69),
    "resnet34": (3.66, 21.80),
    "resnet50": (4.09, 25.56),
    "resnet101": (7.80, 44.55),
    "resnet152": (11.51, 60.19),
    "mobilenetv2": (0.30, 3.50),
    "vgg16": (15.47, 138.36),
    "vgg19": (19.63, 143.67),
    "ferplus": (0.88, 8.76),
    "efficientnet-b0": (0.39, 5.29),
    # Its repository says 0.407, which counts more than convolutions; those are B0's but for the gates.
    "efficientnet-lite0": (0.385, 4.65),
    "squeezenet1.1": (0.35, 1.24),
    # torchvision's own figures, in its documentation of the weights.
    "densenet121": (2.83, 7.98),
    "shufflenetv2": (0.145, 2.28),
    "r2plus1d-18": (40.52, 31.51),
    # Table 1 of the paper adds up to 1.50, with 0.034 for the first convolution, which takes 0.118; parameters
    # from the Open Model Zoo's googlenet-v1.
    "inceptionv1": (1.586, 7.00),
    # Half the GFLOPs of the Open Model Zoo: yolo-v2-tiny-ava-0001, ssd_mobilenet_v1_coco (the paper: 1.2 and 6.8)
    # and fast-neural-style-mosaic-onnx.
    "tinyyolov2": (3.497, 15.86),
    "ssd-mobilenet": (1.247, 6.81),
    "fast-style": (7.759, 1.68),
    "c3d": (38.5, 78.4),  # mmaction2's model zoo
    # 31,037,698 parameters is what every PyTorch version prints. Tools that count a ConvTranspose as if all its
    # weights met in each output pixel say 54.6; the four of them take 2.15, not 8.59.
    "unet": (54.61 - 8.59 + 2.15, 31.04),
}
FOLDED = {"tinyyolov2", "ssd-mobilenet"}
"""Whose parameters are published as they are with BatchNormalization folded into the convolutions."""


def is_random(value):
    return isinstance(value.const_value, ir.LazyTensor)


def weightless(model):
    """The model as a protobuf without random weights: they become inputs, so none is ever made."""
    proto = onnx.ModelProto(ir_version=model.ir_version)
    proto.opset_import.append(onnx.helper.make_opsetid("", model.opset_imports[""]))
    graph = proto.graph
    graph.name = model.graph.name
    weights = model.graph.initializers.values()
    values = [*model.graph.inputs, *filter(is_random, weights)]
    graph.input.extend(ir.serde.serialize_value(value) for value in values)
    graph.initializer.extend(ir.serde.serialize_tensor(w.const_value) for w in weights if not is_random(w))
    graph.output.extend(ir.serde.serialize_value(value) for value in model.graph.outputs)
    graph.node.extend(ir.serde.serialize_node(node) for node in model.graph)
    return proto


def inferred_shapes(model):
    graph = onnx.shape_inference.infer_shapes(weightless(model), strict_mode=True, check_type=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def parameters(model):
    """As papers count them: weights and biases, without running statistics."""
    counted = [value for value in model.graph.initializers.values() if value.name.endswith((".weight", ".bias"))]
    return sum(math.prod(value.shape) for value in counted)


def untouched(model):
    return all(value.const_value._tensor is None for value in model.graph.initializers.values() if is_random(value))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_size(name):
    model = build(name)
    macs, count = PUBLISHED[name]
    assert untouched(model)
    info = describe(model)
    assert info.macs / 1e9 == pytest.approx(macs, rel=0.02)
    assert not info.uncounted
    assert parameters(build(name, fold_bn=name in FOLDED)) / 1e6 == pytest.approx(count, rel=0.0005, abs=0.0051)


def test_every_architecture_is_held_to_its_size():
    assert set(names()) == set(PUBLISHED) | set(test_transformers.PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_declared_shapes_are_those_onnx_infers(name):
    model = build(name, width=0.5)
    shapes = inferred_shapes(model)
    for node in model.graph:
        for value in node.outputs:
            if value.shape is not None:
                assert shapes[value.name] == list(value.shape), value.name


def onnxruntime_results(model, *, count=2, outputs=None):
    """All outputs, or those named, for `count` images of random pixels."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    proto = ir.to_proto(model)
    known = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs or () if name not in known)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = outputs or [value.name for value in model.graph.outputs]
    return dict(zip(names, session.run(names, {"input": pixels(model, count)}), strict=True))


def pixels(model, count):
    return np.random.default_rng(0).standard_normal([count, *model.graph.inputs[0].shape[1:]], np.float32)


IMAGES = {"ssd-mobilenet": 128, "c3d": 48, "r2plus1d-18": 48}


def small(name, width, **options):
    classes = {} if name == "fast-style" else {"classes": 10}
    return build(name, image=IMAGES.get(name, 64), width=width, batch="N", **classes, **options)


SMALL = [name for name in PUBLISHED if not name.startswith("vgg") and name not in {"resnet101", "resnet152"}]
LAYERS = {"Conv", "ConvTranspose", "Gemm", "BatchNormalization", "InstanceNormalization", "LRN"}
LAYERS |= {"Relu", "LeakyRelu", "Clip", "Add", "Concat", "MaxPool", "AveragePool", "Resize"}
"""Not gates, probabilities and offsets of boxes, which are small by design and show in the layers behind them."""


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("fold_bn", [False, True])
def test_activations_are_in_a_normal_range(name, fold_bn):
    model = small(name, 0.5, fold_bn=fold_bn)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    produced = {value.name: node.op_type for node in model.graph for value in node.outputs}
    results = onnxruntime_results(model, outputs=list(produced))
    for value, result in results.items():
        assert np.isfinite(result).all(), value
        if produced[value] in LAYERS:
            assert 0.05 < result.std() < 20, value
    for value in model.graph.outputs:
        one, other = results[value.name]
        assert list(one.shape) == list(value.shape[1:])
        if one.dtype == np.float32:
            assert np.abs(one - other).max() > 0.01 * results[value.name].std()  # the input matters
            assert one.ndim < 2 or all(plane.std() > 0 for plane in one)  # no dead channels


CLASSIFIERS = [name for name in SMALL if name not in {"tinyyolov2", "ssd-mobilenet", "fast-style", "unet"}]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes_differ_mildly(name):
    values = logits(small(name, 0.5))
    probabilities = np.exp(values - values.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    assert probabilities.max() < 0.99
    assert values.std(1).min() > 0.05


@pytest.mark.parametrize("name", SMALL)
def test_sardonyx_agrees_with_onnxruntime(name):
    model = small(name, 0.25)
    want = onnxruntime_results(model)
    got = sardonyx.InferenceSession(model).run(None, {"input": pixels(model, 2)})
    for expected, actual in zip(want.values(), got, strict=True):
        assert actual.shape == expected.shape and actual.dtype == expected.dtype
        assert np.linalg.norm(actual - expected) <= 2e-5 * np.linalg.norm(expected)


def logits(model, count=2):
    return onnxruntime_results(model, count=count)["logits"]


@pytest.mark.parametrize("name", ["resnet152", "vgg19"])
def test_deep_networks_neither_saturate_nor_vanish(name):
    model = build(name, image=32, width=0.125, classes=10)
    assert 0.02 < logits(model, 1).std() < 20


def test_full_width_resnet152_grows_slowly():
    """Width changes the statistics little; depth is what could blow up."""
    deep, shallow = (logits(build(n, image=32, width=0.25, classes=100), 1).std() for n in ("resnet152", "resnet50"))
    assert 0.1 < deep / shallow < 10


def test_seed_decides_the_weights():
    one, same, other = (build("squeezenet1.1", seed=seed) for seed in (1, 1, 2))
    for name, value in one.graph.initializers.items():
        array = value.const_value.numpy()
        assert array.dtype == np.float32 and list(array.shape) == list(value.shape)
        np.testing.assert_array_equal(array, same.graph.initializers[name].const_value.numpy())
        assert not np.array_equal(array, other.graph.initializers[name].const_value.numpy())


def test_folded_has_a_bias_for_every_norm():
    kept, folded = build("resnet18"), build("resnet18", fold_bn=True)
    operators = [node.op_type for node in folded.graph]
    assert operators == [node.op_type for node in kept.graph if node.op_type != "BatchNormalization"]
    assert all(len(node.inputs) == 3 for node in folded.graph if node.op_type == "Conv")


def test_options():
    model = build("mobilenetv2", image=96, batch="N", classes=7)
    assert [str(size) for size in model.graph.inputs[0].shape] == ["N", "3", "96", "96"]
    assert [str(size) for size in model.graph.outputs[0].shape] == ["N", "7"]
    assert model.graph.inputs[0].name == "input" and model.graph.outputs[0].name == "logits"


def test_unknown_name():
    with pytest.raises(SardonyxError, match="unknown architecture 'resnet19'; expected one of resnet18, "):
        build("resnet19")


TOO_SMALL = {"vgg16": 16, "squeezenet1.1": 2, "resnet18": 0, "inceptionv1": 8, "c3d": 8, "ssd-mobilenet": 0}
TOO_SMALL |= {"densenet121": 16, "fast-style": 4}


@pytest.mark.parametrize(("name", "image"), TOO_SMALL.items())
def test_images_too_small_are_an_error(name, image):
    with pytest.raises(SardonyxError, match="the image is too small"):
        build(name, image=image)


@pytest.mark.parametrize(("name", "image", "step"), [("unet", 72, 16), ("unet", 0, 16), ("fast-style", 66, 4)])
def test_images_that_do_not_halve_are_an_error(name, image, step):
    with pytest.raises(SardonyxError, match=f"{image} pixels does not halve evenly; expected a multiple of {step}"):
        build(name, image=image)


def test_classes_of_a_network_without():
    with pytest.raises(SardonyxError, match="fast-style has no classes"):
        build("fast-style", classes=10)


# The detector -------------------------------------------------------------------------------------------------


def test_anchors_are_tensorflows():
    """The first values of the anchors published with ssd_mobilenet_v1_coco, and how many there are."""
    maps = [ssd._anchors(level, 6, side, side) for level, side in enumerate((19, 10, 5, 3, 2, 1))]
    assert sum(map(len, maps)) == 1917
    centre = 0.5 / 19
    known = [(0.1, 0.1), (0.1414214, 0.2828427), (0.2828427, 0.1414214)]
    np.testing.assert_allclose(maps[0][:3], [(centre, centre, *size) for size in known], rtol=1e-6)
    np.testing.assert_allclose(maps[0][3], [centre, 1.5 / 19, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(maps[1][5], [0.05, 0.05, 0.4183300, 0.4183300], rtol=1e-6)  # sqrt(0.35 * 0.5)


def suppressed(boxes, scores):
    """(score, class, box) of one image after non-maximum suppression, by the definition, the best first."""

    def overlap(a, b):
        height, width = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
        common = max(height, 0) * max(width, 0)
        areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
        return common / (sum(areas) - common)

    found = []
    for label, row in enumerate(scores):
        kept = []
        for index in sorted(np.flatnonzero(row > ssd.THRESHOLD), key=lambda index, row=row: -row[index]):
            if all(overlap(boxes[index], boxes[other]) <= ssd.OVERLAP for other in kept):
                kept.append(index)
        found += [(row[index], label, boxes[index]) for index in kept[: ssd.DETECTIONS]]
    return sorted(found, key=lambda detection: -detection[0])


@pytest.mark.parametrize("image", [64, 300])
def test_detections_are_what_suppression_leaves(image):
    model = build("ssd-mobilenet", image=image, width=0.5, classes=40, batch="N")
    node = next(node for node in model.graph if node.op_type == "NonMaxSuppression")
    names = [*(value.name for value in node.inputs[:2]), "boxes", "scores", "labels"]
    results = onnxruntime_results(model, outputs=names)
    for boxes, scores, *got in zip(*results.values(), strict=True):
        want = suppressed(boxes.astype(np.float64), scores)
        assert want
        if image == 300:  # some overlap, and more are left than are asked for
            assert ssd.DETECTIONS < len(want) < np.count_nonzero(scores > ssd.THRESHOLD)
        for (score, label, box), *found in zip(want, *got, strict=False):
            np.testing.assert_allclose(found[0], box, rtol=1e-6)
            assert found[1:] == [score, label]
        assert not got[1][len(want) :].any()
