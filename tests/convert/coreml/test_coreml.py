"""CoreML models become ONNX that computes what torch and scikit-learn recorded, and what the format says."""

from __future__ import annotations

import math
import random
import shutil
import time
import warnings

import numpy as np
import onnxruntime
import pytest
from coreml_cases import DATA, NAMES, assert_same, by_onnxruntime, by_sardonyx, converted, path_of, recorded

from sardonyx.convert import coreml
from sardonyx.convert.base import Options, Source
from sardonyx.convert.coreml.schema import SCHEMA
from sardonyx.errors import ConversionError, ModelFileError, SardonyxError
from sardonyx.zoo.entries import Entry
from sardonyx.zoo.fetch import fetch

# CoreML's weights in fewer bits, and arithmetic of float16, differ from what was recorded before.
COARSE = {"legacy_linear8": 1e-3, "legacy_linear5": 1e-2, "legacy_linear_lut4": 1e-2, "half": 1e-3}
ON_HOST = {"tree_classes", "svc_votes", "legacy", "legacy_linear8", "legacy_linear5", "legacy_linear_lut4"}


@pytest.mark.parametrize("name", NAMES)
def test_computes_what_was_recorded(name):
    feeds, outputs = recorded(name)
    got = by_onnxruntime(converted(name).model, feeds)
    compared = [key for key in outputs if key in got]
    assert compared
    for key in compared:
        assert_same(got[key], outputs[key], COARSE.get(name, 1e-5))


@pytest.mark.parametrize("name", NAMES)
def test_the_evaluation_and_sardonyx_agree(name):
    feeds, _ = recorded(name)
    result = converted(name)
    wanted = result.oracles[0]().run(feeds)
    got, session = by_sardonyx(result.model, feeds)
    for key, value in got.items():
        assert_same(value, wanted[key])
    allowed = {"cpu", "host"} if name in ON_HOST else {"cpu"}  # labels of text
    assert {placement.provider for placement in session.explain()} <= allowed


def test_names_classes_and_metadata():
    result = converted("legacy")
    assert [value.name for value in result.model.graph.inputs] == ["image"]
    assert [value.name for value in result.model.graph.outputs] == ["classLabel", "scores"]
    assert result.metadata["classes"] == '["ant", "bee", "cat", "dog"]'
    assert result.metadata["image.image"] == "BGR"
    assert list(result.model.graph.inputs[0].shape)[1:] == [3, 16, 18]
    assert str(result.model.graph.inputs[0].shape[0]) == "batch"
    assert "conv" in result.layers.values()


def test_programs_keep_their_sizes_and_say_that_they_are_float16():
    assert list(converted("convolutions").model.graph.inputs[0].shape) == [1, 3, 24, 20]
    assert converted("half").tolerance == 2e-3
    assert converted("convolutions").tolerance is None


def test_recognition_goes_by_content(tmp_path):
    other = tmp_path / "model.mlmodel"
    other.write_bytes(b"\x08\x07\x12\x07pytorch:\x9f\x01\n\x05")  # as ONNX files start
    assert not coreml.recognises(Source(other))
    renamed = tmp_path / "thing.bin"
    shutil.copy(path_of("linear"), renamed)
    assert coreml.recognises(Source(renamed))
    assert not coreml.recognises(Source(tmp_path))
    assert not coreml.recognises(Source(object=object()))


def test_all_that_is_missing_is_told(tmp_path):
    model = SCHEMA.parse(path_of("legacy").read_bytes(), "Model", "test")
    layers = model.neuralNetworkClassifier.layers
    for index, kind in ((0, "branch"), (5, "convolution3d")):
        name, inputs, outputs = layers[index].name, list(layers[index].input), list(layers[index].output)
        layers[index].Clear()
        layers[index].name = name
        layers[index].input.extend(inputs)
        layers[index].output.extend(outputs)
        getattr(layers[index], kind).SetInParent()
    path = tmp_path / "broken.mlmodel"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError) as caught:
        coreml.read(Source(path), Options())
    assert "'conv' (branch)" in str(caught.value)
    assert "convolution3d" in str(caught.value)


