"""The networks are those of the papers: their published sizes, and activations in a normal range."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir
import onnxruntime
import pytest

from sardonyx.errors import SardonyxError
from sardonyx.zoo.architectures import build, names

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
}


def weightless(model):
    """The model as a protobuf without initializers: they become inputs, so no weight is ever made."""
    proto = onnx.ModelProto(ir_version=model.ir_version)
    proto.opset_import.append(onnx.helper.make_opsetid("", model.opset_imports[""]))
    graph = proto.graph
    graph.name = model.graph.name
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    graph.input.extend(ir.serde.serialize_value(value) for value in values)
    graph.output.extend(ir.serde.serialize_value(value) for value in model.graph.outputs)
    graph.node.extend(ir.serde.serialize_node(node) for node in model.graph)
    return proto


def inferred_shapes(model):
    graph = onnx.shape_inference.infer_shapes(weightless(model), strict_mode=True, check_type=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def multiply_adds(model):
    """Of convolutions and Gemm, from shapes that ONNX infers."""
    shapes, total = inferred_shapes(model), 0
    for node in model.graph:
        if node.op_type in {"Conv", "Gemm"}:
            weight, output = shapes[node.inputs[1].name], shapes[node.outputs[0].name]
            total += math.prod(output) * math.prod(weight[1:])
    return total


def parameters(model):
    """As papers count them: without running statistics and the bounds of Clip."""
    counted = {}
    for node in model.graph:
        take = {"Conv": 3, "Gemm": 3, "BatchNormalization": 3}.get(node.op_type, 0)
        counted |= {value.name: math.prod(value.shape) for value in node.inputs[1:take]}
    return sum(counted.values())


def untouched(model):
    return all(value.const_value._tensor is None for value in model.graph.initializers.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_size(name):
    model = build(name)
    macs, count = PUBLISHED[name]
    assert multiply_adds(model) / 1e9 == pytest.approx(macs, rel=0.02)
    assert parameters(model) / 1e6 == pytest.approx(count, abs=0.0051)
    assert untouched(model)


def test_every_architecture_is_held_to_its_size():
    assert set(names()) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_declared_shapes_are_those_onnx_infers(name):
    model = build(name, width=0.5)
    shapes = inferred_shapes(model)
    for node in model.graph:
        for value in node.outputs:
            assert shapes[value.name] == list(value.shape), value.name


def logits(model, count=2, seed=0):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    shape = [count, *value.shape[1:]]
    (result,) = session.run(None, {value.name: np.random.default_rng(seed).standard_normal(shape, np.float32)})
    return result


SMALL = [name for name in PUBLISHED if not name.startswith("vgg") and name not in {"resnet101", "resnet152"}]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("fold_bn", [False, True])
def test_outputs_are_in_a_normal_range(name, fold_bn):
    model = build(name, image=64, batch="N", width=0.5, fold_bn=fold_bn)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    values = logits(model)
    assert values.shape == (2, 8 if name == "ferplus" else 1000)
    assert 0.05 < values.std() < 20
    probabilities = np.exp(values - values.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    assert probabilities.max() < 0.9
    assert np.abs(values[0] - values[1]).max() > 0.01 * values.std()  # the input matters


@pytest.mark.parametrize("name", ["resnet152", "vgg19"])
def test_deep_networks_neither_saturate_nor_vanish(name):
    model = build(name, image=32, width=0.125, classes=10)
    assert 0.02 < logits(model, count=1).std() < 20


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


@pytest.mark.parametrize(("name", "image"), [("vgg16", 16), ("squeezenet1.1", 2), ("resnet18", 0)])
def test_images_too_small_are_an_error(name, image):
    with pytest.raises(SardonyxError, match="the image is too small"):
        build(name, image=image)
