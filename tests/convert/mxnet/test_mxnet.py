"""MXNet networks become ONNX that computes what MXNet recorded, and what an evaluation in float64 computes."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from mxnet_cases import (
    DATA,
    NETWORKS,
    OPERATORS,
    Builder,
    Net,
    arrays_file,
    case,
    norm,
    picture,
    rnn_size,
    seeded,
    w,
    x,
)
from network_checks import agrees, close, computed, refusal, survives

from sardonyx.convert import mxnet
from sardonyx.convert.api import convert
from sardonyx.convert.base import Options, Source
from sardonyx.convert.formats import find
from sardonyx.convert.mxnet.files import read_arrays
from sardonyx.errors import ConversionError, ModelFileError

ZOO = ("alexnet", "densenet", "gru", "inception", "lstm", "mobilenet", "mobilenet_v2", "resnet_v1", "resnet_v2",
       "squeezenet", "vgg")  # fmt: skip
NOT_IN_1_9 = {"act_log_sigmoid", "act_mish"}
"""Kinds of activations of MXNet 2: the evaluation alone says what they are."""


@cache
def stored(file):
    with np.load(DATA / file) as arrays:
        return dict(arrays)


def recorded(file, name):
    return {key.partition("/")[2]: array for key, array in stored(file).items() if key.startswith(f"{name}/")}


def read(path, **options):
    source = Source(path)
    assert mxnet.recognises(source)
    return mxnet.read(source, Options(**options))


def opened(folder, net, version=2, **options):
    return read(net.write(folder, version=version), **{"shapes": net.shapes} | options)


def fixed(net):
    """All of the inputs' sizes."""
    return {name: array.shape for name, array in net.inputs.items()}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(tmp_path, name):
    net = OPERATORS[name]
    batched = len({array.shape[0] for array in net.inputs.values()}) == 1 and name not in FIRST_AXIS
    outputs = agrees(opened(tmp_path, net, shapes=net.shapes if batched else fixed(net)), net.inputs)
    values = recorded("operators.npz", name)
    assert bool(values) == (name not in NOT_IN_1_9)
    close(outputs, {key: value.astype(outputs[key].dtype) for key, value in values.items()})


FIRST_AXIS = {"slice", "slice_back", "crop", "argmax_row", "dot_turned", "sum_all", "mean_all_kept", "norm_all",
              "max_others", "sum_none", "SwapAxis", "transpose_all"}  # fmt: skip
"""What needs the size of the first dim, or whose result has another."""


def test_all_operators_have_a_case():
    used = {node["op"] for net in OPERATORS.values() for node in json.loads(net.symbol)["nodes"]}
    assert used - {"null"} == set(mxnet.operators())


def zoo(name):
    told = json.loads(bytes(recorded("networks.npz", name)["told"]))
    params = seeded(told["shapes"])
    return Net(told["symbol"], params, {"data": picture(told["input"])})


@pytest.mark.parametrize("name", ZOO)
def test_exported_networks(tmp_path, name):
    net = zoo(name)
    converted = read(net.write(tmp_path), shapes={} if name not in ("gru", "lstm") else net.shapes)
    assert converted.format == "MXNet 1.9.1"
    outputs = computed(converted.model, net.inputs)
    values = recorded("networks.npz", name)
    assert outputs.keys() == values.keys() - {"told"}
    close(outputs, {key: values[key] for key in outputs})