def test_wrong_counts_of_weights_are_refused(tmp_path):
    model = SCHEMA.parse(path_of("legacy").read_bytes(), "Model", "test")
    del model.neuralNetworkClassifier.layers[0].convolution.bias.floatValue[:]
    path = tmp_path / "broken.mlmodel"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match="0 weights, expected 8"):
        coreml.read(Source(path), Options())


def _pipeline(tmp_path, *parts, inputs, outputs):
    model = SCHEMA.new("Model")
    model.specificationVersion = 1
    model.pipeline.SetInParent()
    for part in parts:
        part.specificationVersion = 1
        model.pipeline.models.append(part)
    for group, features in ((model.description.input, inputs), (model.description.output, outputs)):
        _features(group, features)
    path = tmp_path / "pipeline.mlmodel"
    path.write_bytes(model.SerializeToString())
    return path


def _features(group, features):
    for name, kind in features.items():
        feature = group.add(name=name)
        if isinstance(kind, int):
            feature.type.multiArrayType.shape.append(kind)
            feature.type.multiArrayType.dataType = 65600
        else:
            getattr(feature.type, kind).SetInParent()


def _part(inputs, outputs):
    part = SCHEMA.new("Model")
    _features(part.description.input, inputs)
    _features(part.description.output, outputs)
    return part


def test_a_pipeline_of_transformers(tmp_path):
    hot = _part({"colour": "stringType"}, {"hot": 3})
    hot.oneHotEncoder.stringCategories.vector.extend(["red", "green", "blue"])
    hot.oneHotEncoder.handleUnknown = 1
    mapped = _part({"size": "stringType"}, {"number": "int64Type"})
    mapped.categoricalMapping.stringToInt64Map.map["big"] = 7
    mapped.categoricalMapping.stringToInt64Map.map["small"] = 2
    mapped.categoricalMapping.int64Value = -1
    filled = _part({"x": 2}, {"full": 2})
    filled.imputer.imputedDoubleValue = 0.5
    filled.imputer.replaceDoubleValue = np.nan
    joined = _part({"hot": 3, "number": "int64Type", "full": 2}, {"row": 6})
    for name, width in (("full", 2), ("hot", 3), ("number", 1)):
        joined.featureVectorizer.inputList.add(inputColumn=name, inputDimensions=width)
    cut = _part({"row": 6}, {"some": 4})
    cut.arrayFeatureExtractor.extractIndex.extend([5, 0, 1, 3])
    scaled = _part({"some": 4}, {"scaled": 4})
    scaled.scaler.shiftValue.extend([0.0, 1.0, 2.0, 3.0])
    scaled.scaler.scaleValue.append(0.5)
    line = _part({"scaled": 4}, {"y": 1})
    line.glmRegressor.weights.add().value.extend([1.0, -2.0, 0.25, 3.0])
    line.glmRegressor.offset.append(0.125)
    line.glmRegressor.postEvaluationTransform = 2
    inputs = {"colour": "stringType", "size": "stringType", "x": 2}
    path = _pipeline(tmp_path, hot, mapped, filled, joined, cut, scaled, line, inputs=inputs, outputs={"y": 1})
    result = coreml.read(Source(path), Options())
    feeds = {
        "colour": np.array([["green"], ["pink"], ["blue"]], object),
        "size": np.array([["big"], ["small"], ["none"]], object),
        "x": np.array([[1, np.nan], [0.25, -1], [np.nan, np.nan]], np.float32),
    }
    got = by_onnxruntime(result.model, feeds)["y"]
    rows = np.array([[7, 1, 0.5, 1], [2, 0.25, -1, 0], [-1, 0.5, 0.5, 0]])
    scores = (rows + np.arange(4)) * 0.5 @ [1, -2, 0.25, 3] + 0.125
    wanted = np.array([[_normal(s)] for s in scores])
    assert_same(got, wanted)
    assert_same(result.oracles[0]().run(feeds)["y"], wanted, 1e-12)


def _normal(score):
    return 0.5 * (1 + math.erf(score / math.sqrt(2)))


