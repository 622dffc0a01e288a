"""Each layer of CoreML's networks, alone in a network: ONNX computes what the format says of it.

What the format says is computed by `evaluate_network` and its neighbours, which share nothing with how the layers are
converted. Fields and weights are given in the layers' own words.
"""

from __future__ import annotations

import numpy as np
import pytest
from coreml_cases import assert_same, by_onnxruntime, by_sardonyx

from sardonyx.convert import coreml
from sardonyx.convert.base import Options, Source
from sardonyx.convert.coreml.evaluate_exact import LAYERS as EVALUATED
from sardonyx.convert.coreml.network_exact import LAYERS
from sardonyx.convert.coreml.schema import SCHEMA
from sardonyx.errors import ConversionError

PICTURE, ROWS = (3, 7, 9), (5,)


def weights(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def fill(message, fields):
    """Fields by name: numbers, lists, messages as dicts, weights as arrays."""
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            getattr(message, name).floatValue.append(value.astype("<f4").tobytes())
        elif isinstance(value, dict):
            getattr(message, name).SetInParent()
            fill(getattr(message, name), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                fill(getattr(message, name).add(), item)
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)


def borders(*pairs):
    return {"borderAmounts": [{"startEdgeSize": a, "endEdgeSize": b} for a, b in pairs]}


def network(tmp_path, kind, fields, shapes, outputs=1, rank=None):
    """A model of one layer; `rank`: in a network that knows ranks, for an output of that rank."""
    model = SCHEMA.new("Model")
    model.specificationVersion = 4
    net = model.neuralNetwork
    net.SetInParent()
    layer = net.layers.add(name="it")
    for index, shape in enumerate(shapes):
        feature = model.description.input.add(name=f"x{index}")
        feature.type.multiArrayType.shape.extend(shape)
        feature.type.multiArrayType.dataType = 65568
        layer.input.append(f"x{index}")
        if rank:
            layer.inputTensor.add(rank=len(shape)).dimValue.extend(shape)
    for index in range(outputs):
        feature = model.description.output.add(name=f"y{index}")
        feature.type.multiArrayType.dataType = 65568
        layer.output.append(f"y{index}")
        if rank:
            layer.outputTensor.add(rank=rank)
    if rank:
        net.arrayInputShapeMapping = 1
    getattr(layer, kind).SetInParent()
    fill(getattr(layer, kind), fields)
    path = tmp_path / "one.mlmodel"
    path.write_bytes(model.SerializeToString())
    return path


def made_up(result, seed=1, whole=None):
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in result.model.graph.inputs:
        dims = [dim if isinstance(dim, int) else {"batch": 2}.get(str(dim), 4) for dim in value.shape]
        values = rng.standard_normal(dims) if whole is None else rng.integers(0, whole, dims)
        feeds[value.name] = values.astype(np.float32)
    return feeds


def compare(path, whole=None, positive=False):
    result = coreml.read(Source(path), Options())
    feeds = made_up(result, whole=whole)
    feeds = {name: np.abs(value) + 0.5 if positive else value for name, value in feeds.items()}
    wanted = result.oracles[0]().run(feeds)
    peer = by_onnxruntime(result.model, feeds)
    own, session = by_sardonyx(result.model, feeds)
    assert {placement.provider for placement in session.explain()} <= {"cpu"}
    assert peer
    for name in peer:
        assert np.isfinite(wanted[name]).all()
        assert_same(peer[name], wanted[name])
        assert_same(own[name], wanted[name])
        assert peer[name].shape == own[name].shape
    return result, wanted


VALID, SAME = {"valid": {}}, {"same": {}}
HEAVY = {"same": {"asymmetryMode": 1}}
LAST = {"includeLastPixel": {"paddingAmounts": [1, 1]}}
PADDED = {"valid": {"paddingAmounts": borders((1, 2), (0, 1))}}


def convolution(out=4, channels=3, kernel=(3, 2), groups=1, **more):
    size = (out, channels // groups, *kernel)
    return {"outputChannels": out, "kernelChannels": channels // groups, "nGroups": groups, "hasBias": True,
            "kernelSize": list(kernel), "weights": weights(*size), "bias": weights(out, seed=2), **more}  # fmt: skip


def deconvolution(out=4, kernel=(3, 4), **more):
    return {"outputChannels": out, "kernelChannels": 3, "kernelSize": list(kernel), "isDeconvolution": True,
            "weights": weights(3, out, *kernel), **more}  # fmt: skip


PICTURES = [
    *(("convolution", convolution(**pad)) for pad in (VALID, SAME, HEAVY, PADDED)),
    *(("convolution", convolution(stride=[2, 3], dilationFactor=[2, 1], **pad)) for pad in (VALID, SAME, HEAVY)),
    ("convolution", convolution(out=6, groups=3, **SAME)),
    *(("convolution", deconvolution(stride=[2, 3], **pad)) for pad in (VALID, SAME, PADDED)),
    ("convolution", deconvolution(stride=[2, 2], outputShape=[15, 20], **VALID)),
    *(
        ("pooling", {"type": kind, "kernelSize": [3, 2], "stride": [2, 2], "avgPoolExcludePadding": left_out, **pad})
        for kind, left_out in ((0, False), (1, False), (1, True))
        for pad in (VALID, SAME, HEAVY, PADDED, LAST)
        if left_out or kind == 0 or pad is not LAST
    ),
    *(("pooling", {"type": kind, "globalPooling": True}) for kind in (0, 1, 2)),
    ("pooling", {"type": 2, "kernelSize": [2, 3], "stride": [2, 2], **VALID}),
    *(("activation", {kind: {}}) for kind in ("ReLU", "tanh", "sigmoid", "softsign", "softplus")),
    *(
        ("activation", {kind: {"alpha": 0.3, "beta": 0.6}})
        for kind in ("linear", "scaledTanh", "sigmoidHard")
    ),
    *(("activation", {kind: {"alpha": 0.3}}) for kind in ("leakyReLU", "thresholdedReLU", "ELU")),
    ("activation", {"PReLU": {"alpha": weights(3)}}),
    ("activation", {"parametricSoftplus": {"alpha": weights(3), "beta": weights(3, seed=4)}}),
    ("batchnorm", {"channels": 3, "gamma": weights(3), "beta": weights(3, seed=1), "mean": weights(3, seed=2),
                   "variance": np.abs(weights(3, seed=3)), "epsilon": 0.01}),
    ("batchnorm", {"channels": 3, "gamma": weights(3), "beta": weights(3, seed=1), "computeMeanVar": True,
                   "instanceNormalization": True}),
    *(
        ("mvn", {"acrossChannels": across, "normalizeVariance": variance, "epsilon": epsilon})
        for across in (False, True)
        for variance, epsilon in ((False, 0.0), (True, 0.0), (True, 0.1))
    ),
    ("l2normalize", {"epsilon": 0.1}), ("softmax", {}), ("lrn", {"alpha": 0.5, "beta": 0.75, "localSize": 3, "k": 2.0}),
    ("crop", {"cropAmounts": borders((1, 2), (0, 3))}),
    *(
        ("padding", {kind: fields, "paddingAmounts": borders((1, 2), (0, 3))})
        for kind, fields in (("constant", {"value": 1.5}), ("reflection", {}), ("replication", {}))
    ),
    ("upsample", {"scalingFactor": [2, 3]}),
    *(("upsample", {"scalingFactor": [2, 3], "mode": 1, "linearUpsampleMode": mode}) for mode in (0, 1, 2)),
    *(("resizeBilinear", {"targetSize": [4, 15], "mode": {"samplingMethod": mode}}) for mode in (0, 1, 2)),
    ("add", {"alpha": 0.5}), ("multiply", {"alpha": 0.5}),
    ("scale", {"shapeScale": [3], "scale": weights(3), "hasBias": True, "shapeBias": [1, 7, 9],
               "bias": weights(1, 7, 9)}),
    ("bias", {"shape": [3, 7, 9], "bias": weights(3, 7, 9)}),
    *(("reduce", {"mode": mode, "axis": axis}) for mode in (0, 1, 4, 5, 6, 7, 8) for axis in range(5)),
    *(("reduce", {"mode": 2, "axis": axis}) for axis in (2, 3, 4)),
    *(("reduce", {"mode": 9, "axis": axis}) for axis in (2, 3, 4)),
    *(("reshape", {"targetShape": [9, 3, 7], "mode": mode}) for mode in (0, 1)),
    *(("flatten", {"mode": mode}) for mode in (0, 1)), ("permute", {"axis": [0, 3, 1, 2]}),
    ("permute", {"axis": [0, 2, 1, 3]}), ("slice", {"startIndex": 1, "endIndex": -1, "axis": 0}),
    ("slice", {"startIndex": 1, "endIndex": 6, "stride": 2, "axis": 1}),
    ("slice", {"startIndex": -5, "endIndex": 8, "stride": 3, "axis": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields"), PICTURES, ids=[f"{i}-{kind}" for i, (kind, _) in enumerate(PICTURES)])
def test_layers_of_pictures(tmp_path, kind, fields):
    compare(network(tmp_path, kind, fields, [PICTURE]))


@pytest.mark.parametrize("function", range(8))
def test_unary_functions(tmp_path, function):
    fields = {"type": function, "alpha": 1.5, "shift": 0.25, "scale": 2.0, "epsilon": 0.01}
    compare(network(tmp_path, "unary", fields, [PICTURE]), positive=True)


def test_the_sum_of_logarithms_is_not_the_logarithm_of_the_sum(tmp_path):
    """`LOGSUM` of `ReduceLayerParams` adds logarithms; MIL's operation of that name does not."""
    path = network(tmp_path, "reduce", {"mode": 3, "axis": 2, "epsilon": 0.01}, [PICTURE])
    result, wanted = compare(path, positive=True)
    x = np.abs(made_up(result)["x0"]) + 0.5
    np.testing.assert_allclose(wanted["y0"], np.log(x + 0.01).sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_blocks_of_pixels(tmp_path, mode):
    path = network(tmp_path, "reorganizeData", {"mode": mode, "blockSize": 2}, [(8, 4, 6)])
    _, wanted = compare(path)
    assert wanted["y0"].shape[1:] == ((32, 2, 3) if mode == 0 else (2, 8, 12))


def test_the_example_of_pixel_blocks_in_the_format(tmp_path):
    """The numbers that `ReorganizeDataLayerParams` is explained with."""
    x = np.arange(1, 17, dtype=np.float32).reshape(1, 8, 1, 2)
    said = {1: [[1, 5, 2, 6], [9, 13, 10, 14], [3, 7, 4, 8], [11, 15, 12, 16]],
            2: [[1, 3, 2, 4], [5, 7, 6, 8], [9, 11, 10, 12], [13, 15, 14, 16]]}  # fmt: skip
    for mode, rows in said.items():
        path = network(tmp_path, "reorganizeData", {"mode": mode, "blockSize": 2}, [(8, 1, 2)])
        got = by_onnxruntime(coreml.read(Source(path), Options()).model, {"x0": x})["y0"]
        assert got.reshape(4, 4).tolist() == rows


@pytest.mark.parametrize("kind", ["add", "multiply", "average", "max", "min", "concat"])
@pytest.mark.parametrize("count", [2, 3])
def test_layers_of_several_inputs(tmp_path, kind, count):
    compare(network(tmp_path, kind, {}, [PICTURE] * count))


def test_products_and_parts(tmp_path):
    compare(network(tmp_path, "dot", {}, [(6, 1, 1), (6, 1, 1)]))
    compare(network(tmp_path, "split", {"nOutputs": 3}, [(6, 2, 2)], outputs=3))
    fields = {"inputChannels": 5, "outputChannels": 3, "hasBias": True, "weights": weights(3, 5), "bias": weights(3)}
    compare(network(tmp_path, "innerProduct", fields, [ROWS]))
    fields = {"inputDim": 6, "outputChannels": 4, "hasBias": True, "weights": weights(4, 6), "bias": weights(4)}
    compare(network(tmp_path, "embedding", fields, [(1, 1, 1)]), whole=6)


WIDTH, HIDDEN = 5, 3
SIGMOID, TANH = {"sigmoid": {}}, {"tanh": {}}
HARD = {"sigmoidHard": {"alpha": 0.2, "beta": 0.5}}


def matrices(names, seed=0):
    shapes = {"WeightMatrix": (HIDDEN, WIDTH), "RecursionMatrix": (HIDDEN, HIDDEN), "BiasVector": (HIDDEN,),
              "PeepholeVector": (HIDDEN,)}  # fmt: skip
    found = {f"{name}{end}": shape for name in names for end, shape in shapes.items()}
    return {key: weights(*shape, seed=seed + i) for i, (key, shape) in enumerate(found.items())}


def gru(**more):
    own = matrices(("updateGate", "resetGate", "outputGate"))
    own = {key: value for key, value in own.items() if "Peephole" not in key}
    return {"inputVectorSize": WIDTH, "outputVectorSize": HIDDEN, "activations": [SIGMOID, TANH],
            "hasBiasVectors": True, **own, **more}  # fmt: skip


def lstm(both=False, peepholes=False, functions=(SIGMOID, TANH, TANH), **more):
    gates = ("inputGate", "forgetGate", "blockInput", "outputGate")
    own = [{key: value for key, value in matrices(gates, seed).items() if key != "blockInputPeepholeVector"}
           for seed in (0, 50)]  # fmt: skip
    params = {"hasBiasVectors": True, "hasPeepholeVectors": peepholes, "sequenceOutput": True, "forgetBias": True}
    made = {"inputVectorSize": WIDTH, "outputVectorSize": HIDDEN, "params": params | more.pop("params", {})}
    functions = list(functions)
    if both:
        return made | {"activationsForwardLSTM": functions, "activationsBackwardLSTM": functions, "weightParams": own}
    return made | {"activations": functions, "weightParams": own[0], **more}


def simple(**more):
    return {"inputVectorSize": WIDTH, "outputVectorSize": HIDDEN, "activation": TANH, "hasBiasVector": True,
            "weightMatrix": weights(HIDDEN, WIDTH), "recursionMatrix": weights(HIDDEN, HIDDEN),
            "biasVector": weights(HIDDEN), **more}  # fmt: skip


RECURRENT = [
    *((kind, make(sequenceOutput=all_steps, reverseInput=reverse))
      for kind, make in (("gru", gru), ("simpleRecurrent", simple))
      for all_steps in (False, True) for reverse in (False, True)),
    ("gru", gru(activations=[HARD, TANH], hasBiasVectors=False, sequenceOutput=True)),
    *(("uniDirectionalLSTM", lstm(peepholes=peep, reverseInput=reverse, params={"sequenceOutput": all_steps}))
      for peep in (False, True) for reverse in (False, True) for all_steps in (False, True)),
    ("uniDirectionalLSTM", lstm(functions=(HARD, TANH, TANH))),
    ("biDirectionalLSTM", lstm(both=True)), ("biDirectionalLSTM", lstm(both=True, peepholes=True)),
    ("biDirectionalLSTM", lstm(both=True, params={"sequenceOutput": False})),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields"), RECURRENT, ids=[f"{i}-{kind}" for i, (kind, _) in enumerate(RECURRENT)])
def test_recurrent_layers(tmp_path, kind, fields):
    compare(network(tmp_path, kind, fields, [(WIDTH,)]))


EXACT = [
    ("transpose", {"axes": [2, 0, 1]}, [(2, 3, 4)], 3), ("softmaxND", {"axis": 1}, [(2, 3, 4)], 3),
    ("reduceSum", {"axes": [0, 2], "keepDims": True}, [(2, 3, 4)], 3),
    ("reduceLogSumExp", {"axes": [1], "keepDims": False}, [(2, 3, 4)], 2),
    ("reduceMax", {"reduceAll": True, "keepDims": True}, [(2, 3)], 2),
    ("cumSum", {"axis": 1, "reverse": True, "excludeFinalSum": True}, [(2, 5)], 2),
    ("batchedMatmul", {"transposeB": True}, [(2, 3, 4), (2, 5, 4)], 3),
    ("batchedMatmul", {"weightMatrixFirstDimension": 4, "weightMatrixSecondDimension": 2, "weights": weights(4, 2),
                       "hasBias": True, "bias": weights(2)}, [(2, 3, 4)], 3),
    ("sliceStatic", {"beginIds": [0, -1, 1], "endIds": [0, -5, 4], "strides": [1, -2, 2],
                     "beginMasks": [True, False, False], "endMasks": [True, False, False]}, [(2, 5, 6)], 3),
    ("topK", {"axis": 1, "K": 2}, [(3, 5)], 2), ("topK", {"axis": 0, "K": 3, "useBottomK": True}, [(4, 2)], 2),
    ("argMax", {"axis": 1, "removeDim": True}, [(3, 5)], 1), ("argMin", {"axis": 0}, [(3, 5)], 2),
    ("argSort", {"axis": 1, "descending": True}, [(3, 5)], 2),
    ("clip", {"minVal": -0.25, "maxVal": 0.5}, [(3, 5)], 2), ("clampedReLU", {"alpha": 0.2, "beta": 0.4}, [(3, 5)], 2),
    *(("gelu", {"mode": mode}, [(3, 5)], 2) for mode in (0, 1, 2)),
    ("tile", {"reps": [2, 3]}, [(2, 3)], 2), ("reverse", {"reverseDim": [True, False, True]}, [(2, 3, 4)], 3),
    ("constantPad", {"padAmounts": [1, 0, 0, 2], "value": 0.5}, [(2, 3)], 2),
    ("layerNormalization", {"normalizedShape": [3, 4], "eps": 0.01, "gamma": weights(3, 4), "beta": weights(3, 4)},
     [(2, 3, 4)], 3),
    ("matrixBandPart", {"numLower": 1, "numUpper": 0}, [(4, 5)], 2), ("lowerTriangular", {}, [(4, 5)], 2),
    ("upperTriangular", {}, [(4, 5)], 2), ("stack", {"axis": 1}, [(2, 3), (2, 3)], 3),
    ("concatND", {"axis": 0}, [(2, 3), (4, 3)], 2), ("expandDims", {"axes": [0, 3]}, [(2, 3)], 4),
    ("squeeze", {"axes": [1]}, [(2, 1, 3)], 2), ("flattenTo2D", {"axis": 2}, [(2, 3, 4)], 2),
    ("reshapeStatic", {"targetShape": [4, -1]}, [(2, 3, 4)], 2), ("fillLike", {"value": 2.5}, [(2, 3)], 2),
    *((f"{name}Broadcastable", {}, [(2, 3, 1), (3, 4)], 3)
      for name in ("add", "subtract", "multiply", "divide", "max", "min", "mod", "floorDiv")),
    *((name, {}, [(3, 4), (3, 4)], 2) for name in ("lessThan", "greaterEqual", "notEqual")),
    ("greaterThan", {"alpha": 0.25}, [(3, 4)], 2), ("logicalNot", {}, [(3, 4)], 2),
    *((name, {}, [(3, 4)], 2) for name in ("ceil", "floor", "sign", "round", "erf", "sin", "tanh", "exp2", "atan")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "fields", "shapes", "rank"), EXACT, ids=[f"{i}-{case[0]}" for i, case in enumerate(EXACT)]
)
def test_layers_with_exact_ranks(tmp_path, kind, fields, shapes, rank):
    compare(network(tmp_path, kind, fields, shapes, outputs=2 if kind == "topK" else 1, rank=rank))


def test_indices(tmp_path):
    fields = {"oneHotVectorSize": 4, "axis": -1, "onValue": 2.0, "offValue": -1.0}
    compare(network(tmp_path, "oneHot", fields, [(2, 3)], rank=3), whole=4)
    compare(network(tmp_path, "gather", {"axis": 1}, [(2, 5), (3,)], rank=2), whole=5)
    fields = {"vocabSize": 6, "embeddingSize": 4, "weights": weights(4, 6), "hasBias": True, "bias": weights(4)}
    compare(network(tmp_path, "embeddingND", fields, [(2, 3, 1)], rank=3), whole=6)


def test_every_layer_that_is_converted_is_evaluated():
    assert set(EVALUATED) == set(LAYERS)


REFUSED = [
    ("dot", {"cosineSimilarity": True}, [(6, 1, 1), (6, 1, 1)], "cosine"),
    ("innerProduct", {"int8DynamicQuantize": True}, [ROWS], "dynamic quantisation"),
    ("batchnorm", {"channels": 3, "computeMeanVar": True}, [PICTURE], "the whole batch"),
    ("uniDirectionalLSTM", lstm(params={"coupledInputAndForgetGate": True}), [(WIDTH,)], "coupled gates"),
    ("uniDirectionalLSTM", lstm(params={"cellClipThreshold": 3.0}), [(WIDTH,)], "clipping the cells"),
    ("gru", gru(activations=[SIGMOID]), [(WIDTH,)], "1 activations, expected 2"),
    ("permute", {"axis": [1, 0, 2, 3]}, [PICTURE], "moving the sequence"),
    ("lrn", {"alpha": 0.5, "beta": 0.75, "localSize": 2}, [PICTURE], "windows of an even size"),
    ("resizeBilinear", {"targetSize": [4, 9], "mode": {"samplingMethod": 3}}, [PICTURE], "OFFSET_CORNERS"),
    ("pooling", {"type": 1, "kernelSize": [3, 2], **LAST}, [PICTURE], "averages that count padding"),
]


@pytest.mark.parametrize(("kind", "fields", "shapes", "reason"), REFUSED, ids=[case[3] for case in REFUSED])
def test_what_is_not_computed_is_refused(tmp_path, kind, fields, shapes, reason):
    with pytest.raises(ConversionError, match=reason):
        coreml.read(Source(network(tmp_path, kind, fields, shapes)), Options())