@pytest.mark.parametrize("name", ["mobilenet", "resnet_v1", "lstm"])
def test_exported_networks_are_evaluated(tmp_path, name):
    net = zoo(name)
    inputs = {key: np.concatenate([array] * 3)[:, ..., :64] for key, array in net.inputs.items()}
    agrees(opened(tmp_path, net, shapes={"data": (None, *net.inputs["data"].shape[1:])}), inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_older_versions(tmp_path, name):
    net = NETWORKS[name]
    converted = opened(tmp_path, net)
    outputs = agrees(converted, net.inputs)
    assert list(outputs) == ["softmax_output"]
    close(outputs, recorded("operators.npz", name))
    version = {"param": "before 0.9", "attr": "0.9.5", "attrs": "1.9.1"}[name.partition("_")[2]]
    assert converted.format == f"MXNet {version}"


# Files


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_versions_of_arrays(tmp_path, version):
    net = NETWORKS["classic_attrs"]
    close(
        computed(opened(tmp_path, net, version=version).model, net.inputs), recorded("operators.npz", "classic_attrs")
    )
    params = tmp_path / "net-0000.params"
    assert read(params, shapes=net.shapes).model.graph.outputs[0].name == "softmax_output"


def test_arrays_that_mxnet_saved():
    arrays = read_arrays(DATA / "kinds.params")
    kinds = {"float32", "float64", "float16", "int8", "uint8", "int32", "int64"}
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "b_moving_mean": "float32",
        **{kind: kind for kind in kinds},
    }
    for kind in kinds:
        np.testing.assert_array_equal(arrays[kind], np.arange(6).reshape(2, 3))
    assert "sparse" in refusal(lambda: read_arrays(DATA / "sparse.params"), ConversionError)


def test_float16_is_computed_in_float32(tmp_path):
    net = OPERATORS["FullyConnected"]
    params = {name: array.astype(np.float16) for name, array in net.params.items()}
    narrow = Net(net.symbol, params, net.inputs)
    converted = opened(tmp_path, narrow)
    assert converted.tolerance == pytest.approx(1e-2)
    agrees(converted, net.inputs)


def test_other_file(tmp_path):
    net = NETWORKS["classic_attrs"]
    path = net.write(tmp_path)
    (tmp_path / "net-0012.params").write_bytes(arrays_file({**net.params, "fc1_bias": np.ones(10, np.float32)}))
    assert read(path).oracles
    assert opened_files(path) == "net-0012.params"
    assert opened_files(path, structure=tmp_path / "net-0000.params") == "net-0000.params"
    moved = path.rename(tmp_path / "other-symbol.json")
    assert "several fit" in refusal(lambda: read(moved), ConversionError)
    for file in tmp_path.glob("*.params"):
        file.unlink()
    assert "is not there" in refusal(lambda: read(moved), ConversionError)


def opened_files(path, **options):
    from sardonyx.convert.mxnet.files import open_network

    return open_network(Source(path), Options(**options)).files[1].name


def test_shapes_names_and_outputs(tmp_path):
    net = NETWORKS["classic_attrs"]
    path = net.write(tmp_path)
    converted = read(path, outputs=("relu1", "conv1_output"), batch="N")
    graph = converted.model.graph
    assert [str(dim) for dim in graph.inputs[0].shape] == ["N", "3", "height", "width"]
    assert [value.name for value in graph.outputs] == ["relu1", "conv1_output"]
    assert "conv1_weight" in graph.initializers
    assert list(converted.layers.values()) == ["conv1", "bn1", "relu1"]
    computed(converted.model, net.inputs)
    assert "no such outputs" in refusal(lambda: read(path, outputs=("prob",)), ConversionError)
    assert "shape is not known" in refusal(lambda: read(case("exp", x(2, 3)).write(tmp_path, "exp")), ConversionError)
    told = Builder()
    told.op("exp", told.variable("data", __shape__="(0, 3, 4)"), name="exp")
    shaped = read(told.net((1, 0)).write(tmp_path, "told"))
    assert [str(dim) for dim in shaped.model.graph.inputs[0].shape] == ["batch", "3", "4"]


def test_first_dim_that_is_no_batch(tmp_path):
    """A result's first dim is only called so where it is."""
    net = OPERATORS["reshape_batch"]
    assert opened(tmp_path, net).model.graph.outputs[0].shape[0] != "batch"
    turned = opened(tmp_path, OPERATORS["rnn_gru"], shapes={"x0": ("time", None, 5), "x2": (1, None, 3)})
    assert str(turned.model.graph.outputs[0].shape[0]) != "batch"