@pytest.mark.parametrize("encoding", [0, 1])
def test_linear_classifiers_of_three_classes(tmp_path, encoding):
    part = _part({"x": 2}, {"label": "int64Type", "scores": "dictionaryType"})
    part.specificationVersion = 1
    part.description.predictedFeatureName, part.description.predictedProbabilitiesName = "label", "scores"
    glm = part.glmClassifier
    weights = np.array([[1.0, 0.5], [-0.5, 2.0], [0.25, -1.0]])[encoding == 0 :]
    for row in weights:
        glm.weights.add().value.extend(row)
    glm.offset.extend([0.25] * len(weights))
    glm.classEncoding = encoding
    glm.int64ClassLabels.vector.extend([3, 5, 9])
    path = tmp_path / "glm.mlmodel"
    path.write_bytes(part.SerializeToString())
    x = np.random.default_rng(0).standard_normal((9, 2)).astype(np.float32)
    scores = x @ weights.T + 0.25
    if encoding:
        each = 1 / (1 + np.exp(-scores))
        wanted = each / each.sum(1, keepdims=True)
    else:
        powers = np.exp(np.pad(scores, ((0, 0), (1, 0))))
        wanted = powers / powers.sum(1, keepdims=True)
    got = by_onnxruntime(coreml.read(Source(path), Options()).model, {"x": x})
    assert_same(got["scores"], wanted)
    assert got["label"].tolist() == np.array([3, 5, 9])[wanted.argmax(1)].tolist()


@pytest.mark.parametrize("behaviour", [0, 1, 2, 3])
def test_trees_compare_and_miss_as_they_say(tmp_path, behaviour):
    part = _part({"x": 1}, {"y": 1})
    part.specificationVersion = 1
    ensemble = part.treeEnsembleRegressor.treeEnsemble
    ensemble.numPredictionDimensions = 1
    ensemble.basePredictionValue.append(0.5)
    threshold = 0.1  # not a float32
    ensemble.nodes.add(
        nodeBehavior=behaviour, branchFeatureValue=threshold, trueChildNodeId=1, falseChildNodeId=2,
        missingValueTracksTrueChild=True,
    )  # fmt: skip
    for node, value in ((1, 10.0), (2, 20.0)):
        ensemble.nodes.add(nodeId=node, nodeBehavior=6).evaluationInfo.add(evaluationValue=value)
    path = tmp_path / "tree.mlmodel"
    path.write_bytes(part.SerializeToString())
    near = np.float32(0.1)
    x = np.array(
        [[near], [np.nextafter(near, np.float32(0))], [np.nextafter(near, np.float32(1))], [np.nan]], np.float32
    )
    met = [(v <= threshold, v < threshold, v >= threshold, v > threshold)[behaviour] for v in x[:3, 0].astype(float)]
    wanted = np.where([*met, True], 10.5, 20.5)[:, None]
    result = coreml.read(Source(path), Options())
    assert by_onnxruntime(result.model, {"x": x})["y"].tolist() == wanted.tolist()
    assert by_sardonyx(result.model, {"x": x})[0]["y"].tolist() == wanted.tolist()


def test_support_vectors_whose_squares_are_no_numbers_are_refused(tmp_path):
    model = SCHEMA.parse(path_of("svr").read_bytes(), "Model", "test")
    first = model.pipelineRegressor.pipeline.models[-1].supportVectorRegressor.denseSupportVectors.vectors[0]
    first.values[0] = np.full(len(first.values[0]) // 8, 1e200, "<f8").tobytes()
    path = tmp_path / "far.mlmodel"
    path.write_bytes(model.SerializeToString())
    with warnings.catch_warnings(), pytest.raises(ConversionError, match="too far away"):
        warnings.simplefilter("error")
        coreml.read(Source(path), Options())


def test_files_outside_the_package_are_not_read(tmp_path):
    folder = tmp_path / "linear8.mlpackage"
    shutil.copytree(path_of("linear8"), folder)
    manifest = folder / "Manifest.json"
    manifest.write_text(manifest.read_text().replace("com.apple.CoreML/model.mlmodel", "../../../etc/passwd"))
    with pytest.raises(ModelFileError, match="outside its folder"):
        coreml.read(Source(folder), Options())
    shutil.rmtree(folder)
    shutil.copytree(path_of("linear8"), folder)
    model = next(folder.rglob("model.mlmodel"))
    model.write_bytes(model.read_bytes().replace(b"@model_path/weights/weight.bin", b"@model_path/../../../../secre"))
    with pytest.raises(SardonyxError):
        coreml.read(Source(folder), Options())


@pytest.mark.parametrize("name", ["legacy_linear5", "svc", "sequence"])
def test_damage_ends_in_an_error_or_a_model(tmp_path, name):
    source = path_of(name)
    if source.is_dir():
        folder = tmp_path / source.name
        shutil.copytree(source, folder)
        victim, opened = next(folder.rglob("model.mlmodel")), folder
    else:
        victim = opened = tmp_path / source.name
        shutil.copy(source, victim)
    good, draw = victim.read_bytes(), random.Random(name)
    begin, failures = time.monotonic(), 0
    for _ in range(100):
        data = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.3:
            del data[draw.randrange(len(data)) :]
        victim.write_bytes(data)
        try:
            coreml.read(Source(opened), Options())
        except SardonyxError:
            failures += 1
    assert failures > 20
    assert time.monotonic() - begin < 60


def test_the_list_of_operators_is_complete():
    listed = coreml.operators()
    assert {"layer convolution", "operation conv", "model glmRegressor"} <= set(listed)


def test_every_recorded_model_is_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 900_000


_PITCH = {
    "nmp.mlpackage/Manifest.json": ("c1fa5ef8acc34703edcd4e90e9a8640bd4673d9f3a68753c3b9d1ca0365e2928", 617),
    "nmp.mlpackage/Data/com.apple.CoreML/model.mlmodel": (
        "af7bf7d49bc167e0bf0c30aa2ca6b432c3e10df048d2dd4173ff3a738c020858",
        123027,
    ),
    "nmp.mlpackage/Data/com.apple.CoreML/weights/weight.bin": (
        "691a6b63c7ddcdde0ee131ff3986dcb1250df47cd738612efde966ba9b4c99cd",
        145956,
    ),
    "nmp.onnx": ("2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec", 230444),
}


@pytest.mark.network
def test_basic_pitch_agrees_with_its_own_onnx(tmp_path):
    for file, (digest, size) in _PITCH.items():
        name = f"coreml-pitch-{file.replace('/', '-')}"
        source = f"basic_pitch/saved_models/icassp_2022/{file}"
        entry = Entry(name, "basic-pitch", "0.4.0", source, digest, size, "Apache-2.0", "notes of a recording")
        target = tmp_path / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(fetch(entry), target)
    result = coreml.read(Source(tmp_path / "nmp.mlpackage"), Options())
    times = np.arange(43844) / 22050
    tone = (np.sin(2 * np.pi * 440 * times) + 0.5 * np.sin(2 * np.pi * 660 * times) * (times > 1)) * 0.4
    noise = np.random.default_rng(0).standard_normal(43844)
    peer = onnxruntime.InferenceSession(str(tmp_path / "nmp.onnx"), providers=["CPUExecutionProvider"])
    # The network takes logarithms of the power in each band and spreads them over its range, so that for pure tones
    # rounding in the silent bands counts: there float32 itself, in either file, is 1e-3 away from float64.
    for sound, tolerance in ((0.3 * noise, 1e-5), (tone + 0.01 * noise, 2e-3)):
        fed = sound.astype(np.float32).reshape(1, -1, 1)
        got, session = by_sardonyx(result.model, {"input_2": fed})
        assert {placement.provider for placement in session.explain()} == {"cpu"}
        wanted = peer.run(None, {peer.get_inputs()[0].name: fed})
        exact = result.oracles[0]().run({"input_2": fed})
        assert len(got) == len(wanted) == 3
        for name, value in got.items():
            others = [other for other in wanted if other.shape == value.shape]
            assert min(_relative(value, other) for other in others) < tolerance
            assert _relative(value, exact[name]) < tolerance


def _relative(have, want):
    return np.linalg.norm(have - want) / np.linalg.norm(want)