def test_sequences_without_states(tmp_path):
    """What Gluon leaves out are zeros for any batch; states that are stored must fit."""
    built, size = Builder(), rnn_size("lstm", 5, 3, 1, 1)
    weights = built.param("weights", OPERATORS["rnn_lstm"].params["x1"][:size])
    state = [built.op("_zeros", shape="(1, 0, 3)", dtype="float32", name=f"s{i}") for i in range(2)]
    data = built.input("data", picture((6, 4, 5)))
    built.op("RNN", data, weights, *state, name="rnn", mode="lstm", state_size=3, num_layers=1)
    agrees(opened(tmp_path, built.net((len(built.nodes) - 1, 0))), built.inputs)


def test_embeddings_get_indices(tmp_path):
    net = OPERATORS["Embedding"]
    made = opened(tmp_path, net).make_inputs(5, np.random.default_rng(0))["x0"]
    assert made.shape == (5, 6)
    assert set(np.unique(made)) <= {0, 1, 2, 3}


# Doors


def test_the_door(tmp_path, monkeypatch):
    """Recognised by content, and compared."""
    monkeypatch.setenv("SARDONYX_MXNET_PYTHON", "/no/python")
    net = NETWORKS["classic_attrs"]
    path = net.write(tmp_path)
    renamed = path.rename(tmp_path / "net-symbol.txt")
    assert find(Source(renamed)).name == find(Source(tmp_path / "net-0000.params")).name == "mxnet"
    done = convert(renamed, tmp_path / "net.onnx", shapes=net.shapes)
    assert done.report.verdict == "verified"
    assert done.report.oracle == "float64 evaluation of the source graph"


def test_mxnet_itself(tmp_path):
    net = NETWORKS["classic_attrs"]
    converted = opened(tmp_path, net)
    framework = converted.oracles[0]()
    if framework is None:
        pytest.skip("MXNet is not installed")
    values = framework.run(net.inputs)
    close({"softmax_output": values["softmax_output"]}, recorded("operators.npz", "classic_attrs"))
    assert {"conv1", "bn1", "relu1"} <= values.keys()


# What is refused

REFUSED = [
    (case("Custom", x(2, 3), op_type="mine"), "of this kind"),
    (case("exp", x(2, 3), strange=1), "strange"),
    (case("Dropout", x(2, 3), mode="always"), "mode = always"),
    (case("Convolution", x(2, 4, 9, 8), w(6, 4, 3, 3), w(6), kernel=(3, 3), num_filter=6, layout="NHWC"), "layout"),
    (case("Convolution", x(2, 4, 9, 8), w(6, 4, 3, 3), w(6), kernel=(3, 3), num_filter=7), "expected [7, 4, 3, 3]"),
    (case("Convolution", x(2, 4, 9, 8), w(6, 4, 3, 3), w(6), kernel=(3, 3), num_filter=6, num_group=0), "groups"),
    (case("Convolution", x(2, 4, 9, 8), w(6, 4, 3, 3), w(6), kernel=(3, 0), num_filter=6), "kernel"),
    (
        case("Deconvolution", x(2, 4, 9, 8), w(4, 6, 3, 3), kernel=(3, 3), num_filter=6, target_shape=(9, 9)),
        "target_shape",
    ),
    (case("Pooling", x(2, 4, 9, 8), kernel=(3, 3), pool_type="lp", p_value=2), "lp"),
    (case("Pooling", x(2, 4, 9, 8), kernel=(3, 3), pooling_convention="same"), "same"),
    (case("Pooling", x(2, 4, 9, 8), kernel=(3, 3), pad=(3, 3)), "hold nothing"),
    (case("Pooling", x(2, 4, 9, 8), kernel=(1, 1), stride=(5, 9), pooling_convention="full"), "outside"),
    (norm(output_mean_var=True), "mean and variance"),
    (norm(eps=-100), "negative"),
    (case("LeakyReLU", x(2, 3), act_type="new"), "act_type"),
    (case("Activation", x(2, 3), act_type="new"), "act_type"),
    (case("SoftmaxActivation", x(2, 3), mode="new"), "mode"),
    (case("softmax", x(2, 3), use_length=True), "use_length"),
    (case("UpSampling", x(2, 3, 4, 4), scale=2, sample_type="bilinear", num_args=1), "nearest"),
    (case("RNN", x(6, 2, 5), w(10), x(1, 2, 3), mode="gru", state_size=3, num_layers=1), "expected 90"),
    (
        case("RNN", x(6, 2, 5), w(10), x(1, 2, 3), mode="lstm", state_size=3, num_layers=1, projection_size=2),
        "projection",
    ),
    (case("_div_scalar", x(2, 3, kind="int32"), scalar=2), "INT32"),
    (case("_plus_scalar", x(2, 3, kind="int32"), scalar=2.5), "INT32"),
    (case("_plus_scalar", x(2, 3, kind="int32"), scalar=99999999999), "INT32"),
    (case("elemwise_add", x(2, 3, kind="int32"), x(2, 3)), "hold INT32 and FLOAT"),
    (case("tile", x(2, 3), reps=(1, -2)), "repeats"),
    (case("slice", x(2, 3), begin="(0, 1.5)", end=(2, 3)), "whole numbers"),
    (case("pick", x(2, 3), x(3)), "picks by"),
    (case("broadcast_to", x(2, 3), shape=(2, 6)), "cannot be broadcast"),
    (case("broadcast_axis", x(2, 3), axis=1, size=6), "cannot be broadcast"),
    (case("Convolution", x(2, 3), w(6, 3), kernel="()", num_filter=6, no_bias=True), "shape [2, 3]"),
    (case("InstanceNorm", x(2), w(4), w(4)), "out of range"),
    (case("SliceChannel", x(2, 4), num_outputs=1.5), "whole number"),
    (case("FullyConnected", x(2, 3, kind="int32"), w(4, 3), w(4), num_hidden=4), "INT32"),
    (case("reshape", x(2, 3, 4), shape=(0, -1), reverse=True), "from the end"),
    (case("reshape", x(2, 3, 4), shape=(0, 5, 3)), "reshape"),
    (case("slice_axis", x(2, 3), axis=7, begin=0, end=1), "out of range"),
    (case("concat", x(2, 3, 4), x(2, 5, 5), num_args=2, dim=1), "do not fit"),
    (case("argmax", x(2, 3)), "axis"),
    (case("take", w(4, 3), x(2, 6), mode="wrap"), "mode"),
    (case("Cast", x(2, 3), dtype="complex64"), "complex64"),
    (case("clip", x(2, 3), a_min="__import__('os')", a_max=1), "expected numbers"),
    (case("_ones", shape="(0, 3)"), "its shape"),
]


@pytest.mark.parametrize(("net", "reason"), REFUSED)
def test_what_is_not_understood_is_refused(tmp_path, net, reason):
    assert reason in refusal(lambda: opened(tmp_path, net, shapes=fixed(net)), ConversionError)


def test_an_axis_that_meant_all(tmp_path):
    built = Builder()
    top = built.op("argmax", built.input("data", picture((2, 3))), axis=-1)
    assert "all of them" in refusal(lambda: opened(tmp_path, built.net(top, style="param")), ConversionError)
    agrees(opened(tmp_path, built.net(top, style="attr")), built.inputs)


def test_all_problems_are_told_at_once(tmp_path):
    built = Builder()
    top = built.op("Custom", built.input("data", picture((2, 3))), name="one")
    top = built.op("relu", top, name="between")
    other = built.op("Proposal", (0, 0), name="two")
    message = refusal(lambda: opened(tmp_path, built.net(top, other)), ConversionError)
    assert "'one' (Custom)" in message
    assert "'two' (Proposal)" in message
    assert "between" not in message


def test_results_that_are_not_known(tmp_path):
    """A layer's statistics are none of its results here."""
    built = Builder()
    net = norm()
    nodes = json.loads(net.symbol)
    last = len(nodes["nodes"]) - 1
    nodes["nodes"].append({"op": "relu", "name": "more", "inputs": [[last, 1, 0]]})
    nodes["heads"] = [[last + 1, 0, 0]]
    changed = Net(json.dumps(nodes), net.params, net.inputs)
    assert "takes the result 1" in refusal(lambda: opened(tmp_path, changed), ConversionError)
    nodes["heads"] = [[last, 1, 0]]
    changed = Net(json.dumps(nodes), net.params, net.inputs)
    assert "internal" in refusal(lambda: opened(tmp_path, changed), ConversionError)
    first = built.op("exp", built.input("data", picture((2, 3))), name="same")
    second = built.op("relu", (0, 0), name="same")
    assert "one name" in refusal(lambda: opened(tmp_path, built.net(first, second)), ConversionError)


def test_deep_networks_in_time(tmp_path):
    """Twenty thousand nodes in a row before the input's shape is told."""
    built = Builder()
    top = built.input("data", picture((2, 3)))
    for _ in range(20_000):
        top = built.op("_copy", top)
    assert "shape is not known" in refusal(lambda: opened(tmp_path, built.net(top), shapes={}), ConversionError)


@pytest.mark.parametrize(
    "text",
    [
        '{"nodes": [{"op": "null", "name": "data", "inputs": []}], "heads": [[7, 0, 0]]}',
        '{"nodes": [{"op": "null", "name": "data", "inputs": [[0, 0, 0]]}], "heads": [[0, 0, 0]]}',
        '{"nodes": [{"op": "null", "name": "data", "inputs": []}], "heads": [[1e999, 0, 0]]}',
        '{"nodes": [{"op": "null", "name": "data", "inputs": []}], "heads": ' + "[" * 50_000,
        '{"nodes": [{"op": "null", "name": 7, "inputs": []}], "heads": [[0, 0, 0]]}',
        '{"nodes": [{"op": "null", "name": "data", "inputs": [], "attrs": {"a": 3}}], "heads": [[0, 0, 0]]}',
    ],
)
def test_symbols_that_are_none(tmp_path, text):
    path = tmp_path / "net-symbol.json"
    path.write_text(text)
    (tmp_path / "net-0000.params").write_bytes(arrays_file({}))
    refusal(lambda: read(path), ModelFileError)


def test_arrays_that_are_none(tmp_path):
    path = tmp_path / "a.params"
    whole = arrays_file({"a": np.ones((2, 3), np.float32)})
    for changed, reason in [
        (whole[:16] + (2**60).to_bytes(8, "little") + whole[24:], "claims"),
        (
            whole.replace(
                (2).to_bytes(8, "little") + (3).to_bytes(8, "little"), bytes(7) + b"\x40" + bytes(7) + b"\x40"
            ),
            "ends",
        ),
        (whole[:-2], "ends"),
        (whole[:24] + (99).to_bytes(4, "little") + whole[28:], "dims"),
        (arrays_file({"a": np.ones(2, np.float32)}, names=False), "names"),
        (b"\x13" + whole[1:], "no file of arrays"),
    ]:
        path.write_bytes(changed)
        assert reason in refusal(lambda: read_arrays(path), ModelFileError)


@pytest.mark.parametrize("name", ["classic_param", "classic_attrs"])
def test_damaged_symbols(tmp_path, name):
    net = NETWORKS[name]
    path = net.write(tmp_path)
    survives(path, net.symbol.encode(), 150, lambda: mxnet.read(Source(path), Options()), seed=3)


def test_damaged_arrays(tmp_path):
    net = OPERATORS["BatchNorm"]
    path = net.write(tmp_path)
    params = tmp_path / "net-0000.params"
    read_it = lambda: mxnet.read(Source(path), Options(structure=params, shapes=net.shapes))  # noqa: E731
    survives(params, params.read_bytes(), 300, read_it, seed=5)
